//! The exponential, on a register at a time.

use crate::simd::Vector;

/// `exp(x)` to within 2 units in the last place; below −87.3 it stays at the smallest normal
/// number, above 88 at exp(88). A NaN stays one.
///
/// Cody–Waite reduction `x = n·ln 2 + r`, |r| ≤ ln 2 / 2, with ln 2 in two parts so that the
/// subtraction is exact, then a polynomial of degree 6 for `exp(r)` and a shift of the exponent by
/// `n`. Coefficients: the Taylor series, whose next term is below 1e-7 on that interval.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    // In this order a NaN passes through both.
    let x = V::splat(88.0).min(V::splat(-87.3).max(x));
    let n = (x * V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let mut p = V::splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, V::splat(c));
    }
    p * n.exp2_of_integer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch;
    use crate::testing::at_every_level;

    dispatch!(fn exp_row(x: &mut [f32]) = exp_row_kernel);

    #[inline(always)]
    fn exp_row_kernel<V: Vector>(x: &mut [f32]) {
        for x in x.chunks_mut(V::LANES) {
            exp(V::load(x)).store(x);
        }
    }

    #[test]
    fn exp_is_accurate_over_its_range_at_every_level() {
        let inputs: Vec<f32> = (-8700..=8790).map(|i| i as f32 * 0.01).collect();
        at_every_level(|level| {
            let mut out = inputs.clone();
            exp_row(&mut out);
            for (x, y) in inputs.iter().zip(&out) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(*y) - exact).abs() / exact;
                assert!(error < 3e-7, "{level:?}: exp({x}) = {y}, relative error {error}");
            }
            let mut far = [-1e9, f32::NEG_INFINITY, 1e9];
            exp_row(&mut far);
            let mut not_a_number = [f32::NAN];
            exp_row(&mut not_a_number);
            assert!(not_a_number[0].is_nan(), "{level:?}: a NaN must not be hidden");
            assert!(far[0] < 2e-38 && far[1] < 2e-38 && far[2].is_finite(), "{level:?} {far:?}");
        });
    }
}
