//! Real texts and GPT-2's own vocabulary, where `TINYGPT_TEST_DATA` points at a folder of them.

use std::path::PathBuf;

use tinygpt_data::{Encoding, NoProgress, PrepareRequest, Prepared, Tokenizer, prepare};

use crate::request;

/// A file of the folder; `None`, with a message, if there is no such folder.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn real_file(name: &str) -> Option<PathBuf> {
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

/// GPT-2's published vocabulary and merges.
pub(crate) fn gpt2() -> Option<Tokenizer> {
    Some(Tokenizer::from_path(real_file("gpt2")?).unwrap())
}

#[test]
fn gpt2s_vocabulary_gives_the_known_counts() {
    let (Some(folder), Some(tokenizer)) = (real_file("gpt2"), gpt2()) else { return };
    assert_eq!(tokenizer.slow_because(), None);
    assert_eq!((tokenizer.vocab_size(), tokenizer.eot_id()), (50_257, 50_256));
    assert_eq!(tokenizer.encode("Hello world").unwrap(), [15_496, 995]);
    for (name, n_tokens) in
        [("tinystories_v2_gpt4_train_head.txt", 351_048), ("tinyshakespeare_input.txt", 338_025)]
    {
        let text = std::fs::read_to_string(folder.with_file_name(name)).unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(ids.len(), n_tokens);
        assert!(tokenizer.decode(&ids).unwrap() == text);
    }

    // nanoGPT's counts for the two parts, encoded separately.
    let source = folder.with_file_name("tinyshakespeare_input.txt");
    let dir = tempfile::tempdir().unwrap();
    let request = PrepareRequest { tokenizer: Some(folder.into()), ..request(dir.path(), &source) };
    let meta = prepare(&request, &NoProgress).unwrap().meta;
    assert_eq!((meta.train.n_tokens, meta.val.n_tokens), (301_966, 36_059));
}
