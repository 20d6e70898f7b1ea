//! The products of attention on one tile of scores, without what lies above the diagonal.
//!
//! A tile is 48 queries by 64 keys, small enough to stay in L1 together with its operands. Tiles
//! below the diagonal are plain products. On the diagonal each strip of 6 rows, the height of a
//! register block, is cut to the keys that its last row may attend to: at T = 64 that is a third of
//! the work.

use crate::gemm::{Matrix, MatrixMut, Panels, ROWS, Store, multiply};

/// Queries of a tile: a multiple of [`ROWS`].
pub(super) const QUERIES: usize = 48;
/// Keys of a tile, and floats between its rows.
pub(super) const KEYS: usize = 64;
/// Floats of a tile.
pub(super) const TILE: usize = QUERIES * KEYS;

/// Where a tile stands among the scores of one head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Position of its first query.
    pub(super) query: usize,
    /// Queries in it.
    pub(super) queries: usize,
    /// Position of its first key.
    pub(super) key: usize,
    /// Keys in it.
    pub(super) keys: usize,
}

impl Tile {
    /// The tiles that the queries from `query` on look at, in order.
    pub(super) fn row(query: usize, time: usize) -> impl Iterator<Item = Self> {
        let queries = QUERIES.min(time - query);
        let seen = query + queries;
        (0..seen).step_by(KEYS).map(move |key| {
            let keys = KEYS.min(time - key);
            Self { query, queries, key, keys }
        })
    }

    /// How many of its keys query `row` of the tile may look at.
    pub(super) fn visible(&self, row: usize) -> usize {
        (self.query + row + 1).saturating_sub(self.key).min(self.keys)
    }

    /// The first of its queries that may look at key `col` of the tile.
    fn first_query(&self, col: usize) -> usize {
        (self.key + col).saturating_sub(self.query).min(self.queries)
    }

    fn is_below_the_diagonal(&self) -> bool {
        self.visible(0) == self.keys
    }

    /// Its strips of rows, as `(first row, rows, keys that the last row sees)`.
    fn strips(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let height = if self.is_below_the_diagonal() { self.queries } else { ROWS };
        (0..self.queries).step_by(height).filter_map(move |row| {
            let rows = height.min(self.queries - row);
            let visible = self.visible(row + rows - 1);
            (visible > 0).then_some((row, rows, visible))
        })
    }
}

/// `scores ← a · bᵀ` where a query may look: `a` `[queries, D]`, `b_t` packed `[D, keys]`.
///
/// Behind the diagonal a score is left as it was.
pub(super) fn scores(tile: Tile, a: Matrix<'_>, b_t: Panels<'_>, scores: &mut [f32]) {
    let d = a.cols();
    let mut out = MatrixMut::with_row_stride(scores, tile.queries, tile.keys, KEYS);
    for (row, rows, visible) in tile.strips() {
        let mut out = out.block((row, 0), (rows, visible));
        multiply(&mut out, a.block((row, 0), (rows, d)), b_t, Store::Overwrite);
    }
}

/// `out (+)= weights · b`: `weights` a tile, `b` packed `[keys, D]`, `out` `[queries, D]`.
///
/// Weights behind the diagonal must be zero.
pub(super) fn weighted(
    tile: Tile,
    weights: &[f32],
    b: Panels<'_>,
    out: &mut MatrixMut<'_>,
    store: Store,
) {
    let d = out.cols();
    let weights = Matrix::with_row_stride(weights, tile.queries, tile.keys, KEYS);
    for (row, rows, visible) in tile.strips() {
        let mut out = out.block((row, 0), (rows, d));
        multiply(&mut out, weights.block((row, 0), (rows, visible)), b, store);
    }
}

/// `out += weightsᵀ · b`: `weights` a tile, `b` packed `[queries, D]`, `out` `[keys, D]`.
///
/// Weights behind the diagonal must be zero.
pub(super) fn weighted_transposed(
    tile: Tile,
    weights: &[f32],
    b: Panels<'_>,
    out: &mut MatrixMut<'_>,
) {
    let d = out.cols();
    let weights = Matrix::with_row_stride(weights, tile.queries, tile.keys, KEYS).t();
    let height = if tile.is_below_the_diagonal() { tile.keys } else { ROWS };
    for col in (0..tile.keys).step_by(height) {
        let (keys, first) = (height.min(tile.keys - col), tile.first_query(col));
        let seen_by = tile.queries - first;
        if seen_by > 0 {
            let weights = weights.block((col, first), (keys, seen_by));
            let mut out = out.block((col, 0), (keys, d));
            multiply(&mut out, weights, b.skip_rows(first), Store::Accumulate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_what_is_visible_once() {
        for time in [1, 5, 48, 49, 64, 65, 130, 200] {
            let mut seen = vec![0; time * time];
            for query in (0..time).step_by(QUERIES) {
                for tile in Tile::row(query, time) {
                    for row in 0..tile.queries {
                        for col in 0..tile.visible(row) {
                            seen[(tile.query + row) * time + tile.key + col] += 1;
                            assert!(tile.first_query(col) <= row, "{tile:?} {row} {col}");
                        }
                    }
                    let strips: usize = tile.strips().map(|(_, rows, _)| rows).sum();
                    assert!(strips <= tile.queries, "{tile:?}");
                }
            }
            for (i, j) in (0..time).flat_map(|i| (0..time).map(move |j| (i, j))) {
                assert_eq!(seen[i * time + j], usize::from(j <= i), "T {time}: {i} looks at {j}");
            }
        }
    }
}
