//! Real texts and GPT-2's own vocabulary, where `TINYGPT_TEST_DATA` points at a folder of them.

use std::path::PathBuf;

use tinygpt_data::{Encoding, NoProgress, PrepareRequest, Prepared, prepare};

use crate::request;

/// A file of the folder; `None`, said aloud, if there is no such folder.
fn real_file(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("TINYGPT_TEST_DATA").map(|dir| PathBuf::from(dir).join(name));
    if found.is_none() {
        eprintln!("skipped: TINYGPT_TEST_DATA is not set");
    }
    found
}

#[test]
fn shakespeare_splits_as_in_nanogpt() {
    let Some(source) = real_file("tinyshakespeare_input.txt") else { return };
    let dir = tempfile::tempdir().unwrap();
    let request =
        PrepareRequest { dataset_name: "shakespeare_char".into(), ..request(dir.path(), &source) };
    let meta = prepare(&request, &NoProgress).unwrap().meta;
    assert_eq!((meta.train.n_tokens, meta.val.n_tokens), (1_003_854, 111_540));
    assert_eq!(meta.vocab_size, 65 + 1 + 256);
}

#[test]
fn tiny_stories_are_1727_documents_in_both_encodings() {
    let Some(source) = real_file("tinystories_v2_gpt4_train_head.txt") else { return };
    let dir = tempfile::tempdir().unwrap();
    for encoding in Encoding::ALL {
        let request = PrepareRequest {
            encoding_type: Some(encoding),
            vocab_size: 2_048,
            ..request(dir.path(), &source)
        };
        let meta = prepare(&request, &NoProgress).unwrap().meta;
        // 1,727 whole stories and the beginning of another.
        assert_eq!(meta.train.n_documents + meta.val.n_documents, 1_728);
        let prepared = Prepared::open(&request.data_dir, "mine", Some(encoding)).unwrap();
        assert_eq!(prepared.train.len() as u64, meta.train.n_tokens);
        if encoding == Encoding::Bpe {
            assert!(meta.train.bytes_per_token() > 3.5, "{}", meta.train.bytes_per_token());
        }
    }
}
