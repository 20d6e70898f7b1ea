//! The AVX2 and AVX-512 vectors: thin wrappers over the intrinsics.
#![expect(unsafe_code, reason = "intrinsics with a target feature")]
// Every intrinsic below is `unsafe` for two reasons only. (1) The CPU must have the feature: these
// types are crate-private and named by the `dispatch!` macro alone, inside functions that run only
// after the feature was detected. (2) Loads and stores take pointers: each comes from a slice whose
// length was compared with LANES in the same function.

use super::{Bits, Vector};
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

/// 16 `f32` lanes (AVX-512).
#[derive(Clone, Copy)]
pub(crate) struct F32x16(pub(super) __m512);
/// 16 `u32` lanes (AVX-512).
#[derive(Clone, Copy)]
pub(crate) struct U32x16(__m512i);
/// 8 `f32` lanes (AVX2).
#[derive(Clone, Copy)]
pub(crate) struct F32x8(pub(super) __m256);
/// 8 `u32` lanes (AVX2).
#[derive(Clone, Copy)]
pub(crate) struct U32x8(__m256i);

macro_rules! operators {
    ($vector:ident: $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the head of this file, (1).
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}
operators!(F32x16: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operators!(F32x8: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl Vector for F32x16 {
    type Bits = U32x16;
    const LANES: usize = 16;
    // 6 · 4 sums, 4 operands and a broadcast: 29 of 32 registers.
    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        // SAFETY: the head of this file, (1), and the caller's promise.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    fn prefetch(at: *mut f32) {
        // SAFETY: the head of this file, (1); a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn transpose(rows: [Self; 16]) -> [Self; 16] {
        transpose_16(rows)
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn prefetch_read(from: &[f32]) {
        // SAFETY: a prefetch touches no memory that a program could see, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_or(from: &[f32], fill: f32) -> Self {
        if from.len() >= Self::LANES {
            // SAFETY: the head of this file, (1) and (2).
            Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        } else {
            let mask = (1_u16 << from.len()) - 1;
            // SAFETY: (1), and a masked load touches only the lanes of its mask.
            Self(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, from.as_ptr()) })
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        if to.len() >= Self::LANES {
            // SAFETY: the head of this file, (1) and (2).
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        } else {
            let mask = (1_u16 << to.len()) - 1;
            // SAFETY: (1), and a masked store touches only the lanes of its mask.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, self.0) }
        }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(self.0));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23)))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the head of this file, (1).
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: the head of this file, (1).
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    fn keep_below(self, bits: U32x16, limit: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let limit = _mm512_set1_epi32(limit.cast_signed());
            let kept = _mm512_cmplt_epi32_mask(_mm512_srli_epi32::<8>(bits.0), limit);
            _mm512_maskz_mov_ps(kept, self.0)
        })
    }
}

impl Bits for U32x16 {
    #[inline(always)]
    fn splat(x: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_set1_epi32(x.cast_signed()) })
    }
    #[inline(always)]
    fn count_from(start: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            _mm512_add_epi32(_mm512_set1_epi32(start.cast_signed()), steps)
        })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm512_srli_epi32::<BITS>(self.0) })
    }
}

/// Turns 16 by 16 around by pairing rows at distance 1 and 2 (within 128 bits), then 4 and 8.
#[inline(always)]
fn transpose_16(mut rows: [F32x16; 16]) -> [F32x16; 16] {
    // SAFETY: the head of this file, (1).
    unsafe {
        let mut x = [_mm512_setzero_ps(); 16];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = row.0;
        }
        for i in (0..16).step_by(2) {
            let (a, b) = (x[i], x[i + 1]);
            (x[i], x[i + 1]) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        }
        // Of four rows: x[i] holds columns 0 and 1 of rows 0 and 1 in each 128 bits, x[i + 1] 2 and 3.
        for i in (0..16).step_by(4) {
            let (a, b) = (_mm512_castps_pd(x[i]), _mm512_castps_pd(x[i + 1]));
            let (c, d) = (_mm512_castps_pd(x[i + 2]), _mm512_castps_pd(x[i + 3]));
            x[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
            x[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
            x[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
            x[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
        }
        // Now x[4r + c] holds, in 128-bit lane l, rows 4r..4r+4 of column 4l + c.
        for c in 0..4 {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(x[c], x[4 + c]);
            let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(x[c], x[4 + c]);
            let low_2 = _mm512_shuffle_f32x4::<0b01_00_01_00>(x[8 + c], x[12 + c]);
            let high_2 = _mm512_shuffle_f32x4::<0b11_10_11_10>(x[8 + c], x[12 + c]);
            rows[c] = F32x16(_mm512_shuffle_f32x4::<0b10_00_10_00>(low, low_2));
            rows[4 + c] = F32x16(_mm512_shuffle_f32x4::<0b11_01_11_01>(low, low_2));
            rows[8 + c] = F32x16(_mm512_shuffle_f32x4::<0b10_00_10_00>(high, high_2));
            rows[12 + c] = F32x16(_mm512_shuffle_f32x4::<0b11_01_11_01>(high, high_2));
        }
    }
    rows
}

/// Turns the first 8 by 8 around; the other rows stay.
#[inline(always)]
fn transpose_8(mut rows: [F32x8; 16]) -> [F32x8; 16] {
    // SAFETY: the head of this file, (1).
    unsafe {
        let mut x = [_mm256_setzero_ps(); 8];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = row.0;
        }
        for i in (0..8).step_by(2) {
            let (a, b) = (x[i], x[i + 1]);
            (x[i], x[i + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        }
        for i in (0..8).step_by(4) {
            let (a, b) = (_mm256_castps_pd(x[i]), _mm256_castps_pd(x[i + 1]));
            let (c, d) = (_mm256_castps_pd(x[i + 2]), _mm256_castps_pd(x[i + 3]));
            x[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
            x[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
            x[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
            x[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
        }
        for c in 0..4 {
            let (low, high) = (x[c], x[4 + c]);
            rows[c] = F32x8(_mm256_permute2f128_ps::<0x20>(low, high));
            rows[4 + c] = F32x8(_mm256_permute2f128_ps::<0x31>(low, high));
        }
    }
    rows
}

/// The mask of AVX2's masked loads and stores for the first `n` of eight lanes.
#[inline(always)]
fn first_lanes(n: usize) -> __m256i {
    const WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &WINDOW[8 - n.min(8)..][..8];
    // SAFETY: the head of this file, (1); `mask` has eight elements.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

impl Vector for F32x8 {
    type Bits = U32x8;
    const LANES: usize = 8;
    // 6 · 2 sums, 2 operands and a broadcast: 15 of 16 registers.
    const TILE: usize = 2;

    #[inline(always)]
    unsafe fn load_from(from: *const f32) -> Self {
        // SAFETY: the head of this file, (1), and the caller's promise.
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    fn prefetch(at: *mut f32) {
        // SAFETY: the head of this file, (1); a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }
    #[inline(always)]
    fn transpose(rows: [Self; 16]) -> [Self; 16] {
        transpose_8(rows)
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn prefetch_read(from: &[f32]) {
        // SAFETY: a prefetch touches no memory that a program could see, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_or(from: &[f32], fill: f32) -> Self {
        if from.len() >= Self::LANES {
            // SAFETY: the head of this file, (1) and (2).
            Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        } else {
            let mask = first_lanes(from.len());
            // SAFETY: (1), and a masked load touches only the lanes of its mask.
            Self(unsafe {
                let lanes = _mm256_maskload_ps(from.as_ptr(), mask);
                _mm256_blendv_ps(_mm256_set1_ps(fill), lanes, _mm256_castsi256_ps(mask))
            })
        }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        if to.len() >= Self::LANES {
            // SAFETY: the head of this file, (1) and (2).
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
        } else {
            let mask = first_lanes(to.len());
            // SAFETY: (1), and a masked store touches only the lanes of its mask.
            unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), mask, self.0) }
        }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(self.0));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; 8];
        self.store(&mut lanes);
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0.0; 8];
        self.store(&mut lanes);
        lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
    }
    #[inline(always)]
    fn keep_below(self, bits: U32x8, limit: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let limit = _mm256_set1_epi32(limit.cast_signed());
            let kept = _mm256_cmpgt_epi32(limit, _mm256_srli_epi32::<8>(bits.0));
            _mm256_and_ps(self.0, _mm256_castsi256_ps(kept))
        })
    }
}

impl Bits for U32x8 {
    #[inline(always)]
    fn splat(x: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_set1_epi32(x.cast_signed()) })
    }
    #[inline(always)]
    fn count_from(start: u32) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe {
            let steps = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_add_epi32(_mm256_set1_epi32(start.cast_signed()), steps)
        })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: the head of this file, (1).
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        // SAFETY: the head of this file, (1). The shift count in a register serves any BITS.
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(BITS.cast_signed())) })
    }
}
