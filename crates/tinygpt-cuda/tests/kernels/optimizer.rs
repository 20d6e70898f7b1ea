//! Global norm, AdamW and the copy in bf16.

use crate::common::{Array, assert_close, download, noise, on_gpu, upload};
use tinygpt_cuda::kernels::optimizer::{
    AdamWArenas, AdamWNumbers, ArenaTables, Optimizer, StepResult, Tensor,
};
use tinygpt_cuda::{Buffer, Dtype, Gpu};
use tinygpt_kernels::adamw::{self, AdamWStep};

const F32: Dtype = Dtype::F32;
/// Tensors of one vector of threads, of several pieces, and of a whole piece; a gap before the last.
const TENSORS: [Tensor; 3] = [
    Tensor { start: 0, len: 64, weight_decay: 0.0 },
    Tensor { start: 64, len: 2 * 8192 + 320, weight_decay: 0.1 },
    Tensor { start: 3 * 8192, len: 8192, weight_decay: 0.25 },
];
const LEN: usize = 4 * 8192;

struct Setup {
    kernels: Optimizer,
    arena: ArenaTables,
    result: Buffer,
}

impl Setup {
    fn new(gpu: &Gpu) -> Self {
        let kernels = Optimizer::load(gpu).unwrap();
        let arena = ArenaTables::new(gpu, &TENSORS, LEN).unwrap();
        let result = upload(gpu, &[u32::MAX; size_of::<StepResult>() / 4]);
        Self { kernels, arena, result }
    }

    fn norm(&self, gpu: &Gpu, grads: &[f32], loss: Option<f64>) -> StepResult {
        let grads = Array::new(gpu, F32, grads);
        let loss = loss.map(|loss| upload(gpu, &[loss]));
        let loss = loss.as_ref().map(Buffer::view);
        self.kernels.global_norm(&self.arena, grads.view(), loss, self.result.view()).unwrap();
        download(gpu, self.result.view())[0]
    }
}

/// Gradients that are 0 outside the tensors.
fn gradients(seed: u64) -> Vec<f32> {
    let mut grads = noise(LEN, seed, F32);
    grads[2 * 8192 + 384..3 * 8192].fill(0.0);
    grads
}

#[test]
fn the_norm_is_that_of_the_trainer() {
    on_gpu(|gpu| {
        let setup = Setup::new(gpu);
        let grads = gradients(1);
        let norm = grads.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let result = setup.norm(gpu, &grads, Some(2.5));
        assert!((result.norm - norm).abs() < 1e-6 * norm, "{} {norm}", result.norm);
        assert_eq!((result.loss, result.bad_tensor()), (2.5, None));
        let result = setup.norm(gpu, &vec![0.0; LEN], None);
        assert_eq!((result.norm, result.loss, result.bad_tensor()), (0.0, 0.0, None));
        vec![]
    });
}

#[test]
fn a_gradient_that_is_not_finite_is_found_with_its_tensor() {
    on_gpu(|gpu| {
        let setup = Setup::new(gpu);
        for (at, tensor) in [(63, 0), (64, 1), (2 * 8192 + 383, 1), (LEN - 1, 2)] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut grads = gradients(2);
                grads[at] = bad;
                // A later one does not matter.
                grads[LEN - 8] = f32::NAN;
                let result = setup.norm(gpu, &grads, Some(f64::NAN));
                assert_eq!(result.bad_tensor(), Some(tensor), "at {at}");
                assert!(!result.norm.is_finite() && result.loss.is_nan());
            }
        }
        vec![]
    });
}

/// Arenas of one run.
struct Arenas {
    weights: Array,
    m: Array,
    v: Array,
    copy: Array,
}

impl Arenas {
    fn new(gpu: &Gpu) -> Self {
        let zeros = || Array::new(gpu, F32, &vec![0.0; LEN]);
        let copy = Array::new(gpu, Dtype::Bf16, &vec![0.0; LEN]);
        Self { weights: Array::new(gpu, F32, &gradients(3)), m: zeros(), v: zeros(), copy }
    }

    fn step(&self, gpu: &Gpu, setup: &Setup, grads: &[f32], numbers: AdamWNumbers, copies: bool) {
        let grads = Array::new(gpu, F32, grads);
        let numbers = upload(gpu, &[numbers]);
        let given = AdamWArenas {
            weights: self.weights.view(),
            grads: grads.view(),
            m: self.m.view(),
            v: self.v.view(),
            copy: copies.then(|| self.copy.view()),
            numbers: numbers.view(),
        };
        setup.kernels.adamw(&setup.arena, given).unwrap();
    }
}

fn numbers(t: i32) -> AdamWNumbers {
    AdamWNumbers {
        learning_rate: 1e-2 / t as f32,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        bias_correction1: 1.0 - 0.9_f32.powi(t),
        bias_correction2: 1.0 - 0.95_f32.powi(t),
        grad_scale: 0.5,
    }
}

#[test]
fn adamw_equals_the_cpu() {
    on_gpu(|gpu| {
        let (setup, arenas) = (Setup::new(gpu), Arenas::new(gpu));
        let (mut w, mut m, mut v) = (gradients(3), vec![0.0; LEN], vec![0.0; LEN]);
        for t in 1..=3 {
            let (grads, n) = (gradients(10 + t as u64), numbers(t));
            arenas.step(gpu, &setup, &grads, n, t != 2);
            for tensor in TENSORS {
                let at = tensor.start..tensor.start + tensor.len;
                let step = AdamWStep {
                    lr: n.learning_rate,
                    beta1: n.beta1,
                    beta2: n.beta2,
                    eps: n.eps,
                    weight_decay: tensor.weight_decay,
                    bias_correction1: n.bias_correction1,
                    bias_correction2: n.bias_correction2,
                    grad_scale: n.grad_scale,
                };
                let (m, v) = (&mut m[at.clone()], &mut v[at.clone()]);
                adamw::step(&mut w[at.clone()], &grads[at], m, v, &step, 1);
            }
            assert_close(&arenas.weights.read(gpu), &w, F32, &format!("weights after step {t}"));
            assert_close(&arenas.m.read(gpu), &m, F32, &format!("m after step {t}"));
            assert_close(&arenas.v.read(gpu), &v, F32, &format!("v after step {t}"));
            if t != 2 {
                assert_close(&arenas.copy.read(gpu), &w, Dtype::Bf16, "the copy in bf16");
            }
        }
        vec![arenas.weights, arenas.m, arenas.v, arenas.copy]
    });
}

#[test]
fn a_cast_rounds_to_the_nearest_bf16() {
    on_gpu(|gpu| {
        let kernels = Optimizer::load(gpu).unwrap();
        let mut values = noise(2072, 1, F32);
        // Ties to even, both ways; the largest f32, which becomes infinite; a NaN.
        let special =
            [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX, f32::NEG_INFINITY, f32::NAN, -0.0];
        values[..6].copy_from_slice(&special);
        let (from, to) = (Array::new(gpu, F32, &values), Array::poisoned(gpu, Dtype::Bf16, 2072));
        kernels.cast_to_bf16(from.view(), to.view()).unwrap();
        let got = to.read(gpu);
        assert_eq!(got[..4], [1.0, 1.015_625, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(got[4].is_nan() && got[5].to_bits() == (-0.0_f32).to_bits());
        assert_close(&got[6..], &values[6..], Dtype::Bf16, "noise");
        vec![to]
    });
}
