//! GGUF files, read back by candle's reader, which shares no code with our writer.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::{GgmlDType, gguf_file};
use candle_core::{Device, Tensor};
use tinygpt_model::gguf::{self, Metadata, Value, WeightType};
use tinygpt_model::{Gpt, ModelConfig, host};

/// A model whose every value differs from its neighbours', biases and gains included.
fn model(n_embd: usize, bias: bool) -> Gpt {
    let config = ModelConfig {
        vocab_size: 40,
        block_size: 6,
        n_layer: 2,
        n_head: 2,
        n_embd,
        bias,
        ..ModelConfig::default()
    };
    let gpt = Gpt::init(config, 7, &Device::Cpu).unwrap();
    for (seed, (_, tensor)) in gpt.params().iter().enumerate() {
        let change = |w: &mut [f32]| {
            w.iter_mut().enumerate().for_each(|(i, w)| *w += ((i * i + seed) as f32).sin());
        };
        host::write(tensor, change).unwrap();
    }
    gpt
}

struct Written {
    content: gguf_file::Content,
    file: BufReader<File>,
    n_bytes: u64,
}

fn write(gpt: &Gpt, n_tokens: usize, weights: WeightType, metadata: Metadata) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    gguf::write_file(gpt, n_tokens, weights, metadata, &path).unwrap();
    let n_bytes = path.metadata().unwrap().len();
    let mut file = BufReader::new(File::open(&path).unwrap());
    let content = gguf_file::Content::read(&mut file).unwrap();
    Written { content, file, n_bytes }
}

impl Written {
    fn read(&mut self, name: &str) -> (GgmlDType, Tensor) {
        let tensor = self.content.tensor(&mut self.file, name, &Device::Cpu).unwrap();
        (tensor.dtype(), tensor.dequantize(&Device::Cpu).unwrap())
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// GPT-2's parameter and whether GGUF has it turned around.
const SOME: [(&str, &str, bool); 9] = [
    ("position_embd.weight", "wpe.weight", false),
    ("blk.0.attn_norm.bias", "h.0.ln_1.bias", false),
    ("blk.1.attn_qkv.weight", "h.1.attn.c_attn.weight", true),
    ("blk.1.attn_qkv.bias", "h.1.attn.c_attn.bias", false),
    ("blk.0.attn_output.weight", "h.0.attn.c_proj.weight", true),
    ("blk.1.ffn_norm.weight", "h.1.ln_2.weight", false),
    ("blk.0.ffn_up.weight", "h.0.mlp.c_fc.weight", true),
    ("blk.1.ffn_down.weight", "h.1.mlp.c_proj.weight", true),
    ("output_norm.bias", "ln_f.bias", false),
];

#[test]
fn every_value_is_there_under_its_name() {
    let gpt = model(32, true);
    let mut written = write(&gpt, 40, WeightType::F32, Vec::new());
    assert_eq!(written.content.tensor_infos.len(), 2 + 2 * 12 + 2);
    for (name, from, is_turned) in SOME {
        let param = gpt.params().get(from).unwrap();
        let expected = if is_turned { param.t().unwrap() } else { param.clone() };
        let (dtype, got) = written.read(name);
        assert_eq!((dtype, got.dims()), (GgmlDType::F32, expected.dims()), "{name}");
        assert_eq!(values(&got), values(&expected.contiguous().unwrap()), "{name}");
    }
    // The last tensor ends the file, but for its padding.
    let last = &written.content.tensor_infos["output_norm.bias"];
    let end = written.content.tensor_data_offset + last.offset + 4 * 32;
    assert_eq!(written.n_bytes, end.next_multiple_of(32));
}

#[test]
fn metadata_says_what_the_model_and_the_caller_know() {
    let mine = vec![
        ("general.name".to_owned(), Value::String("tiny ✓".to_owned())),
        ("list".to_owned(), Value::Strings(vec!["a".to_owned(), String::new()])),
        ("kinds".to_owned(), Value::I32s(vec![1, -3])),
        ("yes".to_owned(), Value::Bool(true)),
    ];
    let written = write(&model(32, true), 40, WeightType::Q8_0, mine);
    let get = |key: &str| &written.content.metadata[key];
    let expected = [
        ("context_length", 6),
        ("embedding_length", 32),
        ("feed_forward_length", 128),
        ("block_count", 2),
        ("attention.head_count", 2),
    ];
    for (key, n) in expected {
        assert_eq!(get(&format!("gpt2.{key}")).to_u32().unwrap(), n, "{key}");
    }
    assert_eq!(get("gpt2.attention.layer_norm_epsilon").to_f32().unwrap(), 1e-5);
    assert_eq!(get("general.architecture").to_string().unwrap(), "gpt2");
    assert_eq!(get("general.file_type").to_u32().unwrap(), 7);
    assert_eq!(get("general.name").to_string().unwrap(), "tiny ✓");
    assert_eq!(get("list").to_vec().unwrap().len(), 2);
    assert_eq!(get("kinds").to_vec().unwrap()[1].to_i32().unwrap(), -3);
    assert!(get("yes").to_bool().unwrap());
}

#[test]
fn smaller_types_are_as_near_as_they_can_be() {
    let gpt = model(32, true);
    let param = gpt.params().get("h.1.mlp.c_proj.weight").unwrap().t().unwrap();
    let expected = values(&param.contiguous().unwrap());
    for (weights, dtype, tolerance) in [
        (WeightType::F16, GgmlDType::F16, 1.0 / 2048.0),
        (WeightType::Q8_0, GgmlDType::Q8_0, 0.563 / 127.0),
    ] {
        let mut written = write(&gpt, 40, weights, Vec::new());
        let (got_dtype, got) = written.read("blk.1.ffn_down.weight");
        assert_eq!(got_dtype, dtype);
        for (got, expected) in values(&got).chunks(32).zip(expected.chunks(32)) {
            let largest = expected.iter().fold(0f32, |a, x| a.max(x.abs()));
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= tolerance * largest, "{got} for {expected}");
            }
        }
        assert_eq!(written.read("token_embd.weight").0, dtype);
        for name in ["position_embd.weight", "blk.0.attn_norm.weight", "blk.0.ffn_up.bias"] {
            assert_eq!(written.read(name).0, GgmlDType::F32, "{name}");
        }
    }
}

#[test]
fn rows_that_do_not_divide_into_blocks_are_half_precision() {
    let gpt = model(24, true);
    let mut written = write(&gpt, 40, WeightType::Q8_0, Vec::new());
    let file_type =
        |written: &Written| written.content.metadata["general.file_type"].to_u32().unwrap();
    assert_eq!(written.read("blk.0.attn_qkv.weight").0, GgmlDType::F16);
    // 4 · 24² of the 12 · 24² weights of a block are in 8 bits, and none of the table.
    assert_eq!(file_type(&written), 1, "mostly f16");
    for (n_embd, expected) in [(32, 7), (50, 1), (16, 1)] {
        let written = write(&model(n_embd, true), 40, WeightType::Q8_0, Vec::new());
        assert_eq!(file_type(&written), expected, "{n_embd}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (n_embd, weights, expected) in [
        (24, WeightType::Q8_0, (9, 7)),
        (50, WeightType::Q8_0, (9, 9)),
        (32, WeightType::Q8_0, (9, 0)),
        (50, WeightType::F16, (9, 0)),
        (50, WeightType::F32, (9, 0)),
    ] {
        let path = dir.path().join("model.gguf");
        let stored =
            gguf::write_file(&model(n_embd, true), 40, weights, Vec::new(), &path).unwrap();
        assert_eq!((stored.n_matrices, stored.n_f16_instead), expected, "{n_embd} {weights:?}");
    }
    // 4 · 24 does.
    assert_eq!(written.read("blk.0.ffn_down.weight").0, GgmlDType::Q8_0);
}

#[test]
fn rows_without_a_token_are_cut_off_and_absent_biases_are_zero() {
    let gpt = model(32, false);
    let mut written = write(&gpt, 37, WeightType::F32, Vec::new());
    let (_, table) = written.read("token_embd.weight");
    assert_eq!(table.dims(), [37, 32]);
    assert_eq!(values(&table), values(gpt.params().get("wte.weight").unwrap())[..37 * 32]);
    let (_, bias) = written.read("blk.1.attn_qkv.bias");
    assert_eq!(values(&bias), [0.0; 96]);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let gpt = model(32, true);
    let refused = |n_tokens, weights, path: &Path| {
        gguf::write_file(&gpt, n_tokens, weights, Vec::new(), path).unwrap_err().to_string()
    };
    assert!(refused(41, WeightType::F32, &path).contains("41 tokens"));
    let nowhere = dir.path().join("no/model.gguf");
    assert!(refused(40, WeightType::F32, &nowhere).contains("cannot create"));
    host::write(gpt.params().get("h.0.mlp.c_fc.weight").unwrap(), |w| w[5] = -70000.0).unwrap();
    assert!(refused(40, WeightType::F16, &path).contains("h.0.mlp.c_fc.weight"));
    // A scale of f16 reaches further than f16.
    gguf::write_file(&gpt, 40, WeightType::F32, Vec::new(), &path).unwrap();
}
