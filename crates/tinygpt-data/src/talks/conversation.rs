//! A conversation: exchanges in an order that makes sense, sometimes after a system message.

use crate::chat::Message;
use crate::tales::rng::StoryRng;

use super::check::Domain;
use super::exchange::{Exchange, MAX_NUMBER, Topic, Writer};
use super::kind::QuestionKind;
use super::phrases::{Phrases, Script, capital, fill, marks};
use super::tables::{DAYS, MONTHS, NAMES};

/// The kinds of an exchange that needs no other, as often as they are drawn.
const MIX: [(QuestionKind, u32); 12] = [
    (QuestionKind::Character, 16),
    (QuestionKind::World, 15),
    (QuestionKind::Arithmetic, 16),
    (QuestionKind::Opposite, 10),
    (QuestionKind::Calendar, 10),
    (QuestionKind::Counting, 10),
    (QuestionKind::Color, 7),
    (QuestionKind::Sound, 8),
    (QuestionKind::Feeling, 6),
    (QuestionKind::Refusal, 6),
    (QuestionKind::Greeting, 4),
    (QuestionKind::Joke, 4),
];

/// The kinds that have answers in one word.
const IN_ONE_WORD: [QuestionKind; 6] = [
    QuestionKind::Opposite,
    QuestionKind::Color,
    QuestionKind::Sound,
    QuestionKind::Arithmetic,
    QuestionKind::Calendar,
    QuestionKind::Character,
];

/// A system message or none, then exchanges.
pub(super) struct Conversation {
    pub(super) system: Option<String>,
    pub(super) exchanges: Vec<Exchange>,
}

impl Conversation {
    /// The messages up to the question of exchange number `at`.
    pub(super) fn until(&self, at: usize) -> Vec<Message> {
        let mut messages = self.messages(at);
        messages.extend(self.exchanges.get(at).map(|e| Message::new("user", &*e.ask)));
        messages
    }

    /// The messages of the first `n` exchanges.
    pub(super) fn messages(&self, n: usize) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", &**text));
        let turns = self.exchanges.iter().take(n);
        system
            .chain(turns.flat_map(|e| {
                [Message::new("user", &*e.ask), Message::new("assistant", &*e.answer)]
            }))
            .collect()
    }
}

/// Writes the conversation of `rng`.
pub(super) fn write(script: &Script, rng: StoryRng) -> Conversation {
    let mut writer = Writer { script, rng };
    let turns = match writer.rng.below(20) {
        0..=5 => 1,
        6..=11 => 2,
        12..=16 => 3,
        _ => 4,
    };
    match writer.rng.below(20) {
        0 | 1 => writer.in_one_word(turns),
        2 | 3 => writer.with_a_name(),
        _ => Conversation { system: None, exchanges: writer.free(turns) },
    }
}

impl Writer<'_> {
    /// Exchanges of any kind: a greeting first and a goodbye last in some, follow-ups between.
    fn free(&mut self, turns: usize) -> Vec<Exchange> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for turn in 0..turns {
            let is_last = turn + 1 == turns;
            let exchange = match exchanges.last() {
                None if !is_last && self.rng.one_in(4) => self.varied(QuestionKind::Greeting),
                Some(last) if self.rng.below(20) < 9 => {
                    let last = last.clone();
                    self.follow_up(&last)
                }
                Some(_) if is_last && self.rng.one_in(8) => self.varied(QuestionKind::Greeting),
                _ => {
                    let kind = self.kind();
                    self.varied(kind)
                }
            };
            exchanges.push(exchange);
        }
        exchanges
    }

    fn kind(&mut self) -> QuestionKind {
        let total = MIX.iter().map(|&(_, share)| share).sum();
        let mut at = self.rng.below(total);
        for (kind, share) in MIX {
            if at < share {
                return kind;
            }
            at -= share;
        }
        QuestionKind::Character
    }

    /// An exchange of `kind`, its question in one of many spellings.
    fn varied(&mut self, kind: QuestionKind) -> Exchange {
        let mut exchange = self.about(kind);
        if kind != QuestionKind::Greeting && self.rng.one_in(8) {
            let preamble = self.pick(&self.script.pattern("preamble").ask);
            let lower = lower_first(&exchange.ask);
            exchange.ask = fill(preamble, &[("x", &lower)]);
        }
        exchange.ask = self.spelled(&exchange.ask);
        exchange
    }

    /// With or without contractions, capitals and the last mark.
    fn spelled(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.rng.one_in(3) {
            for (long, short) in CONTRACTIONS {
                text = text.replace(long, short);
            }
        }
        match self.rng.below(10) {
            0..=5 => text,
            6 | 7 => text.to_lowercase(),
            8 => without_mark(&text).to_owned(),
            _ => without_mark(&text).to_lowercase(),
        }
    }

    /// A question that refers to the exchange before it.
    fn follow_up(&mut self, last: &Exchange) -> Exchange {
        if last.key.is_some() && self.rng.one_in(10) {
            return self.again(last);
        }
        let mut exchange = match last.topic {
            Topic::Fact(fact) => self.about_fact(fact),
            Topic::Friend(friend) => Some(self.friend(friend, true)),
            Topic::Number(n) => Some(self.sum_from(n)),
            Topic::Count(from, to) if from < to => Some(self.counted("backwards", to, from, true)),
            Topic::Day(at) => Some(self.next_in(&DAYS, at)),
            Topic::Month(at) => Some(self.next_in(&MONTHS, at)),
            Topic::Opposite => Some(self.opposite(true)),
            Topic::Color => Some(self.color(true)),
            Topic::Sound => Some(self.sound(true)),
            Topic::Joke(joke) => Some(self.reason(joke, "punchline")),
            Topic::Feeling => {
                let phrases = self.script.pattern("and you");
                Some(self.exchange(QuestionKind::FollowUp, phrases, true, Domain::Facts, &[]))
            }
            Topic::Count(..) | Topic::Other => None,
        };
        if let Some(exchange) = &mut exchange {
            exchange.ask = self.spelled(&exchange.ask);
        }
        exchange.unwrap_or_else(|| {
            let kind = self.kind();
            self.varied(kind)
        })
    }

    /// "Why?", or a question about another fact of the same group.
    fn about_fact(&mut self, fact: usize) -> Option<Exchange> {
        let script = self.script;
        let phrases = script.facts.get(fact)?;
        let is_related = |&at: &usize| {
            at != fact && script.facts.get(at).is_some_and(|f| f.group == phrases.group)
        };
        let can_explain = !phrases.why.is_empty();
        if !phrases.group.is_empty() && (!can_explain || self.rng.one_in(2)) {
            let related: Vec<usize> = (0..script.facts.len()).filter(is_related).collect();
            let other = self.rng.pick(&related).copied()?;
            return Some(self.fact(other, true));
        }
        can_explain.then(|| self.reason(fact, "why"))
    }

    /// What a fact has under `why`: a reason, or the second half of a joke.
    fn reason(&mut self, fact: usize, pattern: &str) -> Exchange {
        let why = self.script.facts.get(fact).map_or(&[][..], |phrases| &phrases.why);
        let answer = fill(self.pick(why), &[]);
        let key = why.iter().flat_map(|&why| marks(why)).map(str::to_owned);
        let right: Vec<String> = key.chain([answer.clone()]).collect();
        Exchange {
            kind: if pattern == "punchline" { QuestionKind::Joke } else { QuestionKind::FollowUp },
            ask: self.pick(&self.script.pattern(pattern).ask).to_owned(),
            answer,
            right,
            domain: Domain::Facts,
            topic: Topic::Other,
            key: None,
        }
    }

    /// A number more or less than the last result.
    fn sum_from(&mut self, n: u32) -> Exchange {
        let can_add = n < MAX_NUMBER;
        if can_add && (n < 2 || self.rng.one_in(2)) {
            let more = self.number(1, (MAX_NUMBER - n).min(3));
            self.arithmetic("more", n, more, n + more, true)
        } else {
            let less = self.number(1, n.min(3));
            self.arithmetic("less", n, less, n - less, true)
        }
    }

    /// The last answer once more.
    fn again(&mut self, last: &Exchange) -> Exchange {
        let ask = self.pick(&self.script.pattern("again").ask);
        Exchange {
            kind: QuestionKind::FollowUp,
            ask: self.spelled(ask),
            topic: Topic::Other,
            key: None,
            right: vec![last.answer.clone()],
            ..last.clone()
        }
    }

    /// The system message asks for answers in one word.
    fn in_one_word(&mut self, turns: usize) -> Conversation {
        let system = self.pick(&self.script.pattern("one word").ask);
        let mut exchanges = Vec::new();
        while exchanges.len() < turns.min(3) {
            let kind = self.rng.pick(&IN_ONE_WORD).copied().unwrap_or(QuestionKind::Color);
            let mut exchange = self.varied(kind);
            let Some(key) = exchange.key.take() else { continue };
            exchange.kind = QuestionKind::Instruction;
            exchange.answer = capital(&key) + ".";
            exchanges.push(exchange);
        }
        Conversation { system: Some(system.to_owned()), exchanges }
    }

    /// The user's name is given, by the user or the system message, and then asked for; or it is
    /// asked for without having been given.
    fn with_a_name(&mut self) -> Conversation {
        let script = self.script;
        let name = self.pick(&NAMES);
        let mut system = None;
        let mut exchanges = Vec::new();
        let is_known = match self.rng.below(6) {
            0 => false,
            1 | 2 => {
                system = Some(fill(self.pick(&script.pattern("named").ask), &[("name", name)]));
                true
            }
            _ => {
                exchanges.push(self.named(script.pattern("introduction"), name));
                true
            }
        };
        if self.rng.one_in(2) {
            let kind = self.kind();
            exchanges.push(self.varied(kind));
        }
        let pattern = script.pattern(if is_known { "my name" } else { "no name" });
        let mut question = self.named(pattern, name);
        question.ask = self.spelled(&question.ask);
        exchanges.push(question);
        Conversation { system, exchanges }
    }

    fn named(&mut self, phrases: &Phrases, name: &str) -> Exchange {
        self.exchange(QuestionKind::Name, phrases, false, Domain::Names, &[("name", name)])
    }
}

const CONTRACTIONS: [(&str, &str); 9] = [
    ("What is ", "What's "),
    ("what is ", "what's "),
    ("Who is ", "Who's "),
    ("who is ", "who's "),
    ("Where is ", "Where's "),
    ("where is ", "where's "),
    ("I am ", "I'm "),
    ("do not ", "don't "),
    ("How is ", "How's "),
];

fn without_mark(text: &str) -> &str {
    text.trim_end_matches(['.', '!', '?'])
}

/// `text` in the middle of a sentence.
fn lower_first(text: &str) -> String {
    let mut text = text.to_owned();
    let is_i = text.starts_with("I ") || text.starts_with("I'");
    if let Some(first) = text.get_mut(..1).filter(|_| !is_i) {
        first.make_ascii_lowercase();
    }
    text
}
