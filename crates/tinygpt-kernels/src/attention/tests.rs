//! Attention against its definition, and its gradient against finite differences.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::dropout::Dropout;
use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

/// The definition, in `f64`, with the whole matrix of probabilities.
fn naive(qkv: &[f32], shape: Shape, starts: Option<&[u32]>, dropout: Option<Dropout>) -> Vec<f32> {
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
            let start = starts.map_or(0, |starts| starts[b * t + i] as usize);
            let weights: Vec<f64> = (start..=i).map(|k| score(k).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (k, weight) in (start..).zip(weights) {
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
    starts: Option<&[u32]>,
    dropout: Option<Dropout>,
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    let rows = shape.batch * shape.time;
    let mut out = vec![f32::NAN; rows * shape.channels()];
    let mut lse = vec![f32::NAN; rows * shape.heads];
    forward(qkv, shape, starts, dropout, &mut out, &mut lse, threads);
    (out, lse)
}

fn shape(batch: usize, time: usize, heads: usize, head_dim: usize) -> Shape {
    Shape { batch, time, heads, head_dim }
}

/// Documents of 1, 2, 3, ... positions, cut off at the ends of sequences, other ones in each.
fn document_starts(shape: &Shape) -> Vec<u32> {
    let (mut starts, mut len) = (Vec::new(), 0);
    for sequence in 1..=shape.batch {
        let end = sequence * shape.time;
        while starts.len() < end {
            len += 1;
            let first = starts.len() % shape.time;
            starts.resize((starts.len() + len).min(end), first as u32);
        }
    }
    starts
}

fn both_dropouts(starts: &Option<Vec<u32>>) -> [(Option<&[u32]>, Option<Dropout>); 2] {
    [(starts.as_deref(), None), (starts.as_deref(), Dropout::new(0.3, 4))]
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
            let of_rows = [None, Some(document_starts(&s))];
            for (starts, dropout) in of_rows.iter().flat_map(both_dropouts) {
                let qkv = noise(s.batch * s.time * 3 * s.channels(), 1);
                let (out, _) = run(&qkv, s, starts, dropout, threads);
                assert_close(
                    &out,
                    &naive(&qkv, s, starts, dropout),
                    1e-5,
                    &format!("{level:?} {s:?}"),
                );
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
            let of_rows = [None, Some(document_starts(&s))];
            for (starts, dropout) in of_rows.iter().flat_map(both_dropouts) {
                let rows = s.batch * s.time;
                let qkv = noise(rows * 3 * s.channels(), 1);
                let weights = noise(rows * s.channels(), 2);
                let (out, lse) = run(&qkv, s, starts, dropout, threads);
                let mut dqkv = vec![f32::NAN; qkv.len()];
                let given = Gradient { qkv: &qkv, out: &out, lse: &lse, dout: &weights };
                backward(given, s, starts, dropout, &mut dqkv, threads);
                let what = format!("{level:?} {s:?} {dropout:?}");
                assert_gradient(&qkv, &dqkv, 2e-3, &what, |qkv| {
                    weighted_sum(&naive(qkv, s, starts, dropout), &weights)
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
        let (before, _) = run(&qkv, s, None, None, 1);
        assert!(before.iter().all(|x| x.is_finite()), "{level:?}");
        qkv[30 * 24..].iter_mut().for_each(|x| *x = 900.0 - *x);
        let (after, _) = run(&qkv, s, None, None, 1);
        assert!(before[..30 * 8] == after[..30 * 8], "{level:?}: rows before position 30 moved");
        assert!(before[30 * 8..] != after[30 * 8..], "{level:?}: later rows must move");
    });
}

#[test]
fn a_document_is_computed_as_if_it_were_alone() {
    at_every_level(|level| {
        let (s, c) = (shape(1, 150, 2, 16), 32);
        let qkv = noise(150 * 3 * c, 1);
        let starts: Vec<u32> = (0..150).map(|t| if t < 60 { 0 } else { 60 }).collect();
        let (out, lse) = run(&qkv, s, Some(&starts), None, 1);
        let (alone, lse_alone) = run(&qkv[60 * 3 * c..], shape(1, 90, 2, 16), None, None, 1);
        assert!(out[60 * c..] == alone[..], "{level:?}");
        assert!([&lse[60..150], &lse[210..]].concat() == lse_alone, "{level:?}");
        assert_eq!(s.flops(Some(&starts)), 2 * (60 * 61 + 90 * 91) * c);
    });
}

#[test]
fn part_of_a_batch_with_skipped_rows_equals_the_whole() {
    at_every_level(|level| {
        let dropout = Dropout::new(0.5, 8);
        let qkv = noise(3 * 20 * 48, 5);
        let (whole, _) = run(&qkv, shape(3, 20, 2, 8), None, dropout, 1);
        let skipped = dropout.map(|d| d.skip_rows(2 * 20));
        let (part, _) = run(&qkv[20 * 48..], shape(2, 20, 2, 8), None, skipped, 1);
        assert!(whole[20 * 16..] == part[..], "{level:?}");
    });
}
