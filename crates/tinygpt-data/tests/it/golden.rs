//! The ids that Python finds with the tokenizers we write; `interop/README.md` says how.

use std::path::PathBuf;

use serde_json::Value;
use tinygpt_data::{Encoding, NoProgress, PrepareRequest, Prepared, Tokenizer, prepare};

use crate::{ids_of, request};

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn python_finds_the_same_ids_in_texts_and_shards() {
    let dir = tempfile::tempdir().unwrap();
    for encoding in Encoding::ALL {
        let name = encoding.as_str();
        let text = std::fs::read_to_string(golden(name).join("golden.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let tokenizer = Tokenizer::from_dir(golden(name)).unwrap();
        for case in expected["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{text:?}");
            assert_eq!(tokenizer.decode(&ids(&case["ids"])).unwrap(), text);
        }

        let request = PrepareRequest {
            encoding_type: Some(encoding),
            vocab_size: 400,
            // The last of four documents.
            val_fraction: Some(0.25),
            ..request(dir.path(), &golden("text.txt"))
        };
        prepare(&request, &NoProgress).unwrap();
        let prepared = Prepared::open(&request.data_dir, "mine", None).unwrap();
        assert_eq!(prepared.tokenizer.sha256(), tokenizer.sha256(), "{name}: the file changed");
        let made = [ids_of(&prepared.train), ids_of(&prepared.val)].concat();
        assert_eq!(made, ids(&expected["train_and_val"]));
    }
}

#[test]
fn python_learns_the_same_merges() {
    let text = std::fs::read_to_string(golden("merges/text.txt")).unwrap();
    let documents: Vec<&str> = text.split('\n').collect();
    let tokenizer = Tokenizer::train(Encoding::Bpe, &documents, 4_000).unwrap();
    let json: Value = serde_json::from_str(tokenizer.json()).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let lines: String = merges
        .map(|merge| format!("{} {}\n", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()))
        .collect();
    assert_eq!(lines, std::fs::read_to_string(golden("merges/merges.txt")).unwrap());
}
