//! Cross entropy and its gradient.

use crate::common::{Array, assert_close, download, noise, on_gpu, rounded, upload};
use tinygpt_cuda::kernels::Variant;
use tinygpt_cuda::kernels::classifier::{Classifier, Logits};
use tinygpt_cuda::{Dtype, Gpu};
use tinygpt_kernels::{IGNORED_TARGET, Store, head};

const F32: Dtype = Dtype::F32;
const SCALE: f32 = 0.5;

fn variant(act: Dtype, vocab_size: usize) -> Variant {
    Variant { act, stream: act, n_embd: 8, vocab_size }
}

/// The CPU's sum of losses and gradient of `logits` `[rows, V]`. The CPU takes a product apart: with the
/// unit matrix as its input, the table holds the logits and the gradient of the table theirs.
fn on_cpu(logits: &[f32], targets: &[u32], scale: f32) -> (f64, Vec<f32>) {
    let (n, v) = (targets.len(), logits.len() / targets.len());
    let transposed = |from: &[f32], rows: usize| -> Vec<f32> {
        let columns = from.len() / rows;
        (0..from.len()).map(|i| from[i % rows * columns + i / rows]).collect()
    };
    let x: Vec<f32> = (0..n * n).map(|i| f32::from(i % n == i / n)).collect();
    let wte = transposed(logits, n);
    let given = head::Head { x: &x, wte: &wte, targets, n_embd: n };
    let mut scratch = vec![0.0; head::scratch_len(n, v)];
    let (mut dx, mut dwte) = (vec![0.0; n * n], vec![0.0; v * n]);
    let store = (&mut dwte[..], Store::Overwrite);
    let loss = head::backward(given, scale, &mut scratch, &mut dx, store, 1);
    (loss, transposed(&dwte, v))
}

/// Logits `[rows, Vp]` with NaN in the padding.
fn padded(logits: &[f32], variant: Variant) -> Vec<f32> {
    let (v, padded) = (variant.vocab_size, variant.padded_vocab_size());
    logits
        .chunks(v)
        .flat_map(|row| row.iter().copied().chain((v..padded).map(|_| f32::NAN)))
        .collect()
}

fn check(gpu: &Gpu, variant: Variant, rows: usize) -> Vec<Array> {
    let (kernels, v) = (Classifier::load(gpu, variant).unwrap(), variant.vocab_size);
    let what = format!("{:?}, V {v}, {rows} rows", variant.act);
    let values: Vec<f32> =
        noise(rows * v, 1, F32).iter().map(|x| rounded(9.0 * x - 3.0, variant.act)).collect();
    // First, last and others.
    let mut targets: Vec<u32> = (0..rows).map(|i| [0, v - 1, v / 2][i % 3] as u32).collect();
    if let Some(target) = targets.get_mut(2) {
        *target = IGNORED_TARGET;
    }
    let logits = Array::new(gpu, variant.act, &padded(&values, variant));
    let on_gpu = upload(gpu, &targets);
    let losses = Array::poisoned(gpu, F32, rows);
    let given = Logits { logits: logits.view(), targets: on_gpu.view(), losses: losses.view() };
    let (expected_loss, expected) = on_cpu(&values, &targets, SCALE);

    let before: Vec<u8> = download(gpu, logits.view());
    kernels.loss(given, rows).unwrap();
    assert!(before == download::<u8>(gpu, logits.view()), "{what}: the loss alone changes nothing");
    let total = upload(gpu, &[f64::NAN]);
    kernels.sum_losses(losses.view(), total.view(), false).unwrap();
    kernels.sum_losses(losses.view(), total.view(), true).unwrap();
    let twice = download::<f64>(gpu, total.view())[0];
    let error = (twice / 2.0 - expected_loss).abs();
    assert!(error < 1e-6 * expected_loss, "{what}: half of {twice}, expected {expected_loss}");

    let (alone, scale) = (losses.read(gpu), upload(gpu, &[SCALE]));
    kernels.loss_and_gradient(given, scale.view(), rows).unwrap();
    assert_eq!(losses.read(gpu), alone, "{what}: the loss is the same with a gradient");
    let gradient = logits.read(gpu);
    for (row, (got, expected)) in
        gradient.chunks(variant.padded_vocab_size()).zip(expected.chunks(v)).enumerate()
    {
        assert_close(&got[..v], expected, variant.act, &format!("{what}: row {row}"));
        assert!(got[v..].iter().all(|&x| x == 0.0), "{what}: the padding of row {row} is 0");
    }
    vec![logits, losses]
}

#[test]
fn losses_and_gradients_equal_the_cpu_for_rows_in_registers() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for (act, v, rows) in [
            (F32, 97, 5),
            (Dtype::Bf16, 97, 5),
            // Columns up to the last of a vector, and several warps.
            (Dtype::Bf16, 2048, 3),
            // 1,024 threads.
            (Dtype::Bf16, 40_001, 2),
        ] {
            outputs.extend(check(gpu, variant(act, v), rows));
        }
        outputs
    });
}

#[test]
fn losses_and_gradients_equal_the_cpu_for_rows_that_are_read_twice() {
    on_gpu(|gpu| check(gpu, variant(F32, 40_001), 3));
}

#[test]
fn logits_of_minus_infinity_have_probability_0() {
    // All that one thread sees of a row, which it reads in registers or twice.
    for (act, elements) in [(Dtype::Bf16, 8), (F32, 4)] {
        let variant = variant(act, 40_001);
        on_gpu(|gpu| {
            let kernels = Classifier::load(gpu, variant).unwrap();
            let mut values = noise(variant.vocab_size, 1, act);
            let (targets, scale) = (upload(gpu, &[100_u32]), upload(gpu, &[1.0_f32]));
            let mut run = |low: f32| {
                let lowered = |(i, x): (usize, &mut f32)| {
                    if i / elements % 1024 == 0 {
                        *x = low;
                    }
                };
                values.iter_mut().enumerate().for_each(lowered);
                let logits = Array::new(gpu, act, &padded(&values, variant));
                let losses = Array::poisoned(gpu, F32, 1);
                let (logits_view, losses_view) = (logits.view(), losses.view());
                let given =
                    Logits { logits: logits_view, targets: targets.view(), losses: losses_view };
                kernels.loss_and_gradient(given, scale.view(), 1).unwrap();
                (logits, losses)
            };
            let (infinite, finite) = (run(f32::NEG_INFINITY), run(-1e30));
            assert!(infinite.0.read(gpu) == finite.0.read(gpu), "{act:?}: gradients");
            assert!(infinite.1.read(gpu) == finite.1.read(gpu), "{act:?}: losses");
            vec![infinite.0, infinite.1]
        });
    }
}

/// The losses of rows of three logits.
fn losses_of(gpu: &Gpu, rows: &[[f32; 3]], targets: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let variant = variant(F32, 3);
    let kernels = Classifier::load(gpu, variant).unwrap();
    let logits = Array::new(gpu, F32, &padded(rows.as_flattened(), variant));
    let (targets, scale) = (upload(gpu, targets), upload(gpu, &[1.0_f32]));
    let losses = Array::poisoned(gpu, F32, rows.len());
    let given = Logits { logits: logits.view(), targets: targets.view(), losses: losses.view() };
    kernels.loss_and_gradient(given, scale.view(), rows.len()).unwrap();
    let gradient = logits.read(gpu);
    let gradient = gradient.chunks(variant.padded_vocab_size()).flat_map(|row| row[..3].to_vec());
    (losses.read(gpu), gradient.collect())
}

#[test]
fn large_logits_do_not_overflow_and_a_nan_shows() {
    on_gpu(|gpu| {
        let rows =
            [[1e4, -1e4, 0.0], [-3e38, 0.0, 3e38], [f32::NAN, 1.0, 2.0], [0.0, f32::INFINITY, 0.0]];
        let (losses, gradient) = losses_of(gpu, &rows, &[1, 2, 1, 1]);
        assert_eq!(losses[..2], [2e4, 0.0]);
        assert_eq!(gradient[..6], [1.0, -1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(losses[2].is_nan() && losses[3].is_nan(), "{losses:?}");
        vec![]
    });
}

#[test]
fn the_sum_of_many_losses_is_that_of_the_cpu() {
    on_gpu(|gpu| {
        let kernels = Classifier::load(gpu, variant(F32, 3)).unwrap();
        let values = noise(1003, 1, F32);
        let losses = Array::new(gpu, F32, &values);
        let total = upload(gpu, &[f64::NAN]);
        kernels.sum_losses(losses.view(), total.view(), false).unwrap();
        let expected: f64 = values.iter().map(|&x| f64::from(x)).sum();
        let got = download::<f64>(gpu, total.view())[0];
        assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
        vec![]
    });
}
