//! Merging the bytes of one word into tokens: the rule of byte-pair encoding, without caches.
//!
//! Of all adjacent pairs, the one with the lowest merge rank is merged, the leftmost if it
//! occurs twice, until no pair has a merge (Sennrich et al. 2016, arXiv:1508.07909 §3.2).
//! Short words search their pairs each time; long ones keep them in a queue, so that no
//! word takes quadratic time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::word::QuickHash;

/// The longest word, in bytes, whose pairs are looked through.
const MAX_SCANNED: usize = 64;

/// The rank of a pair that is not merged.
const NEVER: u32 = u32::MAX;

/// The merge of a pair: its rank and the resulting token.
#[derive(Debug, Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

const NO_MERGE: Merge = Merge { rank: NEVER, id: 0 };

/// The ids of two neighbouring tokens.
pub(super) type Pair = (u32, u32);

/// The merges of a vocabulary and the ids of the 256 bytes.
pub(super) struct Merges {
    byte_ids: [u32; 256],
    by_pair: HashMap<u64, Merge, QuickHash>,
}

impl Merges {
    /// `learned` are the pairs in their order, each with the token it gives.
    pub(super) fn new(byte_ids: [u32; 256], learned: impl Iterator<Item = (Pair, u32)>) -> Self {
        // As in the library, a pair that is listed twice has its last rank.
        let by_pair = learned
            .zip(0..)
            .map(|(((left, right), id), rank)| (pair_key(left, right), Merge { rank, id }))
            .collect();
        Self { byte_ids, by_pair }
    }

    /// Appends the ids of `word`.
    pub(super) fn encode(&self, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() <= MAX_SCANNED {
            self.encode_scanning(word, ids);
        } else {
            self.encode_with_queue(word, ids);
        }
    }

    fn merge_of(&self, left: u32, right: u32) -> Merge {
        self.by_pair.get(&pair_key(left, right)).copied().unwrap_or(NO_MERGE)
    }

    fn encode_scanning(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens = [0; MAX_SCANNED];
        // The merge of each token with the one after it.
        let mut merges = [NO_MERGE; MAX_SCANNED];
        let mut n = word.len();
        for (token, &byte) in tokens.iter_mut().zip(word) {
            *token = self.byte_ids[usize::from(byte)];
        }
        for at in 1..n {
            merges[at - 1] = self.merge_of(tokens[at - 1], tokens[at]);
        }
        while let Some((at, merge)) =
            merges[..n].iter().copied().enumerate().min_by_key(|(_, merge)| merge.rank)
        {
            if merge.rank == NEVER {
                break;
            }
            tokens[at] = merge.id;
            tokens.copy_within(at + 2..n, at + 1);
            merges.copy_within(at + 1..n, at);
            n -= 1;
            if at + 1 < n {
                merges[at] = self.merge_of(tokens[at], tokens[at + 1]);
            }
            if at > 0 {
                merges[at - 1] = self.merge_of(tokens[at - 1], tokens[at]);
            }
        }
        ids.extend_from_slice(&tokens[..n]);
    }

    fn encode_with_queue(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut chain = Chain::new(word.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        let merge_at = |chain: &Chain, at: u32| {
            let (left, right) = chain.pair(at)?;
            let merge = self.merge_of(left, right);
            (merge.rank != NEVER).then_some(merge)
        };
        let found = (0..word.len() as u32).filter_map(|at| Some((merge_at(&chain, at)?.rank, at)));
        let mut queue = Queue::new(found.collect());
        while let Some((rank, at)) = queue.pop() {
            // Either token may have been merged with another in the meantime.
            let Some(merge) = merge_at(&chain, at).filter(|merge| merge.rank == rank) else {
                continue;
            };
            chain.merge(at, merge.id);
            for at in chain.before(at).into_iter().chain([at]) {
                if let Some(merge) = merge_at(&chain, at) {
                    queue.push((merge.rank, at));
                }
            }
        }
        ids.extend(chain.tokens());
    }
}

/// Places by rank, the leftmost first.
///
/// Those known from the start are sorted once, which is much quicker than a heap of all.
struct Queue {
    /// The last comes first.
    known: Vec<(u32, u32)>,
    added: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Queue {
    fn new(mut known: Vec<(u32, u32)>) -> Self {
        known.sort_unstable_by(|a, b| b.cmp(a));
        Self { known, added: BinaryHeap::new() }
    }

    fn push(&mut self, place: (u32, u32)) {
        self.added.push(Reverse(place));
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        match (self.known.last(), self.added.peek()) {
            (Some(known), Some(Reverse(added))) if added < known => {}
            (Some(_), _) => return self.known.pop(),
            _ => {}
        }
        self.added.pop().map(|Reverse(place)| place)
    }
}

/// Two ids as one key.
pub(super) fn pair_key(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

/// No neighbour.
const NOWHERE: u32 = u32::MAX;

/// Tokens at the places of their first bytes, each knowing its neighbours.
struct Chain(Vec<Link>);

#[derive(Clone, Copy)]
struct Link {
    token: u32,
    previous: u32,
    next: u32,
    merged_away: bool,
}

impl Chain {
    fn new(tokens: impl ExactSizeIterator<Item = u32>) -> Self {
        let n = tokens.len();
        let link = |(at, token): (usize, u32)| Link {
            token,
            previous: if at == 0 { NOWHERE } else { at as u32 - 1 },
            next: if at + 1 == n { NOWHERE } else { at as u32 + 1 },
            merged_away: false,
        };
        Self(tokens.enumerate().map(link).collect())
    }

    /// The token at `at` and the one after it, if both are there.
    fn pair(&self, at: u32) -> Option<(u32, u32)> {
        let link = self.0.get(at as usize).filter(|link| !link.merged_away)?;
        Some((link.token, self.0.get(link.next as usize)?.token))
    }

    /// Makes the token at `at` and the one after it into one.
    fn merge(&mut self, at: u32, token: u32) {
        let right_at = self.0[at as usize].next as usize;
        let Some(right) = self.0.get_mut(right_at) else { return };
        right.merged_away = true;
        let next = right.next;
        self.0[at as usize].token = token;
        self.0[at as usize].next = next;
        if let Some(after) = self.0.get_mut(next as usize) {
            after.previous = at;
        }
    }

    fn before(&self, at: u32) -> Option<u32> {
        let previous = self.0[at as usize].previous;
        (previous != NOWHERE).then_some(previous)
    }

    fn tokens(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter(|link| !link.merged_away).map(|link| link.token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Merges over the letters a to d, with chains that build on one another.
    fn merges() -> Merges {
        let mut byte_ids = [0; 256];
        for (id, byte) in (b'a'..=b'd').enumerate() {
            byte_ids[usize::from(byte)] = id as u32;
        }
        let learned = [(1, 2), (0, 0), (4, 3), (5, 5), (0, 4), (7, 5), (3, 3), (8, 6), (2, 0)];
        Merges::new(byte_ids, learned.into_iter().zip(4..))
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same_tokens(word in "[abcd]{0,64}") {
            let (mut scanned, mut queued) = (Vec::new(), Vec::new());
            merges().encode_scanning(word.as_bytes(), &mut scanned);
            merges().encode_with_queue(word.as_bytes(), &mut queued);
            prop_assert_eq!(scanned, queued);
        }
    }

    #[test]
    fn the_leftmost_of_equal_pairs_is_merged_first() {
        let mut ids = Vec::new();
        merges().encode(b"aaaaa", &mut ids);
        assert_eq!(ids, [7, 0]);
    }

    #[test]
    fn a_word_of_two_million_letters_is_encoded_at_once() {
        let mut ids = Vec::new();
        merges().encode(&vec![b'a'; 2_000_000], &mut ids);
        assert_eq!(ids.len(), 500_000);
    }
}
