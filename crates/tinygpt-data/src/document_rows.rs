//! Rows that start where a document starts: `rows` is `documents`.
//!
//! In a row cut from the stream anywhere, a story starts in the middle as often as not, and what was
//! introduced before is unknown. Here a row starts with the token before a document, as a sample does.
//! It continues with the documents that follow, up to its length, without padding. The document that
//! the end of the row cuts is read again from its start by the next row; one that is longer than a row
//! continues in the next.

use rand::RngCore;

use crate::error::DataError;
use crate::random;
use crate::shard::TokenDataset;
use crate::windows::{ROUNDS, check_block_size, permute};

/// Tokens that are searched at a time.
const CHUNK: usize = 1 << 16;

/// Where the rows over a stream start: every document that fits into a row is whole in one of them,
/// except at the end of the stream.
///
/// # Errors
/// [`DataError::Usage`] if the stream is shorter than one row and the token after it;
/// [`DataError::Corrupt`] or [`DataError::Io`] if a shard cannot be read.
pub(crate) fn starts(
    stream: &TokenDataset,
    eot_id: u32,
    block_size: usize,
) -> Result<Vec<usize>, DataError> {
    let n_inputs = check_block_size(stream.len(), block_size)?;
    let last = n_inputs - block_size;
    let mut starts = vec![0];
    let (mut row, mut document) = (0, None);
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < stream.len() {
        let n_here = CHUNK.min(stream.len() - at);
        let ids = &mut chunk[..n_here];
        stream.read(at, ids)?;
        let separators = ids.iter().enumerate().filter(|(_, id)| **id == eot_id);
        for position in separators.map(|(offset, _)| at + offset) {
            while position > row + block_size {
                row = document.take().unwrap_or(row + block_size);
                starts.push(row);
            }
            document = Some(position).filter(|position| *position > row).or(document);
        }
        at += n_here;
    }
    while row + block_size <= last {
        row = document.take().filter(|next| *next > row).unwrap_or(row + block_size);
        starts.push(row);
    }
    starts.retain(|start| *start <= last);
    Ok(starts)
}

/// An endless sequence of rows: every epoch visits each start once, in a random order that is a pure
/// function of (seed, epoch).
#[derive(Debug, Clone)]
pub(crate) struct ShuffledRows {
    starts: Vec<usize>,
    seed: u64,
}

impl ShuffledRows {
    pub(crate) fn new(starts: Vec<usize>, seed: u64) -> Self {
        Self { starts, seed }
    }

    /// The number of rows in an epoch.
    pub(crate) fn per_epoch(&self) -> usize {
        self.starts.len()
    }

    /// The position of the first token of row `row_idx`, counted from the start of the run.
    pub(crate) fn row(&self, row_idx: u64) -> usize {
        let n_rows = self.starts.len() as u64;
        let mut generator = random::generator(self.seed, "document rows");
        generator.set_stream(row_idx / n_rows);
        let keys: [u64; ROUNDS] = std::array::from_fn(|_| generator.next_u64());
        self.starts[permute(row_idx % n_rows, n_rows, &keys) as usize]
    }
}

/// At most `n` of `starts`, evenly spread.
pub(crate) fn spread(starts: &[usize], n: usize) -> Vec<usize> {
    let n = n.min(starts.len());
    let place = |i: usize| (starts.len() - 1) * i / (n.max(2) - 1);
    (0..n).map(|i| starts[place(i)]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const EOT: u32 = 0;

    /// Documents of these lengths, each with its end.
    fn stream(lengths: &[usize]) -> TokenDataset {
        let documents = lengths.iter().flat_map(|n| (0..*n).map(|_| 1).chain([EOT]));
        TokenDataset::from_ids(documents.collect())
    }

    proptest! {
        #[test]
        fn rows_cover_the_stream_and_start_with_a_document_if_one_starts_in_reach(
            lengths in prop::collection::vec(0usize..60, 1..60), block_size in 1usize..50,
        ) {
            let stream = stream(&lengths);
            prop_assume!(stream.len() > block_size);
            let starts = starts(&stream, EOT, block_size).unwrap();
            prop_assert_eq!(starts[0], 0);
            let mut ids = vec![0; stream.len()];
            stream.read(0, &mut ids).unwrap();
            let mut reach: Vec<bool> = ids.iter().map(|id| *id == EOT).collect();
            reach[0] = true;
            for pair in starts.windows(2) {
                // No token is left out, and no row starts twice.
                prop_assert!(pair[0] < pair[1] && pair[1] <= pair[0] + block_size);
                let later = (pair[1] + 1..=pair[0] + block_size).any(|at| reach[at]);
                prop_assert!(!later, "a later document starts in reach of {}", pair[0]);
                let only = pair[1] == pair[0] + block_size;
                prop_assert!(reach[pair[1]] || only);
            }
            let end = starts[starts.len() - 1] + block_size;
            prop_assert!(end < stream.len());
            // What is left over at the end has no room for a row.
            prop_assert!(end + block_size >= stream.len() - 1 || reach[end + 1 - block_size..=end].contains(&true));
        }
    }

    #[test]
    fn every_story_is_whole_in_a_row() {
        let stream = stream(&[5, 7, 3, 9, 2, 8, 4, 4, 6, 1, 9, 9, 12]);
        let starts = starts(&stream, EOT, 16).unwrap();
        // The first document has no token before it.
        assert_eq!(starts, [0, 13, 27, 39, 49, 58, 68]);
        assert_eq!(spread(&starts, 3), [0, 39, 68]);
        assert_eq!(spread(&starts, 1), [0]);
        assert_eq!(spread(&starts, 9), starts);
    }

    #[test]
    fn epochs_visit_each_row_once_in_another_order() {
        let rows = ShuffledRows::new((0..100).map(|i| i * 7).collect(), 3);
        let epoch = |e: u64| (0..100).map(|i| rows.row(e * 100 + i)).collect::<Vec<_>>();
        let (mut first, second) = (epoch(0), epoch(1));
        assert_eq!(rows.per_epoch(), 100);
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, rows.starts);
        assert_ne!(rows.row(0), ShuffledRows::new(rows.starts.clone(), 4).row(0));
    }
}
