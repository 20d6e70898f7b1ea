//! 8-bit models: what is rounded, and that decoding equals that of the rounded model.

#![allow(clippy::unwrap_used, reason = "tests")]

use candle_core::Device;
use tempfile::TempDir;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Gpt, Model as _, ModelConfig};

use crate::fixture::{GOLDEN, golden_dir, ids};

fn values(gpt: &Gpt) -> Vec<Vec<f32>> {
    gpt.params().iter().map(|(_, t)| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(0f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what} at {i}: {a} {b}");
    }
}

/// A model whose heads and widths are not whole blocks, in a directory.
fn written() -> (Gpt, TempDir) {
    let config = ModelConfig {
        vocab_size: 70,
        block_size: 80,
        n_layer: 2,
        n_head: 3,
        n_embd: 72,
        ..ModelConfig::default()
    };
    let dir = TempDir::new().unwrap();
    let gpt = Gpt::init(config, 3, &Device::Cpu).unwrap();
    hf::write_dir(&gpt, dir.path(), &SpecialTokens { bos: 3, eos: Some(4) }).unwrap();
    (gpt, dir)
}

#[test]
fn matrices_and_the_table_are_rounded_and_nothing_else() {
    let (gpt, dir) = written();
    let rounded = Gpt::from_quantized(&hf::read_quantized(dir.path()).unwrap()).unwrap();
    let specs = gpt.params().specs();
    for ((spec, before), after) in specs.iter().zip(values(&gpt)).zip(values(&rounded)) {
        assert_close(&after, &before, 1.0 / 250.0, &spec.name);
        let is_rounded = spec.shape.len() == 2 && spec.name != "wpe.weight";
        assert_eq!(before != after, is_rounded, "{}", spec.name);
    }
    // What is rounded already stays.
    let again = TempDir::new().unwrap();
    hf::write_dir(&rounded, again.path(), &SpecialTokens { bos: 3, eos: Some(4) }).unwrap();
    let again = Gpt::from_quantized(&hf::read_quantized(again.path()).unwrap()).unwrap();
    for (again, once) in values(&again).iter().zip(values(&rounded)) {
        assert_close(again, &once, 1e-6, "twice rounded");
    }
}

#[test]
fn decoders_compute_with_the_same_rounded_weights_on_any_number_of_threads() {
    let (_, dir) = written();
    let mut model = hf::read_quantized(dir.path()).unwrap();
    let expected = Gpt::from_quantized(&model).unwrap().logits(&ids(80, 70, 5), 1, 80).unwrap();
    let text = ids(80, 70, 5);
    for threads in 1..=4 {
        model.set_decode_threads(threads);
        // Short prompts, long ones, and those at the edge of a chunk.
        for read in [1, 31, 32, 33, 64, 75] {
            let mut decoder = model.decoder(2).unwrap();
            decoder.prefill(&[0, 1], &text[..read]).unwrap();
            for position in read..read + 3 {
                let what = format!("{threads} threads, {read} read, position {position}");
                for slot in [0, 1] {
                    let expected = &expected[(position - 1) * 70..position * 70];
                    assert_close(decoder.logits(slot), expected, 2e-5, &what);
                }
                decoder.decode(&[(0, text[position]), (1, text[position])]).unwrap();
            }
        }
    }
}

#[test]
fn every_kind_of_directory_can_be_rounded() {
    for name in GOLDEN {
        let model = hf::read_quantized(&golden_dir(name)).unwrap();
        let mut rounded = Gpt::from_quantized(&model).unwrap();
        let text = ids(10, 50, 5);
        let expected = rounded.logits(&text, 1, 10).unwrap();
        let mut decoder = model.decoder(1).unwrap();
        decoder.prefill(&[0], &text).unwrap();
        let v = model.config().vocab_size;
        assert_close(decoder.logits(0), &expected[9 * v..], 2e-5, name);
    }
}
