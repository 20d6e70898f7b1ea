//! The positions of a batch sorted by token: what `wte_backward` walks.
//!
//! The gradient of a row of the token embedding is the sum over all positions that hold its id. The host
//! sorts the positions, so that one warp adds up one id in ascending order, without atomics.
//!
//! All tables lie in one array of u32, so a batch is one upload:
//! `[counts: 4][pieces: 4 each][long ids: 4 each][order: N]`, each part as long as any batch can need.

/// Positions of an id that one warp adds up; an id with more is cut into pieces.
const PIECE_ROWS: usize = 32;
/// Marks a piece that is all of its id.
const NO_PARTIAL: u32 = u32::MAX;

/// Where the tables of a batch of N ids below V lie, and how long they can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    n: usize,
    vocab_size: usize,
}

impl Layout {
    /// The layout for `n` ids below `vocab_size`.
    #[must_use]
    pub fn new(n: usize, vocab_size: usize) -> Self {
        Self { n, vocab_size }
    }

    /// The most pieces: one for each id that occurs, and one for each `PIECE_ROWS` positions.
    pub(crate) fn max_pieces(self) -> usize {
        self.n.min(self.vocab_size + self.n / PIECE_ROWS)
    }

    /// The most ids with several pieces.
    pub(crate) fn max_long_ids(self) -> usize {
        (self.n / (PIECE_ROWS + 1)).min(self.vocab_size)
    }

    /// The most pieces of such ids: an id of r positions has ⌈r / 32⌉, at most 2r / 33.
    pub(crate) fn max_partials(self) -> usize {
        2 * self.n / (PIECE_ROWS + 1)
    }

    pub(crate) fn pieces_at(self) -> usize {
        4
    }

    pub(crate) fn long_ids_at(self) -> usize {
        self.pieces_at() + 4 * self.max_pieces()
    }

    pub(crate) fn order_at(self) -> usize {
        self.long_ids_at() + 4 * self.max_long_ids()
    }

    /// The u32 values of all tables.
    #[must_use]
    pub fn len(self) -> usize {
        self.order_at() + self.n
    }

    /// Whether the batch has no ids.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.n == 0
    }

    /// Sorts `ids` `[N]` and writes all tables to `tables`, of [`Layout::len`] values. Parts that this batch
    /// does not need keep what they hold.
    ///
    /// A counting sort: O(N + V), stable, so the positions of an id ascend.
    ///
    /// # Panics
    /// If a length is wrong or an id is not below V.
    pub fn fill(self, ids: &[u32], tables: &mut [u32]) {
        assert!(ids.len() == self.n && tables.len() == self.len(), "tables for {} ids", self.n);
        let mut ends = vec![0_u32; self.vocab_size];
        for &id in ids {
            ends[id as usize] += 1;
        }
        let mut before = 0;
        for end in &mut ends {
            before += *end;
            *end = before;
        }
        let (head, order) = tables.split_at_mut(self.order_at());
        // Backwards, each id from its end: what is left in `ends` are the starts.
        for (position, &id) in ids.iter().enumerate().rev() {
            let at = &mut ends[id as usize];
            *at -= 1;
            order[*at as usize] = position as u32;
        }
        let (head, long_ids) = head.split_at_mut(self.long_ids_at());
        let (counts, pieces) = head.split_at_mut(self.pieces_at());
        let mut pieces = Rows { values: pieces, n: 0 };
        let mut long_ids = Rows { values: long_ids, n: 0 };
        let mut partials = 0;
        for (id, &start) in ends.iter().enumerate() {
            let end = ends.get(id + 1).map_or(self.n, |&next| next as usize);
            let rows = end - start as usize;
            if rows > PIECE_ROWS {
                let n_pieces = rows.div_ceil(PIECE_ROWS) as u32;
                long_ids.push([id as u32, partials, n_pieces, 0]);
            }
            for at in (start as usize..end).step_by(PIECE_ROWS) {
                let partial = if rows > PIECE_ROWS { partials } else { NO_PARTIAL };
                partials += u32::from(rows > PIECE_ROWS);
                let len = PIECE_ROWS.min(end - at);
                pieces.push([id as u32, at as u32, len as u32, partial]);
            }
        }
        counts.copy_from_slice(&[pieces.n as u32, long_ids.n as u32, partials, 0]);
    }
}

/// A table of rows of 4 values.
struct Rows<'a> {
    values: &'a mut [u32],
    n: usize,
}

impl Rows<'_> {
    fn push(&mut self, row: [u32; 4]) {
        self.values[4 * self.n..4 * self.n + 4].copy_from_slice(&row);
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every position once, with its id, ascending; and the pieces of long ids in order.
    fn check(ids: &[u32], vocab_size: usize) {
        let layout = Layout::new(ids.len(), vocab_size);
        let mut tables = vec![0xdead_beef; layout.len()];
        layout.fill(ids, &mut tables);
        let row = |at: usize, i: usize| {
            let row = &tables[at + 4 * i..at + 4 * i + 4];
            (row[0], row[1], row[2] as usize, row[3])
        };
        let (n_pieces, n_long) = (tables[0] as usize, tables[1] as usize);
        assert!(n_pieces <= layout.max_pieces() && n_long <= layout.max_long_ids());
        assert!(tables[2] as usize <= layout.max_partials());
        let order = &tables[layout.order_at()..];
        let mut seen = vec![0; ids.len()];
        let (mut last, mut partials) = (None, 0);
        for i in 0..n_pieces {
            let (id, start, len, partial) = row(layout.pieces_at(), i);
            assert!((1..=PIECE_ROWS).contains(&len));
            for &position in &order[start as usize..start as usize + len] {
                assert_eq!(ids[position as usize], id);
                assert!(last < Some((id, position)), "ids and positions ascend");
                last = Some((id, position));
                seen[position as usize] += 1;
            }
            let rows = ids.iter().filter(|&&other| other == id).count();
            let expected = if rows > PIECE_ROWS { partials } else { NO_PARTIAL };
            assert_eq!(partial, expected);
            partials += u32::from(rows > PIECE_ROWS);
        }
        assert!(seen.iter().all(|&times| times == 1), "every position is in one piece");
        let mut first = 0;
        for i in 0..n_long {
            let (id, first_partial, count, _) = row(layout.long_ids_at(), i);
            let rows = ids.iter().filter(|&&other| other == id).count();
            assert_eq!((first_partial, count), (first, rows.div_ceil(PIECE_ROWS)));
            first += count as u32;
        }
        assert_eq!(first, partials, "every partial sum is added once");
        assert_eq!(tables[2], partials);
    }

    proptest! {
        #[test]
        fn every_position_is_in_one_piece(ids in proptest::collection::vec(0_u32..7, 0..300)) {
            check(&ids, 7);
        }
    }

    #[test]
    fn tables_are_long_enough_for_the_worst_batches() {
        check(&[], 5);
        check(&[4; 33], 5);
        check(&[0; 32], 1);
        check(&[2; 1000], 3);
        let all_long: Vec<u32> = (0..330).map(|i| i / 33).collect();
        check(&all_long, 10);
        let all_different: Vec<u32> = (0..100).rev().collect();
        check(&all_different, 100);
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn an_id_outside_the_vocabulary_is_refused() {
        let layout = Layout::new(1, 3);
        layout.fill(&[3], &mut vec![0; layout.len()]);
    }
}
