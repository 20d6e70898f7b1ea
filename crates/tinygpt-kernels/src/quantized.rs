//! Matrices of 8-bit weights for decoding: a quarter of the memory to read, and so of the time.
//!
//! Every 32 inputs of an output share a scale, the largest of their 32 weights divided by 127; a
//! weight is the whole number nearest to it in these steps. This is GGUF's `Q8_0`, but for its scale
//! of half precision. Activations stay f32, so nothing but the weights is rounded.
//!
//! The weights lie in the order in which the product reads them: 32 outputs side by side, for them
//! one input after the other. So the sums of 32 outputs stay in registers from the first input to the
//! last of a block, and the whole matrix passes once, in order.

use crate::decode::Strided;
use crate::simd::{FromBytes, dispatch};

dispatch!(fn byte_rows(n: usize, x: Strided<'_>, w: &ByteMatrix, out: &mut [f32], stride: usize) = kernel);

/// Inputs that share a scale.
pub const BLOCK: usize = 32;

/// Outputs side by side.
const GROUP: usize = 32;

/// The largest number that a weight becomes.
const LARGEST: f32 = 127.0;

/// K inputs, M outputs.
#[derive(Clone, Debug, Default)]
pub struct ByteMatrix {
    k: usize,
    m: usize,
    /// `[M / 32, K, 32]`, the last outputs filled up with zeros.
    weights: Vec<i8>,
    /// `[M / 32, K / 32, 32]`.
    scales: Vec<f32>,
}

impl ByteMatrix {
    /// Rounds a matrix `[K, M]`.
    ///
    /// # Panics
    /// If the length is no multiple of `m`.
    pub fn from_matrix(w: &[f32], m: usize) -> Self {
        let k = w.len() / m.max(1);
        assert_eq!(w.len(), k * m, "a matrix of {m} columns");
        Self::build(k, m, |input, output| w[input * m + output])
    }

    /// Rounds a table `[M, K]`, whose rows are the outputs.
    ///
    /// # Panics
    /// If the length is no multiple of `k`.
    pub fn from_table(table: &[f32], k: usize) -> Self {
        let m = table.len() / k.max(1);
        assert_eq!(table.len(), k * m, "a table of {k} columns");
        Self::build(k, m, |input, output| table[output * k + input])
    }

    fn build(k: usize, m: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let n_groups = m.div_ceil(GROUP);
        let mut weights = vec![0; n_groups * k * GROUP];
        let mut scales = vec![0.0; n_groups * k.div_ceil(BLOCK) * GROUP];
        let blocks =
            weights.chunks_mut((k * GROUP).max(1)).flat_map(|it| it.chunks_mut(BLOCK * GROUP));
        let n_blocks = k.div_ceil(BLOCK).max(1);
        for (i, (block, scales)) in blocks.zip(scales.chunks_mut(GROUP)).enumerate() {
            let (first_output, first_input) = (i / n_blocks * GROUP, i % n_blocks * BLOCK);
            for (output, scale) in scales.iter_mut().enumerate().take(m - first_output) {
                let at = |row: usize| value(first_input + row, first_output + output);
                let n = block.len() / GROUP;
                *scale = scale_of((0..n).map(at));
                for row in 0..n {
                    block[row * GROUP + output] = steps(at(row), *scale) as i8;
                }
            }
        }
        Self { k, m, weights, scales }
    }

    /// Inputs.
    pub fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.m
    }
}

fn scale_of(block: impl Iterator<Item = f32>) -> f32 {
    block.fold(0f32, |largest, x| largest.max(x.abs())) / LARGEST
}

/// How many steps of `scale` are nearest to `x`.
fn steps(x: f32, scale: f32) -> f32 {
    if scale > 0.0 { (x / scale).round() } else { 0.0 }
}

/// Rounds a table `[M, K]` in place to what [`ByteMatrix::from_table`] makes of it.
///
/// # Panics
/// If the length is no multiple of `k`.
pub fn round_table(table: &mut [f32], k: usize) {
    assert!(table.len().is_multiple_of(k), "a table of {k} columns");
    for block in table.chunks_mut(k).flat_map(|row| row.chunks_mut(BLOCK)) {
        let scale = scale_of(block.iter().copied());
        block.iter_mut().for_each(|x| *x = steps(*x, scale) * scale);
    }
}

/// Rounds a matrix `[K, M]` in place to what [`ByteMatrix::from_matrix`] makes of it.
///
/// # Panics
/// If the length is no multiple of `m`.
pub fn round_matrix(w: &mut [f32], m: usize) {
    assert!(w.len().is_multiple_of(m), "a matrix of {m} columns");
    let mut scales = vec![0.0; m];
    for block in w.chunks_mut(BLOCK * m) {
        for (output, scale) in scales.iter_mut().enumerate() {
            *scale = scale_of(block.iter().skip(output).step_by(m).copied());
        }
        for row in block.chunks_mut(m) {
            row.iter_mut().zip(&scales).for_each(|(x, scale)| *x = steps(*x, *scale) * scale);
        }
    }
}

/// `out ← x · w` for `n` rows of `x` `[N, K]` and the first M of each row of `out`, whose rows begin
/// `stride` elements apart.
///
/// A row has the same bits however many rows there are.
///
/// # Panics
/// If the lengths do not fit together.
pub fn times(n: usize, x: Strided<'_>, w: &ByteMatrix, (out, stride): (&mut [f32], usize)) {
    let needed = |stride: usize, len: usize| if n == 0 { 0 } else { (n - 1) * stride + len };
    assert!(
        x.data.len() >= needed(x.stride, w.k) && out.len() >= needed(stride, w.m) && stride >= w.m,
        "{n} rows of {} times a matrix [{}, {}] into {}",
        x.data.len(),
        w.k,
        w.m,
        out.len()
    );
    byte_rows(n, x, w, out, stride);
}

#[inline(always)]
fn kernel<V: FromBytes>(n: usize, x: Strided<'_>, w: &ByteMatrix, out: &mut [f32], stride: usize) {
    for row in 0..n {
        out[row * stride..][..w.m].fill(0.0);
    }
    if w.k == 0 {
        return;
    }
    let scales = w.scales.chunks_exact(w.k.div_ceil(BLOCK) * GROUP);
    for (group, (weights, scales)) in w.weights.chunks_exact(w.k * GROUP).zip(scales).enumerate() {
        let columns = group * GROUP..w.m.min((group + 1) * GROUP);
        let blocks = weights.chunks(BLOCK * GROUP).zip(scales.chunks_exact(GROUP));
        for (i, (block, scales)) in blocks.enumerate() {
            let len = columns.len();
            let mut row = 0;
            // Rows side by side share the weights that were read and widened.
            while row < n {
                let x = Strided { data: &x.data[row * x.stride + i * BLOCK..], stride: x.stride };
                let out = &mut out[row * stride + columns.start..];
                row += match n - row {
                    4.. => add_block::<V, 4>(x, block, scales, out, stride, len),
                    2.. => add_block::<V, 2>(x, block, scales, out, stride, len),
                    _ => add_block::<V, 1>(x, block, scales, out, stride, len),
                };
            }
        }
    }
}

/// Adds what one block of inputs gives to R rows of `len` outputs; returns R.
#[inline(always)]
fn add_block<V: FromBytes, const R: usize>(
    x: Strided<'_>,
    block: &[i8],
    scales: &[f32],
    out: &mut [f32],
    stride: usize,
    len: usize,
) -> usize {
    // As many registers as the widest group of the narrowest vector needs.
    let mut sums = [[V::zero(); GROUP / 8]; R];
    for (input, weights) in block.chunks_exact(GROUP).enumerate() {
        for i in 0..GROUP / V::LANES {
            let weights = V::from_bytes(&weights[i * V::LANES..]);
            for (r, sums) in sums.iter_mut().enumerate() {
                sums[i] = V::splat(x.data[r * x.stride + input]).mul_add(weights, sums[i]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let out = &mut out[r * stride..][..len];
        for (i, out) in out.chunks_mut(V::LANES).enumerate() {
            let scale = V::load(&scales[i * V::LANES..][..V::LANES]);
            sums[i].mul_add(scale, V::load(out)).store(out);
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 1, 1), (1, 31, 33), (2, 32, 5), (3, 300, 401), (4, 64, 32), (7, 33, 70), (10, 17, 80)];

    /// The matrix by the definition: each weight in steps of its block's scale.
    fn rounded(w: &[f32], m: usize) -> Vec<f32> {
        let k = w.len() / m;
        let value = |p: usize, j: usize| {
            let block = p / BLOCK * BLOCK..k.min((p / BLOCK + 1) * BLOCK);
            let scale = block.map(|p| w[p * m + j].abs()).fold(0f32, f32::max) / 127.0;
            if scale == 0.0 { 0.0 } else { (w[p * m + j] / scale).round() * scale }
        };
        (0..k).flat_map(|p| (0..m).map(move |j| (p, j))).map(|(p, j)| value(p, j)).collect()
    }

    fn turned(w: &[f32], m: usize) -> Vec<f32> {
        (0..m).flat_map(|j| w.iter().skip(j).step_by(m).copied()).collect()
    }

    /// Weights of very different size, a block of zeros among them.
    fn weights(k: usize, m: usize) -> Vec<f32> {
        let mut w = noise(k * m, 2);
        for (i, w) in w.iter_mut().enumerate() {
            *w *= [1.0, 1e-3, 300.0][i % m % 3];
            if i % m == m / 2 {
                *w = 0.0;
            }
        }
        w
    }

    #[test]
    fn products_equal_those_of_the_rounded_matrix() {
        at_every_level(|level| {
            for (n, k, m) in SHAPES {
                let what = format!("{level:?} [{n}, {k}] times [{k}, {m}]");
                let (x, w) = (noise(n * (k + 3), 1), weights(k, m));
                let near = rounded(&w, m);
                let mut expected = vec![7.0; n * (m + 2)];
                for (row, out) in expected.chunks_mut(m + 2).enumerate() {
                    for (j, out) in out.iter_mut().enumerate().take(m) {
                        let at = |p: usize| f64::from(x[row * (k + 3) + 2 + p] * near[p * m + j]);
                        *out = (0..k).map(at).sum::<f64>() as f32;
                    }
                }
                for matrix in
                    [ByteMatrix::from_matrix(&w, m), ByteMatrix::from_table(&turned(&w, m), k)]
                {
                    assert_eq!((matrix.inputs(), matrix.outputs()), (k, m));
                    let mut out = vec![7.0; n * (m + 2)];
                    let strided = Strided { data: &x[2..], stride: k + 3 };
                    times(n, strided, &matrix, (&mut out, m + 2));
                    assert_close(&out, &expected, 1e-4, &what);
                }
            }
        });
    }

    #[test]
    fn rounding_in_place_is_the_rounding_of_the_matrix() {
        for (_, k, m) in SHAPES {
            let w = weights(k, m);
            let (mut matrix, mut table) = (w.clone(), turned(&w, m));
            round_matrix(&mut matrix, m);
            round_table(&mut table, k);
            assert_eq!(matrix, rounded(&w, m));
            assert_eq!(table, turned(&matrix, m));
            // Once is enough.
            let again = ByteMatrix::from_matrix(&matrix, m);
            assert_eq!(again.weights, ByteMatrix::from_matrix(&w, m).weights);
        }
    }

    #[test]
    fn a_row_of_a_batch_has_the_bits_of_the_row_alone() {
        at_every_level(|level| {
            let (n, k, m) = (7, 45, 83);
            let x = noise(n * k, 1);
            let w = ByteMatrix::from_matrix(&weights(k, m), m);
            let (mut together, mut alone) = (vec![0.0; n * m], vec![0.0; m]);
            times(n, Strided { data: &x, stride: k }, &w, (&mut together, m));
            for (x, together) in x.chunks(k).zip(together.chunks(m)) {
                times(1, Strided { data: x, stride: k }, &w, (&mut alone, m));
                assert_eq!(alone, together, "{level:?}");
            }
        });
    }
}
