//! GELU and the gradients of biases.

use crate::common::{Array, assert_close, assert_sums_close, noise, on_gpu, refusal, variant};
use tinygpt_cuda::kernels::gelu::{Gelu, GeluBackward};
use tinygpt_cuda::kernels::sums::{Sum, SumTable, Sums};
use tinygpt_cuda::{Dtype, Gpu};
use tinygpt_kernels::{bias, gelu};

const F32: Dtype = Dtype::F32;
const TYPES: [Dtype; 2] = [F32, Dtype::Bf16];
const SHAPES: [(usize, usize); 4] = [(1, 8), (19, 264), (41, 72), (5137, 8)];

/// The sum of the partial sums, added to 0.5.
fn summed(gpu: &Gpu, sum: impl FnOnce(&Array) -> Sum, columns: usize) -> Array {
    let out = Array::new(gpu, F32, &vec![0.5; columns]);
    let table = SumTable::new(gpu, &[sum(&out)]).unwrap();
    Sums::load(gpu).unwrap().run(&table, true).unwrap();
    out
}

#[test]
fn forward_equals_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for act in TYPES {
            let kernels = Gelu::load(gpu, variant(act, act, 8)).unwrap();
            for ((rows, columns), with_bias) in SHAPES.into_iter().zip([true, false, true, false]) {
                let what = format!("{act:?} [{rows}, {columns}]");
                let x: Vec<f32> = noise(rows * columns, 1, act).iter().map(|x| 8.0 * x).collect();
                let pre = Array::new(gpu, act, &x);
                let bias = noise(columns, 2, F32);
                let on_gpu = Array::new(gpu, F32, &bias);
                let out = Array::poisoned(gpu, act, rows * columns);
                let bias_view = with_bias.then(|| on_gpu.view());
                kernels.forward(pre.view(), bias_view, out.view(), (rows, columns)).unwrap();
                let expected_pre: Vec<f32> = x
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x + if with_bias { bias[i % columns] } else { 0.0 })
                    .collect();
                assert_close(&pre.read(gpu), &expected_pre, act, &format!("{what}: pre"));
                // The activation of what was stored.
                let mut stored = pre.read(gpu);
                let mut expected = vec![0.0; x.len()];
                gelu::forward(&mut stored, &vec![0.0; columns], &mut expected, 1);
                assert_close(&out.read(gpu), &expected, act, &what);
                outputs.extend([pre, out]);
            }
        }
        outputs
    });
}

#[test]
fn values_far_out_and_near_zero_equal_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for act in TYPES {
            let kernels = Gelu::load(gpu, variant(act, act, 8)).unwrap();
            let x = [-1e4, -50.0, -12.0, -4.0, -1e-30, 0.0, 12.0, 1e4];
            let pre = Array::new(gpu, act, &x);
            let (out, d) = (Array::poisoned(gpu, act, 8), Array::new(gpu, act, &[1.0; 8]));
            kernels.forward(pre.view(), None, out.view(), (1, 8)).unwrap();
            let partials = Array::poisoned(gpu, F32, Gelu::partials_len(1, 8));
            let given =
                GeluBackward { pre: pre.view(), d: d.view(), out: None, partials: partials.view() };
            kernels.backward(given, (1, 8)).unwrap();
            let mut stored = pre.read(gpu);
            let (mut expected, mut slope) = (vec![0.0; 8], vec![1.0; 8]);
            gelu::forward(&mut stored, &[0.0; 8], &mut expected, 1);
            gelu::backward(&mut stored, &mut slope, &mut [0.0; 8], 1);
            for i in 0..8 {
                let one = |got: &Array, expected: &[f32]| {
                    assert_close(
                        &got.read(gpu)[i..=i],
                        &expected[i..=i],
                        act,
                        &format!("at {}", x[i]),
                    );
                };
                // Far out, the CPU's exponential stops at e⁸⁸ and leaves a remainder where the GPU has 0.
                if x[i] > -12.0 {
                    one(&out, &expected);
                    one(&d, &slope);
                } else {
                    let all = [out.read(gpu)[i], d.read(gpu)[i], expected[i], slope[i]];
                    assert!(all.iter().all(|x| x.abs() < 1e-20), "at {}: {all:?}", x[i]);
                }
            }
            outputs.extend([out, d]);
        }
        outputs
    });
}

#[test]
fn backward_equals_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for act in TYPES {
            let kernels = Gelu::load(gpu, variant(act, act, 8)).unwrap();
            for (shape, recompute) in SHAPES.into_iter().zip([true, false, true, false]) {
                let (rows, columns) = shape;
                let what = format!("{act:?} [{rows}, {columns}]");
                let mut x: Vec<f32> =
                    noise(rows * columns, 1, act).iter().map(|x| 4.0 * x).collect();
                let mut grad = noise(rows * columns, 2, act);
                let (pre, d) = (Array::new(gpu, act, &x), Array::new(gpu, act, &grad));
                let partials = Array::poisoned(gpu, F32, Gelu::partials_len(rows, columns));
                // As in a step: the pre-activation becomes the activation.
                let given = GeluBackward {
                    pre: pre.view(),
                    d: d.view(),
                    out: recompute.then(|| pre.view()),
                    partials: partials.view(),
                };
                kernels.backward(given, shape).unwrap();
                let before = x.clone();
                let mut dbias = vec![0.5; columns];
                gelu::backward(&mut x, &mut grad, &mut dbias, 1);
                assert_close(&d.read(gpu), &grad, act, &format!("{what}: d"));
                let expected = if recompute { &x } else { &before };
                assert_close(&pre.read(gpu), expected, act, &format!("{what}: activation"));
                let out = summed(gpu, |out| Gelu::sum(partials.view(), rows, out.view()), columns);
                assert_sums_close(&out.read(gpu), &dbias, &format!("{what}: dbias"));
                outputs.extend([pre, d, out]);
            }
        }
        outputs
    });
}

#[test]
fn bias_gradients_equal_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for act in TYPES {
            let kernels = Gelu::load(gpu, variant(act, act, 8)).unwrap();
            for (rows, columns) in SHAPES {
                let grad = noise(rows * columns, 1, act);
                let d = Array::new(gpu, act, &grad);
                let partials = Array::poisoned(gpu, F32, Gelu::partials_len(rows, columns));
                kernels.bias_backward(d.view(), partials.view(), (rows, columns)).unwrap();
                let mut dbias = vec![0.5; columns];
                bias::backward(&grad, &mut dbias, 1);
                let out = summed(gpu, |out| Gelu::sum(partials.view(), rows, out.view()), columns);
                assert_sums_close(&out.read(gpu), &dbias, &format!("{act:?} [{rows}, {columns}]"));
                outputs.push(out);
            }
        }
        outputs
    });
}

#[test]
fn wrong_lengths_are_refused() {
    on_gpu(|gpu| {
        let kernels = Gelu::load(gpu, variant(F32, F32, 8)).unwrap();
        let (pre, out) = (Array::poisoned(gpu, F32, 16), Array::poisoned(gpu, F32, 8));
        let message = refusal(|| kernels.forward(pre.view(), None, out.view(), (2, 8)));
        assert!(message.contains("bytes of the activation"), "{message}");
        vec![]
    });
}
