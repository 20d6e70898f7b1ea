//! Matrices of 8-bit weights for decoding: a quarter of the memory to read, and so of the time.
//!
//! Every 32 inputs of an output share a scale, the largest of their 32 weights divided by 127; a
//! weight is rounded to the nearest integer multiple of it. This is GGUF's `Q8_0`, except that its
//! scale has half precision. Activations stay f32, so only the weights are rounded.
//!
//! The weights lie in tiles of 32 inputs by 32 outputs, in a tile 32 outputs side by side, one input
//! after the other: the sums of 32 outputs stay in registers from the first input to the last. Each 32
//! rows of what was rounded become a row of tiles. So reading some inputs of a matrix `[K, M]`, or some
//! outputs of a table `[M, K]`, is one sequential read of memory.

use std::convert::Infallible;
use std::ops::Range;

use crate::decode::{Strided, StridedMut};
use crate::simd::{FromBytes, dispatch};

dispatch!(fn byte_rows(n: usize, x: Strided<'_>, part: Q8Slice<'_>, out: &mut [f32], stride: usize) = kernel);

/// Inputs that share a scale, and outputs side by side.
pub const TILE: usize = 32;

/// The largest number that a weight becomes.
const LARGEST: f32 = 127.0;

/// K inputs, M outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Q8Matrix {
    k: usize,
    m: usize,
    /// Whether its rows are its outputs.
    is_table: bool,
    /// `[tiles, 32, 32]`, zeros beyond the edges.
    weights: Vec<i8>,
    /// `[tiles, 32]`.
    scales: Vec<f32>,
}

impl Q8Matrix {
    /// Rounds a matrix `[K, M]`, whose rows are the inputs.
    ///
    /// # Panics
    /// If the length is not a multiple of `m`.
    pub fn from_matrix(w: &[f32], m: usize) -> Self {
        Self::copied(w, m, false)
    }

    /// Rounds a table `[M, K]`, whose rows are the outputs.
    ///
    /// # Panics
    /// If the length is not a multiple of `k`.
    pub fn from_table(table: &[f32], k: usize) -> Self {
        Self::copied(table, k, true)
    }

    fn copied(values: &[f32], columns: usize, is_table: bool) -> Self {
        let n_rows = values.len() / columns.max(1);
        assert_eq!(values.len(), n_rows * columns, "rows of {columns}");
        let mut slabs = values.chunks((TILE * columns).max(1));
        let copied = Self::read((n_rows, columns), is_table, |slab| {
            slab.copy_from_slice(slabs.next().unwrap_or(&[]));
            Ok::<(), Infallible>(())
        });
        match copied {
            Ok(matrix) => matrix,
            Err(never) => match never {},
        }
    }

    /// Rounds a matrix `[K, M]`, or a table `[M, K]`, of that shape, whose rows `next` fills in,
    /// 32 at a time and the rest at the end.
    ///
    /// # Errors
    /// Those of `next`.
    pub fn read<E>(
        (n_rows, columns): (usize, usize),
        is_table: bool,
        mut next: impl FnMut(&mut [f32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (k, m) = if is_table { (columns, n_rows) } else { (n_rows, columns) };
        let n_tiles = n_rows.div_ceil(TILE) * columns.div_ceil(TILE);
        let (weights, scales) = (vec![0; n_tiles * TILE * TILE], vec![0.0; n_tiles * TILE]);
        let mut matrix = Self { k, m, is_table, weights, scales };
        let mut slab = vec![0.0; TILE.min(n_rows) * columns];
        for first in (0..n_rows).step_by(TILE) {
            let slab = &mut slab[..TILE.min(n_rows - first) * columns];
            next(slab)?;
            for column in (0..columns).step_by(TILE) {
                let values = tile_of(slab, columns, column, is_table);
                let tile = matrix.first_tile_of(first / TILE) + column / TILE;
                let weights = &mut matrix.weights[tile * TILE * TILE..][..TILE * TILE];
                round(&values, weights, &mut matrix.scales[tile * TILE..][..TILE]);
            }
        }
        Ok(matrix)
    }

    /// Inputs.
    pub fn inputs(&self) -> usize {
        self.k
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.m
    }

    /// The weights of one output, `[K]`: a row of a table.
    ///
    /// # Panics
    /// If there is no such output, or `out` has another length.
    pub fn output(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.m && out.len() == self.k, "output {output} of {}", self.m);
        for (block, out) in out.chunks_mut(TILE).enumerate() {
            let tile = self.tile(block, output / TILE);
            let scale = self.scales[tile * TILE + output % TILE];
            let weights = self.weights[tile * TILE * TILE..].iter().skip(output % TILE);
            for (out, weight) in out.iter_mut().zip(weights.step_by(TILE)) {
                *out = f32::from(*weight) * scale;
            }
        }
    }

    /// All weights, in the order in which they were given.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.k * self.m];
        let mut weights = vec![0.0; self.k];
        for output in 0..self.m {
            self.output(output, &mut weights);
            if self.is_table {
                values[output * self.k..][..self.k].copy_from_slice(&weights);
            } else {
                let column = values.iter_mut().skip(output).step_by(self.m);
                column.zip(&weights).for_each(|(value, weight)| *value = *weight);
            }
        }
        values
    }

    /// Where the row `i` of tiles begins.
    fn first_tile_of(&self, i: usize) -> usize {
        i * if self.is_table { self.k } else { self.m }.div_ceil(TILE)
    }

    /// Where the tile of a block of inputs and a group of outputs lies.
    fn tile(&self, block: usize, group: usize) -> usize {
        let (row, column) = if self.is_table { (group, block) } else { (block, group) };
        self.first_tile_of(row) + column
    }
}

/// The tile that begins at `column` of up to 32 rows, `[inputs, outputs]`.
fn tile_of(slab: &[f32], columns: usize, column: usize, is_table: bool) -> [[f32; TILE]; TILE] {
    let mut tile = [[0.0; TILE]; TILE];
    let width = TILE.min(columns - column);
    for (i, row) in slab.chunks_exact(columns).enumerate() {
        let row = &row[column..column + width];
        if is_table {
            row.iter().zip(&mut tile).for_each(|(value, inputs)| inputs[i] = *value);
        } else {
            tile[i][..width].copy_from_slice(row);
        }
    }
    tile
}

/// Rounds a tile.
fn round(tile: &[[f32; TILE]; TILE], weights: &mut [i8], scales: &mut [f32]) {
    let mut largest = [0f32; TILE];
    for row in tile {
        largest.iter_mut().zip(row).for_each(|(largest, x)| *largest = largest.max(x.abs()));
    }
    scales.iter_mut().zip(largest).for_each(|(scale, largest)| *scale = largest / LARGEST);
    let steps = |x: f32, scale: f32| if scale > 0.0 { (x / scale).round() } else { 0.0 };
    for (row, weights) in tile.iter().zip(weights.chunks_exact_mut(TILE)) {
        for ((weight, x), scale) in weights.iter_mut().zip(row).zip(&*scales) {
            *weight = steps(*x, *scale) as i8;
        }
    }
}

/// Some inputs and some outputs of a matrix.
#[derive(Clone, Debug)]
pub struct Q8Slice<'a> {
    /// The matrix.
    pub matrix: &'a Q8Matrix,
    /// Which inputs.
    pub inputs: Range<usize>,
    /// Which outputs; their start is a multiple of [`TILE`].
    pub outputs: Range<usize>,
}

/// `out ← x · w` for `n` rows of `x`, `[N, inputs of the part]`, and the first of each row of `out`,
/// `[N, outputs of the part]`, whose rows begin `stride` elements apart.
///
/// A row has the same bits however many rows there are.
///
/// # Panics
/// If the lengths do not fit together.
pub fn times(n: usize, x: Strided<'_>, part: Q8Slice<'_>, out: StridedMut<'_>) {
    let StridedMut { data: out, stride } = out;
    let needed = |stride: usize, len: usize| if n == 0 { 0 } else { (n - 1) * stride + len };
    let Q8Slice { matrix, inputs, outputs } = &part;
    assert!(
        inputs.end <= matrix.k && outputs.end <= matrix.m && outputs.start.is_multiple_of(TILE),
        "inputs {inputs:?} and outputs {outputs:?} of a matrix [{}, {}]",
        matrix.k,
        matrix.m
    );
    assert!(
        x.data.len() >= needed(x.stride, inputs.len())
            && out.len() >= needed(stride, outputs.len())
            && stride >= outputs.len(),
        "{n} rows of {} times a matrix [{}, {}] into {}",
        x.data.len(),
        inputs.len(),
        outputs.len(),
        out.len()
    );
    byte_rows(n, x, part, out, stride);
}

#[inline(always)]
fn kernel<V: FromBytes>(
    n: usize,
    x: Strided<'_>,
    part: Q8Slice<'_>,
    out: &mut [f32],
    stride: usize,
) {
    let Q8Slice { matrix, inputs, outputs } = part;
    for row in 0..n {
        out[row * stride..][..outputs.len()].fill(0.0);
    }
    if inputs.is_empty() || outputs.is_empty() {
        return;
    }
    let blocks = inputs.start / TILE..inputs.end.div_ceil(TILE);
    let groups = outputs.start / TILE..outputs.end.div_ceil(TILE);
    // In the order of memory.
    let (outer, inner) = if matrix.is_table { (groups, blocks) } else { (blocks, groups) };
    for i in outer {
        let first = matrix.first_tile_of(i) + inner.start;
        let weights = matrix.weights[first * TILE * TILE..].chunks_exact(TILE * TILE);
        let tiles = weights.zip(matrix.scales[first * TILE..].chunks_exact(TILE));
        for (j, (weights, scales)) in inner.clone().zip(tiles) {
            let (block, group) = if matrix.is_table { (j, i) } else { (i, j) };
            let rows = inputs.start.max(block * TILE)..inputs.end.min((block + 1) * TILE);
            let skipped = (rows.start - block * TILE) * TILE;
            let weights = &weights[skipped..skipped + rows.len() * TILE];
            let column = group * TILE - outputs.start;
            let len = TILE.min(outputs.end - group * TILE);
            let mut row = 0;
            // Rows side by side share the weights that were read and widened.
            while row < n {
                let at = row * x.stride + rows.start - inputs.start;
                let x = Strided { data: &x.data[at..], stride: x.stride };
                let out = &mut out[row * stride + column..];
                row += match n - row {
                    4.. => add_tile::<V, 4>(x, weights, scales, out, stride, len),
                    2.. => add_tile::<V, 2>(x, weights, scales, out, stride, len),
                    _ => add_tile::<V, 1>(x, weights, scales, out, stride, len),
                };
            }
        }
    }
}

/// Adds what some inputs of a tile give to R rows of `len` outputs; returns R.
#[inline(always)]
fn add_tile<V: FromBytes, const R: usize>(
    x: Strided<'_>,
    block: &[i8],
    scales: &[f32],
    out: &mut [f32],
    stride: usize,
    len: usize,
) -> usize {
    // As many registers as the widest group of the narrowest vector needs.
    let mut sums = [[V::zero(); TILE / 8]; R];
    for (input, weights) in block.chunks_exact(TILE).enumerate() {
        for i in 0..TILE / V::LANES {
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
            let block = p / TILE * TILE..k.min((p / TILE + 1) * TILE);
            let scale = block.map(|p| w[p * m + j].abs()).fold(0f32, f32::max) / 127.0;
            if scale == 0.0 { 0.0 } else { (w[p * m + j] / scale).round() * scale }
        };
        (0..k).flat_map(|p| (0..m).map(move |j| (p, j))).map(|(p, j)| value(p, j)).collect()
    }

    fn all(matrix: &Q8Matrix) -> Q8Slice<'_> {
        Q8Slice { matrix, inputs: 0..matrix.inputs(), outputs: 0..matrix.outputs() }
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
                    [Q8Matrix::from_matrix(&w, m), Q8Matrix::from_table(&turned(&w, m), k)]
                {
                    assert_eq!((matrix.inputs(), matrix.outputs()), (k, m));
                    let mut out = vec![7.0; n * (m + 2)];
                    let strided = Strided { data: &x[2..], stride: k + 3 };
                    times(n, strided, all(&matrix), StridedMut { data: &mut out, stride: m + 2 });
                    assert_close(&out, &expected, 1e-4, &what);
                }
            }
        });
    }

    #[test]
    fn its_values_are_the_rounded_ones_in_the_order_given() {
        for (_, k, m) in SHAPES {
            let w = weights(k, m);
            let (matrix, table) =
                (Q8Matrix::from_matrix(&w, m), Q8Matrix::from_table(&turned(&w, m), k));
            assert_eq!(matrix.values(), rounded(&w, m));
            assert_eq!(table.values(), turned(&rounded(&w, m), m));
            // Once is enough.
            assert_eq!(Q8Matrix::from_matrix(&matrix.values(), m).weights, matrix.weights);
        }
    }

    #[test]
    fn parts_of_the_inputs_add_up_and_parts_of_the_outputs_stand_side_by_side() {
        at_every_level(|level| {
            let (n, k, m) = (5, 150, 90);
            let (x, w) = (noise(n * k, 1), weights(k, m));
            for matrix in [Q8Matrix::from_matrix(&w, m), Q8Matrix::from_table(&turned(&w, m), k)] {
                let mut whole = vec![0.0; n * m];
                times(
                    n,
                    Strided { data: &x, stride: k },
                    all(&matrix),
                    StridedMut { data: &mut whole, stride: m },
                );
                let mut sum = vec![0.0; n * m];
                for inputs in [0..31, 31..33, 33..33, 33..128, 128..150] {
                    for outputs in [0..32, 32..64, 64..90] {
                        let data = Strided { data: &x[inputs.start..], stride: k };
                        let mut out = vec![7.0; n * 33];
                        let part = Q8Slice {
                            matrix: &matrix,
                            inputs: inputs.clone(),
                            outputs: outputs.clone(),
                        };
                        times(n, data, part, StridedMut { data: &mut out, stride: 33 });
                        for row in 0..n {
                            for (i, output) in outputs.clone().enumerate() {
                                sum[row * m + output] += out[row * 33 + i];
                            }
                        }
                    }
                }
                assert_close(&sum, &whole, 1e-5, &format!("{level:?}"));
            }
        });
    }

    #[test]
    fn a_row_of_a_batch_has_the_bits_of_the_row_alone() {
        at_every_level(|level| {
            let (n, k, m) = (7, 45, 83);
            let x = noise(n * k, 1);
            let w = Q8Matrix::from_matrix(&weights(k, m), m);
            let (mut together, mut alone) = (vec![0.0; n * m], vec![0.0; m]);
            times(
                n,
                Strided { data: &x, stride: k },
                all(&w),
                StridedMut { data: &mut together, stride: m },
            );
            for (x, together) in x.chunks(k).zip(together.chunks(m)) {
                times(
                    1,
                    Strided { data: x, stride: k },
                    all(&w),
                    StridedMut { data: &mut alone, stride: m },
                );
                assert_eq!(alone, together, "{level:?}");
            }
        });
    }
}
