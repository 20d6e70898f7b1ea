//! The CPU backend against autograd: same weights, same batch, same masks.
#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::Device;

use crate::{
    DropoutKey, Gpt, GradientSink, Grads, ModelConfig, Store, TokenBatch, host, param_specs,
};

fn config(bias: bool, dropout: f32) -> ModelConfig {
    ModelConfig {
        vocab_size: 37,
        block_size: 20,
        n_layer: 3,
        n_head: 3,
        n_embd: 24,
        dropout,
        bias,
        ..ModelConfig::default()
    }
}

/// A model whose every parameter, biases and gains too, is away from its special initial value.
fn model(config: &ModelConfig) -> Gpt {
    let gpt = Gpt::init(config.clone(), 7, &Device::Cpu).unwrap();
    for (n, (_, tensor)) in gpt.params().iter().enumerate() {
        host::write(tensor, |values| {
            for (i, value) in values.iter_mut().enumerate() {
                *value += 0.1 * ((i * 31 + n * 17) as f32).sin();
            }
        })
        .unwrap();
    }
    gpt
}

fn tokens(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 7 + i * 5 + seed) % 37) as u32).collect()
}

fn gradients(
    gpt: &mut Gpt,
    (b, t): (usize, usize),
    key: Option<DropoutKey>,
) -> (f32, Vec<Vec<f32>>) {
    let (inputs, targets) = (tokens(b * t, 1), tokens(b * t, 2));
    let batch = TokenBatch {
        inputs: &inputs,
        targets: &targets,
        document_starts: None,
        batch_size: b,
        seq_len: t,
    };
    let mut grads = gpt.new_grads().unwrap();
    let loss = gpt.backward(&batch, key, 0.5, Store::Accumulate, &mut grads).unwrap();
    let Grads::Host(grads) = grads else { panic!("a model on the CPU has host gradients") };
    (loss, grads)
}

fn assert_same(gpt: &Gpt, got: &(f32, Vec<Vec<f32>>), expected: &(f32, Vec<Vec<f32>>), tol: f32) {
    assert!((got.0 - expected.0).abs() <= 1e-6 * expected.0, "loss {} vs {}", got.0, expected.0);
    for (spec, (got, expected)) in gpt.params().specs().iter().zip(got.1.iter().zip(&expected.1)) {
        let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(largest > 0.0, "{} has no gradient to compare", spec.name);
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            let error = (g - e).abs() / largest;
            assert!(error <= tol, "{}[{i}]: {g}, expected {e} (largest {largest})", spec.name);
        }
    }
}

const KEY: DropoutKey = DropoutKey { seed: 3, step: 11, micro_batch: 1 };

#[test]
fn gradients_equal_autograd() {
    for (bias, dropout, key) in [(true, 0.0, None), (false, 0.0, None), (true, 0.3, Some(KEY))] {
        let mut gpt = model(&config(bias, dropout));
        for shape in [(1, 1), (3, 13), (4, 20)] {
            gpt.set_threads(1);
            let cpu = gradients(&mut gpt, shape, key);
            let mut reference = model(&config(bias, dropout));
            reference.use_autograd();
            assert_same(&gpt, &cpu, &gradients(&mut reference, shape, key), 1e-4);
        }
    }
}

#[test]
fn threads_and_workers_change_only_rounding() {
    let mut gpt = model(&config(true, 0.3));
    let one = gradients(&mut gpt, (5, 13), Some(KEY));
    for threads in [2, 3, 8] {
        gpt.set_threads(threads);
        let several = gradients(&mut gpt, (5, 13), Some(KEY));
        assert_same(&gpt, &several, &one, 1e-5);
        assert!(
            several == gradients(&mut gpt, (5, 13), Some(KEY)),
            "{threads} threads: repeatable"
        );
    }
}

#[test]
fn loss_and_logits_equal_autograd_after_any_other_shape() {
    for bias in [true, false] {
        let mut gpt = model(&config(bias, 0.2));
        let mut reference = model(&config(bias, 0.2));
        reference.use_autograd();
        gradients(&mut gpt, (2, 7), Some(KEY));
        for (b, t) in [(1, 1), (4, 20), (2, 5)] {
            let (inputs, targets) = (tokens(b * t, 1), tokens(b * t, 2));
            let batch = TokenBatch {
                inputs: &inputs,
                targets: &targets,
                document_starts: None,
                batch_size: b,
                seq_len: t,
            };
            let (got, expected) = (gpt.loss(&batch).unwrap(), reference.loss(&batch).unwrap());
            assert!((got - expected).abs() <= 1e-6 * expected, "loss {got} vs {expected}");
            let got = gpt.logits(&inputs, b, t).unwrap();
            let expected = reference.logits(&inputs, b, t).unwrap();
            let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            for (g, e) in got.iter().zip(&expected) {
                assert!((g - e).abs() <= 1e-5 * largest, "logit {g} vs {e}");
            }
        }
    }
}

#[test]
fn decoding_equals_the_autograd_decoder_and_the_whole_pass() {
    for (bias, threads) in [(true, 1), (false, 2)] {
        let mut gpt = model(&config(bias, 0.2));
        gpt.set_threads(threads);
        let mut reference = model(&config(bias, 0.2));
        reference.use_autograd();
        let whole = gpt.logits(&tokens(20, 3), 1, 20).unwrap();
        for n_seqs in [1, 3] {
            let (mut cpu, mut autograd) =
                (gpt.decoder(n_seqs).unwrap(), reference.decoder(n_seqs).unwrap());
            let prompt = &tokens(20, 3)[..6];
            let slots: Vec<usize> = (0..n_seqs).collect();
            cpu.prefill(&slots, prompt).unwrap();
            autograd.prefill(&slots, prompt).unwrap();
            for position in 6..=20 {
                assert_eq!(cpu.len(n_seqs - 1), position);
                for seq in 0..n_seqs {
                    let (got, expected) = (cpu.logits(seq), autograd.logits(seq));
                    assert_logits(got, expected, &format!("sequence {seq} of {n_seqs}"));
                }
                assert_logits(cpu.logits(0), &whole[(position - 1) * 37..position * 37], "whole");
                if position < 20 {
                    // Sequence 0 continues with the whole pass's tokens, the others with their own.
                    let id = |seq: usize| (tokens(20, 3)[position] + 5 * seq as u32) % 37;
                    let ids: Vec<(usize, u32)> = (0..n_seqs).map(|seq| (seq, id(seq))).collect();
                    cpu.decode(&ids).unwrap();
                    autograd.decode(&ids).unwrap();
                }
            }
            let one_more: Vec<(usize, u32)> = slots.iter().map(|slot| (*slot, 0)).collect();
            assert!(cpu.decode(&one_more).is_err(), "the cache is full");
            cpu.prefill(&[0], &prompt[..1]).unwrap();
            assert_eq!(cpu.len(0), 1);
        }
    }
}

#[test]
fn short_and_long_prompts_are_prefilled_alike() {
    let text = tokens(50, 3);
    for threads in 1..=3 {
        let mut gpt = model(&ModelConfig { block_size: 50, ..config(true, 0.0) });
        gpt.set_threads(threads);
        let whole = gpt.logits(&text, 1, 50).unwrap();
        let mut decoder = gpt.decoder(3).unwrap();
        for t in [1, 31, 32, 33, 47] {
            decoder.prefill(&[2, 0], &text[..t]).unwrap();
            for len in t..t + 3 {
                for slot in [0, 2] {
                    let what = format!("{t} tokens read, {len} held in {slot}, {threads} threads");
                    assert_logits(decoder.logits(slot), &whole[(len - 1) * 37..len * 37], &what);
                }
                decoder.decode(&[(0, text[len]), (2, text[len])]).unwrap();
            }
        }
    }
}

fn assert_logits(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 1e-5 * largest, "{what}: logit {g} vs {e}");
    }
}

/// The gradients in the order in which they came.
#[derive(Default)]
struct InOrder(Vec<(usize, Vec<f32>)>);

impl GradientSink for InOrder {
    fn ready(&mut self, index: usize, gradient: Vec<f32>) {
        self.0.push((index, gradient));
    }
}

#[test]
fn gradients_are_handed_over_once_they_are_complete() {
    let config = config(true, 0.0);
    let (b, t) = (4, 16);
    let (inputs, targets) = (tokens(b * t, 1), tokens(b * t, 2));
    let (inputs, targets) = (&inputs[..], &targets[..]);
    let batch = TokenBatch { inputs, targets, document_starts: None, batch_size: b, seq_len: t };
    for n_threads in [1, 2] {
        let mut gpt = model(&config);
        gpt.set_threads(n_threads);
        let mut expected = gpt.new_grads().unwrap();
        let mut grads = gpt.new_grads().unwrap();
        for store in [Store::Accumulate, Store::Overwrite, Store::Accumulate] {
            let whole = (&batch, batch.whole());
            let mut sink = InOrder::default();
            let sum = gpt.accumulate_part(whole, None, 0.5, store, &mut expected, None).unwrap();
            let again =
                gpt.accumulate_part(whole, None, 0.5, store, &mut grads, Some(&mut sink)).unwrap();
            assert_eq!(sum, again);
            let order: Vec<usize> = sink.0.iter().map(|(index, _)| *index).collect();
            let names: Vec<_> = param_specs(&config).into_iter().map(|spec| spec.name).collect();
            if n_threads == 1 {
                let first = &names[order[0]];
                let second = &names[order[2]];
                let last = order.iter().rev().take(2).map(|index| &names[*index][..3]);
                assert!(first == "ln_f.weight" && second == "h.2.ln_1.weight", "{first} {second}");
                assert_eq!(last.collect::<Vec<_>>(), ["wpe", "wte"]);
            }
            let (Grads::Host(expected), Grads::Host(grads)) = (&expected, &mut grads) else {
                panic!("a model on the CPU has host gradients")
            };
            assert!(grads.iter().all(Vec::is_empty) && order.len() == grads.len());
            for (index, gradient) in sink.0 {
                assert!(expected[index] == gradient, "{}", names[index]);
                grads[index] = gradient;
            }
        }
    }
}
