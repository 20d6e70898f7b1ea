//! Checks whether a text is a coherent story of `tiny_tales`.
//!
//! The grammar is the measure: a story is coherent if the grammar could have written it. Then it has
//! the beginning, the turn and the end of one plot in their order, everybody who acts was introduced,
//! names, pronouns and things stay what they were, and it ends. Paragraphs do not count.

use std::collections::BTreeSet;
use std::fmt;

use super::pieces::ReadablePlot;
use super::reading::{Reading, read, starts_with_a_beat};
use super::spelling::{fix_articles, without_n};
use super::templates::Templates;

/// Checks stories.
///
/// ```
/// use tinygpt_data::tales::{FaultKind, StoryChecker, Tales};
///
/// let checker = StoryChecker::new();
/// let story = Tales::new(7).train(1).next().unwrap_or_default();
/// assert!(checker.check(&story).is_ok());
/// let half = &story[..story.len() / 2];
/// assert!(checker.check(half).is_err_and(|fault| fault.kind == FaultKind::Ending));
/// ```
pub struct StoryChecker {
    plots: Vec<ReadablePlot>,
    /// The names of all characters, and the words for those without.
    names: BTreeSet<&'static str>,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A character that this story does not have, or does not have at this place.
    Character,
    /// A pronoun of somebody else.
    Pronoun,
    /// A part of another plot.
    Plot,
    /// A word that the plot does not have at this place.
    Word,
    /// The story stops before its end, or continues after it.
    Ending,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Character, Self::Pronoun, Self::Plot, Self::Word, Self::Ending];

    /// Its name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Character => "character",
            Self::Pronoun => "pronoun",
            Self::Plot => "plot",
            Self::Word => "word",
            Self::Ending => "ending",
        }
    }
}

/// Where a text stops being a story of the plot that explains most of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The title of the plot.
    pub plot: &'static str,
    /// The last words that fit.
    pub after: String,
    /// The words that do not; empty at the end of the text.
    pub found: String,
    /// Some of the words that could stand there; empty if only the end of the story could.
    pub expected: Vec<String>,
}

impl fmt::Display for StoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |text: &str| {
            if text.is_empty() { "the end".to_owned() } else { format!("`{text}`") }
        };
        let expected: Vec<String> = self.expected.iter().map(|word| end(word)).collect();
        let expected = if expected.is_empty() { end("") } else { expected.join(" or ") };
        write!(f, "after `{}`: {}, expected {expected}", self.after, end(&self.found))
    }
}

/// Words that a fault quotes before and at its place.
const N_BEFORE: usize = 5;
const N_FOUND: usize = 2;

impl Default for StoryChecker {
    fn default() -> Self {
        Self::new()
    }
}

impl StoryChecker {
    /// A checker. Cheap: it reads about a hundred kilobytes of compiled-in text.
    #[must_use]
    pub fn new() -> Self {
        let templates = Templates::open();
        let plots: Vec<ReadablePlot> =
            templates.plots.iter().map(|plot| ReadablePlot::new(&templates, plot)).collect();
        let cast = plots.iter().flat_map(|plot| plot.cast.iter().flatten());
        let names = cast.map(|character| character.text).collect();
        Self { plots, names }
    }

    /// The title of the plot of `story`, if the story is coherent.
    ///
    /// # Errors
    /// The first fault, by the plot that explains the longest part of the text.
    pub fn check(&self, story: &str) -> Result<&'static str, StoryFault> {
        let words: Vec<&str> = story.split_whitespace().collect();
        let plain = words.join(" ");
        let text = without_n(&plain);
        let mut best: (Reading, &'static str) = Default::default();
        for plot in &self.plots {
            let reading = read(plot, &text);
            if reading.is_whole {
                return match wrong_article(&text, &words) {
                    None => Ok(plot.title),
                    Some(at) => Err(fault(FaultKind::Word, plot.title, (&words, at), Vec::new())),
                };
            }
            if best.1.is_empty() || reading.end > best.0.end {
                best = (reading, plot.title);
            }
        }
        let (reading, plot) = best;
        let at = text[..reading.end].matches(' ').count();
        let kind = self.kind(&text, plot, &reading);
        Err(fault(kind, plot, (&words, at), reading.expected))
    }

    fn kind(&self, text: &str, plot: &str, reading: &Reading) -> FaultKind {
        let rest = &text[reading.end..];
        let is_letter = |c: char| c.is_ascii_alphabetic();
        let word = rest.split(|c| !is_letter(c)).next().unwrap_or_default();
        // The word after the space that follows the end.
        let is_over = reading.ends_at.is_some_and(|end| reading.end <= end + 1);
        if rest.is_empty() || reading.is_cut || is_over {
            return FaultKind::Ending;
        }
        let sentence = sentence_start(text, reading.end);
        if self.is_of_another_plot(&text[sentence..], plot) {
            return FaultKind::Plot;
        }
        const PRONOUNS: [&str; 12] = [
            "he", "him", "his", "himself", "she", "her", "hers", "herself", "it", "its", "itself",
            "they",
        ];
        let lower = word.to_ascii_lowercase();
        match () {
            () if PRONOUNS.contains(&lower.as_str()) => FaultKind::Pronoun,
            () if self.names.contains(word) || self.names.contains(lower.as_str()) => {
                FaultKind::Character
            }
            () => FaultKind::Word,
        }
    }

    /// Whether `text` starts with a part of a plot other than `plot`, a sentence at least.
    fn is_of_another_plot(&self, text: &str, plot: &str) -> bool {
        let first = text.find(['.', '!', '?']).unwrap_or(text.len());
        let mut others = self.plots.iter().filter(|other| other.title != plot);
        others.any(|other| starts_with_a_beat(other, text, first))
    }
}

/// The number of the first word before which "a" and "an" are mixed up; `text` has only "a".
fn wrong_article(text: &str, words: &[&str]) -> Option<usize> {
    let fixed = fix_articles(text);
    fixed.split(' ').zip(words).position(|(fixed, word)| fixed != *word)
}

/// Where the sentence starts that holds byte `at`.
fn sentence_start(text: &str, at: usize) -> usize {
    let ends = [". ", "! ", "? ", "\" "].map(|end| text[..at].rfind(end).map(|i| i + end.len()));
    ends.into_iter().flatten().max().unwrap_or(0)
}

fn fault(
    kind: FaultKind,
    plot: &'static str,
    (words, at): (&[&str], usize),
    expected: Vec<String>,
) -> StoryFault {
    StoryFault {
        kind,
        plot,
        after: words[at.saturating_sub(N_BEFORE)..at.min(words.len())].join(" "),
        found: words.iter().skip(at).take(N_FOUND).copied().collect::<Vec<_>>().join(" "),
        expected,
    }
}
