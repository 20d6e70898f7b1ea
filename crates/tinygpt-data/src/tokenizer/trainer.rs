//! Training of byte-pair encoding: learns merges from counted words.
//!
//! The pair that occurs most often becomes a token, again and again; of pairs that occur equally
//! often the one of smaller ids (Sennrich et al. 2016, arXiv:1508.07909 §3.2). Each pair has a list
//! of the words that contain it, so a merge touches only those; counts in the queue may be out of
//! date and are corrected when they reach its top.
//!
//! The merges, their order and their ties are those of the `tokenizers` library, also in two
//! details of its implementation: a token that two different pairs give is one token, and a pair
//! whose count was put into the queue twice is merged from both entries.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
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
/// `tokens` are the initial tokens, by id; among them the bytes of the words.
pub(super) fn learn(
    mut words: Words,
    tokens: Vec<Box<[u8]>>,
    vocab_size: usize,
    min_frequency: u64,
) -> Learned {
    let mut ids: HashMap<Box<[u8]>, u32, QuickHash> = tokens.iter().cloned().zip(0..).collect();
    let mut learned = Learned { tokens, merges: Vec::new() };
    let mut pairs = Pairs::of(&words);
    while learned.tokens.len() < vocab_size {
        let Some((pair, count, found_in)) = pairs.most_frequent() else { break };
        if count < min_frequency.max(1) {
            break;
        }
        let token = [&*learned.tokens[pair.0 as usize], &*learned.tokens[pair.1 as usize]].concat();
        let n_tokens = learned.tokens.len() as u32;
        let id = *ids.entry(token.into_boxed_slice()).or_insert_with_key(|token| {
            learned.tokens.push(token.clone());
            n_tokens
        });
        learned.merges.push(pair);
        for word in found_in.iter() {
            words.merge(word, pair, id, &mut pairs);
        }
        pairs.queue_found();
    }
    learned
}

/// All words as tokens, one after the other in one list, and how often each occurs.
pub(super) struct Words {
    byte_ids: [u32; 256],
    symbols: Vec<u32>,
    words: Vec<Word>,
}

/// The start of a word, its current number of tokens, and how often it occurs.
struct Word {
    start: usize,
    length: u32,
    count: u64,
}

impl Words {
    /// An empty list; `byte_ids` are the initial tokens of its words.
    pub(super) fn new(byte_ids: [u32; 256]) -> Self {
        Self { byte_ids, symbols: Vec::new(), words: Vec::new() }
    }

    /// Adds a word; one of a single byte has no pair and is left out.
    pub(super) fn push(&mut self, word: &[u8], count: u64) {
        if word.len() > 1 {
            let (start, length) = (self.symbols.len(), word.len() as u32);
            self.words.push(Word { start, length, count });
            self.symbols.extend(word.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        }
    }

    /// Merges a pair wherever it occurs in a word, from left to right, and reports the pairs.
    fn merge(&mut self, word: u32, (left, right): Pair, id: u32, pairs: &mut Pairs) {
        let Word { start, ref mut length, count } = self.words[word as usize];
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
    states: HashMap<u64, PairState, QuickHash>,
    /// The pairs found since the last merge, and the words that they were found in.
    found: Vec<(u64, WordList)>,
    n_merges: u32,
    queue: BinaryHeap<Entry>,
    /// The words of each entry of the queue.
    lists: Vec<WordList>,
}

/// The statistics of a pair.
#[derive(Clone, Copy)]
struct PairState {
    /// How often it occurs now.
    count: u64,
    /// The merge after which it was found last, and its index among those found then.
    found: (u32, u32),
}

impl Pairs {
    /// The pairs of bytes, which are few: a table is faster than a map.
    fn of(words: &Words) -> Self {
        let n_ids = words.byte_ids.iter().max().map_or(0, |&id| id as usize + 1);
        let mut table: Vec<(u64, Option<WordList>)> = Vec::new();
        table.resize_with(n_ids * n_ids, || (0, None));
        for (word, word_idx) in words.words.iter().zip(0u32..) {
            let symbols = &words.symbols[word.start..word.start + word.length as usize];
            for pair in symbols.windows(2) {
                let (total, list) = &mut table[pair[0] as usize * n_ids + pair[1] as usize];
                *total += word.count;
                match list {
                    Some(list) => list.push(word_idx),
                    None => *list = Some(WordList::of(word_idx)),
                }
            }
        }
        let mut pairs = Self::default();
        for (at, (count, list)) in table.into_iter().enumerate() {
            let Some(list) = list else { continue };
            let key = pair_key((at / n_ids) as u32, (at % n_ids) as u32);
            pairs.states.insert(key, PairState { count, found: (0, 0) });
            pairs.found.push((key, list));
        }
        pairs.queue_found();
        pairs
    }

    fn add(&mut self, (left, right): Pair, count: u64, word: u32) {
        let key = pair_key(left, right);
        let now = (self.n_merges, self.found.len() as u32);
        let state = self.states.entry(key).or_insert(PairState { count: 0, found: (0, 0) });
        state.count += count;
        if state.found.0 == self.n_merges {
            self.found[state.found.1 as usize].1.push(word);
        } else {
            state.found = now;
            self.found.push((key, WordList::of(word)));
        }
    }

    fn remove(&mut self, (left, right): Pair, count: u64) {
        if let Some(state) = self.states.get_mut(&pair_key(left, right)) {
            state.count = state.count.saturating_sub(count);
        }
    }

    /// Puts the pairs found since the last merge into the queue.
    fn queue_found(&mut self) {
        self.n_merges += 1;
        for (key, words) in self.found.drain(..) {
            let count = self.states.get(&key).map_or(0, |state| state.count);
            if count > 0 {
                let list = Reverse(self.lists.len() as u32);
                self.queue.push(Entry { count, pair: Reverse(key), list });
                self.lists.push(words);
            }
        }
    }

    /// The pair that occurs most often, how often, and the words in which it was found.
    fn most_frequent(&mut self) -> Option<(Pair, u64, WordList)> {
        loop {
            let mut top = self.queue.peek_mut()?;
            let key = top.pair.0;
            let count = self.states.get(&key)?.count;
            if top.count != count {
                top.count = count;
                continue;
            }
            let words = std::mem::take(self.lists.get_mut(PeekMut::pop(top).list.0 as usize)?);
            return Some((((key >> 32) as u32, key as u32), count, words));
        }
    }
}

/// A pair in the queue. The largest is next: most occurrences, then smaller ids, then found first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    count: u64,
    pair: Reverse<u64>,
    /// The index of its list of words.
    list: Reverse<u32>,
}

/// Words in the order in which they were found. Most pairs stand in one word only.
#[derive(Default)]
struct WordList {
    first: u32,
    others: Vec<u32>,
}

impl WordList {
    fn of(first: u32) -> Self {
        Self { first, others: Vec::new() }
    }

    /// Adds a word, which may be the last one again.
    fn push(&mut self, word: u32) {
        if *self.others.last().unwrap_or(&self.first) != word {
            self.others.push(word);
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

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
        let mut all = Words::new(byte_ids);
        words.iter().for_each(|(word, count)| all.push(word.as_bytes(), *count));
        let learned = learn(all, tokens, vocab_size, min);
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
