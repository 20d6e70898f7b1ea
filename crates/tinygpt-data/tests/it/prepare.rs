//! Whole preparations of small texts.

use std::fs;
use std::path::Path;

use tinygpt_data::{Encoding, NoProgress, PrepareRequest, Prepared, prepare};

/// A request for the text at `source`, into `dir/data`.
pub(crate) fn request(dir: &Path, source: &Path) -> PrepareRequest {
    PrepareRequest {
        dataset_name: "mine".into(),
        data_dir: dir.join("data"),
        source: Some(source.to_path_buf()),
        ..Default::default()
    }
}

/// All tokens of a stream as text.
fn text_of(prepared: &Prepared, stream: &tinygpt_data::TokenStream) -> String {
    let mut ids = vec![0; stream.len()];
    stream.read(0, &mut ids).unwrap();
    prepared.tokenizer.decode(&ids).unwrap()
}

#[test]
fn one_document_is_cut_at_a_character_as_nanogpt_does() {
    let dir = tempfile::tempdir().unwrap();
    let text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ".repeat(100);
    let source = dir.path().join("deich.txt");
    fs::write(&source, &text).unwrap();
    let summary = prepare(&request(dir.path(), &source), &NoProgress).unwrap();
    let n_characters = text.chars().count();
    let n_train = (n_characters as f64 * 0.9) as usize;
    assert_eq!(summary.meta.train.n_tokens, n_train as u64);
    assert_eq!(summary.meta.val.n_tokens, (n_characters - n_train) as u64);

    let prepared = Prepared::open(&dir.path().join("data"), "mine", None).unwrap();
    let joined = text_of(&prepared, &prepared.train) + &text_of(&prepared, &prepared.val);
    assert_eq!(joined, text);
    assert_eq!(prepared.meta.encoding, Encoding::Simple);
}
