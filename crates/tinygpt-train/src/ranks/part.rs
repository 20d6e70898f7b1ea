//! Which windows of a step each rank computes.

/// Consecutive sequences of one micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) micro_batch: usize,
    /// The first sequence.
    pub(crate) first: usize,
    pub(crate) len: usize,
}

/// The pieces of `rank` in a step of `n_micro_batches` batches of `batch_size`: the windows of a step are
/// divided in their order, as equally as can be.
pub(crate) fn pieces(
    (n_micro_batches, batch_size): (usize, usize),
    rank: usize,
    n_ranks: usize,
) -> Vec<Piece> {
    let n_windows = n_micro_batches * batch_size;
    let bound = |rank: usize| (n_windows as u128 * rank as u128 / n_ranks as u128) as usize;
    let (mut next, end) = (bound(rank), bound(rank + 1));
    let mut pieces = Vec::new();
    while next < end {
        let (micro_batch, first) = (next / batch_size, next % batch_size);
        let len = (batch_size - first).min(end - next);
        pieces.push(Piece { micro_batch, first, len });
        next += len;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_micro_batches_stay_together() {
        let piece = |micro_batch, first, len| Piece { micro_batch, first, len };
        assert_eq!(pieces((4, 2), 1, 2), [piece(2, 0, 2), piece(3, 0, 2)]);
        assert_eq!(pieces((1, 5), 0, 2), [piece(0, 0, 2)]);
        assert_eq!(pieces((1, 5), 1, 2), [piece(0, 2, 3)]);
        assert_eq!(pieces((3, 3), 1, 2), [piece(1, 1, 2), piece(2, 0, 3)]);
    }

    proptest! {
        #[test]
        fn every_window_has_one_rank(a in 1_usize..6, b in 1_usize..9, n_ranks in 1_usize..9) {
            let mut all = Vec::new();
            for rank in 0..n_ranks {
                let mine = pieces((a, b), rank, n_ranks);
                let n: usize = mine.iter().map(|piece| piece.len).sum();
                prop_assert!(n.abs_diff(a * b / n_ranks) <= 1);
                let windows = |p: &Piece| p.micro_batch * b + p.first..p.micro_batch * b + p.first + p.len;
                all.extend(mine.iter().flat_map(windows));
            }
            prop_assert_eq!(all, (0..a * b).collect::<Vec<_>>());
        }
    }
}
