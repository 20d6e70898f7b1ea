//! Counts validation tokens that never occur in training: their loss says nothing about the
//! model, which has never seen them.
//!
//! At the character level characters are counted, since one that is not a token is several bytes.

use std::collections::HashMap;

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::source::Piece;
use crate::tokenizer::Tokenizer;

/// The fraction of unseen characters or tokens that is worth a note.
///
/// English texts of 3 KB to 1 MB, split at their end, had no unseen characters and at most 2.9% of
/// such tokens, with vocabularies of up to 12,000; an English text with a German end had 7% of the
/// characters and 16% to 36% of the tokens.
fn noteworthy(encoding: Encoding) -> f64 {
    match encoding {
        Encoding::Simple => 0.01,
        Encoding::Bpe => 0.05,
    }
}

/// Shorter texts get no note: every line of them has something new.
const FEWEST: u64 = 50;

/// How many examples a note names.
const N_EXAMPLES: usize = 5;

/// The tokens that training has, by id.
#[derive(Default)]
pub(super) struct Seen(Vec<bool>);

impl Seen {
    /// The tokens of a character level tokenizer that was made from the training text: all but
    /// those for single bytes.
    pub(super) fn characters(tokenizer: &Tokenizer) -> Self {
        let ids = (0u32..).take(tokenizer.vocab_size());
        Self(ids.map(|id| !tokenizer.is_fallback(id)).collect())
    }

    /// Marks the tokens of a text.
    pub(super) fn mark(&mut self, ids: &[u32]) {
        for &id in ids {
            let id = id as usize;
            if id >= self.0.len() {
                self.0.resize(id + 1, false);
            }
            self.0[id] = true;
        }
    }

    /// Adds what another part of the text has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), false);
        for (seen, &too) in self.0.iter_mut().zip(&other.0) {
            *seen |= too;
        }
    }

    fn has(&self, id: u32) -> bool {
        self.0.get(id as usize).is_some_and(|&seen| seen)
    }
}

/// What validation holds that training does not, and how often.
#[derive(Default)]
pub(super) struct Unseen {
    /// How often each of them occurs, but for tokens that are parts of a character.
    counts: HashMap<String, u64>,
    n: u64,
    /// All characters or tokens of the split.
    n_all: u64,
}

impl Unseen {
    /// Counts the tokens of a piece of the validation text.
    pub(super) fn count(
        &mut self,
        tokenizer: &Tokenizer,
        seen: &Seen,
        piece: &Piece,
        ids: &[u32],
    ) -> Result<(), DataError> {
        let by_character = tokenizer.encoding() == Encoding::Simple;
        self.n_all +=
            if by_character { piece.text.chars().count() as u64 } else { ids.len() as u64 };
        let mut unseen = ids.iter().filter(|&&id| !seen.has(id)).peekable();
        if unseen.peek().is_none() {
            return Ok(());
        }
        if !by_character {
            unseen.for_each(|&id| self.add(tokenizer, id));
            return Ok(());
        }
        let mut known: HashMap<char, bool> = HashMap::new();
        for c in piece.text.chars() {
            let is_seen = match known.get(&c) {
                Some(&is_seen) => is_seen,
                None => {
                    let ids = tokenizer.encode(c.encode_utf8(&mut [0; 4]))?;
                    let is_seen = ids.iter().all(|&id| seen.has(id));
                    known.insert(c, is_seen);
                    is_seen
                }
            };
            if !is_seen {
                self.n += 1;
                *self.counts.entry(format!("{:?}", String::from(c))).or_default() += 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.n += 1;
        // Bytes that are not whole characters are not a readable example.
        if !tokenizer.is_fallback(id) {
            *self.counts.entry(tokenizer.token_text(id)).or_default() += 1;
        }
    }

    /// Adds what another part of the text has.
    pub(super) fn merge(&mut self, other: Self) {
        self.n += other.n;
        self.n_all += other.n_all;
        for (text, count) in other.counts {
            *self.counts.entry(text).or_default() += count;
        }
    }

    /// A note, if there are enough of them. `advice` is appended.
    pub(super) fn note(&self, encoding: Encoding, advice: &str) -> Option<String> {
        let share = self.n as f64 / self.n_all.max(1) as f64;
        if share < noteworthy(encoding) || self.n < FEWEST {
            return None;
        }
        let unit = if encoding == Encoding::Simple { "characters" } else { "tokens" };
        let mut counts: Vec<(&String, u64)> = self.counts.iter().map(|(t, &n)| (t, n)).collect();
        counts.sort_by_key(|&(text, n)| (std::cmp::Reverse(n), text));
        let examples: Vec<&str> =
            counts.iter().take(N_EXAMPLES).map(|(text, _)| text.as_str()).collect();
        let percent = share * 100.0;
        let examples = match examples.join(", ") {
            none if none.is_empty() => none,
            some => format!(" (most often {some})"),
        };
        Some(format!(
            "{percent:.1}% of the {unit} in the validation text never occur in the training text\
             {examples}{advice}"
        ))
    }
}
