//! `tiny_talks`, the embedded conversations: a seeded grammar of talks with Pip, a small otter who
//! keeps a lighthouse.
//!
//! A model of a million parameters learns them in minutes: short answers, plain words, facts that
//! never change. What Pip knows is text, in `facts.txt` and `patterns.txt` next to this module,
//! compiled in. Every answer states a fact that [`Question::is_right`] can find in it, so a model
//! can be measured with questions whose conversation it has never seen.
//!
//! The module knows no files, tokens or datasets: it returns messages.

mod check;
mod conversation;
mod exchange;
mod kind;
mod phrases;
mod tables;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::chat::Message;
use crate::tales::fnv1a;
use crate::tales::rng::StoryRng;
use check::Rule;
use conversation::Conversation;
pub use kind::QuestionKind;
use phrases::Script;

/// Conversations in the training split unless asked otherwise.
pub const DEFAULT_TRAIN_TALKS: usize = 20_000;
/// Conversations in the validation split unless asked otherwise.
pub const DEFAULT_VALIDATION_TALKS: usize = 1_000;
/// One beginning of a conversation in this many is held out of the training split.
const HELD_OUT_SHARE: u64 = 21;

const TALK_CHOICES: &[u8; 24] = b"tiny_talks conversations";
const QUESTION_CHOICES: &[u8; 24] = b"tiny_talks new questions";

/// The kinds of 20 questions: every kind, and 4 follow-ups.
const QUESTION_KINDS: [QuestionKind; 20] = [
    QuestionKind::Greeting,
    QuestionKind::Character,
    QuestionKind::FollowUp,
    QuestionKind::World,
    QuestionKind::Feeling,
    QuestionKind::Arithmetic,
    QuestionKind::Counting,
    QuestionKind::FollowUp,
    QuestionKind::Opposite,
    QuestionKind::Color,
    QuestionKind::Sound,
    QuestionKind::Character,
    QuestionKind::FollowUp,
    QuestionKind::Calendar,
    QuestionKind::Refusal,
    QuestionKind::World,
    QuestionKind::Joke,
    QuestionKind::FollowUp,
    QuestionKind::Name,
    QuestionKind::Instruction,
];

/// A question that is not in the training split, in a conversation that ends with it.
#[derive(Debug, Clone)]
pub struct Question {
    /// The conversation; its last message is the user's question.
    pub messages: Vec<Message>,
    /// What the question asks for.
    pub kind: QuestionKind,
    /// A right answer: the grammar's own.
    pub answer: String,
    rule: Rule,
}

impl Question {
    /// Whether `answer` states the fact asked for and no other one, in any wording.
    #[must_use]
    pub fn is_right(&self, answer: &str) -> bool {
        self.rule.accepts(answer)
    }
}

/// The generator of `tiny_talks`: an endless supply of conversations that depends on the seed alone.
///
/// No two conversations of a split are equal. The conversations of the training split have no
/// beginning that is held out; those of the validation split and the questions have one. "Held out"
/// is decided by the words of a beginning alone: capitals and punctuation make no difference.
///
/// ```
/// use tinygpt_data::talks::Talks;
///
/// let talks = Talks::new(1337);
/// for message in talks.train(1).flatten() {
///     println!("{}: {}", message.role, message.content);
/// }
/// let question = talks.questions(1).next();
/// assert!(question.is_some_and(|question| question.is_right(&question.answer)));
/// ```
pub struct Talks {
    seed: u64,
    script: Script,
}

impl Talks {
    /// A generator for `seed`. Cheap: it reads a few kilobytes of compiled-in text.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, script: Script::open() }
    }

    /// The first `n` conversations of the training split.
    pub fn train(&self, n: usize) -> impl Iterator<Item = Vec<Message>> {
        self.split(|talk| first_held_out(talk).is_none()).take(n)
    }

    /// The first `n` conversations of the validation split.
    pub fn validation(&self, n: usize) -> impl Iterator<Item = Vec<Message>> {
        self.split(|talk| first_held_out(talk).is_some()).take(n)
    }

    /// The first `n` questions, all different: every kind, in 20 questions 4 follow-ups.
    pub fn questions(&self, n: usize) -> impl Iterator<Item = Question> {
        let mut talks = self.talks(QUESTION_CHOICES);
        let mut seen = HashSet::new();
        let next = move |kind| {
            talks.find_map(|talk| {
                let at = first_held_out(&talk)?;
                let exchange = talk.exchanges.get(at).filter(|exchange| exchange.kind == kind)?;
                let messages = talk.until(at);
                seen.insert(hash(&messages)).then(|| Question {
                    messages,
                    kind,
                    answer: exchange.answer.clone(),
                    rule: exchange.rule(),
                })
            })
        };
        QUESTION_KINDS.into_iter().cycle().map_while(next).take(n)
    }

    /// The conversations that `belong` to a split, in order, without repetition.
    fn split(&self, belongs: fn(&Conversation) -> bool) -> impl Iterator<Item = Vec<Message>> {
        let mut seen = HashSet::new();
        self.talks(TALK_CHOICES).filter(belongs).filter_map(move |talk| {
            let messages = talk.messages(talk.exchanges.len());
            seen.insert(fnv1a(text(&messages).as_bytes())).then_some(messages)
        })
    }

    /// Conversation after conversation, equal ones included.
    fn talks(&self, purpose: &'static [u8; 24]) -> impl Iterator<Item = Conversation> {
        let write = |index| {
            conversation::write(&self.script, StoryRng::with_purpose(purpose, self.seed, index))
        };
        (0..).map(write)
    }
}

/// The number of the first exchange whose question is held out with all that precedes it.
fn first_held_out(talk: &Conversation) -> Option<usize> {
    (0..talk.exchanges.len()).find(|&at| hash(&talk.until(at)).is_multiple_of(HELD_OUT_SHARE))
}

/// A hash of the words of a conversation, without capitals and punctuation.
fn hash(messages: &[Message]) -> u64 {
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || " \n'+-".contains(*c);
    let words: String = text(messages).chars().filter(is_kept).collect();
    fnv1a(words.to_ascii_lowercase().as_bytes())
}

/// One message a line: "user Hello!".
fn text(messages: &[Message]) -> String {
    messages.iter().map(|message| format!("{} {}\n", message.role, message.content)).collect()
}
