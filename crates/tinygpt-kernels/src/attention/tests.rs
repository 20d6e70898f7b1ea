//! Attention against its definition, and its gradient against finite differences.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::dropout::Dropout;
use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

/// The definition, in `f64`, with the whole matrix of probabilities.
fn naive(qkv: &[f32], shape: Shape, dropout: Option<Dropout>) -> Vec<f32> {
    let (t, d, c) = (shape.time, shape.head_dim, shape.channels());
    let mut out = vec![0.0; shape.batch * t * c];
    for (b, h) in (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h))) {
        let at = |part: usize, t_idx: usize, j: usize| {
            f64::from(qkv[(b * t + t_idx) * 3 * c + part * c + h * d + j])
        };
        for i in 0..t {
            let score = |k: usize| {
                (0..d).map(|j| at(0, i, j) * at(1, k, j)).sum::<f64>() / (d as f64).sqrt()
            };
            let weights: Vec<f64> = (0..=i).map(|k| score(k).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (k, weight) in weights.iter().enumerate() {
                let factor = match dropout {
                    Some(m) if m.keeps((b * shape.heads + h) * t + i, k as u32) => m.scale().into(),
                    Some(_) => 0.0,
                    None => 1.0,
                };
                for j in 0..d {
                    let value = weight / total * factor * at(2, k, j);
                    out[(b * t + i) * c + h * d + j] += value as f32;
                }
            }
        }
    }
    out
}

fn run(
    qkv: &[f32],
    shape: Shape,
    dropout: Option<Dropout>,
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    let rows = shape.batch * shape.time;
    let mut out = vec![f32::NAN; rows * shape.channels()];
    let mut lse = vec![f32::NAN; rows * shape.heads];
    forward(qkv, shape, dropout, &mut out, &mut lse, threads);
    (out, lse)
}

fn shape(batch: usize, time: usize, heads: usize, head_dim: usize) -> Shape {
    Shape { batch, time, heads, head_dim }
}

#[test]
fn forward_equals_the_definition() {
    at_every_level(|level| {
        for (s, threads) in [
            (shape(1, 1, 1, 1), 1),
            (shape(2, 5, 3, 7), 2),
            (shape(3, 49, 2, 16), 2),
            (shape(1, 131, 2, 33), 1),
            (shape(2, 96, 1, 64), 3),
        ] {
            for dropout in [None, Dropout::new(0.3, 4)] {
                let qkv = noise(s.batch * s.time * 3 * s.channels(), 1);
                let (out, _) = run(&qkv, s, dropout, threads);
                assert_close(&out, &naive(&qkv, s, dropout), 1e-5, &format!("{level:?} {s:?}"));
            }
        }
    });
}

#[test]
fn backward_is_the_derivative() {
    at_every_level(|level| {
        for (s, threads) in
            [(shape(2, 5, 2, 3), 2), (shape(1, 19, 1, 9), 1), (shape(1, 50, 1, 4), 1)]
        {
            for dropout in [None, Dropout::new(0.3, 4)] {
                let rows = s.batch * s.time;
                let qkv = noise(rows * 3 * s.channels(), 1);
                let weights = noise(rows * s.channels(), 2);
                let (out, lse) = run(&qkv, s, dropout, threads);
                let mut dqkv = vec![f32::NAN; qkv.len()];
                let given = Gradient { qkv: &qkv, out: &out, lse: &lse, dout: &weights };
                backward(given, s, dropout, &mut dqkv, threads);
                let what = format!("{level:?} {s:?} {dropout:?}");
                assert_gradient(&qkv, &dqkv, 2e-3, &what, |qkv| {
                    weighted_sum(&naive(qkv, s, dropout), &weights)
                });
            }
        }
    });
}

#[test]
fn large_scores_do_not_overflow_and_the_future_is_never_read() {
    at_every_level(|level| {
        let s = shape(1, 60, 1, 8);
        let mut qkv: Vec<f32> = noise(60 * 24, 1).iter().map(|x| 60.0 * x).collect();
        let (before, _) = run(&qkv, s, None, 1);
        assert!(before.iter().all(|x| x.is_finite()), "{level:?}");
        qkv[30 * 24..].iter_mut().for_each(|x| *x = 900.0 - *x);
        let (after, _) = run(&qkv, s, None, 1);
        assert!(before[..30 * 8] == after[..30 * 8], "{level:?}: rows before position 30 moved");
        assert!(before[30 * 8..] != after[30 * 8..], "{level:?}: later rows must move");
    });
}

#[test]
fn part_of_a_batch_with_skipped_rows_equals_the_whole() {
    at_every_level(|level| {
        let dropout = Dropout::new(0.5, 8);
        let qkv = noise(3 * 20 * 48, 5);
        let (whole, _) = run(&qkv, shape(3, 20, 2, 8), dropout, 1);
        let skipped = dropout.map(|d| d.skip_rows(2 * 20));
        let (part, _) = run(&qkv[20 * 48..], shape(2, 20, 2, 8), skipped, 1);
        assert!(whole[20 * 16..] == part[..], "{level:?}");
    });
}
