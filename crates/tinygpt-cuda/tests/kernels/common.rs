//! What the tests share: a GPU, arrays on it, comparison.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tinygpt_cuda::kernels::{DropoutMask, Variant};
use tinygpt_cuda::{Buffer, Dtype, Gpu, Plain, Search, Setup, View};
use tinygpt_kernels::dropout::Dropout;

/// Runs `test` on an emulated GPU once for each order of threads, or on a real one twice, and asserts that all
/// runs return the same bits. Skips, with a line, if there is no C++ compiler.
pub(crate) fn on_gpu(test: impl Fn(&Gpu) -> Vec<Array>) {
    if env::var_os("TINYGPT_TEST_CUDA").is_some_and(|value| value == "1") {
        let gpu = Gpu::open(0).unwrap();
        let run = || -> Vec<Vec<u8>> { test(&gpu).iter().map(|array| array.bits(&gpu)).collect() };
        assert!(run() == run(), "two runs give different bits");
        return;
    }
    let Some(libraries) = tinygpt_cuda_emulator::libraries() else { return };
    let search = Search::only(&libraries);
    let gpu = Gpu::open_with(0, &Setup { search, ..Setup::default() }).unwrap();
    let mut first: Option<Vec<Vec<u8>>> = None;
    for order in ["up", "down", "shuffled:7"] {
        tinygpt_cuda_emulator::set_order(order);
        let bits = test(&gpu).iter().map(|array| array.bits(&gpu)).collect();
        if let Some(first) = &first {
            assert!(*first == bits, "threads in order `{order}` give different bits than `up`");
        } else {
            first = Some(bits);
        }
    }
}

/// The message of the panic of `launch`.
pub(crate) fn refusal<T>(launch: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(launch)).err().unwrap();
    *panic.downcast::<String>().unwrap()
}

/// Numbers in GPU memory.
pub(crate) struct Array {
    buffer: Buffer,
    dtype: Dtype,
}

impl Array {
    /// `values`, rounded to `dtype`.
    pub(crate) fn new(gpu: &Gpu, dtype: Dtype, values: &[f32]) -> Self {
        let array = Self::poisoned(gpu, dtype, values.len());
        match dtype {
            Dtype::F32 => gpu.upload(array.view(), values).unwrap(),
            Dtype::Bf16 => {
                let values: Vec<u16> = values.iter().map(|&x| to_bf16(x)).collect();
                gpu.upload(array.view(), &values).unwrap();
            }
        }
        array
    }

    /// NaN only.
    pub(crate) fn poisoned(gpu: &Gpu, dtype: Dtype, len: usize) -> Self {
        let bytes = len * dtype.bytes();
        let buffer = gpu.alloc(bytes).unwrap();
        gpu.upload(buffer.view(), &vec![0xff_u8; bytes]).unwrap();
        Self { buffer, dtype }
    }

    pub(crate) fn view(&self) -> View {
        self.buffer.view()
    }

    pub(crate) fn read(&self, gpu: &Gpu) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => download(gpu, self.view()),
            Dtype::Bf16 => {
                let values: Vec<u16> = download(gpu, self.view());
                values.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect()
            }
        }
    }

    fn bits(&self, gpu: &Gpu) -> Vec<u8> {
        download(gpu, self.view())
    }
}

/// `values` in a buffer.
pub(crate) fn upload<T: Plain>(gpu: &Gpu, values: &[T]) -> Buffer {
    let buffer = gpu.alloc(size_of_val(values)).unwrap();
    gpu.upload(buffer.view(), values).unwrap();
    buffer
}

/// All values of a view.
pub(crate) fn download<T: Plain + Default>(gpu: &Gpu, view: View) -> Vec<T> {
    let mut values = vec![T::default(); view.len_of::<T>()];
    gpu.download(view, &mut values).unwrap();
    values
}

/// The bits of the nearest bf16, ties to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// `x` rounded to `dtype`.
pub(crate) fn rounded(x: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => x,
        Dtype::Bf16 => f32::from_bits(u32::from(to_bf16(x)) << 16),
    }
}

/// `len` numbers in (−1, 1) that `dtype` represents and that depend on `seed` alone.
pub(crate) fn noise(len: usize, seed: u64, dtype: Dtype) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        rounded(((state >> 40) as f32) / 8_388_608.0 - 1.0, dtype)
    };
    (0..len).map(|_| next()).collect()
}

/// Asserts that `got`, computed in f32 and stored as `dtype`, is `expected`: within 2e-6 of the largest
/// magnitude, and in bf16 a rounding of each element besides.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], expected: &[f32], dtype: Dtype, what: &str) {
    let rounding = if dtype == Dtype::Bf16 { 1.0 / 256.0 } else { 0.0 };
    assert_within(got, expected, (2e-6, rounding), what);
}

/// As [`assert_close`] for sums of thousands of terms, which the CPU adds one after the other.
#[track_caller]
pub(crate) fn assert_sums_close(got: &[f32], expected: &[f32], what: &str) {
    assert_within(got, expected, (6e-6, 0.0), what);
}

#[track_caller]
fn assert_within(got: &[f32], expected: &[f32], (of_largest, of_each): (f32, f32), what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            (g - e).abs() <= of_largest * largest + of_each * e.abs(),
            "{what}: element {i} of {} is {g}, expected {e} (largest {largest})",
            got.len()
        );
    }
}

/// Dropout for the CPU, and the same mask on the GPU.
pub(crate) fn dropout(gpu: &Gpu, p: f32) -> (Option<Dropout>, Option<Buffer>) {
    let (key, first_row) = (0x1234_5678_9abc_def0, 1 << 33);
    let on_cpu = Dropout::new(p, key).map(|dropout| dropout.skip_rows(first_row));
    // With p = 0 a mask that drops nothing stands in memory, as in a graph that serves both.
    (on_cpu, Some(upload(gpu, &[DropoutMask::new(p, key, first_row as u64)])))
}

/// The types and widths that kernels over rows of C are tested in: one part of a vector a row, several warps
/// a row, a row that fills its vectors.
pub(crate) const VARIANTS: [Variant; 3] = [
    variant(Dtype::F32, Dtype::F32, 72),
    variant(Dtype::Bf16, Dtype::Bf16, 512),
    variant(Dtype::Bf16, Dtype::F32, 1608),
];

pub(crate) const fn variant(act: Dtype, stream: Dtype, n_embd: usize) -> Variant {
    Variant { act, stream, n_embd, vocab_size: 97 }
}
