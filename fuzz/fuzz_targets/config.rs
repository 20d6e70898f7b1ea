//! Makes up a config file of `train`, and flags over it: each key is refused or means something.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tinygpt_cli::config_file::{ConfigFile, known_keys};
use tinygpt_cli::layer::Layered;
use tinygpt_cli::options::TrainOptions;
use tinygpt_fuzz::Damage;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

/// A value of any type.
#[derive(Arbitrary, Debug)]
enum Said {
    Null,
    Bool(bool),
    Int(i64),
    Small(u8),
    Float(f64),
    Text(String),
    List(Vec<u8>),
}

impl Said {
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(said) => (*said).into(),
            Self::Int(said) => (*said).into(),
            Self::Small(said) => (*said).into(),
            Self::Float(said) => (*said).into(),
            Self::Text(said) => said.clone().into(),
            Self::List(said) => said.clone().into(),
        }
    }
}

fn object(said: &[(u8, Said)]) -> Map<String, Value> {
    let keys = known_keys::<TrainOptions>();
    said.iter().map(|(key, said)| (keys[usize::from(*key) % keys.len()].clone(), said.value())).collect()
}

fuzz_target!(|input: (Vec<(u8, Said)>, Vec<(u8, Said)>, Vec<Damage>)| {
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
