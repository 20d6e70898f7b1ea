//! Reads the compiled-in wordings: `facts.txt` and `patterns.txt`, which describe their notation.
//!
//! Users cannot fix a mistake in compiled-in files, so reading never fails: it skips what it does
//! not understand, and tests check that every section is complete.

use super::kind::QuestionKind;

const FACTS: &str = include_str!("facts.txt");
const PATTERNS: &str = include_str!("patterns.txt");

/// One section: ways to ask for something and ways to answer.
#[derive(Default)]
pub(super) struct Phrases {
    pub(super) kind: Option<QuestionKind>,
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    /// How it is asked.
    pub(super) ask: Vec<&'static str>,
    /// How it is asked after a related question.
    pub(super) and: Vec<&'static str>,
    /// How it is answered.
    pub(super) say: Vec<&'static str>,
    /// Other right answers.
    pub(super) also: Vec<&'static str>,
    /// The answer to "Why?".
    pub(super) why: Vec<&'static str>,
}

impl Phrases {
    fn new(head: &'static str) -> Self {
        let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
        Self { kind: QuestionKind::named(kind), name, ..Self::default() }
    }

    fn read(&mut self, line: &'static str) {
        let Some((key, value)) = line.split_once(": ") else { return };
        let wordings = value.split(" | ").map(str::trim);
        match key {
            "group" => self.group = value,
            "ask" => self.ask.extend(wordings),
            "and" => self.and.extend(wordings),
            "say" => self.say.extend(wordings),
            "also" => self.also.extend(wordings),
            "why" => self.why.extend(wordings),
            _ => {}
        }
    }

    /// All right answers, the spoken ones first.
    pub(super) fn right(&self) -> impl Iterator<Item = &'static str> {
        self.say.iter().chain(&self.also).copied()
    }
}

/// Every section of both files.
pub(super) struct Script {
    pub(super) facts: Vec<Phrases>,
    patterns: Vec<Phrases>,
    empty: Phrases,
}

impl Script {
    pub(super) fn open() -> Self {
        Self { facts: sections(FACTS), patterns: sections(PATTERNS), empty: Phrases::default() }
    }

    /// The section `[pattern name]`; an empty one if there is none, which a test excludes.
    pub(super) fn pattern(&self, name: &str) -> &Phrases {
        self.patterns.iter().find(|pattern| pattern.name == name).unwrap_or(&self.empty)
    }

    /// The facts of a kind, with their numbers.
    pub(super) fn facts_of(&self, kind: QuestionKind) -> Vec<usize> {
        let is_kind = |&fact: &usize| self.facts.get(fact).is_some_and(|f| f.kind == Some(kind));
        (0..self.facts.len()).filter(is_kind).collect()
    }

    /// All words marked in answers.
    pub(super) fn marked(&self) -> impl Iterator<Item = &'static str> {
        let sections = self.facts.iter().chain(&self.patterns);
        sections
            .flat_map(|section| section.right().chain(section.why.iter().copied()))
            .flat_map(marks)
    }
}

fn sections(text: &'static str) -> Vec<Phrases> {
    let mut sections = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Phrases::new(head));
        } else if let Some(section) = sections.last_mut() {
            section.read(line);
        }
    }
    sections
}

/// The words between stars.
pub(super) fn marks(answer: &'static str) -> impl Iterator<Item = &'static str> {
    answer.split('*').skip(1).step_by(2)
}

/// `template` without stars, its `{markers}` filled; `{Marker}` gives the value a capital.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.replace('*', "");
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
        text = text.replace(&format!("{{{}}}", capital(name)), &capital(value));
    }
    text
}

/// `text` with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
