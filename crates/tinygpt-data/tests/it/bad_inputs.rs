//! Invalid requests, recipes and preparations: the right class of error, a message that
//! names the place and a fix, and no files left behind.

use std::fs;
use std::path::Path;

use tinygpt_data::{
    DataError, Encoding, ErrorKind, NoProgress, PrepareRequest, Prepared, Recipe, prepare,
};

use crate::{request, write};

/// Checks class and words of an error.
fn check(error: &DataError, kind: ErrorKind, words: &[&str]) {
    let message = crate::explained(error);
    assert_eq!(error.kind(), kind, "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

#[test]
fn requests_that_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let text = write(dir.path(), "a.txt", "Plenty of text to split. ".repeat(40));
    let base = request(dir.path(), &text);
    let source = |name: &str, content: &str| PrepareRequest {
        source: Some(write(dir.path(), name, content).into()),
        ..base.clone()
    };
    let named = |name: &str| PrepareRequest { dataset_name: name.into(), ..base.clone() };
    let bpe = |vocab_size| PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size,
        ..base.clone()
    };
    let tokenizer = |content: &str| PrepareRequest {
        tokenizer: Some(write(dir.path(), "t/tokenizer.json", content).into()),
        ..base.clone()
    };
    let fraction =
        |val_fraction| PrepareRequest { val_fraction: Some(val_fraction), ..base.clone() };
    let percentage = |data_percentage| PrepareRequest { data_percentage, ..base.clone() };
    write(&base.data_dir, "given/dataset.json", r#"{"source": "given"}"#);
    let missing =
        PrepareRequest { source: Some(dir.path().join("none.txt").into()), ..base.clone() };
    let no_tokenizer =
        PrepareRequest { tokenizer: Some(dir.path().join("no").into()), ..base.clone() };
    let no_source = |name: &str| PrepareRequest { source: None, ..named(name) };

    use ErrorKind::{Corrupt, Io, Usage};
    let cases: Vec<(PrepareRequest, ErrorKind, &[&str])> = vec![
        (
            no_source("tiny_storys"),
            Usage,
            &["`tiny_storys`", "did you mean `tiny_stories`", "dataset.json"],
        ),
        (no_source("zzz"), Usage, &["`zzz`", "`shakespeare_char`", "`source`"]),
        (no_source("given"), Usage, &["`given`", "`source`"]),
        (named("tiny_tales"), Usage, &["`tiny_tales`", "leave `source` out", "`dataset_name`"]),
        (named(""), Usage, &["dataset_name"]),
        (named("../up"), Usage, &["dataset_name", "../up"]),
        (named("a/b"), Usage, &["dataset_name", "a/b"]),
        (named(".hidden"), Usage, &["dataset_name"]),
        (named("two words"), Usage, &["dataset_name", "two words"]),
        (named(&"x".repeat(97)), Usage, &["dataset_name", "96"]),
        (missing, Io, &["cannot read", "none.txt"]),
        (source("b.pdf", "x"), Usage, &["b.pdf", ".jsonl", "`format`"]),
        (source("empty.txt", ""), Usage, &["0 characters", "give more"]),
        (source("one.txt", "x"), Usage, &["1 characters", "give more"]),
        (source("e.jsonl", ""), Usage, &["give more"]),
        (source("null.jsonl", "{\"text\": null}"), Usage, &["give more"]),
        (
            source("c.jsonl", "{\"txt\": \"a\"}"),
            Usage,
            &["c.jsonl line 1", "`txt`", "`text_column`"],
        ),
        (source("d.jsonl", "{\"text\": 1}"), Corrupt, &["d.jsonl", "line 1", "`text_column`"]),
        (source("e.parquet", "x"), Corrupt, &["e.parquet", "parquet file"]),
        (fraction(0.0), Usage, &["val_fraction is 0"]),
        (fraction(1.0), Usage, &["val_fraction is 1"]),
        (fraction(-0.5), Usage, &["val_fraction is -0.5"]),
        (fraction(f64::NAN), Usage, &["val_fraction is NaN"]),
        (percentage(0.0), Usage, &["data_percentage is 0"]),
        (percentage(101.0), Usage, &["data_percentage is 101", "at most 100"]),
        (percentage(f64::INFINITY), Usage, &["data_percentage is inf"]),
        (percentage(50.0), Usage, &["data_percentage is 50", "one document"]),
        (bpe(0), Usage, &["vocab_size is 0", "257"]),
        (bpe(256), Usage, &["vocab_size is 256", "257"]),
        (no_tokenizer, Io, &["cannot read"]),
        (tokenizer("{}"), Corrupt, &["tokenizer.json", "not a tokenizer"]),
        (tokenizer("not JSON"), Corrupt, &["tokenizer.json", "not a tokenizer"]),
    ];
    for (request, kind, words) in cases {
        check(&prepare(&request, &NoProgress).unwrap_err(), kind, words);
        assert!(!request.data_dir.join("mine/simple").exists());
        assert!(!request.data_dir.join("mine/.simple.part").exists());
    }
}

#[test]
fn recipes_that_say_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("{", &["EOF", "line 1"]),
        ("", &["EOF"]),
        ("[]", &["line 1"]),
        ("{}", &["missing field `source`"]),
        (r#"{"sorce": "given"}"#, &["`sorce`", "did you mean `source`?"]),
        (r#"{"source": "giver"}"#, &["`giver`", "did you mean `given`?"]),
        (r#"{"source": "given", "encoding_type": "bpee"}"#, &["`bpee`", "did you mean `bpe`?"]),
        (r#"{"source": "given", "val_fraction": 1.5}"#, &["val_fraction is 1.5"]),
        (r#"{"source": "given", "val_fraction": "x"}"#, &["expected f64"]),
        (r#"{"source": {"hub": {}}}"#, &["missing field `repository`"]),
        (r#"{"source": {"hub": {"repo": "a/b"}}}"#, &["`repo`", "did you mean `repository`?"]),
        (r#"{"source": {"files": {"train": []}}}"#, &["train is empty"]),
        (r#"{"source": {"files": {"train": "a.txt"}}}"#, &["expected a sequence"]),
        (
            r#"{"source": {"built_in": {"generator": "tiny_tale", "train_documents": 1,
                "validation_documents": 1}}}"#,
            &["`tiny_tale`", "did you mean"],
        ),
        (
            r#"{"source": {"built_in": {"generator": "tiny_tales", "train_documents": 0,
                "validation_documents": 1}}}"#,
            &["train_documents"],
        ),
        (r#"{"source": "given"} x"#, &["trailing characters"]),
    ];
    for (recipe, words) in cases {
        write(dir.path(), "bad/dataset.json", recipe);
        let error = Recipe::find("bad", dir.path()).unwrap_err();
        check(&error, ErrorKind::Usage, words);
        assert!(
            crate::explained(&error).contains("dataset.json") || words[0].contains("val_fraction")
        );
    }
    write(dir.path(), "files/dataset.json", r#"{"source": {"files": {"train": ["no.txt"]}}}"#);
    let request = PrepareRequest {
        dataset_name: "files".into(),
        data_dir: dir.path().to_path_buf(),
        ..Default::default()
    };
    check(&prepare(&request, &NoProgress).unwrap_err(), ErrorKind::Io, &["files/no.txt"]);
}

#[test]
fn a_recipe_in_the_data_directory_wins_over_the_shipped_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Recipe::find("tiny_stories", dir.path()).is_ok());
    write(dir.path(), "tiny_stories/dataset.json", r#"{"source": "given", "description": "mine"}"#);
    assert_eq!(Recipe::find("tiny_stories", dir.path()).unwrap().description, "mine");
    write(dir.path(), "another/dataset.json", r#"{"source": "given"}"#);
    let names =
        ["another", "fineweb_edu", "shakespeare_char", "tiny_stories", "tiny_tales", "tiny_talks"];
    assert_eq!(Recipe::names(dir.path()), names);
}

#[test]
fn preparations_that_are_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "Whole or not at all. ".repeat(40));
    let request = request(dir.path(), &source);
    let open = || Prepared::open(&request.data_dir, "mine", None);
    check(&open().unwrap_err(), ErrorKind::Usage, &["`mine`", "prepare the dataset first"]);
    prepare(&request, &NoProgress).unwrap();
    open().unwrap();
    let bpe = Prepared::open(&request.data_dir, "mine", Some(Encoding::Bpe)).unwrap_err();
    check(&bpe, ErrorKind::Usage, &["`bpe`", "prepare the dataset first"]);

    let prepared = request.data_dir.join("mine/simple");
    let edit = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(prepared.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let shard = fs::read(prepared.join("train-00000.bin")).unwrap();
    let mut flipped = shard.clone();
    flipped[200] ^= 1;
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("meta.json", Vec::new(), &["meta.json"]),
        ("meta.json", b"{}".to_vec(), &["meta.json", "missing field"]),
        ("meta.json", edit("meta.json", "\"format\": 2", "\"format\": 3"), &["format 3"]),
        ("meta.json", edit("meta.json", "\"val\"", "\"vali\""), &["did you mean `val`"]),
        ("meta.json", edit("meta.json", "train-00000", "train-00001"), &["train-00001.bin"]),
        (
            "tokenizer.json",
            edit("tokenizer.json", "\"W\"", "\"Y\""),
            &["tokenizer.json", "expects"],
        ),
        ("train-00000.bin", flipped, &["train-00000.bin", "checksum"]),
        (
            "train-00000.bin",
            shard[..shard.len() - 1].to_vec(),
            &["train-00000.bin", "bytes of ids"],
        ),
        (
            "train-00000.bin",
            fs::read(prepared.join("val-00000.bin")).unwrap(),
            &["meta.json lists"],
        ),
        ("val-00000.bin", Vec::new(), &["val-00000.bin", "shorter than"]),
    ];
    for (name, content, words) in cases {
        let path = prepared.join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = open().unwrap_err();
        let kind = if words == ["train-00001.bin"] { ErrorKind::Io } else { ErrorKind::Corrupt };
        check(&error, kind, words);
        // An incomplete preparation is not kept either, and the hint works.
        assert!(prepare(&request, &NoProgress).is_err());
        if kind == ErrorKind::Corrupt {
            check(&error, kind, &["prepare the dataset again with `force`"]);
        }
        fs::write(&path, before).unwrap();
        open().unwrap();
    }
}

#[test]
fn two_runs_in_one_place_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "One at a time, please. ".repeat(40));
    let request = request(dir.path(), &source);
    let lock_path = request.data_dir.join("mine/.prepare.lock");
    write(&request.data_dir, "mine/.prepare.lock", "");
    let lock = fs::File::open(&lock_path).unwrap();
    lock.lock().unwrap();
    let error = prepare(&request, &NoProgress).unwrap_err();
    check(&error, ErrorKind::Locked, &[".prepare.lock", "another process"]);
    drop(lock);
    prepare(&request, &NoProgress).unwrap();
}

#[cfg(unix)]
#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "Nowhere to go. ".repeat(40));
    // A file where a directory should be refuses even an administrator.
    let in_the_way = write(dir.path(), "data", "");
    let error = prepare(&request(dir.path(), &source), &NoProgress).unwrap_err();
    check(&error, ErrorKind::Io, &["cannot create", &in_the_way.display().to_string()]);
    assert!(Path::new(&in_the_way).is_file());
}

#[test]
fn a_preparation_of_the_first_format_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "An older program made this. ".repeat(40));
    let request = request(dir.path(), &source);
    let now = prepare(&request, &NoProgress).unwrap().meta;
    let path = request.data_dir.join("mine/simple/meta.json");
    let mut meta: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    meta["format"] = 1.into();
    for key in ["tally", "made_at", "seconds"] {
        meta.as_object_mut().unwrap().remove(key).unwrap();
    }
    meta["settings"].as_object_mut().unwrap().remove("lossy").unwrap();
    for split in ["train", "val"] {
        meta[split].as_object_mut().unwrap().remove("bytes_per_token").unwrap();
    }
    fs::write(&path, meta.to_string()).unwrap();
    let then = Prepared::open(&request.data_dir, "mine", None).unwrap().meta;
    assert_eq!(then.fingerprint(), now.fingerprint());
    assert_eq!(then.train.bytes_per_token(), now.train.bytes_per_token());
}
