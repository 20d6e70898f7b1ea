//! One vector type per instruction set, and the dispatch between them.
//!
//! A kernel is written once, as an `#[inline(always)]` function generic over `Vector`. The
//! `dispatch!` macro compiles it once per [`Level`] inside a function that has the instruction
//! set switched on, and calls the right one at run time. So a shipped binary needs no
//! `-C target-cpu=native`, and the kernels themselves hold no `unsafe`.
//!
//! What is not here: any kernel. This module and the matrix product are the only places of this
//! crate with `unsafe`.

mod bytes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::{Add, Div, Mul, Sub};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use bytes::FromBytes;
pub(crate) use portable::F32xPortable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{F32x8, F32x16};

/// A register full of `f32` lanes.
///
/// `load` and `store` take a slice of any length: a slice shorter than a register fills, or takes,
/// only its own lanes. A loop over a row therefore needs no tail of its own.
pub(crate) trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The same number of `u32` lanes, for the dropout hash.
    type Bits: Bits;
    /// Lanes in a register.
    const LANES: usize;
    /// Registers across a block of the matrix product: what the register file has room for.
    const TILE: usize;

    /// All lanes equal to `x`.
    fn splat(x: f32) -> Self;
    /// The first lanes of `from`; missing lanes are `fill`.
    fn load_or(from: &[f32], fill: f32) -> Self;
    /// All lanes from `from` on, without a look at how many there are.
    ///
    /// # Safety
    /// `LANES` floats must be readable at `from`.
    #[expect(unsafe_code, reason = "the innermost loop of the matrix product takes pointers")]
    unsafe fn load_from(from: *const f32) -> Self;
    /// Asks for the cache line at `at`, which will be written soon; any address will do.
    fn prefetch(at: *mut f32);
    /// Turns the square of the first LANES rows around: lane j of row i becomes lane i of row j.
    fn transpose(rows: [Self; 16]) -> [Self; 16];
    /// Writes as many lanes as `to` can hold.
    fn store(self, to: &mut [f32]);
    /// `self · factor + addend` in one rounding if the CPU can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Lane-wise maximum; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// Lane-wise minimum; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    /// Lane-wise square root.
    fn sqrt(self) -> Self;
    /// Rounds to the nearest integer; defined for |x| < 2²².
    fn round(self) -> Self;
    /// 2 to the power of each lane, which must hold integers in −126..=127.
    fn exp2_of_integer(self) -> Self;
    /// The sum of all lanes.
    fn sum(self) -> f32;
    /// The largest lane.
    fn largest(self) -> f32;
    /// Keeps the lanes whose `bits >> 8` is below `limit` (at most 2²⁴); the others become zero.
    fn keep_below(self, bits: Self::Bits, limit: u32) -> Self;

    /// Asks for the cache line at the start of `from`, which will be read soon, into the second
    /// cache: the first has no room for it yet. Does nothing on CPUs without a prefetch
    /// instruction.
    #[inline(always)]
    fn prefetch_read(_from: &[f32]) {}

    /// The first lanes of `from`; missing lanes are zero.
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self::load_or(from, 0.0)
    }

    /// All lanes zero.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
}

/// A register full of `u32` lanes: just what an integer hash needs. Arithmetic wraps.
pub(crate) trait Bits: Copy {
    /// All lanes equal to `x`.
    fn splat(x: u32) -> Self;
    /// `start, start + 1, start + 2, …`
    fn count_from(start: u32) -> Self;
    /// Lane-wise wrapping product.
    fn mul(self, other: Self) -> Self;
    /// Lane-wise exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Lane-wise logical shift to the right.
    fn shift_right<const BITS: u32>(self) -> Self;
}

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Plain Rust, left to the compiler's vectoriser; what NEON machines run.
    Portable = 1,
    /// 8 lanes: AVX2 and FMA.
    Avx2 = 2,
    /// 16 lanes: AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
}

impl Level {
    /// The best level of this machine.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            {
                let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if fma
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    return Self::Avx512;
                }
                if fma {
                    return Self::Avx2;
                }
            }
            Self::Portable
        })
    }

    /// Every level that this machine can run, the plainest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = Self::detect();
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(move |&l| l <= best)
    }

    /// The name that a run records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// The level that [`limit`] set, or 0 while nobody has.
static LIMIT: AtomicU8 = AtomicU8::new(0);

/// Holds every later kernel call of this process to at most `level`, for measurements and tests.
///
/// Only at [`Level::Portable`] do matrix products not follow: they go to the `gemm` crate, which
/// chooses for itself.
pub fn limit(level: Level) {
    LIMIT.store(level as u8, Ordering::Relaxed);
}

/// The level that kernels run at now.
pub fn level() -> Level {
    let best = Level::detect();
    match LIMIT.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => best.min(Level::Avx2),
        _ => best,
    }
}

/// Compiles a generic kernel once per instruction set and picks one at run time.
///
/// `dispatch!(pub fn name(args) -> ret = kernel)` defines `name`, which calls `kernel::<V>(args)`
/// with the vector type of the current [`level`]; `= kernel, at expression` with that of another.
macro_rules! dispatch {
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident) => {
        $crate::simd::dispatch!($(#[$attr])* $vis fn $name($($arg: $ty),*) $(-> $ret)? = $kernel, at $crate::simd::level());
    };
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident, at $level:expr) => {
        $(#[$attr])*
        #[allow(clippy::too_many_arguments, reason = "a kernel takes its slices and its sizes")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls of functions with a target feature")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "the same arguments again")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $kernel::<$crate::simd::F32x16>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "the same arguments again")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $kernel::<$crate::simd::F32x8>($($arg),*)
                }
                match ($level).min($crate::simd::Level::detect()) {
                    // SAFETY: this is at most the level that `Level::detect` found on this CPU.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Portable => {}
                }
            }
            $kernel::<$crate::simd::F32xPortable>($($arg),*)
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests;
