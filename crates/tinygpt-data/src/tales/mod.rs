//! `tiny_tales`, the embedded dataset: short children's stories from a seeded grammar of our own.
//!
//! It is what a first run trains on without any download, so it is made to be learnt in minutes
//! by a model of a few million parameters and still to read like stories: some fifty plots with a
//! problem, a turn and an ending, each in many variants, in short sentences of plain words.
//! What is lost is what is found, who is introduced is who helps, and "he" is never a girl.
//!
//! The stories are text, in files next to this module (`words.txt`, `plots/*.txt`), compiled in:
//!
//! ```text
//! [The lost toy]                   a plot
//! hero: named child                roles: a row from a table of words.txt,
//! pet: animal+pet                  here one with the tag `pet`
//! spot, cry = on the roof / Up there; in the well / Down there     or one of these
//! +                                a beat in the same paragraph; `//` starts a new one
//! {Hero} had a {color} ball. {Hero.he} (loved|liked) it.           one variant a line
//! ```
//!
//! `{name}` is the role's name or word, `{name.column}` another cell of its row, `{name.his}` its
//! pronoun, `{table}` a fresh row of a table, `(this|that)` a choice; a capital in the marker makes
//! a capital in the text. "a" becomes "an" by itself.
//!
//! The module knows no files, tokens or datasets: it returns strings.

mod cast;
mod check;
mod generator;
mod pieces;
mod reading;
pub(crate) mod rng;
mod spelling;
mod templates;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

pub use check::{FaultKind, StoryChecker, StoryFault};
use rng::StoryRng;
use templates::Templates;

/// Stories in the training split unless asked otherwise.
pub const DEFAULT_TRAIN_STORIES: usize = 20_000;
/// Stories in the validation split unless asked otherwise.
pub const DEFAULT_VALIDATION_STORIES: usize = 1_000;
/// One story in this many belongs to the validation split.
const VALIDATION_SHARE: u64 = 21;

/// The generator of `tiny_tales`: an endless supply of stories that depends on the seed alone.
///
/// No two stories of a split are equal, none is in both splits, and the same seed gives the same
/// bytes on every machine. A shorter split is the beginning of a longer one.
///
/// ```
/// use tinygpt_data::tales::Tales;
///
/// let tales = Tales::new(1337);
/// let story = tales.train(1).next().unwrap_or_default();
/// println!("{story}");
/// assert!(story.split_whitespace().count() >= 60);
/// assert!(story.ends_with(['.', '!', '?', '"']));
/// assert!(tales.validation(100).all(|other| other != story));
/// ```
pub struct Tales {
    seed: u64,
    templates: Templates,
}

impl Tales {
    /// A generator for `seed`. Cheap: it reads about a hundred kilobytes of compiled-in text.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, templates: Templates::open() }
    }

    /// The first `n` stories of the training split.
    pub fn train(&self, n: usize) -> impl Iterator<Item = String> {
        self.split(|hash| hash % VALIDATION_SHARE != 0).take(n)
    }

    /// The first `n` stories of the validation split. Each costs generating
    /// 21 stories, because a story's split is known from its text only.
    pub fn validation(&self, n: usize) -> impl Iterator<Item = String> {
        self.split(|hash| hash % VALIDATION_SHARE == 0).take(n)
    }

    /// The stories whose hash `belongs` to a split, in order, without repetition.
    ///
    /// The hash is of the text, so equal stories fall into the same split and are seen there as
    /// equal; if two different ones collide, the second is skipped.
    fn split(&self, belongs: fn(u64) -> bool) -> impl Iterator<Item = String> {
        let mut seen = HashSet::new();
        self.stories().filter(move |story| {
            let hash = fnv1a(story.as_bytes());
            belongs(hash) && seen.insert(hash)
        })
    }

    /// Story after story, equal ones included.
    fn stories(&self) -> impl Iterator<Item = String> {
        (0..).map_while(|index| {
            Some(generator::generate(&self.templates, StoryRng::new(self.seed, index))?.text)
        })
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923): small and fixed, unlike the standard
/// library's hasher, whose algorithm may change between releases and with it the splits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
