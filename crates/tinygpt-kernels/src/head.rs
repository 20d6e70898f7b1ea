//! The tied output head and the cross entropy, in chunks of rows.
//!
//! `logits = x · wteᵀ`, `loss_n = log Σ_v exp(logits_nv) − logits_n,target`. A chunk of rows goes
//! all the way from logits to its share of `dx` and `dwte` before the next one starts, so the full
//! `[N, V]` matrix, by far the largest tensor of the model, never exists: the chunk's logits
//! become their own gradient `(softmax − one-hot) · scale` in place.
//!
//! A row whose target is [`IGNORED_TARGET`](crate::IGNORED_TARGET) has no loss and no gradient. If there are
//! any, the other rows are copied together first: the head costs what its learned rows cost.

use crate::gemm::{Matrix, MatrixMut, Store, gemm};
use crate::learned::Learned;
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

/// The elements of logits that a chunk aims at: 64 MiB. Fewer rows would read and write `dwte`
/// more often than its products are worth.
const CHUNK_ELEMENTS: usize = 16 << 20;

/// Entries of the vocabulary in one product. Where it goes to the `gemm` crate, that packs that many rows of `wte`, or columns
/// of logits, into a buffer of its own; with all of a large vocabulary at once the buffer passes the
/// 32 MiB above which glibc maps fresh memory at every call: 60,000 page faults a step at V 30,000.
const VOCAB_BLOCK: usize = 4096;

dispatch!(fn loss_rows(logits: &[f32], targets: &[u32]) -> f64 = loss_kernel);
dispatch!(fn loss_and_gradient_rows(logits: &mut [f32], targets: &[u32], scale: f32) -> f64 = loss_and_gradient_kernel);

/// What the head reads: activations, the table, the targets and the sizes.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Input `[N, C]`, after the last layer norm.
    pub x: &'a [f32],
    /// Token embedding `[V, C]`, used as the output matrix.
    pub wte: &'a [f32],
    /// Target ids `[N]`, each below V or [`IGNORED_TARGET`](crate::IGNORED_TARGET).
    pub targets: &'a [u32],
    /// C.
    pub n_embd: usize,
}

/// The length of the scratch space for logits that [`loss`] and [`backward`] want for N rows.
pub fn scratch_len(n: usize, vocab_size: usize) -> usize {
    chunk_rows(n, vocab_size) * vocab_size
}

/// Rows in a chunk: as many chunks as the aim asks for, all of about one size.
fn chunk_rows(n: usize, vocab_size: usize) -> usize {
    let chunks = (n * vocab_size).div_ceil(CHUNK_ELEMENTS).max(1);
    n.div_ceil(chunks).max(1)
}

impl Head<'_> {
    fn vocab_size(&self) -> usize {
        self.wte.len() / self.n_embd
    }

    /// Writes the logits of `rows` rows of `x` to `out` `[rows, V]`.
    fn logits(&self, x: &[f32], rows: usize, out: &mut [f32], threads: usize) {
        let (c, v) = (self.n_embd, self.vocab_size());
        let x = Matrix::new(x, rows, c);
        for (first, wte) in (0..v).step_by(VOCAB_BLOCK).zip(self.wte.chunks(VOCAB_BLOCK * c)) {
            let wte = Matrix::new(wte, wte.len() / c, c);
            let out = MatrixMut::with_row_stride(&mut out[first..], rows, wte.rows(), v);
            gemm(out, x, wte.t(), Store::Overwrite, threads);
        }
    }
}

/// The sum of the losses of the learned rows, in nats.
///
/// # Panics
/// If a target is neither below V nor ignored, or `scratch` is shorter than [`scratch_len`] says.
pub fn loss(head: Head<'_>, scratch: &mut [f32], threads: usize) -> f64 {
    let chunk = chunk_rows(head.targets.len(), head.vocab_size());
    match Learned::of(head.x, head.targets, head.n_embd) {
        None => loss_in_chunks(head, chunk, scratch, threads),
        Some(Learned { x, targets, .. }) => {
            loss_in_chunks(Head { x: &x, targets: &targets, ..head }, chunk, scratch, threads)
        }
    }
}

/// [`loss`] if all rows are learned, `chunk` rows at a time.
fn loss_in_chunks(head: Head<'_>, chunk: usize, scratch: &mut [f32], threads: usize) -> f64 {
    let (c, v) = (head.n_embd, head.vocab_size());
    let mut total = 0.0;
    for (x, targets) in head.x.chunks(chunk * c).zip(head.targets.chunks(chunk)) {
        let logits = &mut scratch[..targets.len() * v];
        head.logits(x, targets.len(), logits, threads);
        let each = rows_per_thread(targets.len(), threads);
        total += sum_in_order(
            logits
                .par_chunks(each * v)
                .zip(targets.par_chunks(each))
                .map(|(logits, targets)| loss_rows(logits, targets)),
        );
    }
    total
}

/// Returns the sum of the losses as [`loss`] does, writes `dx`, and writes or adds to `dwte`.
///
/// `dlogits = scale · (softmax − one-hot)`, so `scale` is the factor of the *sum* of losses: for a
/// mean over N learned rows, 1/N. `dx ← dlogits · wte` `[N, C]`, `dwte ← dlogitsᵀ · x` or `dwte += dlogitsᵀ · x` `[V, C]`.
/// Of a row that is not learned, `dlogits` is 0.
///
/// # Panics
/// If a target is neither below V nor ignored, or `scratch` is shorter than [`scratch_len`] says.
pub fn backward(
    head: Head<'_>,
    scale: f32,
    scratch: &mut [f32],
    dx: &mut [f32],
    (dwte, store): (&mut [f32], Store),
    threads: usize,
) -> f64 {
    let chunk = chunk_rows(head.targets.len(), head.vocab_size());
    let Some(learned) = Learned::of(head.x, head.targets, head.n_embd) else {
        return backward_in_chunks(head, chunk, scale, scratch, dx, (dwte, store), threads);
    };
    if learned.targets.is_empty() {
        if store == Store::Overwrite {
            dwte.fill(0.0);
        }
        dx.fill(0.0);
        return 0.0;
    }
    let head = Head { x: &learned.x, targets: &learned.targets, ..head };
    let first = &mut dx[..learned.x.len()];
    let total = backward_in_chunks(head, chunk, scale, scratch, first, (dwte, store), threads);
    learned.scatter(dx, head.n_embd);
    total
}

/// [`backward`] if all rows are learned, `chunk` rows at a time.
fn backward_in_chunks(
    head: Head<'_>,
    chunk: usize,
    scale: f32,
    scratch: &mut [f32],
    dx: &mut [f32],
    (dwte, store): (&mut [f32], Store),
    threads: usize,
) -> f64 {
    let inputs = head.x.chunks(chunk * head.n_embd).zip(head.targets.chunks(chunk));
    let chunks = inputs.zip(dx.chunks_mut(chunk * head.n_embd));
    chunks
        .enumerate()
        .map(|(i, ((x, targets), dx))| {
            let store = if i == 0 { store } else { Store::Accumulate };
            backward_chunk(Head { x, targets, ..head }, scale, scratch, dx, (dwte, store), threads)
        })
        .sum()
}

/// [`backward`] for the rows of one chunk.
fn backward_chunk(
    head: Head<'_>,
    scale: f32,
    scratch: &mut [f32],
    dx: &mut [f32],
    (dwte, store): (&mut [f32], Store),
    threads: usize,
) -> f64 {
    let (rows, c, v) = (head.targets.len(), head.n_embd, head.vocab_size());
    let logits = &mut scratch[..rows * v];
    head.logits(head.x, rows, logits, threads);
    let each = rows_per_thread(rows, threads);
    let parts = logits.par_chunks_mut(each * v).zip(head.targets.par_chunks(each));
    let total =
        sum_in_order(parts.map(|(logits, targets)| loss_and_gradient_rows(logits, targets, scale)));
    let (dlogits, wte) = (Matrix::new(logits, rows, v), Matrix::new(head.wte, v, c));
    gemm(MatrixMut::new(dx, rows, c), dlogits, wte, Store::Overwrite, threads);
    let x = Matrix::new(head.x, rows, c);
    for (first, dwte) in (0..v).step_by(VOCAB_BLOCK).zip(dwte.chunks_mut(VOCAB_BLOCK * c)) {
        let block = dwte.len() / c;
        let dlogits = Matrix::with_row_stride(&logits[first..], rows, block, v);
        gemm(MatrixMut::new(dwte, block, c), dlogits.t(), x, store, threads);
    }
    total
}

/// Adds up in the order of the parts, whichever finished first.
fn sum_in_order(parts: impl IndexedParallelIterator<Item = f64>) -> f64 {
    parts.collect::<Vec<f64>>().iter().sum()
}

/// `max` and `Σ exp(logit − max)` of a row.
#[inline(always)]
fn max_and_sum<V: Vector>(row: &[f32]) -> (f32, f32) {
    let mut largest = V::splat(f32::NEG_INFINITY);
    for x in row.chunks(V::LANES) {
        largest = largest.max(V::load_or(x, f32::NEG_INFINITY));
    }
    let max = largest.largest();
    let m = V::splat(max);
    let mut sum = V::zero();
    for x in row.chunks(V::LANES) {
        sum = sum + exp(V::load_or(x, f32::NEG_INFINITY) - m);
    }
    (max, sum.sum())
}

#[inline(always)]
fn loss_kernel<V: Vector>(logits: &[f32], targets: &[u32]) -> f64 {
    let mut total = 0.0;
    for (row, &target) in logits.chunks_exact(logits.len() / targets.len()).zip(targets) {
        let (max, sum) = max_and_sum::<V>(row);
        total += f64::from(sum).ln() + f64::from(max) - f64::from(row[target as usize]);
    }
    total
}

#[inline(always)]
fn loss_and_gradient_kernel<V: Vector>(logits: &mut [f32], targets: &[u32], scale: f32) -> f64 {
    let mut total = 0.0;
    let v = logits.len() / targets.len();
    for (row, &target) in logits.chunks_exact_mut(v).zip(targets) {
        let target = target as usize;
        let mut largest = V::splat(f32::NEG_INFINITY);
        for x in row.chunks(V::LANES) {
            largest = largest.max(V::load_or(x, f32::NEG_INFINITY));
        }
        let max = largest.largest();
        let target_logit = row[target];
        let m = V::splat(max);
        let mut sum = V::zero();
        for x in row.chunks_mut(V::LANES) {
            let e = exp(V::load_or(x, f32::NEG_INFINITY) - m);
            sum = sum + e;
            e.store(x);
        }
        let sum = sum.sum();
        total += f64::from(sum).ln() + f64::from(max) - f64::from(target_logit);
        let factor = V::splat(scale / sum);
        for x in row.chunks_mut(V::LANES) {
            (V::load(x) * factor).store(x);
        }
        row[target] -= scale;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::IGNORED_TARGET;
    use crate::testing::{assert_close, assert_gradient, at_every_level, noise};

    /// The definition, term by term in `f64`; the sum of the losses times `scale`.
    fn naive(x: &[f32], wte: &[f32], targets: &[u32], c: usize, scale: f64) -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let row = |(x, &target): (&[f32], &u32)| {
            let logits: Vec<f64> = wte.chunks(c).map(|w| dot(x, w)).collect();
            logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[target as usize]
        };
        x.chunks(c).zip(targets).map(row).sum::<f64>() * scale
    }

    #[test]
    fn loss_and_gradients_equal_the_definition() {
        at_every_level(|level| {
            for (n, c, v, threads) in [(1, 1, 2, 1), (5, 7, 3, 1), (4, 8, 33, 2), (7, 3, 40, 3)] {
                let what = format!("{level:?} N {n} C {c} V {v}");
                let (x, wte) = (noise(n * c, 1), noise(v * c, 2));
                let targets: Vec<u32> = (0..n).map(|i| (i * 5 % v) as u32).collect();
                let head = Head { x: &x, wte: &wte, targets: &targets, n_embd: c };
                let mut scratch = vec![0.0; scratch_len(n, v)];
                let expected = naive(&x, &wte, &targets, c, 1.0);
                let got = loss(head, &mut scratch, threads);
                assert!((got - expected).abs() < 1e-5 * expected, "{what}: {got} {expected}");

                let (mut dx, mut dwte) = (vec![f32::NAN; n * c], vec![f32::NAN; v * c]);
                let got = backward(
                    head,
                    0.5,
                    &mut scratch,
                    &mut dx,
                    (&mut dwte, Store::Overwrite),
                    threads,
                );
                assert!((got - expected).abs() < 1e-5 * expected, "{what}: {got} {expected}");
                assert_gradient(&x, &dx, 2e-3, &what, |x| naive(x, &wte, &targets, c, 0.5));
                assert_gradient(&wte, &dwte, 2e-3, &what, |w| naive(&x, w, &targets, c, 0.5));
            }
        });
    }

    #[test]
    fn rows_that_are_not_learned_have_no_loss_and_no_gradient() {
        let (n, c, v) = (9, 7, 40);
        let (x, wte) = (noise(n * c, 1), noise(v * c, 2));
        for ignored in
            [&[0][..], &[8], &[2, 3, 4], &[0, 1, 2, 4, 6, 7, 8], &[0, 1, 2, 3, 4, 5, 6, 7, 8]]
        {
            let mut targets: Vec<u32> = (0..n).map(|i| (i * 5 % v) as u32).collect();
            ignored.iter().for_each(|row: &usize| targets[*row] = IGNORED_TARGET);
            let learned = |x: &[f32]| {
                let rows = (0..n).filter(|row| !ignored.contains(row));
                let x: Vec<f32> = rows.clone().flat_map(|row| x[row * c..][..c].to_vec()).collect();
                (x, rows.map(|row| targets[row]).collect::<Vec<u32>>())
            };
            let expected = |x: &[f32], wte: &[f32], scale| {
                let (x, targets) = learned(x);
                naive(&x, wte, &targets, c, scale)
            };
            let what = format!("without {ignored:?}");
            let head = Head { x: &x, wte: &wte, targets: &targets, n_embd: c };
            let mut scratch = vec![0.0; scratch_len(n, v)];
            let sum = expected(&x, &wte, 1.0);
            let found = loss(head, &mut scratch, 2);
            assert!((found - sum).abs() <= 1e-5 * sum, "{what}: {found} {sum}");
            let (mut dx, mut dwte) = (vec![f32::NAN; n * c], vec![f32::NAN; v * c]);
            let into = (&mut dwte[..], Store::Overwrite);
            let found = backward(head, 0.5, &mut scratch, &mut dx, into, 2);
            assert!((found - sum).abs() <= 1e-5 * sum, "{what}: {found} {sum}");
            assert_gradient(&x, &dx, 2e-3, &what, |x| expected(x, &wte, 0.5));
            assert_gradient(&wte, &dwte, 2e-3, &what, |wte| expected(&x, wte, 0.5));
            for row in ignored {
                assert_eq!(dx[row * c..][..c], vec![0.0; c], "{what}: dx of row {row}");
            }
            let once = dwte.clone();
            let into = (&mut dwte[..], Store::Accumulate);
            backward(head, 0.5, &mut scratch, &mut dx, into, 2);
            let twice: Vec<f32> = once.iter().map(|x| 2.0 * x).collect();
            assert_close(&dwte, &twice, 1e-6, &what);
        }
    }

    #[test]
    fn chunks_cover_the_rows_evenly_and_change_nothing() {
        assert_eq!(chunk_rows(2048, 30_000), 512, "4 chunks of 61 MB");
        assert_eq!(chunk_rows(7, CHUNK_ELEMENTS / 3), 3, "7 rows in chunks of 3, 3 and 1");
        assert_eq!(chunk_rows(768, 65), 768, "a small vocabulary goes at once");
        let (n, c, v) = (7, 5, 40);
        let (x, wte) = (noise(n * c, 1), noise(v * c, 2));
        let targets = [0, 1, 2, 3, 4, 5, 39];
        let mut scratch = vec![0.0; scratch_len(n, v)];
        let mut run = |chunk: usize| {
            let (mut loss, mut dx, mut dwte) = (0.0, Vec::new(), vec![0.0; v * c]);
            for (x, targets) in x.chunks(chunk * c).zip(targets.chunks(chunk)) {
                let head = Head { x, wte: &wte, targets, n_embd: c };
                let mut part = vec![0.0; x.len()];
                loss += backward_chunk(
                    head,
                    1.0,
                    &mut scratch,
                    &mut part,
                    (&mut dwte, Store::Accumulate),
                    1,
                );
                dx.extend(part);
            }
            (loss, dx, dwte)
        };
        let (whole, parts) = (run(7), run(3));
        assert!((whole.0 - parts.0).abs() < 1e-6 * whole.0, "{} {}", whole.0, parts.0);
        assert_close(&whole.1, &parts.1, 1e-6, "dx");
        assert_close(&whole.2, &parts.2, 1e-6, "dwte");
    }

    #[test]
    fn a_vocabulary_of_several_blocks_is_one_softmax() {
        let (n, c, v) = (3, 2, 2 * VOCAB_BLOCK + 5);
        let (x, wte) = (noise(n * c, 1), noise(v * c, 2));
        let targets = [7, VOCAB_BLOCK as u32, v as u32 - 1];
        let head = Head { x: &x, wte: &wte, targets: &targets, n_embd: c };
        let mut scratch = vec![0.0; scratch_len(n, v)];
        let (mut dx, mut dwte) = (vec![0.0; n * c], vec![1.0; v * c]);
        let got = backward(head, 100.0, &mut scratch, &mut dx, (&mut dwte, Store::Accumulate), 2);
        let expected = naive(&x, &wte, &targets, c, 1.0);
        assert!((got - expected).abs() < 1e-6 * expected, "{got}, expected {expected}");

        let logit = |n: usize, v: usize| (0..c).map(|j| x[n * c + j] * wte[v * c + j]).sum::<f32>();
        let (mut want_dx, mut want_dwte) = (vec![0.0; n * c], vec![1.0; v * c]);
        for (row, &target) in targets.iter().enumerate() {
            let sum: f32 = (0..v).map(|v| logit(row, v).exp()).sum();
            for (i, j) in (0..v).flat_map(|i| (0..c).map(move |j| (i, j))) {
                let dlogit = 100.0 * (logit(row, i).exp() / sum - f32::from(i == target as usize));
                want_dx[row * c + j] += dlogit * wte[i * c + j];
                want_dwte[i * c + j] += dlogit * x[row * c + j];
            }
        }
        assert_close(&dx, &want_dx, 1e-4, "dx");
        assert_close(&dwte, &want_dwte, 1e-5, "dwte");
    }

    #[test]
    fn a_nan_in_the_input_shows_in_the_loss() {
        let head = Head { x: &[f32::NAN], wte: &[1.0, 2.0, 3.0], targets: &[1], n_embd: 1 };
        assert!(loss(head, &mut [0.0; 3], 1).is_nan());
    }
}
