//! Integration tests of the data crate: whole preparations, tokenizers, bad inputs, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bad_inputs;
mod chat;
mod conversations;
mod differential;
mod fake_hub;
mod golden;
mod held_out;
mod hub;
mod prepare;
mod real_files;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use tinygpt_data::{DataError, PrepareRequest, Prepared, TokenDataset};

/// A request to prepare the text at `source` as dataset `mine` in `dir/data`.
fn request(dir: &Path, source: &Path) -> PrepareRequest {
    PrepareRequest {
        dataset_name: "mine".into(),
        data_dir: dir.join("data"),
        source: Some(source.to_path_buf().into()),
        ..Default::default()
    }
}

/// The message and the hint of an error, both of which tests look into.
fn explained(error: &DataError) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
}

/// Writes a file into `dir` and returns its path.
fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// All tokens of a stream.
fn ids_of(stream: &TokenDataset) -> Vec<u32> {
    let mut ids = vec![0; stream.len()];
    stream.read(0, &mut ids).unwrap();
    ids
}

/// All tokens of a stream, as text.
fn text_of(prepared: &Prepared, stream: &TokenDataset) -> String {
    prepared.tokenizer.decode(&ids_of(stream)).unwrap()
}
