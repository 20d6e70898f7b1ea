//! 8-bit integers as lanes of `f32`: how 8-bit weights are read into a register.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "intrinsics with a target feature")
)]
// The reasons that intrinsics may be called are those at the head of `x86.rs`.

#[cfg(target_arch = "x86_64")]
use super::{F32x8, F32x16};
use super::{F32xPortable, Vector};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A vector that can be made of bytes.
pub(crate) trait FromBytes: Vector {
    /// The first LANES of `from`, which has at least as many.
    fn from_bytes(from: &[i8]) -> Self;
}

impl FromBytes for F32xPortable {
    #[inline(always)]
    fn from_bytes(from: &[i8]) -> Self {
        let mut lanes = [0.0; Self::LANES];
        lanes.iter_mut().zip(from).for_each(|(lane, byte)| *lane = f32::from(*byte));
        Self::load(&lanes)
    }
}

#[cfg(target_arch = "x86_64")]
impl FromBytes for F32x16 {
    #[inline(always)]
    fn from_bytes(from: &[i8]) -> Self {
        let from = &from[..Self::LANES];
        // SAFETY: the CPU has AVX-512, and 16 bytes are read of a slice of 16.
        Self(unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        })
    }
}

#[cfg(target_arch = "x86_64")]
impl FromBytes for F32x8 {
    #[inline(always)]
    fn from_bytes(from: &[i8]) -> Self {
        let from = &from[..Self::LANES];
        // SAFETY: the CPU has AVX2, and 8 bytes are read of a slice of 8.
        Self(unsafe {
            let bytes = _mm_loadl_epi64(from.as_ptr().cast());
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        })
    }
}
