//! Products: every layout of a GPT step against a product written out.

use tinygpt_cuda::{Compute, CudaError, Dtype, Epilogue, Gpu, Matmul, MatmulSpec, Operand, View};

use crate::{gpu, numbers};

fn operand(dtype: Dtype, transpose: bool, ld: usize) -> Operand {
    Operand { dtype, transpose, ld }
}

/// bf16, rounded to nearest even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// TF32: 10 bits of mantissa, rounded to nearest, ties away from zero.
fn to_tf32(x: f32) -> f32 {
    f32::from_bits((x.to_bits() + 0x1000) & !0x1fff)
}

/// Uploads values in a type and returns them as they are there.
fn upload(gpu: &Gpu, view: View, dtype: Dtype, values: &[f32]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => {
            gpu.upload(view, values).unwrap();
            values.to_vec()
        }
        Dtype::Bf16 => {
            let bits: Vec<u16> = values.iter().map(|&x| to_bf16(x)).collect();
            gpu.upload(view, &bits).unwrap();
            bits.into_iter().map(from_bf16).collect()
        }
    }
}

fn download(gpu: &Gpu, view: View, dtype: Dtype, n: usize) -> Vec<f32> {
    match dtype {
        Dtype::F32 => {
            let mut values = vec![0.0; n];
            gpu.download(view, &mut values).unwrap();
            values
        }
        Dtype::Bf16 => {
            let mut bits = vec![0u16; n];
            gpu.download(view, &mut bits).unwrap();
            bits.into_iter().map(from_bf16).collect()
        }
    }
}

/// Runs a product and compares every element, the space between rows of D included.
fn check(gpu: &Gpu, spec: &MatmulSpec) {
    let [a_bytes, b_bytes, d_bytes] = spec.bytes();
    let buffers = [a_bytes, b_bytes, d_bytes, spec.n * 4].map(|bytes| gpu.alloc(bytes).unwrap());
    let [a, b, d, bias] = [0, 1, 2, 3].map(|i| buffers[i].view());
    let fill = |view: View, dtype: Dtype, seed| {
        let n = view.bytes() / dtype.bytes();
        upload(gpu, view, dtype, &numbers(n, seed))
    };
    let a_values = fill(a, spec.a.dtype, 1);
    let b_values = fill(b, spec.b.dtype, 2);
    let d_before = fill(d, spec.d.dtype, 3);
    let bias_values = fill(bias.slice(0..spec.n * spec.d.dtype.bytes()), spec.d.dtype, 4);
    let has_bias = spec.epilogue == Epilogue::Bias;

    let plan = Matmul::plan(gpu, spec).unwrap();
    // SAFETY: the views are live, of the lengths of the spec, and apart.
    unsafe { plan.run(a, b, d, has_bias.then_some(bias)) }.unwrap();
    let d_after = download(gpu, d, spec.d.dtype, d_before.len());

    let at = |values: &[f32], operand: Operand, row: usize, column: usize| {
        let (row, column) = if operand.transpose { (column, row) } else { (row, column) };
        let value = values[row * operand.ld + column];
        f64::from(if spec.compute == Compute::Tf32 { to_tf32(value) } else { value })
    };
    // Rounding of a sum of k products in f32, and of the result.
    // A GPU may cut operands to TF32 instead of rounding them.
    let is_cut = crate::is_real() && spec.compute == Compute::Tf32;
    let tolerance = 1e-6 * spec.k as f64
        + if is_cut { (spec.k as f64).sqrt() / 256.0 } else { 0.0 }
        + if spec.d.dtype == Dtype::Bf16 { (spec.k as f64).sqrt() / 128.0 } else { 0.0 };
    for (i, (&before, &after)) in d_before.iter().zip(&d_after).enumerate() {
        let (row, column) = (i / spec.d.ld, i % spec.d.ld);
        if column >= spec.n {
            assert_eq!(before.to_bits(), after.to_bits(), "between rows: {spec}");
            continue;
        }
        let mut expected: f64 = (0..spec.k)
            .map(|k| at(&a_values, spec.a, row, k) * at(&b_values, spec.b, k, column))
            .sum();
        expected += if spec.accumulate { f64::from(before) } else { 0.0 };
        expected += if has_bias { f64::from(bias_values[column]) } else { 0.0 };
        let error = (expected - f64::from(after)).abs();
        assert!(error <= tolerance, "[{row}, {column}] {after} and not {expected}: {spec}");
    }
}

/// N rows, C in, M out, V vocabulary of a small model; leading dimensions larger than rows where the step
/// has such.
fn layouts(act: Dtype, compute: Compute) -> Vec<MatmulSpec> {
    use Dtype::F32;
    let (n, c, m, v, padded) = (24, 16, 48, 40, 48);
    let base = MatmulSpec {
        m: n,
        n: m,
        k: c,
        a: operand(act, false, c),
        b: operand(act, false, m),
        d: operand(act, false, m),
        accumulate: false,
        compute,
        epilogue: Epilogue::None,
    };
    let mut specs = vec![
        // Y [N, M] = X [N, C] W [C, M] + bias
        base,
        MatmulSpec { epilogue: Epilogue::Bias, ..base },
        // dX [N, C] = dY [N, M] Wᵀ
        MatmulSpec {
            n: c,
            k: m,
            a: operand(act, false, m),
            b: operand(act, true, m),
            d: operand(act, false, c),
            ..base
        },
        // logits [N, V] = X [N, C] wteᵀ, rows of Vp
        MatmulSpec { n: v, b: operand(act, true, c), d: operand(act, false, padded), ..base },
        // dX [N, C] = dlogits [N, Vp] wte
        MatmulSpec {
            n: c,
            k: v,
            a: operand(act, false, padded),
            b: operand(act, false, c),
            d: operand(act, false, c),
            ..base
        },
    ];
    for accumulate in [false, true] {
        // dW [C, M] (+)= Xᵀ dY, in f32
        specs.push(MatmulSpec {
            m: c,
            n: m,
            k: n,
            a: operand(act, true, c),
            b: operand(act, false, m),
            d: operand(F32, false, m),
            accumulate,
            ..base
        });
        // dwte [V, C] (+)= dlogitsᵀ X, in f32
        specs.push(MatmulSpec {
            m: v,
            n: c,
            k: n,
            a: operand(act, true, padded),
            b: operand(act, false, c),
            d: operand(F32, false, c),
            accumulate,
            ..base
        });
    }
    specs
}

#[test]
fn every_layout_of_a_step_is_right() {
    let Some(gpu) = gpu() else { return };
    let types =
        [(Dtype::F32, Compute::F32), (Dtype::F32, Compute::Tf32), (Dtype::Bf16, Compute::F32)];
    for (act, compute) in types {
        for spec in layouts(act, compute) {
            check(&gpu, &spec);
        }
    }
}

#[test]
fn a_plan_is_reproducible_and_runs_again_with_another_bias() {
    let Some(gpu) = gpu() else { return };
    let spec = layouts(Dtype::F32, Compute::F32)[1];
    let plans = [Matmul::plan(&gpu, &spec).unwrap(), Matmul::plan(&gpu, &spec).unwrap()];
    assert_eq!(plans[0].algorithm(), plans[1].algorithm());
    let [a_bytes, b_bytes, d_bytes] = spec.bytes();
    let buffers = [a_bytes, b_bytes, d_bytes, 256, 256].map(|bytes| gpu.alloc(bytes).unwrap());
    for buffer in &buffers {
        gpu.zero(buffer.view()).unwrap();
    }
    let [a, b, d, ones, twos] = [0, 1, 2, 3, 4].map(|i| buffers[i].view());
    gpu.upload(ones, &[1.0f32; 48]).unwrap();
    gpu.upload(twos, &[2.0f32; 48]).unwrap();
    for (bias, value) in [(ones, 1.0), (twos, 2.0), (ones, 1.0)] {
        // SAFETY: as in `check`.
        unsafe { plans[0].run(a, b, d, Some(bias)) }.unwrap();
        let back = download(&gpu, d, Dtype::F32, 24 * 48);
        assert!(back.iter().all(|&x| x == value));
    }
}

#[test]
#[should_panic(expected = "of 1536 bytes: D [24, 48]")]
fn a_short_view_panics_before_the_launch() {
    let Some(gpu) = gpu() else { panic!("of 1536 bytes: D [24, 48]: skipped") };
    let plan = Matmul::plan(&gpu, &layouts(Dtype::F32, Compute::F32)[0]).unwrap();
    let view = gpu.alloc(1024).unwrap();
    // SAFETY: not reached: the lengths are checked first.
    let _ = unsafe { plan.run(view.view(), view.view(), view.view(), None) };
}

#[test]
fn a_product_that_cublas_refuses_is_an_error_with_its_shape() {
    if crate::emulator().is_none() {
        return;
    }
    let gpu = gpu().unwrap();
    // CUBLAS_STATUS_NOT_SUPPORTED.
    tinygpt_cuda_emulator::fail("cublasLtMatmulAlgoGetHeuristic:1:15");
    let error = Matmul::plan(&gpu, &layouts(Dtype::Bf16, Compute::F32)[0]);
    tinygpt_cuda_emulator::fail("");
    let error = error.expect_err("refused");
    assert!(matches!(error, CudaError::NoAlgorithm { .. }), "{error:?}");
    assert!(error.to_string().contains("D [24, 48] (Bf16 ld 48) = A [24, 16]"), "{error}");
}
