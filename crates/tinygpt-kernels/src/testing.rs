//! What the kernels' tests share: reproducible numbers, comparison, finite differences.

use std::sync::{Mutex, PoisonError};

/// `len` numbers in (−1, 1) that depend on `seed` alone.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Asserts that two slices agree within `tolerance` of the largest expected magnitude (or of 1).
pub(crate) fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            (g - e).abs() <= tolerance * largest,
            "{what}: element {i} is {g}, expected {e} (largest {largest})"
        );
    }
}

/// Asserts that `gradient` is the derivative of `f` at `x`, by central differences on every
/// element. `f` must return a sum in `f64`.
pub(crate) fn assert_gradient(
    x: &[f32],
    gradient: &[f32],
    tolerance: f64,
    what: &str,
    mut f: impl FnMut(&[f32]) -> f64,
) {
    const H: f32 = 1e-2;
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let at = x[i];
        x[i] = at + H;
        let (above, h_above) = (f(&x), f64::from(x[i] - at));
        x[i] = at - H;
        let (below, h_below) = (f(&x), f64::from(at - x[i]));
        x[i] = at;
        let numeric = (above - below) / (h_above + h_below);
        let error = (f64::from(gradient[i]) - numeric).abs();
        assert!(
            error <= tolerance * numeric.abs().max(1.0),
            "{what}: gradient {i} is {}, finite differences say {numeric}",
            gradient[i]
        );
    }
}

/// `Σ weight · value` in `f64`: turns a kernel's output into a scalar for [`assert_gradient`].
pub(crate) fn weighted_sum(values: &[f32], weights: &[f32]) -> f64 {
    values.iter().zip(weights).map(|(v, w)| f64::from(*v) * f64::from(*w)).sum()
}

/// Runs `check` once at every instruction set of this machine.
///
/// The level is the process's, so these checks take turns; a test that compares two runs bit for
/// bit must be inside.
pub(crate) fn at_every_level(mut check: impl FnMut(crate::simd::Level)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for level in crate::simd::Level::available() {
        crate::simd::limit(level);
        check(level);
    }
    crate::simd::limit(crate::simd::Level::detect());
}
