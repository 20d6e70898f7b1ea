//! What every conversation must be, what is held out, and what the checker accepts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::check::words;
use super::*;

const SEED: u64 = 1337;

/// The default dataset, generated once.
static TRAIN: LazyLock<Vec<Vec<Message>>> =
    LazyLock::new(|| Talks::new(SEED).train(DEFAULT_TRAIN_TALKS).collect());
static VALIDATION: LazyLock<Vec<Vec<Message>>> =
    LazyLock::new(|| Talks::new(SEED).validation(DEFAULT_VALIDATION_TALKS).collect());
static QUESTIONS: LazyLock<Vec<Question>> =
    LazyLock::new(|| Talks::new(SEED).questions(400).collect());

/// The first question of `kind` with a property.
fn first(kind: QuestionKind, has: impl Fn(&Question) -> bool) -> Question {
    let talks = Talks::new(SEED);
    talks.questions(4_000).find(|question| question.kind == kind && has(question)).unwrap()
}

fn last_user_turn(question: &Question) -> &str {
    &question.messages.last().unwrap().content
}

#[test]
fn the_bytes_are_the_same_everywhere() {
    let mut hasher = Sha256::new();
    let talks = Talks::new(SEED);
    let questions = talks.questions(100).map(|question| question.messages);
    for talk in talks.train(500).chain(talks.validation(20)).chain(questions) {
        hasher.update(text(&talk));
        hasher.update([0]);
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "33073af459b5d9d0e7d5f887a42ef9c76d05276ba41456e4bdb052b788c40b39");
}

#[test]
fn no_two_conversations_are_equal_and_none_is_in_both_splits() {
    let mut seen = HashSet::new();
    for talk in TRAIN.iter().chain(VALIDATION.iter()) {
        assert!(seen.insert(talk), "generated twice: {}", text(talk));
    }
    assert_eq!(seen.len(), DEFAULT_TRAIN_TALKS + DEFAULT_VALIDATION_TALKS);
}

#[test]
fn a_shorter_split_begins_a_longer_one_and_the_seed_matters() {
    let first = |seed, n| Talks::new(seed).train(n).next();
    assert_eq!(first(SEED, 1), first(SEED, 100));
    assert_ne!(first(SEED, 1), first(SEED + 1, 1));
}

#[test]
fn turns_alternate_and_only_plain_text_is_in_them() {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || " .,!?'+-:".contains(c));
    for talk in TRAIN.iter().chain(VALIDATION.iter()) {
        let turns = talk.iter().skip_while(|message| message.role == "system");
        let turns: Vec<&str> = turns.map(|message| message.role.as_str()).collect();
        assert!(
            (1..=4).contains(&(turns.len() / 2)) && turns.len().is_multiple_of(2),
            "{}",
            text(talk)
        );
        assert!(turns.chunks(2).all(|turn| turn == ["user", "assistant"]), "{}", text(talk));
        for message in talk {
            assert!(!message.content.is_empty() && !message.content.contains(odd), "{message:?}");
        }
    }
}

#[test]
fn the_vocabulary_is_small() {
    let words: BTreeSet<String> =
        TRAIN.iter().flatten().flat_map(|message| words(&message.content)).collect();
    assert!(words.len() < 1_000, "{} words", words.len());
}

/// What a model trains on must not contain a question with the conversation before it, not even
/// in other capitals.
#[test]
fn the_conversation_of_a_question_is_in_no_training_conversation() {
    let spoken = |messages: &[Message]| text(messages).to_lowercase();
    let beginnings: HashSet<String> =
        TRAIN.iter().flat_map(|talk| (1..talk.len()).map(|n| spoken(&talk[..n]))).collect();
    for question in QUESTIONS.iter() {
        let asked = spoken(&question.messages);
        assert!(!beginnings.contains(&asked), "in training: {asked}");
    }
}

/// Only the conversation is new: each answer, apart from those that count or calculate in a
/// way of their own, is one that training has.
#[test]
fn nearly_every_answer_to_a_question_occurs_in_training() {
    let spoken = TRAIN.iter().flatten().filter(|message| message.role == "assistant");
    let spoken: HashSet<&str> = spoken.map(|message| message.content.as_str()).collect();
    for question in QUESTIONS.iter() {
        assert!(spoken.contains(question.answer.as_str()), "never answered: {question:?}");
    }
}

#[test]
fn questions_are_of_all_kinds_all_different_and_a_fifth_are_follow_ups() {
    let mut kinds = BTreeMap::<QuestionKind, usize>::new();
    let mut seen = HashSet::new();
    for question in QUESTIONS.iter().take(200) {
        *kinds.entry(question.kind).or_default() += 1;
        assert!(seen.insert(&question.messages), "asked twice: {question:?}");
        assert_eq!(question.messages.last().unwrap().role, "user");
    }
    assert_eq!(kinds.len(), QuestionKind::ALL.len());
    assert_eq!(kinds[&QuestionKind::FollowUp], 40);
    assert!(kinds.values().all(|&n| n >= 10), "{kinds:?}");
}

#[test]
fn the_grammars_own_answer_is_right_in_any_case_and_punctuation() {
    for question in QUESTIONS.iter() {
        let plain = question.answer.trim_end_matches('.');
        for answer in [&question.answer, &question.answer.to_uppercase(), plain] {
            assert!(question.is_right(answer), "{answer:?} is right for {question:?}");
        }
    }
}

#[test]
fn an_answer_to_another_question_of_the_same_kind_is_wrong() {
    let mut compared = 0;
    for question in QUESTIONS.iter() {
        let others = QUESTIONS.iter().filter(|other| other.kind == question.kind);
        for other in others.filter(|other| other.rule != question.rule) {
            // Two jokes have the same answers, and 2 plus 3 has the result of 8 minus 3.
            let says_the_same = other.is_right(&question.answer);
            assert!(
                says_the_same || !question.is_right(&other.answer) || is_shared(question, other),
                "{:?} is wrong for {question:?}",
                other.answer
            );
            compared += usize::from(!says_the_same);
        }
    }
    assert!(compared > 5_000, "{compared} comparisons");
}

/// Whether the answer of `other` states what both ask for: "It is 5.", or "A hen says cluck."
/// for the hen and for its sound.
fn is_shared(question: &Question, other: &Question) -> bool {
    let result = words(&question.answer).pop();
    let others = words(&other.answer);
    let names_it = question.kind == QuestionKind::Sound
        && others.iter().any(|word| Some(word) == result.as_ref());
    names_it || others.last() == result.as_ref()
}

#[test]
fn empty_denying_rambling_and_doubled_answers_are_wrong() {
    for question in QUESTIONS.iter() {
        let answer = &question.answer;
        let long = format!("{answer} {}", "and so on ".repeat(12));
        // "It is a cat. It says meow." repeats the question, and is right.
        let asked = words(last_user_turn(question));
        let other = QUESTIONS.iter().find(|other| {
            other.rule.has_domain_of(&question.rule)
                && !question.is_right(&other.answer)
                && !words(&other.answer).last().is_some_and(|word| asked.contains(word))
        });
        let both = other.map(|other| format!("{answer} {}", other.answer)).unwrap_or_default();
        for wrong in
            ["", "?", "la la la", "I do not", &long, &both, &format!("No. {answer} Never.")]
        {
            assert!(!question.is_right(wrong), "{wrong:?} is wrong for {question:?}");
        }
    }
}

#[test]
fn a_sum_is_right_in_other_words_and_wrong_with_another_number() {
    let sum =
        first(QuestionKind::Arithmetic, |question| last_user_turn(question).contains(" plus "));
    let numbers: Vec<u32> =
        words(last_user_turn(&sum)).iter().filter_map(|word| word.parse().ok()).collect();
    let (a, b) = (numbers[0], numbers[1]);
    let right =
        [format!("{}", a + b), format!("That makes {}!", a + b), format!("{a}+{b}={}", a + b)];
    for answer in right {
        assert!(sum.is_right(&answer), "{answer:?} is right for {sum:?}");
    }
    let wrong = [
        format!("It is {}.", a + b + 1),
        format!("It is {} or {}.", a + b, a + b + 1),
        format!("{a} plus {} is {}.", b + 1, a + b),
        format!("It is not {}.", a + b),
        format!("{a} plus {b}"),
    ];
    for answer in wrong {
        assert!(!sum.is_right(&answer), "{answer:?} is wrong for {sum:?}");
    }
}

#[test]
fn counting_must_name_every_number_in_order() {
    let is_list = |question: &Question| question.answer.matches(',').count() >= 2;
    let counting = first(QuestionKind::Counting, is_list);
    let numbers: Vec<String> = words(&counting.answer);
    assert!(counting.is_right(&format!("Gladly: {}!", numbers.join(" "))));
    let mut swapped = numbers.clone();
    swapped.swap(0, 1);
    let wrong = [swapped, numbers[1..].to_vec(), [&numbers[..], &["13".to_owned()]].concat()];
    for answer in wrong {
        assert!(!counting.is_right(&answer.join(", ")), "{answer:?} is wrong for {counting:?}");
    }
}

#[test]
fn a_refusal_must_not_invent_anything() {
    let weather = first(QuestionKind::Refusal, |question| question.answer.contains("see the sky"));
    assert!(weather.is_right("I don't know that, sorry."));
    assert!(weather.is_right("Sorry, I can't see the sky where you are!"));
    for wrong in ["It is sunny.", "It is not raining.", "I don't know, but it is sunny."] {
        assert!(!weather.is_right(wrong), "{wrong:?} is wrong for {weather:?}");
    }
}

#[test]
fn one_word_must_be_one_word() {
    for question in QUESTIONS.iter().filter(|question| question.kind == QuestionKind::Instruction) {
        let word = question.answer.trim_end_matches('.').to_lowercase();
        assert!(question.is_right(&word));
        assert!(!question.is_right(&format!("It is {word}.")), "{question:?}");
    }
}

#[test]
fn every_section_of_the_script_is_complete_and_every_answer_states_a_fact() {
    let script = Script::open();
    assert!(script.facts.len() > 80, "{} facts", script.facts.len());
    for fact in &script.facts {
        assert!(fact.kind.is_some() && !fact.say.is_empty(), "[{}] is incomplete", fact.name);
        let is_asked = !fact.ask.is_empty() || fact.kind == Some(QuestionKind::Joke);
        assert!(is_asked, "[{}] is never asked for", fact.name);
        let is_marked = |answer: &&str| answer.matches('*').count() >= 2;
        assert!(fact.say.iter().all(&is_marked), "[{}] marks nothing", fact.name);
        assert!(fact.why.iter().all(is_marked), "[{}] marks nothing", fact.name);
    }
    let answers = script.facts.iter().flat_map(|fact| fact.right().chain(fact.why.iter().copied()));
    let empty: Vec<&str> = answers
        .filter(|answer| {
            !check::Rule::new(check::Domain::Facts, &[phrases::fill(answer, &[])]).accepts(answer)
        })
        .collect();
    assert!(empty.is_empty(), "answers that state no fact: {empty:?}");
    let mut names: Vec<&str> = vec![
        "plus",
        "minus",
        "more",
        "less",
        "count",
        "count back",
        "backwards",
        "next number",
        "opposite",
        "color",
        "sound",
        "who says",
        "after",
        "before",
        "next",
        "introduction",
        "my name",
        "no name",
        "named",
        "one word",
        "why",
        "again",
        "joke",
        "punchline",
        "and you",
        "preamble",
    ];
    names.extend(tables::FRIEND_COLUMNS.iter().map(|&(pattern, _)| pattern));
    for name in names {
        assert!(!script.pattern(name).ask.is_empty(), "[pattern {name}] is missing");
    }
}
