//! The kernels of decoding.

use crate::common::{Array, VARIANTS, assert_close, noise, on_gpu, refusal, upload, variant};
use crate::norm::on_cpu;
use tinygpt_cuda::kernels::Variant;
use tinygpt_cuda::kernels::decode::{Decode, DecodeProduct, DecodeRow, KeyValues};
use tinygpt_cuda::kernels::norm::Norm;
use tinygpt_cuda::{Dtype, Gpu, View};
use tinygpt_kernels::gelu;

const F32: Dtype = Dtype::F32;
const SLOTS: (usize, usize) = (3, 40);

fn load(gpu: &Gpu, variant: Variant, head_dim: usize) -> Decode {
    Decode::load(gpu, variant, head_dim, SLOTS).unwrap()
}

/// `x W + b` in f64.
fn product(x: &[f32], weight: &[f32], bias: Option<&[f32]>, (k, m): (usize, usize)) -> Vec<f32> {
    let row = |x: &[f32]| -> Vec<f32> {
        let column = |j: usize| {
            let sum: f64 = (0..k).map(|i| f64::from(x[i]) * f64::from(weight[i * m + j])).sum();
            (sum + bias.map_or(0.0, |bias| f64::from(bias[j]))) as f32
        };
        (0..m).map(column).collect()
    };
    x.chunks(k).flat_map(row).collect()
}

#[test]
fn a_product_of_any_number_of_rows_is_that_of_each_row_alone() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for act in [F32, Dtype::Bf16] {
            let kernels = load(gpu, variant(act, act, 64), 32);
            for (n, k, m, with_bias, with_gelu) in
                [(1, 8, 8, false, false), (11, 264, 72, true, false), (3, 520, 136, true, true)]
            {
                let what = format!("{act:?} [{n}, {k}] x [{k}, {m}]");
                let (x, weight) = (noise(n * k, 1, act), noise(k * m, 2, act));
                let bias = noise(m, 3, F32);
                let on_gpu = [Array::new(gpu, act, &x), Array::new(gpu, act, &weight)];
                let bias_on_gpu = Array::new(gpu, F32, &bias);
                let run = |x: View, n: usize| {
                    let y = Array::poisoned(gpu, act, n * m);
                    let bias = with_bias.then(|| bias_on_gpu.view());
                    let weight = on_gpu[1].view();
                    let given = DecodeProduct { x, weight, bias, gelu: with_gelu, y: y.view() };
                    kernels.product(given, (n, k, m)).unwrap();
                    y
                };
                let y = run(on_gpu[0].view(), n);
                let mut expected = product(&x, &weight, with_bias.then_some(&bias[..]), (k, m));
                if with_gelu {
                    let mut pre = expected.clone();
                    gelu::forward(&mut pre, &vec![0.0; m], &mut expected, 1);
                }
                assert_close(&y.read(gpu), &expected, act, &what);
                for row in [0, n - 1] {
                    let bytes = k * act.bytes();
                    let alone = run(on_gpu[0].view().slice(row * bytes..(row + 1) * bytes), 1);
                    assert!(
                        alone.read(gpu) == y.read(gpu)[row * m..(row + 1) * m],
                        "{what}: row {row}"
                    );
                }
                outputs.push(y);
            }
        }
        outputs
    });
}

#[test]
fn logits_are_products_with_the_rows_of_the_table() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let (c, v) = (variant.n_embd, variant.vocab_size);
            let kernels = load(gpu, variant, 8);
            let table = noise(variant.padded_vocab_size() * c, 1, variant.act);
            let on_gpu = Array::new(gpu, variant.act, &table);
            for n in [1, 9] {
                let x = noise(n * c, 2, variant.act);
                let logits = Array::poisoned(gpu, F32, n * v);
                let input = Array::new(gpu, variant.act, &x);
                kernels.logits(input.view(), on_gpu.view(), logits.view()).unwrap();
                let mut transposed = vec![0.0; c * v];
                for (token, row) in table.chunks(c).take(v).enumerate() {
                    row.iter().enumerate().for_each(|(i, w)| transposed[i * v + token] = *w);
                }
                let expected = product(&x, &transposed, None, (c, v));
                assert_close(&logits.read(gpu), &expected, F32, &format!("{variant:?} {n}"));
                outputs.push(logits);
            }
        }
        outputs
    });
}

#[test]
fn each_row_is_embedded_at_its_own_position_and_normalized() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let c = variant.n_embd;
            let (wte, wpe) =
                (noise(variant.padded_vocab_size() * c, 1, F32), noise(SLOTS.1 * c, 2, F32));
            let (weight, bias) = (noise(c, 3, F32), noise(c, 4, F32));
            let rows = [(0, 5, 39), (2, 96, 0), (1, 5, 7)];
            let on_gpu = upload(gpu, &rows.map(|(slot, id, at)| DecodeRow::new(slot, id, at)));
            let arrays = [&wte, &wpe, &weight, &bias].map(|values| Array::new(gpu, F32, values));
            let stream = Array::poisoned(gpu, variant.stream, 3 * c);
            let out = Array::poisoned(gpu, variant.act, 3 * c);
            let norm = Norm {
                weight: arrays[2].view(),
                bias: Some(arrays[3].view()),
                out: out.view(),
                stats: None,
            };
            let tables = [arrays[0].view(), arrays[1].view()];
            load(gpu, variant, 8).embed(on_gpu.view(), tables, stream.view(), norm).unwrap();
            let expected: Vec<f32> = rows
                .iter()
                .flat_map(|&(_, id, at)| (0..c).map(move |i| (id as usize * c + i, at * c + i)))
                .map(|(token, position)| wte[token] + wpe[position])
                .collect();
            assert_close(&stream.read(gpu), &expected, variant.stream, "the stream");
            let [normed, _, _] = on_cpu(&stream.read(gpu), &weight, Some(&bias));
            assert_close(&out.read(gpu), &normed, variant.act, "the layer norm");
            outputs.extend([stream, out]);
        }
        outputs
    });
}

/// Softmax attention of one query in f64.
fn attend(q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let d = q.len();
    let dot = |k: &[f32]| q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let scores: Vec<f64> = keys.chunks(d).map(|k| dot(k) / (d as f64).sqrt()).collect();
    let max = scores.iter().fold(f64::MIN, |m, s| m.max(*s));
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let column = |i: usize| {
        let weighted = weights.iter().zip(values.chunks(d)).map(|(w, v)| w * f64::from(v[i]));
        (weighted.sum::<f64>() / sum) as f32
    };
    (0..d).map(column).collect()
}

#[test]
fn rows_attend_to_the_cache_of_their_own_slot() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for (act, heads, d) in
            [(F32, 2, 16), (F32, 1, 80), (Dtype::Bf16, 3, 64), (Dtype::Bf16, 1, 128)]
        {
            let c = heads * d;
            let kernels = load(gpu, variant(act, act, c), d);
            let (n_slots, block_size) = SLOTS;
            let mut cache = [3, 4].map(|seed| noise(n_slots * block_size * c, seed, act));
            let on_gpu = [0, 1].map(|i| Array::new(gpu, act, &cache[i]));
            let kv = KeyValues { keys: on_gpu[0].view(), values: on_gpu[1].view() };
            // Two rows of slot 2 in order, a row at the end of slot 0, and one that only fills up.
            let places = [(2, 5), (2, 6), (0, 39)];
            let mut rows: Vec<_> = places.map(|(slot, at)| DecodeRow::new(slot, 0, at)).to_vec();
            rows.push(DecodeRow::default());
            let qkv: Vec<f32> = noise(4 * 3 * c, 7, act).iter().map(|x| 3.0 * x).collect();
            let (input, out) = (Array::new(gpu, act, &qkv), Array::poisoned(gpu, act, 4 * c));
            let qkv = input.read(gpu);
            kernels.attend(upload(gpu, &rows).view(), input.view(), kv, out.view()).unwrap();
            let of_slot = |slot: usize, head: usize| (slot * heads + head) * block_size * d;
            for (row, (slot, at)) in places.into_iter().enumerate() {
                for head in 0..heads {
                    for (i, cache) in cache.iter_mut().enumerate() {
                        let from = (row * 3 + 1 + i) * c + head * d;
                        let to = of_slot(slot, head) + at * d;
                        cache[to..to + d].copy_from_slice(&qkv[from..from + d]);
                    }
                }
            }
            let mut expected = Vec::new();
            for (row, (slot, at)) in places.into_iter().enumerate() {
                for head in 0..heads {
                    let q = &qkv[row * 3 * c + head * d..][..d];
                    let seen = of_slot(slot, head)..of_slot(slot, head) + (at + 1) * d;
                    expected.extend(attend(q, &cache[0][seen.clone()], &cache[1][seen]));
                }
            }
            expected.extend(vec![0.0; c]);
            assert_close(&out.read(gpu), &expected, act, &format!("{act:?} {heads} heads of {d}"));
            for (on_gpu, cache) in on_gpu.iter().zip(&cache) {
                assert!(on_gpu.read(gpu) == *cache, "{act:?}: the cache");
            }
            outputs.push(out);
            outputs.extend(on_gpu);
        }
        outputs
    });
}

#[test]
fn wrong_lengths_are_refused() {
    on_gpu(|gpu| {
        let kernels = load(gpu, variant(F32, F32, 64), 32);
        let [x, y] = [Array::poisoned(gpu, F32, 64), Array::poisoned(gpu, F32, 64)];
        let (x, weight, y) = (x.view(), y.view(), y.view());
        let given = DecodeProduct { x, weight, bias: None, gelu: false, y };
        assert!(refusal(|| kernels.product(given, (1, 64, 64))).contains("the weight"));
        assert!(refusal(|| kernels.product(given, (1, 64, 1))).contains("multiples of 8"));
        Vec::new()
    });
}
