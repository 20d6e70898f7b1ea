//! Faults of a configuration: each is found, all are reported, and each names its key.

use std::path::PathBuf;

use tinygpt_model::DeviceSpec;
use tinygpt_train::{ErrorKind, InitFrom, TrainConfig, TrainError};

fn faults(config: &TrainConfig) -> Vec<&'static str> {
    match config.validate() {
        Ok(()) => Vec::new(),
        Err(TrainError::Config(faults)) => faults.iter().map(|fault| fault.key).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn defaults_are_the_originals() {
    let config = TrainConfig::default();
    config.validate().unwrap();
    let json = serde_json::to_value(&config).unwrap();
    // The original's configuration file, device aside.
    let original = serde_json::json!({
        "out_dir": "out-tiny-stories", "eval_interval": 250,
        "eval_iters": 100, "always_save_checkpoint": false, "dataset_name": "tiny_stories",
        "gradient_accumulation_steps": 1, "batch_size": 64, "block_size": 256, "n_layer": 6,
        "n_head": 6, "n_embd": 384, "learning_rate": 1e-3, "max_iters": 10000, "beta1": 0.9,
        "beta2": 0.99, "warmup_iters": 100, "lr_decay_iters": 10000, "min_lr": 1e-4,
        "dtype": "bfloat16", "weight_decay": 0.1, "grad_clip": 1.0, "lr_schedule": "cosine", "bias": true,
        "init_from": "scratch", "eval_only": false,
    });
    for (key, value) in original.as_object().unwrap() {
        assert_eq!(&json[key], value, "{key}");
    }
    assert_eq!(config.dropout, 0.2);
}

#[test]
fn survives_json_and_refuses_unknown_keys() {
    let config = TrainConfig {
        init_from: InitFrom::Dir(PathBuf::from("./auto")),
        vocab_size: Some(300),
        seed: u64::MAX,
        ..TrainConfig::default()
    };
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
    assert!(serde_json::from_str::<TrainConfig>(r#"{"n_heads": 6}"#).is_err());
    assert!(serde_json::from_str::<TrainConfig>(r#"{"init_from": ""}"#).is_err());
}

#[test]
fn every_fault_names_its_key() {
    let ok = TrainConfig::default;
    for (config, key) in [
        (TrainConfig { n_embd: 100, ..ok() }, "n_embd"),
        (TrainConfig { n_head: 0, ..ok() }, "n_head"),
        (TrainConfig { n_layer: 0, ..ok() }, "n_layer"),
        (TrainConfig { keep_checkpoints: 0, ..ok() }, "keep_checkpoints"),
        (TrainConfig { checkpoint_interval: Some(0), ..ok() }, "checkpoint_interval"),
        (TrainConfig { checkpoint_minutes: -1.0, ..ok() }, "checkpoint_minutes"),
        (TrainConfig { max_seconds: Some(0.0), ..ok() }, "max_seconds"),
        (TrainConfig { batch_size: 0, ..ok() }, "batch_size"),
        (TrainConfig { batch_size: usize::MAX, ..ok() }, "batch_size"),
        (TrainConfig { block_size: 0, ..ok() }, "block_size"),
        (TrainConfig { gradient_accumulation_steps: 0, ..ok() }, "gradient_accumulation_steps"),
        (TrainConfig { vocab_size: Some(0), ..ok() }, "vocab_size"),
        (TrainConfig { dropout: 1.0, ..ok() }, "dropout"),
        (TrainConfig { dropout: f64::NAN, ..ok() }, "dropout"),
        (TrainConfig { eval_interval: 0, ..ok() }, "eval_interval"),
        (TrainConfig { eval_iters: 0, ..ok() }, "eval_iters"),
        (TrainConfig { max_iters: 0, ..ok() }, "max_iters"),
        (TrainConfig { lr_decay_iters: 99, ..ok() }, "lr_decay_iters"),
        (TrainConfig { threads: Some(0), ..ok() }, "threads"),
        (TrainConfig { learning_rate: 0.0, min_lr: 0.0, ..ok() }, "learning_rate"),
        (TrainConfig { learning_rate: f64::INFINITY, ..ok() }, "learning_rate"),
        (TrainConfig { min_lr: 2e-3, ..ok() }, "min_lr"),
        (TrainConfig { min_lr: f64::NAN, ..ok() }, "min_lr"),
        (TrainConfig { beta1: 1.0, ..ok() }, "beta1"),
        (TrainConfig { beta2: -0.1, ..ok() }, "beta2"),
        (TrainConfig { weight_decay: -1.0, ..ok() }, "weight_decay"),
        (TrainConfig { grad_clip: f64::NAN, ..ok() }, "grad_clip"),
        (TrainConfig { out_dir: PathBuf::new(), ..ok() }, "out_dir"),
        (TrainConfig { dataset_name: "../x".into(), ..ok() }, "dataset_name"),
        (TrainConfig { dataset_name: String::new(), ..ok() }, "dataset_name"),
        (TrainConfig { overwrite: true, init_from: InitFrom::Resume, ..ok() }, "overwrite"),
        (TrainConfig { profile: true, device: DeviceSpec::Metal(0), ..ok() }, "profile"),
    ] {
        assert_eq!(faults(&config), [key]);
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
    }
    let edge = TrainConfig { lr_decay_iters: 100, min_lr: 1e-3, grad_clip: 0.0, ..ok() };
    edge.validate().unwrap();
}

#[test]
fn all_faults_are_reported_at_once() {
    let config = TrainConfig { n_embd: 100, beta1: 2.0, max_iters: 0, ..TrainConfig::default() };
    assert_eq!(faults(&config), ["beta1", "n_embd", "max_iters"]);
    let message = config.validate().unwrap_err().to_string();
    assert!(message.starts_with("the configuration has 3 faults:"), "{message}");
}
