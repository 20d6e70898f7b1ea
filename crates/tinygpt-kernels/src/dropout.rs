//! Dropout masks that are computed, never stored.
//!
//! Whether an element is kept is a hash of (key, row, column): the backward pass computes the same
//! mask again, any division of the rows among threads or workers gives the same mask, and nothing
//! has to be saved to resume a run. The masks are applied inside other kernels: see
//! [`residual`](crate::residual), [`embedding`](crate::embedding), [`attention`](crate::attention).

use crate::simd::{Bits, Vector};

/// One dropout site of one micro-batch: its probability and the key of its masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// An element is kept if 24 hashed bits are below this.
    keep_limit: u32,
    /// `1 / (1 − p)`, which keeps the expectation.
    scale: f32,
    key: u64,
    first_row: u64,
    first_col: u32,
}

/// The hash input of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowKey {
    low: u32,
    high: u32,
}

impl Dropout {
    /// Dropout with probability `p` in `0.0..1.0`, or `None` where `p` is 0 and there is nothing
    /// to drop.
    ///
    /// `key` names the site: derive it from everything that must change the mask with [`key`].
    pub fn new(p: f32, key: u64) -> Option<Self> {
        let keep = 1.0 - f64::from(p);
        let keep_limit = (keep * f64::from(1_u32 << 24)).round() as u32;
        let scale = (1.0 / keep) as f32;
        (p > 0.0).then_some(Self { keep_limit, scale, key, first_row: 0, first_col: 0 })
    }

    /// The same site for a caller whose row 0 is row `rows` of this one: a worker with a part of
    /// the batch, or a thread with a part of the rows.
    pub fn skip_rows(self, rows: usize) -> Self {
        Self { first_row: self.first_row + rows as u64, ..self }
    }

    /// The same site for a caller whose column 0 is column `cols` of this one.
    pub fn skip_cols(self, cols: usize) -> Self {
        Self { first_col: self.first_col + cols as u32, ..self }
    }

    /// `1 / (1 − p)`, the factor of kept elements.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether the element at (`row`, `col`) is kept: the mask as plain code, for reference.
    pub fn keeps(&self, row: usize, col: u32) -> bool {
        let key = self.row_key(row);
        let mut x = ((self.first_col + col) ^ key.low).wrapping_mul(M1);
        x = (x ^ (x >> 15) ^ key.high).wrapping_mul(M2);
        x = (x ^ (x >> 13)).wrapping_mul(M3);
        (x ^ (x >> 16)) >> 8 < self.keep_limit
    }

    #[inline(always)]
    pub(crate) fn row_key(&self, row: usize) -> RowKey {
        let mixed = mix(self.key ^ mix(self.first_row + row as u64));
        RowKey { low: mixed as u32, high: (mixed >> 32) as u32 }
    }

    /// Zeroes the dropped lanes of `x`, whose first lane is column `col` of the row, and scales
    /// the others.
    #[inline(always)]
    pub(crate) fn apply<V: Vector>(&self, x: V, key: RowKey, col: usize) -> V {
        let columns = V::Bits::count_from(self.first_col + col as u32);
        let x0 = columns.xor(V::Bits::splat(key.low)).mul(V::Bits::splat(M1));
        let x1 = x0.xor(x0.shift_right::<15>()).xor(V::Bits::splat(key.high));
        let x2 = x1.mul(V::Bits::splat(M2));
        let x3 = x2.xor(x2.shift_right::<13>()).mul(V::Bits::splat(M3));
        let bits = x3.xor(x3.shift_right::<16>());
        (x * V::splat(self.scale)).keep_below(bits, self.keep_limit)
    }
}

// Odd multipliers with well spread bits: the first is 2³² over the golden ratio, the others are
// those of MurmurHash3's finaliser.
const M1: u32 = 0x9E37_79B1;
const M2: u32 = 0x85EB_CA6B;
const M3: u32 = 0xC2B2_AE35;

/// One key from several numbers, such as (seed, step, micro-batch, layer, site).
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |key, &part| mix(key ^ mix(part)))
}

/// SplitMix64's step: a bijection whose output bits all depend on all input bits.
/// Source: Steele, Lea and Flood 2014.
#[inline(always)]
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::simd::dispatch;
    use crate::testing::at_every_level;

    dispatch!(fn mask_row(dropout: &Dropout, row: usize, out: &mut [f32]) = mask_row_kernel);

    #[inline(always)]
    fn mask_row_kernel<V: Vector>(dropout: &Dropout, row: usize, out: &mut [f32]) {
        let key = dropout.row_key(row);
        for (i, out) in out.chunks_mut(V::LANES).enumerate() {
            dropout.apply(V::splat(1.0), key, i * V::LANES).store(out);
        }
    }

    #[test]
    fn the_vector_mask_equals_the_plain_one() {
        at_every_level(|level| {
            let dropout = Dropout::new(0.3, key(&[1, 2])).unwrap().skip_rows(5);
            let mut out = vec![0.0; 1003];
            mask_row(&dropout, 7, &mut out);
            for (col, &kept) in out.iter().enumerate() {
                let expected = if dropout.keeps(7, col as u32) { dropout.scale() } else { 0.0 };
                assert_eq!(kept, expected, "{level:?} column {col}");
            }
        });
    }

    #[test]
    fn the_share_kept_is_right_and_rows_columns_and_keys_are_independent() {
        let n = 400_usize;
        let mask = |key: u64, first: usize| {
            let dropout = Dropout::new(0.2, key).unwrap().skip_rows(first);
            let cell = |i: usize| dropout.keeps(i / n, (i % n) as u32);
            (0..n * n).map(cell).collect::<Vec<bool>>()
        };
        let (a, b) = (mask(key(&[1, 0]), 0), mask(key(&[1, 1]), 0));
        // Kept: 0.8 of 160,000 cells, standard deviation 160. Agreement of independent masks:
        // 0.8² + 0.2² = 0.68, standard deviation 187. Five deviations are allowed.
        let kept = a.iter().filter(|&&k| k).count() as f64;
        assert!((kept - 128_000.0).abs() < 800.0, "kept {kept} of 160,000 at p = 0.2");
        let agree = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
        let pairs = [
            ("other key", agree(&a, &b)),
            ("next row", agree(&a[n..], &a) * n as f64 / (n as f64 - 1.0)),
            ("next column", agree(&a[1..], &a)),
        ];
        for (what, count) in pairs {
            assert!((count - 108_800.0).abs() < 935.0, "{what}: {count} of 160,000 agree");
        }
        assert_eq!(mask(key(&[1, 0]), 3)[..n], a[3 * n..4 * n], "skip_rows only moves the origin");
        let once = Dropout::new(0.2, 1).map(|d| d.skip_rows(5));
        let twice = Dropout::new(0.2, 1).map(|d| d.skip_rows(2).skip_rows(3));
        assert_eq!(once, twice, "a worker's rows, then a thread's: the steps add up");
    }

    #[test]
    fn probability_zero_disables_dropout() {
        assert_eq!(Dropout::new(0.0, 1), None);
    }
}
