#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
use super::*;

#[test]
#[ignore = "writes files"]
fn export() {
    use std::io::Write;
    let talks = Talks::new(1337);
    let mut out = std::io::BufWriter::new(std::fs::File::create("/tmp/talks/talks.txt").unwrap());
    let mut words = std::collections::BTreeMap::<String, usize>::new();
    let show = |messages: &[Message]| -> String {
        messages
            .iter()
            .map(|m| {
                let who = match m.role.as_str() {
                    "user" => "User",
                    "assistant" => "Bot",
                    _ => "System",
                };
                format!("{who}: {}\n", m.content)
            })
            .collect()
    };
    for talk in talks.train(DEFAULT_TRAIN_TALKS).chain(talks.validation(1000)) {
        write!(out, "{}<|endoftext|>\n", show(&talk)).unwrap();
        for m in &talk {
            for w in check::words(&m.content) {
                *words.entry(w).or_default() += 1;
            }
        }
    }
    eprintln!(
        "{} words; rare: {:?}",
        words.len(),
        words.iter().filter(|(_, n)| **n < 20).collect::<Vec<_>>()
    );
    let mut out = std::fs::File::create("/tmp/talks/questions.txt").unwrap();
    for q in talks.questions(400) {
        assert!(q.is_right(&q.answer), "{q:?}");
        write!(out, "### {} | {}\n{}", q.kind, q.answer, show(&q.messages)).unwrap();
    }
}

#[test]
#[ignore = "reads files"]
fn grade() {
    let talks = Talks::new(1337);
    let answers = std::fs::read_to_string("/tmp/talks/answers.txt").unwrap();
    let mut by_kind = std::collections::BTreeMap::<Kind, (usize, usize)>::new();
    for (q, a) in talks.questions(400).zip(answers.lines()) {
        let right = q.is_right(a);
        let entry = by_kind.entry(q.kind).or_default();
        entry.0 += usize::from(right);
        entry.1 += 1;
        if !right {
            println!(
                "WRONG {} | {} | right: {} | model: {a}",
                q.kind,
                q.messages.iter().map(|m| m.content.clone()).collect::<Vec<_>>().join(" / "),
                q.answer
            );
        }
    }
    for (kind, (right, all)) in &by_kind {
        println!("{kind:12} {right:3} of {all}");
    }
    let (right, all) = by_kind.values().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("all {right} of {all}");
}
