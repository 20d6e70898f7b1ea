//! Pretrained models: from the hub, sharded, in half precision, with GPT-2's tokenizer files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor, safetensors};
use serde_json::{Value, json};

use crate::chat::chat_model;
use crate::fake_hub::FakeHub;
use crate::program::{Ran, command, copy_tree, run, run_command, trained};

const SAMPLE: &str = "--num-samples 2 --max-new-tokens 30";

fn with_hub(hub: &FakeHub, binary: &str, dir: &Path, args: &str) -> Ran {
    let mut command = command(binary, dir);
    run_command(command.env("HF_ENDPOINT", hub.url()).args(args.split_whitespace()))
}

type Files = Vec<(&'static str, Vec<u8>)>;

/// The files of a model as a repository has them.
fn files(dir: &Path, names: &[&'static str]) -> Files {
    names.iter().map(|name| (*name, fs::read(dir.join(name)).unwrap())).collect()
}

/// The weights of `dir` in two files of halves, without the prefix, with a mask among them.
fn sharded(dir: &Path) -> Files {
    let tensors = safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut shards = [HashMap::new(), HashMap::new()];
    let mut map = serde_json::Map::new();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let name = name.trim_start_matches("transformer.").to_owned();
        map.insert(name.clone(), json!(names[i % 2]));
        shards[i % 2].insert(name, tensor.to_dtype(DType::BF16).unwrap());
    }
    let mask = Tensor::ones((1, 1, 4, 4), DType::U8, &Device::Cpu).unwrap();
    map.insert("h.0.attn.bias".to_owned(), json!(names[0]));
    shards[0].insert("h.0.attn.bias".to_owned(), mask);
    let index = json!({ "metadata": {}, "weight_map": map }).to_string().into_bytes();
    let mut files = vec![("model.safetensors.index.json", index)];
    for (name, shard) in names.into_iter().zip(shards) {
        let path = dir.join("shard");
        safetensors::save(&shard, &path).unwrap();
        files.push((name, fs::read(path).unwrap()));
    }
    files
}

const WHOLE: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// A directory with a trained run, and the model of it that is meant.
fn exported() -> tempfile::TempDir {
    let dir = trained();
    run("sample", dir.path(), "--out-dir out --export hf model").ok();
    dir
}

#[test]
fn a_model_of_the_hub_samples_as_its_directory_does_and_is_fetched_once() {
    let dir = exported();
    let path = dir.path();
    let hub = FakeHub::start_model("o/gpt", &files(&path.join("model"), &WHOLE));
    let expected = run("sample", path, &format!("--checkpoint model {SAMPLE}")).ok().stdout;
    let args = format!("--checkpoint hub:o/gpt {SAMPLE}");
    assert_eq!(with_hub(&hub, "sample", path, &args).ok().stdout, expected);
    assert_eq!(hub.transfers().len(), 3);
    let pinned = format!("--checkpoint hub:o/gpt@main {SAMPLE}");
    assert_eq!(with_hub(&hub, "sample", path, &pinned).ok().stdout, expected);
    assert_eq!(hub.transfers().len(), 3, "no bytes twice");
    drop(hub);
    let mut offline = command("sample", path);
    offline.env("HF_HUB_OFFLINE", "1").args(args.split_whitespace());
    assert_eq!(run_command(&mut offline).ok().stdout, expected);
}

#[test]
fn shards_of_halves_are_the_model_of_halves() {
    let dir = exported();
    let model = dir.path().join("model");
    let mut all = sharded(&model);
    all.extend(files(&model, &["config.json", "tokenizer.json"]));
    let hub = FakeHub::start_model("o/gpt", &all);
    let args = format!("--checkpoint hub:o/gpt {SAMPLE} --temperature 0");
    let fetched = with_hub(&hub, "sample", dir.path(), &args).ok();
    assert_eq!(hub.transfers().len(), 5);
    // The same model as a directory of one file.
    let tensors = safetensors::load(model.join("model.safetensors"), &Device::Cpu).unwrap();
    let halves: HashMap<_, _> =
        tensors.into_iter().map(|(name, t)| (name, t.to_dtype(DType::BF16).unwrap())).collect();
    safetensors::save(&halves, model.join("model.safetensors")).unwrap();
    let args = format!("--checkpoint model {SAMPLE} --temperature 0");
    assert_eq!(run("sample", dir.path(), &args).ok().stdout, fetched.stdout);
}

#[test]
fn fine_tuning_a_model_of_the_hub_needs_its_tokenizer() {
    let dir = exported();
    let path = dir.path();
    let hub = FakeHub::start_model("o/gpt", &files(&path.join("model"), &WHOLE));
    let shape = "--batch-size 2 --max-iters 2 --warmup-iters 1 --eval-interval 1 --eval-iters 1";
    let args = format!("--dataset-name text --threads 1 {shape} --init-from hub:o/gpt");
    let ran = with_hub(&hub, "train", path, &format!("{args} --out-dir tuned")).ok();
    assert!(ran.stderr.contains("the model in hub:o/gpt"), "{}", ran.stderr);
    run("sample", path, "--out-dir tuned --export hf card").ok();
    let card = fs::read_to_string(path.join("card/README.md")).unwrap();
    assert!(card.contains("started from: hub:o/gpt"), "{card}");
    // Resuming needs no hub.
    drop(hub);
    run("train", path, &format!("{args} --out-dir tuned --max-iters 3 --init-from resume")).ok();

    let hub = FakeHub::start_model("o/gpt", &files(&path.join("model"), &WHOLE));
    run("prepare", path, "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let ran = with_hub(&hub, "train", path, &format!("{args} --out-dir other"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for part in
        ["hub:o/gpt", "--encoding-type simple", "prepare --dataset-name text --tokenizer hub:o/gpt"]
    {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let prepare = "--source text.txt --dataset-name same --tokenizer hub:o/gpt";
    with_hub(&hub, "prepare", path, prepare).ok();
    let args = args.replace("--dataset-name text", "--dataset-name same");
    with_hub(&hub, "train", path, &format!("{args} --out-dir same")).ok();
}

#[test]
fn a_model_of_another_kind_is_refused_before_its_weights_come() {
    let dir = exported();
    let path = dir.path();
    for (key, value, says) in [
        ("model_type", json!("llama"), "model_type is \"llama\", expected \"gpt2\""),
        ("tie_word_embeddings", json!(false), "tie_word_embeddings is false"),
    ] {
        let mut all = files(&path.join("model"), &WHOLE);
        let mut config: Value = serde_json::from_slice(&all[0].1).unwrap();
        config[key] = value;
        all[0].1 = config.to_string().into_bytes();
        let hub = FakeHub::start_model(&format!("o/{key}"), &all);
        let ran = with_hub(&hub, "sample", path, &format!("--checkpoint hub:o/{key}"));
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert_eq!(hub.transfers().len(), 1, "only config.json");
    }
}

#[test]
fn what_is_not_a_model_on_the_hub_is_refused() {
    let dir = exported();
    let path = dir.path();
    let hub = FakeHub::start_model("o/gpt", &files(&path.join("model"), &WHOLE[..1]));
    let say = |args: &str, code: i32, says: &[&str]| {
        let ran = with_hub(&hub, "sample", path, args);
        assert_eq!(ran.code, code, "{args}: {}", ran.stderr);
        for part in says {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    };
    say("--checkpoint hub:o/gpt", 2, &["hub:o/gpt", "tokenizer.json", "vocab.json"]);
    say("--checkpoint hub:o/none", 5, &["404", "no such repository"]);
    say("--checkpoint hub:o/gpt/small", 2, &["hub:o/gpt/small", "owner/name"]);
    say("--checkpoint hub:o/../x", 2, &["owner/name"]);
}

#[test]
fn gpt_2_s_own_tokenizer_files_do() {
    let dir = trained();
    let path = dir.path();
    run("prepare", path, "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let train = "--n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 2 --max-iters 2 \
                 --warmup-iters 1 --eval-interval 1 --eval-iters 1 --threads 1";
    run("train", path, &format!("--dataset-name text --out-dir out-bpe {train}")).ok();
    run("sample", path, "--out-dir out-bpe --export hf model").ok();
    let expected = run("sample", path, &format!("--checkpoint model {SAMPLE}")).ok();
    let tokenizer = path.join("model/tokenizer.json");
    let json: Value = serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
    let merges: Vec<String> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| format!("{} {}\n", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()))
        .collect();
    fs::write(path.join("model/vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    fs::write(path.join("model/merges.txt"), merges.concat()).unwrap();
    fs::remove_file(&tokenizer).unwrap();
    let ran = run("sample", path, &format!("--checkpoint model {SAMPLE}")).ok();
    assert_eq!(ran.stdout, expected.stdout);
    let tune = format!("--dataset-name text --out-dir tuned {train} --init-from model");
    let ran = run("train", path, &tune).ok();
    assert!(!ran.stderr.contains("cannot be checked"), "{}", ran.stderr);
    fs::remove_file(path.join("model/vocab.json")).unwrap();
    fs::remove_file(path.join("model/merges.txt")).unwrap();
    let ran = run("sample", path, "--checkpoint model");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("no tokenizer in this folder"), "{}", ran.stderr);
}

#[test]
fn a_model_of_the_hub_chats_and_learns_with_its_own_template() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    copy_tree(chat_model(), path);
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + ': ' + m.content + '<|im_end|>' }}\
                    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant: ' }}{% endif %}";
    fs::write(path.join("out/best/chat_template.jinja"), template).unwrap();
    run("sample", path, "--out-dir out --export hf model").ok();
    let mut in_config = files(&path.join("model"), &WHOLE);
    let mut in_a_file = in_config.clone();
    in_config.extend(files(&path.join("model"), &["tokenizer_config.json"]));
    in_a_file.push(("chat_template.jinja", template.into()));
    let turn = |role, content: &str| json!({"role": role, "content": content});
    let talk = json!({"messages": [turn("user", "owl"), turn("assistant", "the fox")]}).to_string();
    fs::write(path.join("talks.jsonl"), format!("{talk}\n").repeat(40)).unwrap();
    for (repository, files) in [("o/config", in_config), ("o/file", in_a_file)] {
        let hub = FakeHub::start_model(repository, &files);
        // A model without a template would be refused.
        let greet = format!("--checkpoint hub:{repository} --grade tiny_talks --num-samples 1");
        with_hub(&hub, "sample", path, &greet).ok();
        let name = repository.replace("o/", "");
        let prepare = format!(
            "--source talks.jsonl --chat --dataset-name {name} --tokenizer hub:{repository}"
        );
        with_hub(&hub, "prepare", path, &prepare).ok();
        let train = format!(
            "--dataset-name {name} --init-from hub:{repository} --out-dir {name} --batch-size 2 --max-iters 1 \
             --threads 1 --warmup-iters 0 --eval-iters 1"
        );
        let ran = with_hub(&hub, "train", path, &train).ok();
        assert!(!ran.stderr.contains("the vocabulary grows"), "{}", ran.stderr);
        let text = fs::read_to_string(path.join(&name).join("best/tokenizer_config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["chat_template"], template);
    }
}
