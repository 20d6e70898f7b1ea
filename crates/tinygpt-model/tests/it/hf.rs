//! Directories exchanged with `transformers`: what it saved is read (it wrote the golden
//! directories), what we write is read back, and everything that is not a plain GPT-2 is rejected.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{ErrorKind, Gpt, ModelConfig};

use crate::fixture::{GOLDEN, golden_dir, small};

type Tensors = HashMap<String, Tensor>;

const SPECIAL: SpecialTokens = SpecialTokens { bos: 3, eos: Some(4) };

fn written(config: ModelConfig) -> (Gpt, TempDir) {
    let dir = TempDir::new().unwrap();
    let gpt = Gpt::init(config, 1, &Device::Cpu).unwrap();
    hf::write_dir(&gpt, dir.path(), &SPECIAL).unwrap();
    (gpt, dir)
}

fn values(gpt: &Gpt) -> Vec<Vec<f32>> {
    gpt.params().iter().map(|(_, t)| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn tensors(dir: &Path) -> Tensors {
    candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap()
}

/// Rewrites the weights of a directory.
fn change(dir: &Path, edit: impl FnOnce(&mut Tensors)) {
    let mut tensors = tensors(dir);
    edit(&mut tensors);
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

fn change_config(dir: &Path, key: &str, value: Value) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn refused(dir: &Path) -> String {
    let error = hf::read_dir(dir, &Device::Cpu).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error.to_string()
}

#[test]
fn what_is_written_is_read_back() {
    for bias in [true, false] {
        let (gpt, dir) = written(ModelConfig { dropout: 0.2, ..small(bias) });
        let read = hf::read_dir(dir.path(), &Device::Cpu).unwrap();
        assert_eq!(read.config(), gpt.config());
        assert_eq!(values(&read), values(&gpt));
    }
}

#[test]
fn config_holds_what_transformers_asks_for() {
    let (_, dir) = written(ModelConfig { dropout: 0.2, ..small(false) });
    let config = fs::read(dir.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in [
        ("model_type", json!("gpt2")),
        ("architectures", json!(["GPT2LMHeadModel"])),
        ("activation_function", json!("gelu_new")),
        ("n_positions", json!(16)),
        ("resid_pdrop", json!(0.2)),
        ("attn_pdrop", json!(0.2)),
        ("embd_pdrop", json!(0.2)),
        ("bos_token_id", json!(3)),
        ("eos_token_id", json!(4)),
        ("tie_word_embeddings", json!(true)),
        ("bias", json!(false)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let generation = fs::read(dir.path().join("generation_config.json")).unwrap();
    let generation: Value = serde_json::from_slice(&generation).unwrap();
    assert_eq!(generation["eos_token_id"], 4);
    assert_eq!(hf::read_special_tokens(dir.path()).unwrap(), Some(SPECIAL));
    let weights = fs::read(dir.path().join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&weights).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    let tensors = tensors(dir.path());
    assert_eq!(tensors.len(), 2 + 2 * 12 + 2);
    assert!(tensors.keys().all(|name| name.starts_with("transformer.")));
    let bias = tensors["transformer.h.1.mlp.c_fc.bias"].to_vec1::<f32>().unwrap();
    assert!(bias.iter().all(|x| *x == 0.0));
}

#[test]
fn names_buffers_and_a_tied_head_are_taken_in_any_form() {
    for name in GOLDEN {
        let dir = TempDir::new().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden_dir(name).join(file), dir.path().join(file)).unwrap();
        }
        let expected = values(&hf::read_dir(dir.path(), &Device::Cpu).unwrap());
        change(dir.path(), |tensors| {
            *tensors = tensors
                .drain()
                .map(|(name, t)| (name.trim_start_matches("transformer.").to_owned(), t))
                .collect();
            let head = tensors["wte.weight"].clone();
            tensors.insert("lm_head.weight".to_owned(), head);
            let mask = Tensor::ones((1, 1, 4, 4), DType::U8, &Device::Cpu).unwrap();
            tensors.insert("h.0.attn.bias".to_owned(), mask);
            let masked = Tensor::new(-1e4f32, &Device::Cpu).unwrap();
            tensors.insert("h.1.attn.masked_bias".to_owned(), masked);
        });
        assert_eq!(values(&hf::read_dir(dir.path(), &Device::Cpu).unwrap()), expected, "{name}");
    }
}

#[test]
fn halves_are_widened() {
    for dtype in [DType::F16, DType::BF16] {
        let (gpt, dir) = written(small(true));
        change(dir.path(), |tensors| {
            for tensor in tensors.values_mut() {
                *tensor = tensor.to_dtype(dtype).unwrap();
            }
        });
        let read = values(&hf::read_dir(dir.path(), &Device::Cpu).unwrap());
        let rounded = gpt.params().iter().map(|(_, t)| {
            let t = t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        assert_eq!(read, rounded.collect::<Vec<_>>(), "{dtype:?}");
    }
}

#[test]
fn shards_are_put_together() {
    let (gpt, dir) = written(small(true));
    let mut map = serde_json::Map::new();
    let mut shards = [Tensors::new(), Tensors::new()];
    for (i, (name, tensor)) in tensors(dir.path()).into_iter().enumerate() {
        map.insert(name.clone(), json!(format!("model-{}.safetensors", i % 2)));
        shards[i % 2].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        let path = dir.path().join(format!("model-{i}.safetensors"));
        candle_core::safetensors::save(shard, path).unwrap();
    }
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    assert_eq!(values(&hf::read_dir(dir.path(), &Device::Cpu).unwrap()), values(&gpt));

    fs::write(&index, r#"{"weight_map": {"wte.weight": "../../model.safetensors"}}"#).unwrap();
    assert!(refused(dir.path()).contains("same directory"));
}

#[test]
fn another_model_is_refused_with_the_key_that_differs() {
    let (_, dir) = written(small(true));
    for (key, bad) in [
        ("model_type", json!("llama")),
        ("activation_function", json!("relu")),
        ("layer_norm_epsilon", json!(1e-6)),
        ("n_inner", json!(100)),
        ("scale_attn_weights", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("add_cross_attention", json!(true)),
        ("tie_word_embeddings", json!(false)),
        ("n_head", json!(5)),
        ("n_embd", json!("wide")),
        ("n_layer", json!(-1)),
        ("vocab_size", json!(0)),
    ] {
        let path = dir.path().join("config.json");
        let good = fs::read(&path).unwrap();
        change_config(dir.path(), key, bad);
        let message = refused(dir.path());
        assert!(message.contains("config.json"), "{key}: {message}");
        assert!(message.contains(key) || message.contains("invalid"), "{key}: {message}");
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    type Edit = fn(&mut Tensors);
    let cases: [(&str, Edit); 8] = [
        ("h.1.mlp.c_proj.weight", |t| drop(t.remove("transformer.h.1.mlp.c_proj.weight"))),
        ("has shape [32, 65], expected [65, 32]", |t| {
            let wte = t["transformer.wte.weight"].t().unwrap().contiguous().unwrap();
            t.insert("transformer.wte.weight".to_owned(), wte);
        }),
        ("`transformer.h.2.ln_1.weight` is not a tensor of GPT-2 with 2 layers", |t| {
            let extra = t["transformer.h.1.ln_1.weight"].clone();
            t.insert("transformer.h.2.ln_1.weight".to_owned(), extra);
        }),
        ("is stored twice", |t| {
            let twice = t["transformer.ln_f.bias"].clone();
            t.insert("ln_f.bias".to_owned(), twice);
        }),
        ("untied head", |t| {
            let head = (&t["transformer.wte.weight"] + 1.0).unwrap();
            t.insert("lm_head.weight".to_owned(), head);
        }),
        ("`transformer.ln_f.weight` holds values that are not finite", |t| {
            let broken = (&t["transformer.ln_f.weight"] / 0.0).unwrap();
            t.insert("transformer.ln_f.weight".to_owned(), broken);
        }),
        ("F64, expected F32", |t| {
            let wide = t["transformer.ln_f.weight"].to_dtype(DType::F64).unwrap();
            t.insert("transformer.ln_f.weight".to_owned(), wide);
        }),
        ("tensors are missing", Tensors::clear),
    ];
    for (part, edit) in cases {
        let (_, dir) = written(small(true));
        change(dir.path(), edit);
        let message = refused(dir.path());
        assert!(message.contains(part), "{part}: {message}");
        assert!(message.contains("model.safetensors"), "{part}: {message}");
    }
}

#[test]
fn biases_that_config_denies_are_refused() {
    let (_, dir) = written(small(true));
    change_config(dir.path(), "bias", json!(false));
    // Fresh biases are zero, so this is the same model without them.
    assert!(!hf::read_dir(dir.path(), &Device::Cpu).unwrap().config().bias);
    change(dir.path(), |tensors| {
        let bias = (&tensors["transformer.h.0.mlp.c_fc.bias"] + 1.0).unwrap();
        tensors.insert("transformer.h.0.mlp.c_fc.bias".to_owned(), bias);
    });
    assert!(refused(dir.path()).contains("h.0.mlp.c_fc.bias"));
}

#[test]
fn broken_and_missing_files_are_named() {
    let (gpt, dir) = written(small(true));
    let weights = dir.path().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        assert!(refused(dir.path()).contains("truncated"), "{length}");
    }
    // A header that claims to be longer than any file.
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&weights, huge).unwrap();
    assert!(refused(dir.path()).contains("truncated"));

    fs::remove_file(&weights).unwrap();
    assert!(refused(dir.path()).contains("no model.safetensors"));
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert!(refused(dir.path()).contains("pickle"));
    fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(refused(dir.path()).contains("config.json"));

    let nowhere = dir.path().join("nowhere");
    let error = hf::read_dir(&nowhere, &Device::Cpu).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let error = hf::write_dir(&gpt, &nowhere, &SPECIAL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let outside = SpecialTokens { bos: 0, eos: Some(65) };
    assert!(hf::write_dir(&gpt, dir.path(), &outside).unwrap_err().to_string().contains("eos"));
}
