//! Makes up a config file of `train`, and flags over it: each key is refused or means something.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tinygpt_cli::options::{ConfigFile, Layered, TrainOptions, known_keys};
use tinygpt_fuzz::Damage;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

/// A value of any type.
#[derive(Arbitrary, Debug)]
enum AnyValue {
    Null,
    Bool(bool),
    Int(i64),
    Small(u8),
    Float(f64),
    Text(String),
    List(Vec<u8>),
}

impl AnyValue {
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Small(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::List(value) => value.clone().into(),
        }
    }
}

fn object(values: &[(u8, AnyValue)]) -> Map<String, Value> {
    let keys = known_keys::<TrainOptions>();
    values.iter().map(|(key, value)| (keys[usize::from(*key) % keys.len()].clone(), value.value())).collect()
}

fuzz_target!(|input: (Vec<(u8, AnyValue)>, Vec<(u8, AnyValue)>, Vec<Damage>)| {
    let (file, flags, damages) = input;
    let mut text = serde_json::to_vec_pretty(&object(&file)).expect("JSON");
    damages.iter().for_each(|damage| damage.apply(&mut text));
    let path: PathBuf = DIR.path().join("config.json");
    fs::write(&path, text).expect("a file that can be written");
    let Ok(flags) = serde_json::from_value::<TrainOptions>(object(&flags).into()) else { return };
    let Ok(file) = ConfigFile::read::<TrainOptions>(&path) else { return };
    let Ok(layered) = Layered::new(&flags, Some(file)) else { return };
    assert!(!layered.show().is_empty());
    if let Ok(config) = layered.resolve() {
        drop(config);
    }
});
