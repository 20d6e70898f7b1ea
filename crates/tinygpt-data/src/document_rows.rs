//! Rows that start where a document starts: `rows` is `documents`.
//!
//! In a row cut from the stream anywhere, a story starts in the middle as often as not, and what was
//! introduced before is unknown. Here a row starts with the separator before a document, as a sample does.
//! It continues with the documents that follow, up to its length, without padding. The document that
//! the end of the row cuts is read again from its start by the next row; one that is longer than a row
//! continues in the next. The stream is a circle, in which the first document follows the last one: so no
//! token is left out of an epoch, and the first document has a separator before it.

use rand::RngCore;

use crate::error::DataError;
use crate::random;
use crate::shard::TokenDataset;
use crate::windows::{ROUNDS, check_block_size, permute};

/// Tokens that are searched at a time.
const CHUNK: usize = 1 << 16;

/// The rows over a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The positions where they start, in order, from the separator at the end of the stream if it ends with
    /// one.
    pub(crate) starts: Vec<usize>,
    /// How many conversations do not fit into a row.
    pub(crate) n_cut: usize,
}

/// The rows of `block_size` tokens over a stream.
///
/// Every token is in a row. Every document that fits into a row, with the separators around it, is whole
/// in one. Of a stream with a mask, which holds conversations, all rows start one token later, and a
/// conversation that is longer than a row is cut behind an answer where it has one.
///
/// # Errors
/// [`DataError::Usage`] if the stream is shorter than one row and the token after it;
/// [`DataError::Corrupt`] or [`DataError::Io`] if a shard cannot be read.
pub(crate) fn rows(
    stream: &TokenDataset,
    eot_id: u32,
    block_size: usize,
) -> Result<Rows, DataError> {
    let n_tokens = check_block_size(stream.len(), block_size)? + 1;
    let mut last = [0];
    stream.read(n_tokens - 1, &mut last)?;
    let first = if last == [eot_id] { n_tokens - 1 } else { 0 };
    // The prompt of a chat has no separator before it, so the rows of conversations start behind theirs.
    let shift = usize::from(stream.mask().is_some());
    let mut cutter = Cutter::new(block_size);
    let (mut chunk, mut mask) = (vec![0; CHUNK], vec![1; CHUNK]);
    let mut was_answer = false;
    for at in (0..n_tokens).step_by(CHUNK) {
        let n = CHUNK.min(n_tokens - at);
        stream.read(at, &mut chunk[..n])?;
        if let Some(stream) = stream.mask() {
            stream.read(at, &mut mask[..n])?;
        }
        for (position, (id, learned)) in (at..at + n).zip(chunk.iter().zip(&mask)) {
            // Steps around the circle from `first`.
            let step = (position + n_tokens - first) % n_tokens;
            if *id == eot_id && position != first {
                cutter.document(step);
            } else if was_answer && *learned == 0 && step > shift {
                cutter.turn(step - shift);
            }
            was_answer = *learned != 0;
        }
    }
    cutter.advance_to(n_tokens);
    let starts = cutter.rows.iter().map(|row| (first + row + shift) % n_tokens).collect();
    Ok(Rows { starts, n_cut: cutter.n_cut })
}

/// Chooses where rows start, in steps from the start of the first one.
struct Cutter {
    block_size: usize,
    rows: Vec<usize>,
    /// The last document that starts in the last row, but not with it.
    document: Option<usize>,
    /// The last turn of its last document that starts in it.
    turn: Option<usize>,
    /// Whether the document that is read has been cut.
    is_cut: bool,
    n_cut: usize,
}

impl Cutter {
    fn new(block_size: usize) -> Self {
        Self { block_size, rows: vec![0], document: None, turn: None, is_cut: false, n_cut: 0 }
    }

    /// The separator before a document.
    fn document(&mut self, step: usize) {
        self.advance_to(step);
        (self.document, self.turn, self.is_cut) = (Some(step), None, false);
    }

    /// The token behind an answer.
    fn turn(&mut self, step: usize) {
        self.advance_to(step);
        self.turn = Some(step);
    }

    /// Starts rows until `step` is in the last one or follows it.
    fn advance_to(&mut self, step: usize) {
        while step > self.rows[self.rows.len() - 1] + self.block_size {
            let row = self.rows[self.rows.len() - 1];
            if self.document.is_none() && !self.is_cut {
                (self.is_cut, self.n_cut) = (true, self.n_cut + 1);
            }
            let next = self.document.take().or_else(|| self.turn.take());
            self.rows.push(next.unwrap_or(row + self.block_size));
        }
    }
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

/// For each of `ids`, in rows of `block_size`, the position in its row where its document starts: behind
/// the last token before it that `ends` a document, or with the row.
pub(crate) fn document_starts(ids: &[u32], block_size: usize, ends: u32) -> Vec<u32> {
    let mut starts = Vec::with_capacity(ids.len());
    for row in ids.chunks(block_size) {
        let mut start = 0;
        for (next, id) in (1..).zip(row) {
            starts.push(start);
            if *id == ends {
                start = next;
            }
        }
    }
    starts
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

    /// The positions of the separators, in order.
    fn separators(stream: &TokenDataset) -> Vec<usize> {
        let mut ids = vec![0; stream.len()];
        stream.read(0, &mut ids).unwrap();
        (0..ids.len()).filter(|at| ids[*at] == EOT).collect()
    }

    proptest! {
        #[test]
        fn rows_start_with_documents_and_leave_no_token_out(
            lengths in prop::collection::vec(0usize..60, 1..60),
            block_size in 1usize..50,
            // What follows the last separator.
            n_after in prop_oneof![Just(0), 1usize..60],
        ) {
            let mut ids: Vec<u32> =
                lengths.iter().flat_map(|n| (0..*n).map(|_| 1).chain([EOT])).collect();
            ids.extend((0..n_after).map(|_| 1));
            let n = ids.len();
            prop_assume!(n > block_size);
            let stream = TokenDataset::from_ids(ids);
            let starts = rows(&stream, EOT, block_size).unwrap().starts;
            let separators = separators(&stream);
            prop_assert_eq!(starts[0], if n_after == 0 { n - 1 } else { 0 });
            let steps: Vec<usize> = starts.iter().map(|at| (at + n - starts[0]) % n).collect();
            for (&start, &step) in starts.iter().zip(&steps).skip(1) {
                let before = steps[steps.partition_point(|other| *other < step) - 1];
                let is_first = separators.contains(&start);
                // No row starts twice, and none in a document unless the row before is full of it.
                prop_assert!(before < step && (is_first || step == before + block_size));
            }
            let mut is_read = vec![false; n];
            for start in &starts {
                (0..block_size).for_each(|i| is_read[(start + i) % n] = true);
            }
            prop_assert_eq!(is_read.iter().position(|is_read| !is_read), None);
            for (i, &separator) in separators.iter().enumerate().filter(|_| n_after == 0) {
                let before = separators[(i + separators.len() - 1) % separators.len()];
                let n_inputs = if i == 0 { separator + n - before } else { separator - before };
                let is_in_row = |start: &usize| (before + n - start) % n + n_inputs <= block_size;
                let is_whole = starts.iter().any(is_in_row);
                prop_assert!(is_whole || n_inputs > block_size, "the document before {separator}");
            }
        }
    }

    #[test]
    fn every_story_is_whole_in_a_row() {
        let stream = stream(&[5, 7, 3, 9, 2, 8, 4, 4, 6, 1, 9, 9, 12]);
        let Rows { starts, n_cut } = rows(&stream, EOT, 16).unwrap();
        assert_eq!(n_cut, 0);
        // The separators are at 5, 13, 17, 27, 30, 39, 44, 49, 56, 58, 68, 78 and 91.
        assert_eq!(starts, [91, 13, 27, 39, 49, 58, 68, 78]);
        assert_eq!(spread(&starts, 3), [91, 39, 78]);
        assert_eq!(spread(&starts, 1), [91]);
        assert_eq!(spread(&starts, 9), starts);
    }

    #[test]
    fn a_document_longer_than_a_row_continues_in_the_next() {
        let stream = stream(&[50, 3]);
        assert_eq!(rows(&stream, EOT, 16).unwrap().starts, [54, 15, 31, 47]);
        let stream = TokenDataset::from_ids(vec![1; 40]);
        assert_eq!(rows(&stream, EOT, 16).unwrap().starts, [0, 16, 32]);
    }

    #[test]
    fn rows_of_conversations_start_behind_the_separator() {
        let plain = stream(&[5, 7, 3, 9, 2, 8, 4, 4, 6, 1, 9, 9, 12]);
        let masked = plain.clone().with_mask(TokenDataset::from_ids(vec![1; plain.len()])).unwrap();
        assert_eq!(rows(&masked, EOT, 16).unwrap().starts, [0, 14, 28, 40, 50, 59, 69, 79]);
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

    #[test]
    fn a_long_conversation_is_cut_behind_an_answer() {
        // A short conversation, then turns of 4 tokens and their answers of 3, 5 of each, then one answer of 40.
        let mut mask = vec![0, 1, 1, 0];
        mask.extend([0, 0, 0, 0, 1, 1, 1].repeat(5));
        mask.push(0);
        mask.extend([0, 0]);
        mask.extend([1; 40]);
        mask.push(0);
        let mut ids = vec![1; mask.len()];
        for end in [3, 39, 82] {
            ids[end] = EOT;
        }
        let stream = TokenDataset::from_ids(ids.clone());
        let rows = |mask: &[u32]| {
            let mask = TokenDataset::from_ids(mask.to_vec());
            rows(&stream.clone().with_mask(mask).unwrap(), EOT, 16).unwrap()
        };
        // The second conversation starts at 4, its turns at 11, 18, 25 and 32. Of one answer that is longer
        // than a row nothing can be left out.
        let cut = rows(&mask);
        assert_eq!(cut, Rows { starts: vec![0, 4, 18, 32, 40, 56, 72], n_cut: 2 });
        // Without answers there is no place to cut at.
        let learned = vec![1; mask.len()];
        assert_eq!(rows(&learned).starts, [0, 4, 20, 36, 40, 56, 72]);
        // Rows of plain text are not cut at anything.
        assert_eq!(super::rows(&stream, EOT, 16).unwrap().starts, [82, 3, 19, 35, 39, 55, 71]);
    }
}
