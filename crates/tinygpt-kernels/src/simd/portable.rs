//! The portable vector: an array of eight lanes and loops that the compiler vectorizes.
//!
//! On x86-64 this becomes SSE2, on aarch64 NEON. No intrinsics.

use super::{Bits, Vector};
use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

const LANES: usize = 8;

/// Eight `f32` lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct F32xPortable([f32; LANES]);

/// Eight `u32` lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct U32xPortable([u32; LANES]);

macro_rules! operator {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for F32xPortable {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(from_fn(|i| self.0[i] $op other.0[i]))
            }
        }
    };
}
operator!(Add, add, +);
operator!(Sub, sub, -);
operator!(Mul, mul, *);
operator!(Div, div, /);

/// Adding and subtracting 1.5 · 2²³ leaves the nearest integer: the sum has no fraction bits.
const ROUNDER: f32 = 12_582_912.0;

impl Vector for F32xPortable {
    type Bits = U32xPortable;
    const LANES: usize = LANES;
    const TILE: usize = 2;

    #[inline(always)]
    #[expect(unsafe_code, reason = "the trait's contract")]
    unsafe fn load_from(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of floats is aligned as a float is.
        Self(unsafe { *from.cast::<[f32; LANES]>() })
    }
    #[inline(always)]
    fn prefetch(_at: *mut f32) {}
    #[inline(always)]
    fn transpose(rows: [Self; 16]) -> [Self; 16] {
        from_fn(|i| if i < LANES { Self(from_fn(|j| rows[j].0[i])) } else { rows[i] })
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load_or(from: &[f32], fill: f32) -> Self {
        match from.first_chunk::<LANES>() {
            Some(full) => Self(*full),
            None => Self(from_fn(|i| from.get(i).copied().unwrap_or(fill))),
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        match to.first_chunk_mut::<LANES>() {
            Some(full) => *full = self.0,
            None => to.iter_mut().zip(self.0).for_each(|(to, x)| *to = x),
        }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // `f32::mul_add` would call a library function if the CPU has no FMA.
        #[cfg(target_arch = "aarch64")]
        return Self(from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i])));
        #[cfg(not(target_arch = "aarch64"))]
        Self(from_fn(|i| self.0[i] * factor.0[i] + addend.0[i]))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(from_fn(|i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(|x| (x + ROUNDER) - ROUNDER))
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        // The low mantissa bits of 1.5·2²³ + n are n; moved up by 23 they are the exponent field.
        const ONE: u32 = 127 << 23;
        Self(self.0.map(|n| f32::from_bits(((n + ROUNDER).to_bits() << 23).wrapping_add(ONE))))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
    }
    #[inline(always)]
    fn keep_below(self, bits: U32xPortable, limit: u32) -> Self {
        Self(from_fn(|i| if bits.0[i] >> 8 < limit { self.0[i] } else { 0.0 }))
    }
}

impl Bits for U32xPortable {
    #[inline(always)]
    fn splat(x: u32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn count_from(start: u32) -> Self {
        const STEPS: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];
        Self(STEPS.map(|i| start.wrapping_add(i)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i].wrapping_mul(other.0[i])))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] ^ other.0[i]))
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(self.0.map(|x| x >> BITS))
    }
}
