//! The longest run of tokens of each sample that is in a stream of tokens, and where: whether a model
//! repeats its training text.
//!
//! The index is over the samples, not over the stream: their suffix automaton. The stream is read
//! once, and after each of its tokens the automaton knows the longest run that ends there and is in a
//! sample. So the time grows with the stream, memory does not, and nothing is stored.

mod automaton;

use rayon::prelude::*;

use self::automaton::{Automaton, ROOT};
use crate::error::DataError;
use crate::shard::TokenDataset;

/// Tokens that are read at a time.
const CHUNK: usize = 1 << 16;

/// Tokens of one part of the stream, of which several are read at the same time.
const PART: usize = 1 << 24;

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
    let longest = samples.iter().map(Vec::len).max().unwrap_or(0);
    let found = search(stream, &automaton, longest, PART)?;
    Ok(samples.iter().map(|sample| longest_run(&automaton, &found, sample)).collect())
}

/// For each state, the longest of its runs that is in the stream, and its first place.
fn search(
    stream: &TokenDataset,
    automaton: &Automaton,
    longest: usize,
    part: usize,
) -> Result<Vec<Found>, DataError> {
    let none = || vec![(0, usize::MAX); automaton.n_states()];
    let n_parts = stream.len().div_ceil(part);
    let mut found = (0..n_parts)
        .into_par_iter()
        .try_fold(none, |found, index| {
            let start = index * part;
            let end = (start + part).min(stream.len());
            // A run across the boundary starts in the part before.
            search_part(stream, automaton, start.saturating_sub(longest)..end, found)
        })
        .try_reduce(none, |mut left, right| {
            for (left, right) in left.iter_mut().zip(right) {
                *left = better(*left, right);
            }
            Ok(left)
        })?;
    // If the stream has a run, it has each end of it: that of the link.
    let mut by_len: Vec<u32> = (0..automaton.n_states() as u32).collect();
    by_len.sort_unstable_by_key(|state| std::cmp::Reverse(automaton.len(*state)));
    for state in by_len {
        let (len, end) = found[state as usize];
        if let Some(link) = automaton.link(state).filter(|_| len > 0) {
            let of_link = &mut found[link as usize];
            *of_link = better(*of_link, (automaton.len(link), end));
        }
    }
    Ok(found)
}

/// The longer run, of equal ones the first.
fn better(left: Found, right: Found) -> Found {
    let is_better = right.0 > left.0 || right.0 == left.0 && right.1 < left.1;
    if is_better { right } else { left }
}

fn search_part(
    stream: &TokenDataset,
    automaton: &Automaton,
    part: std::ops::Range<usize>,
    mut found: Vec<Found>,
) -> Result<Vec<Found>, DataError> {
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut run) = (part.start, (ROOT, 0));
    while at < part.end {
        let ids = &mut chunk[..CHUNK.min(part.end - at)];
        stream.read(at, ids)?;
        for &id in ids.iter() {
            at += 1;
            run = automaton.step(run, id);
            let best = &mut found[run.0 as usize];
            if run.1 > best.0 || run.1 == best.0 && at < best.1 {
                *best = (run.1, at);
            }
        }
    }
    Ok(found)
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
            part in 1usize..50,
        ) {
            let tokens = TokenDataset::from_ids(stream.clone());
            let automaton = Automaton::new(&samples, 5);
            let longest = samples.iter().map(Vec::len).max().unwrap();
            let found = search(&tokens, &automaton, longest, part).unwrap();
            for sample in &samples {
                let run = longest_run(&automaton, &found, sample);
                prop_assert_eq!(run.len, expected(&stream, sample));
                let of_sample = &sample[run.start..run.start + run.len];
                prop_assert_eq!(of_sample, &stream[run.position..run.position + run.len]);
            }
            let runs = longest_runs(&tokens, &samples, 5).unwrap();
            let whole = samples.iter().zip(runs).all(|(it, run)| run.len == expected(&stream, it));
            prop_assert!(whole);
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
