//! Whether an answer is right: it must state the fact, and no other fact of the same domain.

use std::sync::LazyLock;

use super::phrases::{Script, fill};
use super::tables;

/// Terms that every domain knows, as it knows numbers, days and months: an answer that adds or drops one of them says something else.
const DENIALS: [&str; 6] = ["no", "not", "never", "do not know", "can not know", "can not do"];

/// Words that an invented answer about weather or time contains.
const INVENTED: [&str; 8] =
    ["sunny", "raining", "rainy", "snowing", "cloudy", "windy", "o'clock", "in the morning"];

/// How many words more than the longest known answer are still an answer.
const SPARE_WORDS: usize = 8;

/// What questions are about: which words count as facts in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Domain {
    Facts,
    Numbers,
    Calendar,
    Opposites,
    Colors,
    Sounds,
    Names,
}

/// The numbers that an answer can state.
static NUMBERS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..=100).map(|n: u32| n.to_string()).collect());

/// The terms of the domains, in the order of the enum.
static TERMS: LazyLock<[Vec<Vec<String>>; 7]> = LazyLock::new(|| {
    let numbers = || NUMBERS.iter().map(String::as_str);
    let common = || numbers().chain(tables::DAYS).chain(tables::MONTHS).chain(DENIALS);
    let script = Script::open();
    let facts = script.marked().chain(tables::friend_terms());
    let opposites = tables::OPPOSITES.iter().flat_map(|&(one, other)| [one, other]);
    let things = tables::COLORS.iter().flat_map(|&(thing, color)| [thing, color]);
    let sounds = tables::SOUNDS.iter().flat_map(|&(animal, sound)| [animal, sound]);
    [
        terms(common().chain(facts).chain(INVENTED)),
        terms(common().chain(["plus", "minus", "after", "before"])),
        terms(common().chain(["after", "before"])),
        terms(common().chain(opposites).chain(["opposite of"])),
        terms(common().chain(things)),
        terms(common().chain(sounds).chain(["says"])),
        terms(common().chain(tables::NAMES).chain(["did not say"])),
    ]
});

/// The terms as words, longest first: of two that start at a word, the longer one counts.
fn terms<'a>(given: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = given.map(|term| words(without_article(term))).collect();
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
    all
}

fn without_article(term: &str) -> &str {
    ["a ", "an ", "the "].iter().find_map(|article| term.strip_prefix(article)).unwrap_or(term)
}

/// When an answer is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    domain: Domain,
    /// The facts that a right answer states, in their order: one list for each known wording.
    accepted: Vec<Vec<String>>,
    max_words: usize,
}

impl Rule {
    /// The rule for the known right answers to a question.
    pub(super) fn new(domain: Domain, right: &[String]) -> Self {
        let accepted: Vec<_> = right.iter().map(|answer| stated(domain, &words(answer))).collect();
        let longest = right.iter().map(|answer| words(answer).len()).max().unwrap_or(0);
        Self { domain, accepted, max_words: longest + SPARE_WORDS }
    }

    /// The rule for an answer that must be this one word.
    pub(super) fn one_word(domain: Domain, word: &str) -> Self {
        Self { max_words: words(word).len(), ..Self::new(domain, &[word.to_owned()]) }
    }

    /// Whether both answers are about the same words.
    #[cfg(test)]
    pub(super) fn has_domain_of(&self, other: &Self) -> bool {
        self.domain == other.domain
    }

    /// Whether `answer` states what one of the known answers states, in few words.
    pub(super) fn accepts(&self, answer: &str) -> bool {
        let answer = words(answer);
        let stated = stated(self.domain, &answer);
        answer.len() <= self.max_words && !stated.is_empty() && self.accepted.contains(&stated)
    }
}

/// The terms of `domain` in `answer`, in order.
fn stated(domain: Domain, answer: &[String]) -> Vec<String> {
    let terms = &TERMS[domain as usize];
    let mut found = Vec::new();
    let mut rest = answer;
    while let [_, after @ ..] = rest {
        match terms.iter().find(|term| rest.starts_with(term)) {
            Some(term) => {
                found.push(term.join(" "));
                rest = rest.get(term.len()..).unwrap_or_default();
            }
            None => rest = after,
        }
    }
    found
}

/// The words of a text in lower case, contractions written out, numbers as digits.
pub(super) fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    let text = text.replace('+', " plus ").replace('=', " is ").replace(" - ", " minus ");
    let is_separator = |c: char| !c.is_alphanumeric() && c != '\'';
    let pieces = text.split(is_separator).map(|word| word.trim_matches('\''));
    pieces.filter(|word| !word.is_empty()).flat_map(plain).collect()
}

/// A word in the spelling that answers are compared in.
fn plain(word: &str) -> Vec<String> {
    if let Some(number) = tables::NUMBER_WORDS.iter().position(|&name| name == word) {
        return vec![number.to_string()];
    }
    let split = match word {
        "can't" | "cannot" => "can not",
        "won't" => "will not",
        "ninety" => "90",
        "forty" => "40",
        "colour" => "color",
        "grey" => "gray",
        _ => "",
    };
    if !split.is_empty() {
        return split.split(' ').map(str::to_owned).collect();
    }
    for (ending, full) in [("n't", "not"), ("'m", "am"), ("'re", "are"), ("'s", "is")] {
        if let Some(stem) = word.strip_suffix(ending) {
            return vec![stem.to_owned(), full.to_owned()];
        }
    }
    vec![word.to_owned()]
}

/// All right answers of a section, its markers filled.
pub(super) fn filled<'a>(
    answers: impl Iterator<Item = &'a str>,
    values: &[(&str, &str)],
) -> Vec<String> {
    answers.map(|answer| fill(answer, values)).collect()
}
