//! GPT-2's own two files, `vocab.json` and `merges.txt`, as one `tokenizer.json`.
//!
//! Many repositories have only these. OpenAI's first release calls them `encoder.json` and
//! `vocab.bpe`. What becomes of the `tokenizer.json` is in `mod.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BPE, Vocab};

use super::{FILE_NAME, KINDS, bpe, read_file};
use crate::error::DataError;

/// The names that the two files go by: tokens and their ids, merges in their order.
pub(super) const PAIRS: [[&str; 2]; 2] =
    [["vocab.json", "merges.txt"], ["encoder.json", "vocab.bpe"]];

/// The two files that `path` means: a folder with both, or one of them next to the other.
pub(super) fn find(path: &Path) -> Option<[PathBuf; 2]> {
    let dir = if path.is_dir() { path } else { path.parent()? };
    let name = path.file_name().filter(|_| !path.is_dir());
    PAIRS
        .into_iter()
        .filter(|pair| name.is_none_or(|name| pair.iter().any(|file| *file == name)))
        .map(|pair| pair.map(|file| dir.join(file)))
        .find(|pair| pair.iter().any(|file| file.is_file()))
}

/// What to say of a folder without any tokenizer.
pub(super) fn none_in(dir: &Path) -> DataError {
    DataError::usage(
        format!("{}: no tokenizer in this folder", dir.display()),
        format!("expected {FILE_NAME}, or vocab.json and merges.txt: name another folder or file"),
    )
}

/// The `tokenizer.json` of the two files.
pub(super) fn to_json([vocab_path, merges_path]: &[PathBuf; 2]) -> Result<String, DataError> {
    let corrupt = |path: &Path, what: String| DataError::corrupt(path, what, KINDS);
    let vocab: HashMap<String, u32> = serde_json::from_str(&read_file(vocab_path)?)
        .map_err(|error| corrupt(vocab_path, format!("not a list of tokens and ids ({error})")))?;
    let merges = read_file(merges_path)?
        .lines()
        .zip(1..)
        .filter(|(line, number)| !(line.is_empty() || *number == 1 && line.starts_with("#version")))
        .map(|(line, number)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(corrupt(
                merges_path,
                format!("line {number} is {line:?}, expected two tokens and a space between them"),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocab: Vocab = vocab.into_iter().collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .build()
        .map_err(|error| corrupt(merges_path, format!("does not fit its vocabulary ({error})")))?;
    bpe::to_json(model)
}
