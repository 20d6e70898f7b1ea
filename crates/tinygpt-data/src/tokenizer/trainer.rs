//! Learning merges from counted words.
//!
//! The pair that occurs most often becomes a token, again and again; of pairs that occur equally
//! often the one of smaller ids (Sennrich et al. 2016, arXiv:1508.07909 §3.2). Each pair knows
//! the words that it stands in, so a merge touches those alone; the queue's counts may be out of
//! date and are put right when they come up.
//!
//! The merges, their order and their ties are those of the `tokenizers` library, also where its
//! bookkeeping shows: a token that two different pairs give is one token, and a pair whose count
//! was put into the queue twice is merged from both entries.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::merges::{Pair, pair_key};
use super::word::QuickHash;

/// What training gives: the bytes of all tokens by id, and the merged pairs in order.
pub(super) struct Learned {
    pub(super) tokens: Vec<Box<[u8]>>,
    pub(super) merges: Vec<Pair>,
}

/// Learns merges until there are `vocab_size` tokens, or no pair occurs `min_frequency` times.
///
/// `tokens` are those to begin with, by id; among them the 256 bytes, at `byte_ids`.
pub(super) fn learn(
    words: impl Iterator<Item = (Box<[u8]>, u64)>,
    tokens: Vec<Box<[u8]>>,
    byte_ids: &[u32; 256],
    vocab_size: usize,
    min_frequency: u64,
) -> Learned {
    let mut ids: HashMap<Box<[u8]>, u32, QuickHash> = tokens.iter().cloned().zip(0..).collect();
    let mut learned = Learned { tokens, merges: Vec::new() };
    let mut words = Words::new(words, byte_ids);
    let mut pairs = Pairs::default();
    for word in 0..words.n_words() {
        let count = words.counts[word as usize];
        for pair in words.symbols(word).windows(2) {
            pairs.add((pair[0], pair[1]), count, word);
        }
    }
    pairs.queue_found();
    while learned.tokens.len() < vocab_size {
        let Some(entry) = pairs.most_frequent() else { break };
        if entry.count < min_frequency.max(1) {
            break;
        }
        let (left, right) = entry.pair;
        let token = [&*learned.tokens[left as usize], &*learned.tokens[right as usize]].concat();
        let n_tokens = learned.tokens.len() as u32;
        let id = *ids.entry(token.into_boxed_slice()).or_insert_with_key(|token| {
            learned.tokens.push(token.clone());
            n_tokens
        });
        learned.merges.push(entry.pair);
        for &word in &entry.words {
            words.merge(word, entry.pair, id, &mut pairs);
        }
        pairs.queue_found();
    }
    learned
}

/// All words as tokens, one after the other in one list, and how often each occurs.
struct Words {
    symbols: Vec<u32>,
    /// Where each word begins; one more than there are words.
    starts: Vec<usize>,
    /// How many tokens each word has; fewer and fewer.
    lengths: Vec<u32>,
    counts: Vec<u64>,
}

impl Words {
    fn new(words: impl Iterator<Item = (Box<[u8]>, u64)>, byte_ids: &[u32; 256]) -> Self {
        let mut all = Self {
            symbols: Vec::new(),
            starts: Vec::new(),
            lengths: Vec::new(),
            counts: Vec::new(),
        };
        // A word of one byte has no pair.
        for (word, count) in words.filter(|(word, _)| word.len() > 1) {
            all.starts.push(all.symbols.len());
            all.lengths.push(word.len() as u32);
            all.counts.push(count);
            all.symbols.extend(word.iter().map(|&byte| byte_ids[usize::from(byte)]));
        }
        all
    }

    fn n_words(&self) -> u32 {
        self.counts.len() as u32
    }

    fn symbols(&self, word: u32) -> &[u32] {
        let start = self.starts[word as usize];
        &self.symbols[start..start + self.lengths[word as usize] as usize]
    }

    /// Merges a pair wherever it stands in a word, from left to right, and tells the pairs.
    fn merge(&mut self, word: u32, (left, right): Pair, id: u32, pairs: &mut Pairs) {
        let start = self.starts[word as usize];
        let count = self.counts[word as usize];
        let length = &mut self.lengths[word as usize];
        let symbols = &mut self.symbols[start..start + *length as usize];
        let (mut read, mut written) = (0, 0);
        while read < symbols.len() {
            let found = symbols[read] == left && symbols.get(read + 1) == Some(&right);
            symbols[written] = if found { id } else { symbols[read] };
            read += if found { 2 } else { 1 };
            if found {
                if written > 0 {
                    let before = symbols[written - 1];
                    pairs.remove((before, left), count);
                    pairs.add((before, id), count, word);
                }
                if let Some(&after) = symbols.get(read) {
                    pairs.remove((right, after), count);
                    pairs.add((id, after), count, word);
                }
            }
            written += 1;
        }
        *length = written as u32;
    }
}

/// How often each pair occurs, where, and which is next.
#[derive(Default)]
struct Pairs {
    /// How often each pair occurs now.
    counts: HashMap<u64, u64, QuickHash>,
    /// The words in which pairs were found since the last merge.
    found: HashMap<u64, Vec<u32>, QuickHash>,
    queue: BinaryHeap<Entry>,
    n_merges: u32,
}

impl Pairs {
    fn add(&mut self, (left, right): Pair, count: u64, word: u32) {
        let key = pair_key(left, right);
        *self.counts.entry(key).or_default() += count;
        let words = self.found.entry(key).or_default();
        if words.last() != Some(&word) {
            words.push(word);
        }
    }

    fn remove(&mut self, (left, right): Pair, count: u64) {
        if let Some(total) = self.counts.get_mut(&pair_key(left, right)) {
            *total = total.saturating_sub(count);
        }
    }

    /// Puts the pairs found since the last merge into the queue.
    fn queue_found(&mut self) {
        self.n_merges += 1;
        for (key, words) in self.found.drain() {
            let count = self.counts.get(&key).copied().unwrap_or(0);
            if count > 0 {
                let pair = ((key >> 32) as u32, key as u32);
                self.queue.push(Entry { count, pair, found: Reverse(self.n_merges), words });
            }
        }
    }

    /// The pair that occurs most often, with the words in which it was found.
    fn most_frequent(&mut self) -> Option<Entry> {
        loop {
            let mut entry = self.queue.pop()?;
            let count = self.counts.get(&pair_key(entry.pair.0, entry.pair.1)).copied()?;
            if entry.count == count {
                return Some(entry);
            }
            entry.count = count;
            self.queue.push(entry);
        }
    }
}

/// A pair in the queue. The largest is next: most occurrences, then smaller ids, then found first.
struct Entry {
    count: u64,
    pair: Pair,
    found: Reverse<u32>,
    words: Vec<u32>,
}

impl Entry {
    fn key(&self) -> (u64, Reverse<Pair>, Reverse<u32>) {
        (self.count, Reverse(self.pair), self.found)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use tokenizers::models::bpe::{BPE, BpeTrainer};

    use super::*;

    /// The merges that the library learns, as pairs of texts.
    fn library_merges(words: &[(String, u64)], vocab_size: usize, min: u64) -> Vec<[String; 2]> {
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(min)
            .show_progress(false)
            .initial_alphabet(('a'..='f').collect())
            .build();
        let mut model = BPE::default();
        let counts = words.iter().map(|(word, count)| (word.as_str().into(), *count)).collect();
        trainer.do_train(&counts, &mut model).unwrap();
        let model = serde_json::to_value(&model).unwrap();
        serde_json::from_value(model["merges"].clone()).unwrap()
    }

    fn our_merges(words: &[(String, u64)], vocab_size: usize, min: u64) -> Vec<[String; 2]> {
        let tokens = (b'a'..=b'f').map(|byte| [byte].into()).collect();
        let mut byte_ids = [0; 256];
        (b'a'..=b'f').zip(0..).for_each(|(byte, id)| byte_ids[usize::from(byte)] = id);
        let counted = words.iter().map(|(word, count)| (word.as_bytes().into(), *count));
        let learned = learn(counted, tokens, &byte_ids, vocab_size, min);
        let text = |id: u32| String::from_utf8(learned.tokens[id as usize].to_vec()).unwrap();
        // A pair that was merged twice has its last rank, in the library as here.
        let merges = &learned.merges;
        let is_last = |at: &usize| !merges[at + 1..].contains(&merges[*at]);
        (0..merges.len())
            .filter(is_last)
            .map(|at| [text(merges[at].0), text(merges[at].1)])
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn merges_are_the_librarys(
            words in prop::collection::btree_map("[a-c]{1,12}|[a-f]{1,6}|a{1,9}", 1u64..9, 1..40),
            vocab_size in 6usize..120,
            min in 0u64..4,
        ) {
            let words: Vec<(String, u64)> = words.into_iter().collect();
            let expected = library_merges(&words, vocab_size, min);
            prop_assert_eq!(our_merges(&words, vocab_size, min), expected);
        }
    }

    #[test]
    fn ties_go_to_smaller_ids() {
        let words = [("fe".to_owned(), 5), ("ba".to_owned(), 5), ("cd".to_owned(), 6)];
        assert_eq!(our_merges(&words, 9, 2), [["c", "d"], ["b", "a"], ["f", "e"]]);
    }
}
