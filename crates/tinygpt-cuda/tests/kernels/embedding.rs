//! Both embeddings, forward and backward.

use crate::common::{Array, VARIANTS, assert_close, dropout, noise, on_gpu, upload};
use crate::norm::{Written, on_cpu};
use tinygpt_cuda::kernels::embedding::{Embedding, EmbeddingBackward, EmbeddingForward};
use tinygpt_cuda::kernels::norm::Norm;
use tinygpt_cuda::kernels::segments::Layout;
use tinygpt_cuda::{Buffer, Dtype};
use tinygpt_kernels::embedding;

const F32: Dtype = Dtype::F32;
const POSITIONS: usize = 40;

#[test]
fn forward_equals_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let (kernels, c) = (Embedding::load(gpu, variant).unwrap(), variant.n_embd);
            for ((b, t), p) in [((1, 1), 0.0), ((3, 7), 0.3)] {
                let (rows, what) = (b * t, format!("{variant:?}, B {b}, T {t}, p {p}"));
                let (cpu_mask, mask) = dropout(gpu, p);
                let ids: Vec<u32> = (0..rows as u32).map(|i| i * 31 % 97).collect();
                let wte = noise(variant.padded_vocab_size() * c, 1, F32);
                let wpe = noise(POSITIONS * c, 2, F32);
                let (weight, shift) = (noise(c, 3, F32), noise(c, 4, F32));
                let params =
                    [&wte, &wpe, &weight, &shift].map(|values| Array::new(gpu, F32, values));
                let ids_on_gpu = upload(gpu, &ids);
                let stream = Array::poisoned(gpu, variant.stream, rows * c);
                let written = Written::new(gpu, variant, rows);
                let given = EmbeddingForward {
                    ids: ids_on_gpu.view(),
                    wte: params[0].view(),
                    wpe: params[1].view(),
                    mask: mask.as_ref().map(Buffer::view),
                    stream: stream.view(),
                    norm: Norm {
                        weight: params[2].view(),
                        bias: Some(params[3].view()),
                        out: written.out.view(),
                        stats: Some([written.mean.view(), written.rstd.view()]),
                    },
                };
                kernels.forward(given, (b, t)).unwrap();
                let mut expected = vec![0.0; rows * c];
                embedding::forward(&ids, (&wte, &wpe), (t, c), cpu_mask, &mut expected);
                assert_close(&stream.read(gpu), &expected, variant.stream, &what);
                let expected = on_cpu(&stream.read(gpu), &weight, Some(&shift));
                written.check(gpu, &expected, variant, &what);
                outputs.extend([stream, written.out]);
            }
        }
        outputs
    });
}

#[test]
fn backward_equals_the_cpu() {
    on_gpu(|gpu| {
        let mut outputs = Vec::new();
        for variant in VARIANTS {
            let (kernels, c) = (Embedding::load(gpu, variant).unwrap(), variant.n_embd);
            for ((b, t), p, accumulate) in
                [((1, 1), 0.0, false), ((11, 9), 0.3, true), ((3, 40), 0.0, false)]
            {
                let (rows, what) = (b * t, format!("{variant:?}, B {b}, T {t}, p {p}"));
                let (cpu_mask, mask) = dropout(gpu, p);
                // Half of the positions hold one id, which so has several pieces.
                let ids: Vec<u32> =
                    (0..rows as u32).map(|i| if i % 2 == 0 { 5 } else { i * i % 97 }).collect();
                let grad = noise(rows * c, 1, variant.stream);
                let layout = Layout::new(rows, variant.vocab_size);
                let mut tables = vec![u32::MAX; layout.len()];
                layout.fill(&ids, &mut tables);

                let (v, dstream) =
                    (variant.padded_vocab_size(), Array::new(gpu, variant.stream, &grad));
                let (mut dwte, mut dwpe) = (noise(v * c, 2, F32), noise(POSITIONS * c, 3, F32));
                let wte_on_gpu = Array::new(gpu, F32, &dwte);
                let wpe_on_gpu = if accumulate {
                    Array::new(gpu, F32, &dwpe)
                } else {
                    dwpe.fill(0.0);
                    Array::poisoned(gpu, F32, POSITIONS * c)
                };
                let partials = Array::poisoned(gpu, F32, Embedding::partials_len(variant, rows));
                let tables = upload(gpu, &tables);
                let given = EmbeddingBackward {
                    dstream: dstream.view(),
                    mask: mask.as_ref().map(Buffer::view),
                    tables: tables.view(),
                    partials: partials.view(),
                    dwte: wte_on_gpu.view(),
                    dwpe: wpe_on_gpu.view(),
                    accumulate,
                };
                kernels.backward(given, (b, t)).unwrap();
                embedding::backward(&ids, &grad, (t, c), cpu_mask, (&mut dwte, &mut dwpe));
                assert_close(&wte_on_gpu.read(gpu), &dwte, F32, &format!("{what}: dwte"));
                assert_close(&wpe_on_gpu.read(gpu), &dwpe, F32, &format!("{what}: dwpe"));
                outputs.extend([wte_on_gpu, wpe_on_gpu]);
            }
        }
        outputs
    });
}
