//! How often each word of a text occurs, in bounded memory: what byte-pair training starts from.
//!
//! A text is counted batch by batch. [`WordCounts::trim`] after each batch keeps the table within
//! its bound by dropping the rarest words. What is dropped depends only on the text and the
//! boundaries of its batches, never on the number of threads.

use std::collections::HashMap;

use memchr::memmem;

use super::END_OF_TEXT;
use super::classes::CharClasses;
use super::splitter::for_each_word;
use super::word::{QuickHash, ShortWord};
use crate::error::DataError;

/// The most different words that are kept. English text of 2 GB has fewer.
const MAX_WORDS: usize = 1 << 21;

/// The most bytes that long words may take together.
const MAX_LONG_BYTES: usize = 64 << 20;

/// The binary logarithm of the smallest table's size.
const MIN_LOG_SLOTS: u32 = 12;

/// How often each word occurs.
pub(crate) struct WordCounts {
    classes: &'static CharClasses,
    short: ShortCounts,
    long: HashMap<Box<[u8]>, u64, QuickHash>,
    n_long_bytes: usize,
    max_words: usize,
    dropped: Dropped,
    /// Whether `<|endoftext|>` in a text is that token instead of a word.
    parses_special: bool,
}

/// The dropped words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// How many words were dropped; one that occurs again may be dropped again.
    pub(crate) n_words: u64,
    /// The number of their occurrences.
    pub(crate) n_occurrences: u64,
}

impl WordCounts {
    /// No words yet.
    pub(crate) fn new() -> Result<Self, DataError> {
        Ok(Self {
            classes: CharClasses::get()?,
            short: ShortCounts::new(),
            long: HashMap::default(),
            n_long_bytes: 0,
            max_words: MAX_WORDS,
            dropped: Dropped::default(),
            parses_special: true,
        })
    }

    /// The same counts, with `<|endoftext|>` in a text being a token between words, as it is unless
    /// disabled, or text.
    pub(crate) fn parsing_special(mut self, parses_special: bool) -> Self {
        self.parses_special = parses_special;
        self
    }

    /// Counts the words of `text`, a document or a piece of one.
    pub(crate) fn count(&mut self, text: &str) {
        if !self.parses_special {
            return self.count_words(text);
        }
        let mut start = 0;
        for end in memmem::find_iter(text.as_bytes(), END_OF_TEXT) {
            self.count_words(&text[start..end]);
            start = end + END_OF_TEXT.len();
        }
        self.count_words(&text[start..]);
    }

    fn count_words(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let (short, long, n_long_bytes) = (&mut self.short, &mut self.long, &mut self.n_long_bytes);
        for_each_word(self.classes, text, |start, end| match ShortWord::at(bytes, start, end) {
            Some(word) => short.add(word, 1),
            None => add_long(long, n_long_bytes, &bytes[start..end], 1),
        });
    }

    /// Adds the counts of another text.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.short.make_room(other.short.n_words);
        for (word, count) in other.short.iter() {
            self.short.add(word, count);
        }
        for (word, &count) in &other.long {
            add_long(&mut self.long, &mut self.n_long_bytes, word, count);
        }
    }

    /// Drops the rarest words if there are too many; of equally rare ones the last in order.
    pub(crate) fn trim(&mut self) {
        if self.short.n_words > self.max_words {
            let mut words: Vec<(ShortWord, u64)> = self.short.iter().collect();
            keep_most_frequent(&mut words, self.max_words / 2, &mut self.dropped);
            self.short = ShortCounts::new();
            for (word, count) in words {
                self.short.add(word, count);
            }
        }
        if self.n_long_bytes > MAX_LONG_BYTES || self.long.len() > self.max_words {
            let mut words: Vec<(Box<[u8]>, u64)> = self.long.drain().collect();
            // At most this many fit, whatever their length; or half of them.
            let n_kept = (self.max_words / 2).min(words.len() / 2);
            keep_most_frequent(&mut words, n_kept, &mut self.dropped);
            self.n_long_bytes = words.iter().map(|(word, _)| word.len()).sum();
            self.long = words.into_iter().collect();
        }
    }

    /// What was dropped so far.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Calls `word` with each word and its count, in no order.
    pub(super) fn for_each(&self, mut word: impl FnMut(&[u8], u64)) {
        self.short.iter().for_each(|(short, count)| short.with_bytes(|bytes| word(bytes, count)));
        self.long.iter().for_each(|(long, &count)| word(long, count));
    }
}

/// Keeps the `n` words that occur most often.
fn keep_most_frequent<W: Ord>(words: &mut Vec<(W, u64)>, n: usize, dropped: &mut Dropped) {
    if n < words.len() {
        words.select_nth_unstable_by(n, |a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        dropped.n_words += (words.len() - n) as u64;
        dropped.n_occurrences += words.drain(n..).map(|(_, count)| count).sum::<u64>();
    }
}

fn add_long(
    long: &mut HashMap<Box<[u8]>, u64, QuickHash>,
    n_long_bytes: &mut usize,
    word: &[u8],
    count: u64,
) {
    match long.get_mut(word) {
        Some(total) => *total += count,
        None => {
            *n_long_bytes += word.len();
            long.insert(word.into(), count);
        }
    }
}

/// The counts of short words: an open table, at most half full.
struct ShortCounts {
    slots: Vec<(ShortWord, u64)>,
    log_slots: u32,
    n_words: usize,
}

impl ShortCounts {
    fn new() -> Self {
        Self::with_slots(MIN_LOG_SLOTS)
    }

    fn with_slots(log_slots: u32) -> Self {
        Self { slots: vec![(ShortWord::NONE, 0); 1 << log_slots], log_slots, n_words: 0 }
    }

    #[inline(always)]
    fn add(&mut self, word: ShortWord, count: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (word.hash() >> (64 - self.log_slots)) as usize;
        loop {
            let slot = &mut self.slots[at & mask];
            if slot.0 == word {
                slot.1 += count;
                return;
            }
            if slot.0 == ShortWord::NONE {
                *slot = (word, count);
                self.n_words += 1;
                if 2 * self.n_words > mask {
                    self.grow();
                }
                return;
            }
            at += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = Self::with_slots(self.log_slots + 1);
        for (word, count) in self.iter() {
            larger.add(word, count);
        }
        *self = larger;
    }

    /// Grows for another table's words, which come in the order of their places: without room they
    /// would fill the first slots before the table is half full.
    fn make_room(&mut self, n_words: usize) {
        while 4 * (self.n_words + n_words) > 3 * self.slots.len() {
            self.grow();
        }
    }

    fn iter(&self) -> impl Iterator<Item = (ShortWord, u64)> {
        self.slots.iter().copied().filter(|slot| slot.0 != ShortWord::NONE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn counts_of(texts: &[&str], max_words: usize) -> (BTreeMap<Box<[u8]>, u64>, Dropped) {
        let mut counts = WordCounts { max_words, ..WordCounts::new().unwrap() };
        for text in texts {
            let mut batch = WordCounts::new().unwrap();
            batch.count(text);
            counts.merge(&batch);
            counts.trim();
        }
        let dropped = counts.dropped();
        let mut words = BTreeMap::new();
        counts.for_each(|word, count| _ = words.insert(word.into(), count));
        (words, dropped)
    }

    fn named(words: &[(&str, u64)]) -> BTreeMap<Box<[u8]>, u64> {
        words.iter().map(|&(word, count)| (word.as_bytes().into(), count)).collect()
    }

    #[test]
    fn words_are_counted_over_texts_and_around_separators() {
        let (words, dropped) = counts_of(
            &["a b a<|endoftext|> b", " b extraordinarilylong", "a extraordinarilylong"],
            9,
        );
        let expected = [("a", 2), (" a", 1), (" b", 3), (" extraordinarilylong", 2)];
        assert_eq!((words, dropped), (named(&expected), Dropped::default()));
    }

    #[test]
    fn the_rarest_words_are_dropped_and_counted() {
        let (words, dropped) = counts_of(&[" a a a b b c d", " d e e e e"], 4);
        assert_eq!(words, named(&[(" a", 3), (" e", 4)]));
        // " c" and one " d" after the first text would fit; the second text brings a fifth word.
        assert_eq!(dropped, Dropped { n_words: 3, n_occurrences: 2 + 1 + 2 });
    }

    #[test]
    fn thousands_of_words_are_all_kept() {
        let text: String = (0..50_000).map(|n| format!(" {n}")).collect();
        let (words, _) = counts_of(&[&text, &text], MAX_WORDS);
        assert_eq!(words.len(), 50_000);
        assert!(words.values().all(|&count| count == 2));
    }

    #[test]
    fn long_words_are_bounded_by_their_bytes() {
        let text: String = (b'a'..=b'z')
            .map(|letter| format!(" {}", String::from(letter as char).repeat(5 << 20)))
            .collect();
        let mut counts = WordCounts::new().unwrap();
        counts.count(&text);
        counts.trim();
        assert!(counts.n_long_bytes <= (66 << 20) && counts.dropped().n_words == 13);
    }
}
