//! Every lane operation of every instruction set against plain arithmetic.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::testing::at_every_level;

dispatch!(fn lanes(x: &[f32], fill: f32, out: &mut [f32]) -> (f32, f32) = lanes_kernel);

#[inline(always)]
fn lanes_kernel<V: Vector>(x: &[f32], fill: f32, out: &mut [f32]) -> (f32, f32) {
    let x = V::load_or(x, fill);
    let y = (x.round().exp2_of_integer() + x * x).max(V::splat(0.5)).min(V::splat(30.0)).sqrt();
    y.store(out);
    let padding = (V::LANES - out.len().min(V::LANES)) as f32;
    (x.sum() - padding * fill, x.largest())
}

#[test]
fn lane_operations_at_every_length_and_level() {
    at_every_level(|level| {
        for len in 1..=16 {
            let len = if level == Level::Avx512 { len } else { len.min(8) };
            let x: Vec<f32> = (0..len).map(|i| i as f32 * 0.7 - 3.1).collect();
            let mut out = vec![f32::NAN; len];
            let (sum, largest) = lanes(&x, -4.0, &mut out);
            assert!((sum - x.iter().sum::<f32>()).abs() < 1e-4, "{level:?} {len}: sum {sum}");
            assert_eq!(largest, x[len - 1], "{level:?} {len}");
            for (x, y) in x.iter().zip(&out) {
                let plain = (x.round_ties_even().exp2() + x * x).clamp(0.5, 30.0).sqrt();
                assert!((y - plain).abs() < 1e-5, "{level:?}: f({x}) = {y}, expected {plain}");
            }
        }
    });
}
