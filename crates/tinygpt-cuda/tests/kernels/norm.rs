//! Layer norm with the residual around it.

use crate::common::{
    Array, VARIANTS, assert_close, assert_sums_close, dropout, noise, on_gpu, variant,
};
use tinygpt_cuda::kernels::Variant;
use tinygpt_cuda::kernels::norm::{Norm, NormBackward, NormGradients, Norms, ResidualNorm};
use tinygpt_cuda::kernels::sums::{SumTable, Sums};
use tinygpt_cuda::{Buffer, Dtype, Gpu};
use tinygpt_kernels::layer_norm::{self, NormParams, Saved, Stats};
use tinygpt_kernels::residual;

const F32: Dtype = Dtype::F32;

/// The CPU's layer norm of `x`: output, mean, rstd.
pub(crate) fn on_cpu(x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> [Vec<f32>; 3] {
    let n = x.len() / weight.len();
    let (mut out, mut mean, mut rstd) = (vec![0.0; x.len()], vec![0.0; n], vec![0.0; n]);
    let stats = Stats { mean: &mut mean, rstd: &mut rstd };
    layer_norm::forward(x, NormParams { weight, bias }, &mut out, stats, 1);
    [out, mean, rstd]
}

/// What a layer norm writes.
pub(crate) struct Written {
    pub(crate) out: Array,
    pub(crate) mean: Array,
    pub(crate) rstd: Array,
}

impl Written {
    pub(crate) fn new(gpu: &Gpu, variant: Variant, rows: usize) -> Self {
        let out = Array::poisoned(gpu, variant.act, rows * variant.n_embd);
        let stat = || Array::poisoned(gpu, F32, rows);
        Self { out, mean: stat(), rstd: stat() }
    }

    #[track_caller]
    pub(crate) fn check(&self, gpu: &Gpu, expected: &[Vec<f32>; 3], variant: Variant, what: &str) {
        assert_close(&self.out.read(gpu), &expected[0], variant.act, &format!("{what}: out"));
        assert_close(&self.mean.read(gpu), &expected[1], F32, &format!("{what}: mean"));
        assert_close(&self.rstd.read(gpu), &expected[2], F32, &format!("{what}: rstd"));
    }
}

#[test]
fn forward_equals_the_cpu_far_from_zero() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let (norms, c) = (Norms::load(gpu, variant).unwrap(), variant.n_embd);
            for (rows, with_bias) in [(1, true), (13, false)] {
                let x: Vec<f32> =
                    noise(rows * c, 1, variant.stream).iter().map(|x| 4.0 * x + 8.0).collect();
                let x = Array::new(gpu, variant.stream, &x);
                let (weight, bias) = (noise(c, 2, F32), noise(c, 3, F32));
                let on_gpu = [&weight, &bias].map(|values| Array::new(gpu, F32, values));
                let written = Written::new(gpu, variant, rows);
                let norm = Norm {
                    weight: on_gpu[0].view(),
                    bias: with_bias.then(|| on_gpu[1].view()),
                    out: written.out.view(),
                    stats: Some([written.mean.view(), written.rstd.view()]),
                };
                norms.forward(x.view(), norm, rows).unwrap();
                let expected = on_cpu(&x.read(gpu), &weight, with_bias.then_some(&bias));
                written.check(gpu, &expected, variant, &format!("{variant:?}, {rows} rows"));

                let out = Array::poisoned(gpu, variant.act, rows * c);
                let norm = Norm { out: out.view(), stats: None, ..norm };
                norms.forward(x.view(), norm, rows).unwrap();
                assert_eq!(out.read(gpu), written.out.read(gpu), "statistics are optional");
                outputs.push(written.out);
            }
        }
        outputs
    });
}

#[test]
fn residual_and_norm_equal_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let (norms, c) = (Norms::load(gpu, variant).unwrap(), variant.n_embd);
            for (rows, p, with_bias) in [(1, 0.0, true), (11, 0.3, false), (9, 0.2, true)] {
                let what = format!("{variant:?}, {rows} rows, p {p}");
                let (cpu_mask, mask) = dropout(gpu, p);
                let (x, y) = (noise(rows * c, 1, variant.stream), noise(rows * c, 2, variant.act));
                let [bias, weight, shift] = [3, 4, 5].map(|seed| noise(c, seed, F32));
                let stream = Array::new(gpu, variant.stream, &x);
                let branch = Array::new(gpu, variant.act, &y);
                let params = [&bias, &weight, &shift].map(|values| Array::new(gpu, F32, values));
                let out = Array::poisoned(gpu, variant.stream, rows * c);
                let written = Written::new(gpu, variant, rows);
                let given = ResidualNorm {
                    stream: stream.view(),
                    branch: branch.view(),
                    bias: with_bias.then(|| params[0].view()),
                    mask: mask.as_ref().map(Buffer::view),
                    stream_out: out.view(),
                    norm: Norm {
                        weight: params[1].view(),
                        bias: Some(params[2].view()),
                        out: written.out.view(),
                        stats: Some([written.mean.view(), written.rstd.view()]),
                    },
                };
                norms.residual_forward(given, rows).unwrap();
                let no_bias = vec![0.0; c];
                let bias = if with_bias { &bias } else { &no_bias };
                let mut expected = vec![0.0; rows * c];
                residual::forward(&x, &y, bias, cpu_mask, &mut expected, 1);
                assert_close(&out.read(gpu), &expected, variant.stream, &what);
                // The norm of what was stored: the backward pass reads that.
                let expected = on_cpu(&out.read(gpu), &weight, Some(&shift));
                written.check(gpu, &expected, variant, &what);

                // In place.
                norms
                    .residual_forward(ResidualNorm { stream_out: stream.view(), ..given }, rows)
                    .unwrap();
                assert_eq!(stream.read(gpu), out.read(gpu), "{what}: in place");
                outputs.extend([out, written.out]);
            }
        }
        outputs
    });
}

/// One case of the backward pass.
struct Case {
    variant: Variant,
    rows: usize,
    p: f32,
    accumulate: bool,
    with_branch: bool,
}

#[test]
fn backward_equals_the_cpu() {
    let case =
        |variant, rows, p, accumulate| Case { variant, rows, p, accumulate, with_branch: true };
    let [narrow, middle, wide] = VARIANTS;
    let mut cases = vec![
        case(narrow, 1, 0.0, false),
        case(narrow, 37, 0.3, true),
        case(middle, 37, 0.2, true),
        case(middle, 16, 0.0, false),
        case(wide, 19, 0.2, true),
        // Blocks of 20 rows, not a multiple of what a block has under way.
        case(variant(F32, F32, 8), 5133, 0.5, true),
    ];
    cases.push(Case { with_branch: false, ..case(narrow, 33, 0.2, true) });
    on_gpu(|gpu| cases.iter().flat_map(|case| check_backward(gpu, case)).collect());
}

fn check_backward(gpu: &Gpu, case: &Case) -> Vec<Array> {
    let &Case { variant, rows, p, accumulate, with_branch } = case;
    let (norms, c) = (Norms::load(gpu, variant).unwrap(), variant.n_embd);
    let what = format!("{variant:?}, {rows} rows, p {p}");
    let (cpu_mask, mask) = dropout(gpu, p);
    let (dnormed, x) = (noise(rows * c, 1, variant.act), noise(rows * c, 2, variant.stream));
    let (weight, start) = (noise(c, 3, F32), noise(rows * c, 4, variant.stream));
    let [_, mean, rstd] = on_cpu(&x, &weight, None);

    let dstream = if accumulate {
        Array::new(gpu, variant.stream, &start)
    } else {
        Array::poisoned(gpu, variant.stream, rows * c)
    };
    let inputs = [
        Array::new(gpu, variant.act, &dnormed),
        Array::new(gpu, variant.stream, &x),
        Array::new(gpu, F32, &weight),
        Array::new(gpu, F32, &mean),
        Array::new(gpu, F32, &rstd),
    ];
    let dbranch = Array::poisoned(gpu, variant.act, rows * c);
    let partials = Array::poisoned(gpu, F32, Norms::partials_len(variant, rows));
    let given = NormBackward {
        dnormed: inputs[0].view(),
        x: inputs[1].view(),
        weight: inputs[2].view(),
        stats: [inputs[3].view(), inputs[4].view()],
        dstream: dstream.view(),
        accumulate,
        dbranch: with_branch.then(|| dbranch.view()),
        mask: mask.as_ref().map(Buffer::view),
        partials: partials.view(),
    };
    norms.backward(given, rows).unwrap();

    let mut expected = if accumulate { start } else { vec![0.0; rows * c] };
    let [mut dweight, mut dshift, mut dbias] = [(); 3].map(|()| vec![0.5; c]);
    let saved = Saved { x: &x, weight: &weight, mean: &mean, rstd: &rstd };
    layer_norm::backward(&dnormed, saved, &mut expected, &mut dweight, Some(&mut dshift), 1);
    assert_close(&dstream.read(gpu), &expected, variant.stream, &format!("{what}: dstream"));
    let mut expected_branch = vec![0.0; rows * c];
    residual::backward(&expected, cpu_mask, &mut expected_branch, &mut dbias, 1);
    if with_branch {
        assert_close(
            &dbranch.read(gpu),
            &expected_branch,
            variant.act,
            &format!("{what}: dbranch"),
        );
    }

    let gradients = [(); 3].map(|()| Array::new(gpu, F32, &vec![0.5; c]));
    let sums = norms.sums(
        partials.view(),
        rows,
        NormGradients {
            weight: gradients[0].view(),
            bias: Some(gradients[1].view()),
            branch_bias: Some(gradients[2].view()),
        },
    );
    let table = SumTable::new(gpu, &sums).unwrap();
    Sums::load(gpu).unwrap().run(&table, true).unwrap();
    let names = ["dweight", "dshift", "dbias"];
    for ((gradient, expected), name) in gradients.iter().zip([&dweight, &dshift, &dbias]).zip(names)
    {
        assert_sums_close(&gradient.read(gpu), expected, &format!("{what}: {name}"));
    }
    let [dweight, dshift, dbias] = gradients;
    vec![dstream, dbranch, dweight, dshift, dbias]
}

#[test]
fn gradients_that_a_model_does_not_have_are_left_out() {
    on_gpu(|gpu| {
        let norms = Norms::load(gpu, VARIANTS[0]).unwrap();
        let c = VARIANTS[0].n_embd;
        let partials = Array::poisoned(gpu, F32, Norms::partials_len(VARIANTS[0], 3));
        let dweight = Array::poisoned(gpu, F32, c);
        let gradients = NormGradients { weight: dweight.view(), bias: None, branch_bias: None };
        assert_eq!(norms.sums(partials.view(), 3, gradients).len(), 1);
        vec![]
    });
}
