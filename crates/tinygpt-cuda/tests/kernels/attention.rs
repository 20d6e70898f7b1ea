//! Attention in all three precisions.

use crate::common::{Array, dropout, noise, on_gpu, refusal, upload, variant};
use tinygpt_cuda::kernels::attention::{Attention, AttentionBackward, AttentionForward, Documents};
use tinygpt_cuda::{Buffer, Dtype, Gpu};
use tinygpt_kernels::attention::{Gradient, Shape, backward, forward};
use tinygpt_kernels::dropout::Dropout;

const F32: Dtype = Dtype::F32;

/// How products are computed, and how far results may be from the CPU's f32: the largest difference as a
/// part of the largest magnitude, and the root mean square of the differences as a part of the values'.
#[derive(Clone, Copy, Debug)]
struct Mode {
    act: Dtype,
    tf32: bool,
    largest: f32,
    mean_square: f32,
}

const EXACT: Mode = Mode { act: F32, tf32: false, largest: 2e-6, mean_square: 1e-6 };
// Operands have 11 bits: 2^-12 each, of several in a chain of products.
const TF32: Mode = Mode { act: F32, tf32: true, largest: 4e-3, mean_square: 2e-3 };
// Operands and results have 8 bits.
const BF16: Mode = Mode { act: Dtype::Bf16, tf32: false, largest: 1e-2, mean_square: 5e-3 };

/// What the forward and the backward pass write.
struct Written {
    out: Array,
    lse: Array,
    delta: Array,
    dqkv: Array,
}

impl Written {
    fn new(gpu: &Gpu, act: Dtype, s: Shape) -> Self {
        let rows = s.batch * s.time;
        Self {
            out: Array::poisoned(gpu, act, rows * s.channels()),
            lse: Array::poisoned(gpu, F32, rows * s.heads),
            delta: Array::poisoned(gpu, F32, rows * s.heads),
            dqkv: Array::poisoned(gpu, act, 3 * rows * s.channels()),
        }
    }

    fn into_arrays(self) -> [Array; 4] {
        [self.out, self.lse, self.delta, self.dqkv]
    }
}

/// Both passes on the GPU.
fn run(
    gpu: &Gpu,
    kernels: &Attention,
    given: &Given,
    mask: Option<&Buffer>,
    act: Dtype,
) -> Written {
    let s = given.shape;
    let shape = (s.batch, s.time, s.heads);
    let (qkv, dout) = (Array::new(gpu, act, &given.qkv), Array::new(gpu, act, &given.dout));
    let written = Written::new(gpu, act, s);
    let mask = mask.map(Buffer::view);
    let (qkv, out, lse) = (qkv.view(), written.out.view(), written.lse.view());
    let uploaded = given.documents.as_ref().map(|both| both.each_ref().map(|it| upload(gpu, it)));
    let documents = uploaded
        .as_ref()
        .map(|[starts, ends]| Documents { starts: starts.view(), ends: ends.view() });
    kernels.forward(AttentionForward { qkv, out, lse, mask, documents }, shape).unwrap();
    let (dout, dqkv, delta) = (dout.view(), written.dqkv.view(), written.delta.view());
    let pass = AttentionBackward { qkv, out, lse, dout, dqkv, delta, mask, documents };
    kernels.backward(pass, shape).unwrap();
    gpu.synchronize().unwrap();
    written
}

/// What attention reads.
struct Given {
    shape: Shape,
    /// Where the document of each position starts and ends.
    documents: Option<[Vec<u32>; 2]>,
    qkv: Vec<f32>,
    dout: Vec<f32>,
}

impl Given {
    /// Scores of ±4 or so: probabilities from 1e-4 to almost 1.
    fn new(act: Dtype, shape: Shape) -> Self {
        let len = shape.batch * shape.time * shape.channels();
        let qkv = noise(3 * len, 1, act).iter().map(|x| 2.0 * x).collect();
        Self { shape, documents: None, qkv, dout: noise(len, 2, act) }
    }

    /// With documents of 1, 4, 9, ... positions, cut off at the ends of sequences, other ones in each.
    fn with_documents(mut self) -> Self {
        let (n, time) = (self.shape.batch * self.shape.time, self.shape.time);
        let [mut starts, mut ends] = [Vec::new(), Vec::new()];
        for root in 1.. {
            let (at, len) = (starts.len(), (root * root) % 97);
            let len = len.min(time - at % time);
            starts.extend((0..len).map(|_| (at % time) as u32));
            ends.extend((0..len).map(|_| (at % time + len) as u32));
            if starts.len() == n {
                break;
            }
        }
        self.documents = Some([starts, ends]);
        self
    }

    /// Both passes on the CPU: output, log-sum-exps, gradient.
    fn on_cpu(&self, dropout: Option<Dropout>) -> [Vec<f32>; 3] {
        let (qkv, dout, shape) = (&self.qkv[..], &self.dout[..], self.shape);
        let (mut out, mut dqkv) = (vec![0.0; dout.len()], vec![0.0; qkv.len()]);
        let mut lse = vec![0.0; shape.batch * shape.time * shape.heads];
        let starts = self.documents.as_ref().map(|[starts, _]| &starts[..]);
        forward(qkv, shape, starts, dropout, &mut out, &mut lse, 1);
        let given = Gradient { qkv, out: &out, lse: &lse, dout };
        backward(given, shape, starts, dropout, &mut dqkv, 1);
        [out, lse, dqkv]
    }
}

fn root_mean_square(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let n = values.clone().count() as f32;
    (values.map(|x| x * x).sum::<f32>() / n).sqrt()
}

#[track_caller]
fn assert_near(got: &[f32], expected: &[f32], mode: Mode, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let differences = got.iter().zip(expected).map(|(g, e)| g - e);
    for (i, difference) in differences.clone().enumerate() {
        // 1e-6: gradients of T = 1 are 0 but for rounding.
        assert!(
            difference.abs() <= mode.largest * largest + 1e-6,
            "{what}: element {i} of {} is {}, expected {} (largest {largest})",
            got.len(),
            got[i],
            expected[i]
        );
    }
    let (error, size) = (root_mean_square(differences), root_mean_square(expected.iter().copied()));
    assert!(error <= mode.mean_square * size + 1e-6, "{what}: error {error} of {size}");
}

/// Every third of the packed gradient.
fn part(dqkv: &[f32], part: usize, c: usize) -> Vec<f32> {
    dqkv.chunks(3 * c).flat_map(|row| &row[part * c..][..c]).copied().collect()
}

/// A shape and whether its sequences hold several documents.
type Case = (usize, usize, usize, f32, bool);

fn equals_the_cpu(mode: Mode, head_dim: usize, cases: &[Case]) {
    on_gpu(|gpu| {
        let c = variant(mode.act, mode.act, head_dim);
        let load = |documents| Attention::load(gpu, c, head_dim, mode.tf32, documents).unwrap();
        let plain = load(false);
        let of_documents = cases.iter().any(|case| case.4).then(|| load(true));
        let mut outputs = Vec::new();
        for &(batch, time, heads, p, documents) in cases {
            let what =
                format!("{mode:?} D {head_dim} B {batch} T {time} H {heads} p {p} {documents}");
            let mut given = Given::new(mode.act, Shape { batch, time, heads, head_dim });
            if documents {
                given = given.with_documents();
            }
            let (on_cpu, mask) = dropout(gpu, p);
            // Null and a mask that drops nothing are the same.
            let mask = mask.filter(|_| time != 64);
            let kernels = of_documents.as_ref().filter(|_| documents).unwrap_or(&plain);
            let written = run(gpu, kernels, &given, mask.as_ref(), mode.act);
            let [out, lse, dqkv] = given.on_cpu(on_cpu);
            assert_near(&written.out.read(gpu), &out, mode, &format!("{what}: out"));
            // The log-sum-exp is of the scores as they are: bf16 inputs are exact in f32.
            let scores = if mode.tf32 { mode } else { EXACT };
            assert_near(&written.lse.read(gpu), &lse, scores, &format!("{what}: lse"));
            let (got, c) = (written.dqkv.read(gpu), given.shape.channels());
            for (i, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
                let what = format!("{what}: {name}");
                assert_near(&part(&got, i, c), &part(&dqkv, i, c), mode, &what);
            }
            outputs.extend(written.into_arrays());
        }
        outputs
    });
}

/// T that are one row, less than a tile, whole tiles, and tiles with a rest; with and without dropout.
const SHAPES: [Case; 7] = [
    (1, 1, 1, 0.2, false),
    (2, 7, 3, 0.0, false),
    (1, 64, 2, 0.0, false),
    (2, 100, 1, 0.2, false),
    (1, 257, 1, 0.1, false),
    (2, 130, 1, 0.0, true),
    (1, 150, 2, 0.2, true),
];

#[test]
fn bf16_equals_the_cpu() {
    equals_the_cpu(BF16, 64, &SHAPES);
}

#[test]
fn bf16_with_other_head_dimensions_equals_the_cpu() {
    // Rows of 6, 12 and 16 chunks: one, two and three bits to permute them; one and two strips per warp.
    for head_dim in [48, 96, 128] {
        equals_the_cpu(BF16, head_dim, &SHAPES[3..4]);
    }
}

#[test]
fn exact_f32_equals_the_cpu() {
    equals_the_cpu(EXACT, 64, &SHAPES);
    equals_the_cpu(EXACT, 112, &SHAPES[3..4]);
}

#[test]
fn tf32_equals_the_cpu() {
    equals_the_cpu(TF32, 64, &SHAPES);
    equals_the_cpu(TF32, 112, &SHAPES[3..4]);
}

/// Scores of thousands: the softmax is one of the largest score, without overflow.
#[test]
fn large_scores_do_not_overflow() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for mode in [BF16, EXACT] {
            let kernels =
                Attention::load(gpu, variant(mode.act, mode.act, 64), 64, false, false).unwrap();
            let shape = Shape { batch: 1, time: 70, heads: 1, head_dim: 64 };
            let mut given = Given::new(mode.act, shape);
            given.qkv.iter_mut().for_each(|x| *x *= 64.0);
            let written = run(gpu, &kernels, &given, None, mode.act);
            let [out, lse, _] = given.on_cpu(None);
            assert_near(&written.out.read(gpu), &out, mode, "out");
            assert_near(&written.lse.read(gpu), &lse, EXACT, "lse");
            assert!(written.dqkv.read(gpu).iter().all(|x| x.is_finite()), "gradients are finite");
            outputs.extend(written.into_arrays());
        }
        outputs
    });
}

#[test]
fn a_wrong_length_is_refused_before_the_launch() {
    on_gpu(|gpu| {
        let kernels = Attention::load(gpu, variant(F32, F32, 64), 64, false, false).unwrap();
        let shape = Shape { batch: 1, time: 3, heads: 1, head_dim: 64 };
        let written = Written::new(gpu, F32, shape);
        let qkv = Array::poisoned(gpu, F32, 3 * 3 * 64);
        let (qkv, out, lse) = (qkv.view(), written.out.view(), written.lse.view());
        let short =
            AttentionForward { qkv: qkv.slice(0..512), out, lse, mask: None, documents: None };
        let message = refusal(|| kernels.forward(short, (1, 3, 1)));
        assert!(message.contains("the packed queries, keys and values"), "{message}");
        let (dqkv, delta) = (written.dqkv.view(), written.delta.view().slice(0..8));
        let (dout, mask, documents) = (out, None, None);
        let given = AttentionBackward { qkv, out, lse, dout, dqkv, delta, mask, documents };
        let message = refusal(|| kernels.backward(given, (1, 3, 1)));
        assert!(message.contains("the scratch"), "{message}");
        Vec::new()
    });
}

#[test]
fn head_dimensions_are_multiples_of_16_up_to_128() {
    let supported: Vec<_> = (0..200).filter(|&d| Attention::is_supported(d)).collect();
    assert_eq!(supported, [16, 32, 48, 64, 80, 96, 112, 128]);
}
