//! Each kernel alone, on one thread, at the shapes of half a batch of the 6-layer, 384-channel model.
//!
//! ```text
//! cargo bench --bench kernels              all; add a name to choose: -- gemm
//! ```
//!
//! Each speed is shown with its share of what this machine was measured to reach: for products the
//! fastest product with everything in the caches, for passes over memory the reading of an array far
//! larger than the caches. A pass whose data fit a cache may exceed that.
#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tinygpt_kernels::adamw::AdamWStep;
use tinygpt_kernels::attention::{Gradient, Shape};
use tinygpt_kernels::decode::{Strided, StridedMut};
use tinygpt_kernels::dropout::Dropout;
use tinygpt_kernels::head::Head;
use tinygpt_kernels::layer_norm::{NormParams, Saved, Stats};
use tinygpt_kernels::{
    Matrix, MatrixMut, Store, adamw, attention, decode, gelu, gemm, head, layer_norm, peak,
    residual,
};

/// Rows: four sequences of 256 tokens.
const N: usize = 1024;
/// Channels.
const C: usize = 384;

/// Wall time, shown as a speed and its share of the machine's.
struct AgainstPeak {
    flops: f64,
    bytes: f64,
}

impl AgainstPeak {
    fn measure() -> Self {
        let this = Self { flops: peak::gemm_flops_per_second(1), bytes: read_speed() };
        let (flops, bytes) = (this.flops * 1e-9, this.bytes * 1e-9);
        println!("one thread: {flops:.0} GFLOP/s in products, {bytes:.1} GB/s from memory\n");
        this
    }
}

/// Bytes per second of reading 256 MiB once.
fn read_speed() -> f64 {
    let array = vec![1.0_f32; 64 << 20];
    let time = || {
        let start = Instant::now();
        black_box(tinygpt_kernels::grad_norm::sum_of_squares(&array, 1));
        start.elapsed().as_secs_f64()
    };
    let fastest = (0..5).map(|_| time()).fold(f64::INFINITY, f64::min);
    (array.len() * size_of::<f32>()) as f64 / fastest
}

impl ValueFormatter for AgainstPeak {
    fn format_throughput(&self, throughput: &Throughput, nanos: f64) -> String {
        match throughput {
            Throughput::Elements(flops) => {
                let speed = *flops as f64 / nanos;
                format!("{speed:.1} GFLOP/s ({:.0}%)", 100e9 * speed / self.flops)
            }
            Throughput::Bytes(bytes) => {
                let speed = *bytes as f64 / nanos;
                format!("{speed:.1} GB/s ({:.0}%)", 100e9 * speed / self.bytes)
            }
            _ => String::new(),
        }
    }

    fn scale_values(&self, _typical: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|nanos| *nanos *= 1e-3);
        "µs"
    }

    fn scale_throughputs(
        &self,
        _: f64,
        throughput: &Throughput,
        nanos: &mut [f64],
    ) -> &'static str {
        let (Throughput::Elements(n) | Throughput::Bytes(n)) = throughput else { return "" };
        nanos.iter_mut().for_each(|nanos| *nanos = *n as f64 / *nanos);
        "G/s"
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns"
    }
}

impl Measurement for AgainstPeak {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        Instant::now()
    }
    fn end(&self, start: Instant) -> Duration {
        start.elapsed()
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

type Group<'a> = BenchmarkGroup<'a, AgainstPeak>;

/// Numbers that no kernel can skip.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1000) as f32 * 1e-3 - 0.5).collect()
}

fn flops(group: &mut Group<'_>, name: &str, flops: usize, mut run: impl FnMut()) {
    group.throughput(Throughput::Elements(flops as u64)).bench_function(name, |b| b.iter(&mut run));
}

/// `floats` read or written, 4 bytes each.
fn memory(group: &mut Group<'_>, name: &str, floats: usize, mut run: impl FnMut()) {
    group
        .throughput(Throughput::Bytes(4 * floats as u64))
        .bench_function(name, |b| b.iter(&mut run));
}

fn products(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("gemm");
    let (x, dy, w) = (numbers(N * C), numbers(N * 4 * C), numbers(4 * C * C));
    let (mut y, mut dx, mut dw) = (numbers(N * 4 * C), numbers(N * C), numbers(4 * C * C));
    let (x, dy, w) = (Matrix::new(&x, N, C), Matrix::new(&dy, N, 4 * C), Matrix::new(&w, C, 4 * C));
    let n_flops = 2 * N * C * 4 * C;
    flops(&mut group, "x W: 1024 x 384 x 1536", n_flops, || {
        gemm(MatrixMut::new(&mut y, N, 4 * C), x, w, Store::Overwrite, 1);
    });
    flops(&mut group, "dy Wt: 1024 x 1536 x 384", n_flops, || {
        gemm(MatrixMut::new(&mut dx, N, C), dy, w.t(), Store::Overwrite, 1);
    });
    flops(&mut group, "xt dy: 384 x 1024 x 1536", n_flops, || {
        gemm(MatrixMut::new(&mut dw, C, 4 * C), x.t(), dy, Store::Overwrite, 1);
    });
}

fn attentions(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("attention");
    for (batch, time) in [(4, 256), (1, 1024)] {
        let shape = Shape { batch, time, heads: 6, head_dim: 64 };
        let (qkv, dout) = (numbers(N * 3 * C), numbers(N * C));
        let (mut out, mut lse, mut dqkv) = (numbers(N * C), numbers(N * 6), numbers(N * 3 * C));
        flops(&mut group, &format!("forward, T {time}"), shape.flops(None), || {
            attention::forward(&qkv, shape, None, None, &mut out, &mut lse, 1);
        });
        let given = Gradient { qkv: &qkv, out: &out, lse: &lse, dout: &dout };
        flops(&mut group, &format!("backward, T {time}"), shape.flops(None) * 5 / 2, || {
            attention::backward(given, shape, None, None, &mut dqkv, 1);
        });
    }
}

fn heads(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("head");
    for v in [258, 30_000] {
        let (x, wte) = (numbers(N * C), numbers(v * C));
        let targets: Vec<u32> = (0..N).map(|i| (i * 31 % v) as u32).collect();
        let head = Head { x: &x, wte: &wte, targets: &targets, n_embd: C };
        let mut scratch = vec![0.0; head::scratch_len(N, v)];
        let (mut dx, mut dwte) = (numbers(N * C), numbers(v * C));
        flops(&mut group, &format!("logits, loss and gradients, V {v}"), 6 * N * C * v, || {
            let to = (&mut dwte[..], Store::Overwrite);
            black_box(head::backward(head, 1e-3, &mut scratch, &mut dx, to, 1));
        });
    }
}

fn passes(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("pass");
    let (x, weight, bias) = (numbers(N * C), numbers(C), numbers(C));
    let (mut out, mut mean, mut rstd) = (numbers(N * C), numbers(N), numbers(N));
    memory(&mut group, "layer norm", 2 * N * C, || {
        let affine = NormParams { weight: &weight, bias: Some(&bias) };
        let stats = Stats { mean: &mut mean, rstd: &mut rstd };
        layer_norm::forward(&x, affine, &mut out, stats, 1);
    });
    let (dout, mut dx, mut dw, mut db) = (numbers(N * C), numbers(N * C), numbers(C), numbers(C));
    memory(&mut group, "layer norm, backward", 4 * N * C, || {
        let saved = Saved { x: &x, weight: &weight, mean: &mean, rstd: &rstd };
        layer_norm::backward(&dout, saved, &mut dx, &mut dw, Some(&mut db), 1);
    });
    for (name, dropout) in [("residual", None), ("residual with dropout", Dropout::new(0.2, 7))] {
        memory(&mut group, name, 3 * N * C, || {
            residual::forward(&x, &dout, &bias, dropout, &mut out, 1);
        });
    }
    let (mut hidden, wide_bias) = (numbers(N * 4 * C), numbers(4 * C));
    let (mut active, mut dbias) = (numbers(N * 4 * C), numbers(4 * C));
    memory(&mut group, "bias and GELU", 3 * N * 4 * C, || {
        gelu::forward(&mut hidden, &wide_bias, &mut active, 1);
        hidden.copy_from_slice(&active);
    });
    memory(&mut group, "GELU, backward", 4 * N * 4 * C, || {
        gelu::backward(&mut hidden, &mut active, &mut dbias, 1);
    });
}

fn optimizer(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("adamw");
    let step = AdamWStep {
        lr: 1e-9,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.5,
        bias_correction2: 0.5,
        grad_scale: 1.0,
    };
    let len = 10 << 20;
    let (mut w, g, mut m, mut v) = (numbers(len), numbers(len), numbers(len), vec![1.0; len]);
    memory(&mut group, "10 M parameters", 7 * len, || {
        adamw::step(&mut w, &g, &mut m, &mut v, &step, 1);
    });
}

fn decoding(c: &mut Criterion<AgainstPeak>) {
    let mut group = c.benchmark_group("decode");
    let w = numbers(768 * 50_257);
    // As many matrices as fill the table, one after the other: more than a cache holds.
    let matrices = || w.chunks_exact(768 * 3072);
    let stride = decode::stride_of(3072);
    for n in [1, 10] {
        let (x, mut out) = (numbers(n * 768), numbers(n * 50_257));
        let name = format!("{n} x 768 times 768 x 3072");
        memory(&mut group, &name, matrices().len() * 768 * 3072, || {
            for w in matrices() {
                let x = Strided { data: &x, stride: 768 };
                decode::times_matrix(
                    n,
                    x,
                    Strided { data: w, stride: 3072 },
                    StridedMut { data: &mut out, stride },
                );
            }
        });
        memory(&mut group, &format!("{n} x 768 times table, 50,257 x 768"), w.len(), || {
            decode::times_table(&x, n, &w, &mut out);
        });
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .with_measurement(AgainstPeak::measure())
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = products, attentions, heads, passes, optimizer, decoding
}
criterion_main!(kernels);
