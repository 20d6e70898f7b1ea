//! The longest run of tokens of each sample that is in a stream of tokens, and where: whether a model
//! repeats its training text.
//!
//! The index is over the samples, not over the stream: their suffix automaton. After each token of the stream
//! it knows the longest run that ends there and is in a sample. The start of the stream shows how long the
//! longest runs are at least. In the rest, only the places matter where all n-grams of that length are in
//! the samples: `filter.rs` finds them. So the stream is read once, memory does not grow with it, and nothing
//! is stored.

mod automaton;
mod filter;

use std::ops::Range;

use rayon::prelude::*;

use self::automaton::{Automaton, ROOT};
use self::filter::Filter;
use crate::error::DataError;
use crate::shard::TokenDataset;

/// Tokens that are read at a time.
const CHUNK: usize = 1 << 16;

/// Tokens at the start of the stream that are read without a filter.
const START: usize = 1 << 22;

/// Tokens of one part of the stream, of which several are read at the same time.
const PART: usize = 1 << 20;

/// A run of tokens that a sample and a stream have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its length in tokens; 0 if they have no token in common.
    pub len: usize,
    /// Where it starts in the sample.
    pub start: usize,
    /// Where it starts in the stream.
    pub position: usize,
}

/// The longest run that was found for a state, and the position after it.
type Found = (u32, usize);

/// The longest run of each of `samples` that is in `stream`, the first of equal ones by its start in the
/// sample.
///
/// ```
/// use tinygpt_data::{TokenDataset, longest_runs};
/// let stream = TokenDataset::from_ids(vec![1, 2, 3, 4, 5, 6]);
/// let runs = longest_runs(&stream, &[vec![9, 3, 4, 5, 9]], 10)?;
/// assert_eq!((runs[0].len, runs[0].start, runs[0].position), (3, 1, 2));
/// # Ok::<(), tinygpt_data::DataError>(())
/// ```
///
/// # Errors
/// [`DataError::Corrupt`] or [`DataError::Io`] if a shard cannot be read.
pub fn longest_runs(
    stream: &TokenDataset,
    samples: &[Vec<u32>],
    vocab_size: usize,
) -> Result<Vec<Run>, DataError> {
    let automaton = Automaton::new(samples, vocab_size);
    search(stream, &automaton, samples, (START, PART))
}

/// As [`longest_runs`], with the sizes of the start of the stream and of its parts.
fn search(
    stream: &TokenDataset,
    automaton: &Automaton,
    samples: &[Vec<u32>],
    (start, part): (usize, usize),
) -> Result<Vec<Run>, DataError> {
    let longest = samples.iter().map(Vec::len).max().unwrap_or(0);
    let start = start.min(stream.len());
    let reader = Reader { stream, automaton, filter: None, part, longest };
    let found = with_links(automaton, reader.search(0..start)?);
    let runs = |found: &[Found]| -> Vec<Run> {
        samples.iter().map(|sample| longest_run(automaton, found, sample)).collect()
    };
    let so_far = runs(&found);
    // A sample that is there as a whole has no longer run.
    let open = samples.iter().zip(&so_far).filter(|(sample, run)| run.len < sample.len());
    let Some(n) = open.clone().map(|(_, run)| run.len.max(1)).min() else { return Ok(so_far) };
    let filter = Some(Filter::new(open.map(|(sample, _)| sample), n));
    let rest = Reader { filter, ..reader }.search(start..stream.len())?;
    Ok(runs(&with_links(automaton, merged(found, rest))))
}

/// With what follows for shorter runs: if the stream has a run, it has each end of it, that of the link.
fn with_links(automaton: &Automaton, mut found: Vec<Found>) -> Vec<Found> {
    let mut by_len: Vec<u32> = (0..automaton.n_states() as u32).collect();
    by_len.sort_unstable_by_key(|state| std::cmp::Reverse(automaton.len(*state)));
    for state in by_len {
        let (len, end) = found[state as usize];
        if let Some(link) = automaton.link(state).filter(|_| len > 0) {
            let of_link = &mut found[link as usize];
            *of_link = better(*of_link, (automaton.len(link), end));
        }
    }
    found
}

/// The better run of each state.
fn merged(mut left: Vec<Found>, right: Vec<Found>) -> Vec<Found> {
    for (left, right) in left.iter_mut().zip(right) {
        *left = better(*left, right);
    }
    left
}

/// The longer run, of equal ones the first.
fn better(left: Found, right: Found) -> Found {
    let is_better = right.0 > left.0 || right.0 == left.0 && right.1 < left.1;
    if is_better { right } else { left }
}

/// Reads a stream.
struct Reader<'a> {
    stream: &'a TokenDataset,
    automaton: &'a Automaton,
    /// The places that matter. Without a filter, all of them.
    filter: Option<Filter>,
    /// Tokens of one part.
    part: usize,
    /// The length of the longest sample.
    longest: usize,
}

impl Reader<'_> {
    /// For each state, the longest of its runs that the filter lets through and that ends in `range`, and its
    /// first place.
    fn search(&self, range: Range<usize>) -> Result<Vec<Found>, DataError> {
        let none = || vec![(0, usize::MAX); self.automaton.n_states()];
        let parts: Vec<usize> = range.clone().step_by(self.part).collect();
        parts
            .into_par_iter()
            .try_fold(none, |mut found, start| {
                let end = (start + self.part).min(range.end);
                // A run across the boundary starts in the part before.
                self.search_part(start.saturating_sub(self.longest)..end, &mut found)?;
                Ok(found)
            })
            .try_reduce(none, |left, right| Ok(merged(left, right)))
    }

    fn search_part(&self, part: Range<usize>, found: &mut [Found]) -> Result<(), DataError> {
        let n_before = self.filter.as_ref().map_or(0, Filter::n);
        let mut ids = vec![0; n_before + CHUNK];
        let (mut at, mut run, mut hash, mut is_near) = (part.start, (ROOT, 0), 0, false);
        let mut feed = |run: &mut (u32, u32), id: u32, at: usize| {
            *run = self.automaton.step(*run, id);
            let best = &mut found[run.0 as usize];
            *best = better(*best, (run.1, at));
        };
        while at < part.end {
            let n_new = CHUNK.min(part.end - at);
            self.stream.read(at, &mut ids[n_before..n_before + n_new])?;
            let Some(filter) = &self.filter else {
                for (id, at) in ids[..n_new].iter().zip(at + 1..) {
                    feed(&mut run, *id, at);
                }
                at += n_new;
                continue;
            };
            for place in n_before..n_before + n_new {
                let end = at + place + 1 - n_before;
                let oldest = (end - part.start > n_before).then(|| ids[place - n_before]);
                hash = filter.add(hash, ids[place], oldest);
                let was_near = is_near;
                is_near = end - part.start >= n_before && filter.has(hash);
                if is_near {
                    if !was_near {
                        run = (ROOT, 0);
                        for i in 1..n_before {
                            feed(&mut run, ids[place + i - n_before], end + i - n_before);
                        }
                    }
                    feed(&mut run, ids[place], end);
                }
            }
            // The tokens before the next ones.
            ids.copy_within(n_new..n_new + n_before, 0);
            at += n_new;
        }
        Ok(())
    }
}

fn longest_run(automaton: &Automaton, found: &[Found], sample: &[u32]) -> Run {
    let mut best = Run::default();
    let mut run = (ROOT, 0);
    for (place, &id) in sample.iter().enumerate() {
        run = automaton.step(run, id);
        let mut state = Some(run.0);
        // The longest end of the sample so far that the stream has.
        while let Some(link) = state.filter(|state| found[*state as usize].0 == 0) {
            state = automaton.link(link);
        }
        let Some((len, end)) = state.map(|state| found[state as usize]) else { continue };
        // A state's runs can be longer than the sample so far only in other samples.
        let len = (len as usize).min(place + 1);
        if len > best.len {
            best = Run { len, start: place + 1 - len, position: end - len };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    /// The length of the longest run, by trying all.
    fn expected(stream: &[u32], sample: &[u32]) -> usize {
        let has = |run: &[u32]| stream.windows(run.len()).any(|window| window == run);
        (1..=sample.len()).rev().find(|n| sample.windows(*n).any(has)).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn runs_are_the_longest(
            stream in prop::collection::vec(0u32..4, 1..120),
            samples in prop::collection::vec(prop::collection::vec(0u32..5, 0..30), 1..5),
            start in 0usize..130,
            part in 1usize..50,
        ) {
            let tokens = TokenDataset::from_ids(stream.clone());
            let automaton = Automaton::new(&samples, 5);
            let runs = search(&tokens, &automaton, &samples, (start, part)).unwrap();
            for (sample, run) in samples.iter().zip(runs) {
                prop_assert_eq!(run.len, expected(&stream, sample));
                let of_sample = &sample[run.start..run.start + run.len];
                prop_assert_eq!(of_sample, &stream[run.position..run.position + run.len]);
            }
            let runs = longest_runs(&tokens, &samples, 5).unwrap();
            let whole = samples.iter().zip(runs).all(|(it, run)| run.len == expected(&stream, it));
            prop_assert!(whole);
        }
    }

    /// Tokens that look random, the same in each run.
    fn noise(n: usize, seed: u64) -> Vec<u32> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as u32 % 500
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn planted_copies_are_found_where_they_stand() {
        let mut stream = noise(3_000_000, 77);
        let mut samples: Vec<Vec<u32>> = (0..8).map(|i| noise(400, 1_000 + i)).collect();
        // At the start and the end, across parts, across chunks, and one that another sample has, too.
        let planted = [
            (0, 0, 30),
            (1_000_000 - 17, 100, 40),
            (2_000_000 - 1, 390, 10),
            ((1 << 20) + (1 << 16) - 20, 5, 200),
            (3_000_000 - 90, 310, 90),
            (1_500_000, 0, 400),
            (2_500_000, 200, 60),
        ];
        for (sample, (position, start, len)) in samples.iter().zip(planted) {
            stream[position..position + len].copy_from_slice(&sample[start..start + len]);
        }
        let copy = samples[6][210..250].to_vec();
        samples[7][50..90].copy_from_slice(&copy);
        let tokens = TokenDataset::from_ids(stream.clone());
        let automaton = Automaton::new(&samples, 500);
        for sizes in [(START, PART), (500_000, 1_000_000), (0, 1 << 18)] {
            let runs = search(&tokens, &automaton, &samples, sizes).unwrap();
            for (i, (run, (position, start, len))) in runs.iter().zip(planted).enumerate() {
                assert_eq!(*run, Run { len, start, position }, "{i} {sizes:?}");
            }
            assert_eq!(runs[7], Run { len: 40, start: 50, position: 2_500_010 });
        }
    }

    #[test]
    fn a_run_of_the_whole_sample_is_found() {
        let stream = TokenDataset::from_ids((0..200_000).map(|i| i % 997).collect());
        let sample: Vec<u32> = (400..900).collect();
        let runs = longest_runs(&stream, &[sample, vec![5, 3], vec![]], 1000).unwrap();
        assert_eq!(runs[0], Run { len: 500, start: 0, position: 400 });
        assert_eq!((runs[1].len, runs[2]), (1, Run::default()));
    }
}
