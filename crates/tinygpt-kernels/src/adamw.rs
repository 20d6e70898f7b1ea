//! AdamW in one pass over memory.
//!
//! The update is bound by memory: per parameter it reads weight, gradient and two moments and
//! writes three of them back, 28 bytes. Gradient clipping is a factor folded into the same pass,
//! so no clipped gradient is ever written.

use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

/// The scalars of one update, equal for all parameters of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate η of this step.
    pub lr: f32,
    /// Decay β₁ of the first moment.
    pub beta1: f32,
    /// Decay β₂ of the second moment.
    pub beta2: f32,
    /// ε, added to the root of the second moment.
    pub eps: f32,
    /// Weight decay λ, decoupled; 0 for biases and layer norms.
    pub weight_decay: f32,
    /// `1 − β₁ᵗ`, t counted from 1.
    pub bias_correction1: f32,
    /// `1 − β₂ᵗ`.
    pub bias_correction2: f32,
    /// Factor on every gradient: `min(1, clip / norm)`, or 1 without clipping.
    pub grad_scale: f32,
}

dispatch!(fn update(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], s: &AdamWStep) = update_kernel);

/// Updates the weights `w` and the moments `m`, `v` with the gradient `g`.
///
/// With `g' = grad_scale · g`: `m ← β₁m + (1−β₁)g'`, `v ← β₂v + (1−β₂)g'²`,
/// `w ← w(1 − ηλ) − η · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε)`.
/// Source: Loshchilov and Hutter 2019, algorithm 2; the order of operations is PyTorch's.
///
/// # Panics
/// If the four slices differ in length.
pub fn step(
    w: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    step: &AdamWStep,
    threads: usize,
) {
    assert!(
        g.len() == w.len() && m.len() == w.len() && v.len() == w.len(),
        "AdamW needs slices of one length: weights {}, gradient {}, moments {} and {}",
        w.len(),
        g.len(),
        m.len(),
        v.len()
    );
    if threads <= 1 {
        return update(w, g, m, v, step);
    }
    // Whole cache lines per thread.
    let each = rows_per_thread(w.len().div_ceil(16), threads) * 16;
    w.par_chunks_mut(each)
        .zip(g.par_chunks(each))
        .zip(m.par_chunks_mut(each))
        .zip(v.par_chunks_mut(each))
        .for_each(|(((w, g), m), v)| update(w, g, m, v, step));
}

#[inline(always)]
fn update_kernel<V: Vector>(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], s: &AdamWStep) {
    let scale = V::splat(s.grad_scale);
    let (beta1, rest1) = (V::splat(s.beta1), V::splat(1.0 - s.beta1));
    let (beta2, rest2) = (V::splat(s.beta2), V::splat(1.0 - s.beta2));
    let shrink = V::splat(1.0 - s.lr * s.weight_decay);
    let rate = V::splat(-s.lr / s.bias_correction1);
    let root_correction = V::splat(1.0 / s.bias_correction2.sqrt());
    let eps = V::splat(s.eps);
    let lanes = V::LANES;
    for (((w, g), m), v) in
        w.chunks_mut(lanes).zip(g.chunks(lanes)).zip(m.chunks_mut(lanes)).zip(v.chunks_mut(lanes))
    {
        let gradient = V::load(g) * scale;
        let first = V::load(m).mul_add(beta1, gradient * rest1);
        let second = V::load(v).mul_add(beta2, gradient * gradient * rest2);
        first.store(m);
        second.store(v);
        let denominator = second.sqrt().mul_add(root_correction, eps);
        (V::load(w) * shrink + rate * first / denominator).store(w);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The update as its formula reads, in `f64`.
    fn naive(w: &mut f64, g: f64, m: &mut f64, v: &mut f64, s: &AdamWStep) {
        let f = f64::from;
        let g = g * f(s.grad_scale);
        *m = f(s.beta1) * *m + (1.0 - f(s.beta1)) * g;
        *v = f(s.beta2) * *v + (1.0 - f(s.beta2)) * g * g;
        *w -= f(s.lr) * f(s.weight_decay) * *w;
        let m_hat = *m / f(s.bias_correction1);
        let v_hat = *v / f(s.bias_correction2);
        *w -= f(s.lr) * m_hat / (v_hat.sqrt() + f(s.eps));
    }

    #[test]
    fn ten_steps_equal_the_formula() {
        for (len, threads) in [(1, 1), (16, 2), (37, 1), (37, 2), (1000, 3)] {
            let start: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 * 0.02 - 1.0).collect();
            let (mut w, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
            let mut w64: Vec<f64> = start.iter().map(|&x| f64::from(x)).collect();
            let (mut m64, mut v64) = (vec![0.0; len], vec![0.0; len]);
            for t in 1..=10 {
                let g: Vec<f32> =
                    (0..len).map(|i| ((i * 13 + t) % 29) as f32 * 0.1 - 1.4).collect();
                let s = AdamWStep {
                    lr: 1e-2,
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    bias_correction1: 1.0 - 0.9_f32.powi(t as i32),
                    bias_correction2: 1.0 - 0.95_f32.powi(t as i32),
                    grad_scale: 0.5,
                };
                step(&mut w, &g, &mut m, &mut v, &s, threads);
                for i in 0..len {
                    naive(&mut w64[i], f64::from(g[i]), &mut m64[i], &mut v64[i], &s);
                }
            }
            for i in 0..len {
                assert!((f64::from(w[i]) - w64[i]).abs() < 2e-6, "{len}: {} {}", w[i], w64[i]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "slices of one length")]
    fn slices_of_different_lengths_are_refused() {
        let s = AdamWStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            bias_correction1: 0.1,
            bias_correction2: 0.01,
            grad_scale: 1.0,
        };
        step(&mut [0.0; 2], &[0.0; 3], &mut [0.0; 2], &mut [0.0; 2], &s, 1);
    }
}
