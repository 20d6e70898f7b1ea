//! Properties that hold for any GPT-2, each to a stated tolerance, on both backends.

#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::Device;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{DropoutKey, Gpt, ModelConfig, Store, TokenBatch, host as host_values};

use crate::fixture::{GOLDEN, Golden, Optimizer, Path, golden_gpt, grads_of, host, ids, small};

fn init(config: ModelConfig, path: Path) -> Gpt {
    path.set(Gpt::init(config, 1337, &Device::Cpu).unwrap())
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(0f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what} at {i}: {a} {b}");
    }
}

#[test]
fn loss_at_init_is_that_of_a_guess() {
    for path in Path::BOTH {
        // ln V, and C 0.02² / 2 for the spread of the logits.
        let config = ModelConfig { vocab_size: 500, block_size: 64, n_embd: 128, ..small(true) };
        let mut gpt = init(config, path);
        let (inputs, targets) = (ids(512, 500, 1), ids(512, 500, 2));
        let batch = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 8,
            seq_len: 64,
        };
        let expected = 500f32.ln() + 128.0 * 0.02 * 0.02 / 2.0;
        let loss = gpt.loss(&batch).unwrap();
        assert!((loss - expected).abs() < 0.05, "{path:?}: {loss} {expected}");
    }
}

#[test]
fn a_token_never_changes_what_stands_before_it() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        let text = ids(16, 65, 3);
        let before = gpt.logits(&text, 1, 16).unwrap();
        for t in 1..16 {
            let mut changed = text.clone();
            changed[t] = (changed[t] + 1) % 65;
            let after = gpt.logits(&changed, 1, 16).unwrap();
            assert_eq!(before[..t * 65], after[..t * 65], "{path:?} position {t}");
            assert_ne!(before[t * 65..], after[t * 65..], "{path:?} position {t}");
        }
    }
}

#[test]
fn a_row_of_a_batch_is_the_row_alone() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("odd", path);
        let text = ids(5 * 9, 50, 4);
        let together = gpt.logits(&text, 5, 9).unwrap();
        for (row, alone) in text.chunks(9).zip(together.chunks(9 * 56)) {
            assert_close(&gpt.logits(row, 1, 9).unwrap(), alone, 1e-6, "logits");
        }
    }
}

#[test]
fn a_shorter_position_table_gives_the_same_logits_and_is_saved_short() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        let text = ids(8, 65, 3);
        let whole = gpt.logits(&text, 1, 8).unwrap();
        let n_params = gpt.config().num_params();
        gpt.cut_block_size(8).unwrap();
        assert_eq!(gpt.logits(&text, 1, 8).unwrap(), whole, "{path:?}");
        let config = gpt.config().clone();
        assert_eq!((config.block_size, config.num_params()), (8, n_params - 8 * config.n_embd));
        assert_eq!(gpt.params().specs()[1].shape, [8, config.n_embd]);
        assert!(gpt.logits(&ids(9, 65, 3), 1, 9).is_err(), "one more than there are");
        let special = SpecialTokens { bos: 0, eos: None };
        let dir = tempfile::tempdir().unwrap();
        hf::write_dir(&gpt, dir.path(), &special).unwrap();
        assert_eq!(hf::read_dir(dir.path(), &Device::Cpu).unwrap().config(), &config);
        assert!(gpt.cut_block_size(0).is_err() && gpt.cut_block_size(9).is_err());
    }
}

#[test]
fn new_tokens_start_as_the_mean_and_leave_the_others_as_they_are() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        let (text, v) = (ids(8, 65, 3), gpt.config().vocab_size);
        let before = gpt.logits(&text, 1, 8).unwrap();
        gpt.grow_vocab(v + 2).unwrap();
        let after = gpt.logits(&text, 1, 8).unwrap();
        for (before, after) in before.chunks(v).zip(after.chunks(v + 2)) {
            assert_close(&after[..v], before, 1e-6, "logits");
            let mean = before.iter().sum::<f32>() / v as f32;
            assert_close(&after[v..], &[mean, mean], 1e-4, "new logits");
        }
        let special = SpecialTokens { bos: 0, eos: None };
        let dir = tempfile::tempdir().unwrap();
        hf::write_dir(&gpt, dir.path(), &special).unwrap();
        assert_eq!(hf::read_dir(dir.path(), &Device::Cpu).unwrap().config().vocab_size, v + 2);
        assert!(gpt.grow_vocab(v).is_err());
        for (eos, expected) in [(Some(0), "[5,0]"), (Some(5), "[5]"), (None, "[5]")] {
            hf::add_end_of_turn(dir.path(), 5, eos).unwrap();
            let file = dir.path().join(hf::GENERATION_CONFIG);
            let text = std::fs::read_to_string(file).unwrap().replace(char::is_whitespace, "");
            assert!(text.contains(&format!("\"eos_token_id\":{expected}")), "{text}");
        }
    }
}

#[test]
fn the_cache_of_the_decoder_changes_nothing() {
    for path in Path::BOTH {
        for name in GOLDEN {
            let mut gpt = golden_gpt(name, path);
            let (t, v) = (gpt.config().block_size, gpt.config().vocab_size);
            // Two sequences with the same beginning and different ends.
            let first = ids(t as u32, 50, 5);
            let mut second = ids(t as u32, 50, 6);
            second[..4].copy_from_slice(&first[..4]);
            let expected = [gpt.logits(&first, 1, t).unwrap(), gpt.logits(&second, 1, t).unwrap()];
            let mut decoder = gpt.decoder(2).unwrap();
            assert!(decoder.is_empty());
            for round in 0..2 {
                decoder.prefill(&[0, 1], &first[..4]).unwrap();
                for position in 4..=t {
                    for (slot, expected) in expected.iter().enumerate() {
                        let expected = &expected[(position - 1) * v..position * v];
                        let what = format!("{name} {path:?} {round} {position}");
                        assert_close(decoder.logits(slot), expected, 2e-6, &what);
                    }
                    if position < t {
                        decoder.decode(&[(0, first[position]), (1, second[position])]).unwrap();
                    }
                }
                assert_eq!((decoder.len(0), decoder.len(1)), (t, t));
                assert!(decoder.decode(&[(0, 0), (1, 0)]).is_err(), "full");
            }
        }
    }
}

#[test]
fn sequences_of_any_length_are_decoded_next_to_each_other() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("odd", path);
        let (t, v) = (gpt.config().block_size, gpt.config().vocab_size);
        let texts: Vec<Vec<u32>> = (0..5).map(|i| ids(t as u32, 50, 10 + i)).collect();
        let expected: Vec<Vec<f32>> =
            texts.iter().map(|text| gpt.logits(text, 1, t).unwrap()).collect();
        let mut decoder = gpt.decoder(3).unwrap();
        // Which text each slot holds. A text enters with another length each time, into another
        // slot, and leaves when it is full or when its time has come.
        let mut held: [Option<usize>; 3] = [None; 3];
        for round in 0..40 {
            let (slot, text) = (round / 3 % 3, round % 5);
            if round % 3 == 0 && held[slot].is_none() {
                decoder.prefill(&[slot], &texts[text][..1 + round * 7 % (t - 1)]).unwrap();
                held[slot] = Some(text);
            }
            for (slot, text) in held.iter_mut().enumerate() {
                let Some(of) = *text else { continue };
                let last = decoder.len(slot) - 1;
                let what = format!("{path:?} round {round} slot {slot}");
                assert_close(decoder.logits(slot), &expected[of][last * v..][..v], 2e-6, &what);
                if last + 1 == t || (round % 7 == 6 && slot == round % 3) {
                    decoder.free(slot).unwrap();
                    assert!(decoder.len(slot) == 0 && decoder.logits(slot).is_empty());
                    *text = None;
                }
            }
            let next = |slot: usize| held[slot].map(|of| (slot, texts[of][decoder.len(slot)]));
            let tokens: Vec<(usize, u32)> = (0..3).filter_map(next).collect();
            assert_eq!(decoder.decode(&tokens).is_ok(), !tokens.is_empty());
        }
    }
}

#[test]
fn a_decoder_refuses_what_does_not_fit() {
    for path in Path::BOTH {
        let gpt = golden_gpt("odd", path);
        assert!(gpt.decoder(0).is_err());
        let mut decoder = gpt.decoder(2).unwrap();
        decoder.prefill(&[1], &[3, 4]).unwrap();
        for tokens in [&[][..], &[(0, 1)], &[(0, 1), (1, 1)], &[(1, 1), (1, 1)], &[(1, 56)]] {
            assert!(decoder.decode(tokens).is_err(), "{tokens:?}");
        }
        for (slots, text) in [(&[2][..], &[1][..]), (&[], &[1]), (&[0], &[]), (&[0], &[56])] {
            assert!(decoder.prefill(slots, text).is_err(), "{slots:?} {text:?}");
        }
        assert_eq!(decoder.len(1), 2);
        decoder.decode(&[(1, 5)]).unwrap();
    }
}

#[test]
fn micro_batches_add_up_to_the_large_batch() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        // More rows than the head takes at once.
        let (inputs, targets) = (ids(96 * 16, 65, 7), ids(96 * 16, 65, 8));
        let whole = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 96,
            seq_len: 16,
        };
        let (loss, grads) = grads_of(&mut gpt, &whole);
        let mut sum = gpt.new_grads().unwrap();
        let mut mean_loss = 0.0;
        for (inputs, targets) in inputs.chunks(32 * 16).zip(targets.chunks(32 * 16)) {
            let part =
                TokenBatch { inputs, targets, document_starts: None, batch_size: 32, seq_len: 16 };
            let loss = gpt.backward(&part, None, 1.0 / 3.0, Store::Accumulate, &mut sum).unwrap();
            mean_loss += loss / 3.0;
        }
        assert!((mean_loss - loss).abs() < 1e-5, "{path:?}: {mean_loss} {loss}");
        for ((spec, sum), whole) in gpt.params().specs().iter().zip(host(&sum)).zip(host(&grads)) {
            assert_close(sum, whole, 2e-5, &format!("{path:?} {}", spec.name));
        }
    }
}

#[test]
fn overwriting_is_adding_to_zeros() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        let (inputs, targets) = (ids(6 * 16, 65, 7), ids(6 * 16, 65, 8));
        let batch = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 6,
            seq_len: 16,
        };
        for threads in [1, 2] {
            gpt.set_threads(threads);
            let mut added = gpt.new_grads().unwrap();
            gpt.backward(&batch, None, 1.0, Store::Accumulate, &mut added).unwrap();
            // Whatever was there before, in the gradients as in the workers' own.
            let mut written = gpt.new_grads().unwrap();
            gpt.backward(&batch, None, 70.0, Store::Accumulate, &mut written).unwrap();
            gpt.backward(&batch, None, 1.0, Store::Overwrite, &mut written).unwrap();
            let specs = gpt.params().specs().iter();
            for ((spec, added), written) in specs.zip(host(&added)).zip(host(&written)) {
                assert!(added == written, "{path:?}, {threads} threads: {}", spec.name);
            }
        }
    }
}

#[test]
fn every_parameter_gets_a_finite_gradient_that_is_not_zero() {
    for path in Path::BOTH {
        for bias in [true, false] {
            let mut gpt = init(small(bias), path);
            let (inputs, targets) = (ids(64, 65, 9), ids(64, 65, 10));
            let batch = TokenBatch {
                inputs: &inputs,
                targets: &targets,
                document_starts: None,
                batch_size: 4,
                seq_len: 16,
            };
            let (_, grads) = grads_of(&mut gpt, &batch);
            assert!(grads.global_norm(gpt.params()).unwrap() > 0.0);
            for (spec, grad) in gpt.params().specs().iter().zip(host(&grads)) {
                let largest = |g: &[f32]| g.iter().fold(0f32, |max, x| max.max(x.abs()));
                assert!(largest(grad) > 0.0, "{path:?} {}", spec.name);
                if spec.name.ends_with("c_attn.bias") {
                    // A constant added to all keys shifts each row of scores: softmax sees nothing.
                    let [q, k, v] = [0, 1, 2].map(|third| largest(&grad[third * 32..][..32]));
                    assert!(k < 1e-4 * q.min(v), "{path:?} {}: {q} {k} {v}", spec.name);
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    // Along each parameter's own gradient the loss rises by the gradient's length; the third
    // order term of the difference quotient stays below the tolerance at this step.
    let golden = Golden::read("odd");
    let mut gpt = golden_gpt("odd", Path::Autograd);
    let (_, grads) = grads_of(&mut gpt, &golden.batch());
    let h = 2e-2f32;
    for (param_idx, grad) in host(&grads).iter().enumerate() {
        let norm = grad.iter().map(|g| g * g).sum::<f32>().sqrt();
        let mut loss_at = |step: f32| {
            let shift = |gpt: &Gpt, step: f32| {
                let tensor = gpt.params().at(param_idx).unwrap();
                let add = |w: &mut [f32]| {
                    w.iter_mut().zip(grad).for_each(|(w, g)| *w += step * g / norm);
                };
                host_values::write(tensor, add).unwrap();
            };
            shift(&gpt, step);
            let loss = gpt.loss(&golden.batch()).unwrap();
            shift(&gpt, -step);
            loss
        };
        let slope = (loss_at(h) - loss_at(-h)) / (2.0 * h);
        let name = &gpt.params().specs()[param_idx].name;
        assert!((slope - norm).abs() < 0.01 * norm + 1e-4, "{name}: {slope} {norm}");
    }
}

#[test]
fn one_batch_overfits() {
    for path in Path::BOTH {
        let mut gpt = init(small(true), path);
        let (inputs, targets) = (ids(32, 65, 11), ids(32, 65, 12));
        let batch = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 2,
            seq_len: 16,
        };
        let mut optimizer = Optimizer::new(&gpt, 1e-2, 0.0, 1.0);
        let losses: Vec<f32> = (0..80).map(|_| optimizer.step(&mut gpt, &batch)).collect();
        assert!(losses[79] < 0.05, "{path:?}: {losses:?}");
    }
}

#[test]
fn dropout_follows_its_key_and_spares_evaluation() {
    for path in Path::BOTH {
        let mut gpt = init(ModelConfig { dropout: 0.2, ..small(true) }, path);
        let (inputs, targets) = (ids(64, 65, 13), ids(64, 65, 14));
        let batch = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 4,
            seq_len: 16,
        };
        let mut grads = gpt.new_grads().unwrap();
        let mut loss_with = |key: Option<DropoutKey>, gpt: &mut Gpt| {
            gpt.backward(&batch, key, 1.0, Store::Overwrite, &mut grads)
        };
        let key = DropoutKey { seed: 1, step: 2, micro_batch: 3 };
        let dropped = loss_with(Some(key), &mut gpt).unwrap();
        assert_eq!(dropped, loss_with(Some(key), &mut gpt).unwrap());
        for other in [
            DropoutKey { seed: 2, ..key },
            DropoutKey { step: 3, ..key },
            DropoutKey { micro_batch: 4, ..key },
        ] {
            assert_ne!(dropped, loss_with(Some(other), &mut gpt).unwrap(), "{path:?} {other:?}");
        }
        let evaluated = gpt.loss(&batch).unwrap();
        let refused = loss_with(None, &mut gpt).unwrap_err().to_string();
        assert!(refused.contains("dropout is 0.2, which needs a DropoutKey"), "{refused}");
        gpt.set_dropout(0.0).unwrap();
        let plain = loss_with(None, &mut gpt).unwrap();
        assert_ne!(dropped, plain);
        assert!((evaluated - plain).abs() < 1e-5, "{path:?}");
    }
}

#[test]
fn both_paths_drop_the_same() {
    let (inputs, targets) = (ids(5 * 16, 65, 15), ids(5 * 16, 65, 16));
    let batch = TokenBatch {
        inputs: &inputs,
        targets: &targets,
        document_starts: None,
        batch_size: 5,
        seq_len: 16,
    };
    let key = DropoutKey { seed: 4, step: 5, micro_batch: 6 };
    let [(cpu_loss, cpu), (loss, grads)] = Path::BOTH.map(|path| {
        let mut gpt = init(ModelConfig { dropout: 0.3, ..small(true) }, path);
        let mut grads = gpt.new_grads().unwrap();
        let loss = gpt.backward(&batch, Some(key), 1.0, Store::Accumulate, &mut grads).unwrap();
        (loss, grads)
    });
    assert!((cpu_loss - loss).abs() < 1e-5, "{cpu_loss} {loss}");
    for (cpu, autograd) in host(&cpu).iter().zip(host(&grads)) {
        assert_close(cpu, autograd, 1e-4, "gradients with dropout");
    }
}

#[test]
fn ids_and_shapes_that_do_not_fit_are_refused() {
    for path in Path::BOTH {
        let mut gpt = init(small(true), path);
        for (given, batch_size, seq_len, part) in [
            (vec![65; 16], 1, 16, "token id 65"),
            (vec![1; 17], 1, 17, "block_size = 16"),
            (vec![1; 16], 2, 16, "16 token ids"),
            (vec![], 0, 0, "at least 1"),
        ] {
            let batch = TokenBatch {
                inputs: &given,
                targets: &given,
                document_starts: None,
                batch_size,
                seq_len,
            };
            let mut grads = gpt.new_grads().unwrap();
            for message in [
                gpt.logits(&given, batch_size, seq_len).unwrap_err().to_string(),
                gpt.loss(&batch).unwrap_err().to_string(),
                gpt.backward(&batch, None, 1.0, Store::Accumulate, &mut grads)
                    .unwrap_err()
                    .to_string(),
            ] {
                assert!(message.contains(part), "{path:?}: {message}");
            }
        }
    }
}
