//! Which files of a source are for training, for validation or skipped, and what `meta.json` records.

use std::fs;
use std::path::Path;

use tinygpt_data::{
    Encoding, ErrorKind, Format, NoProgress, PrepareRequest, PrepareSummary, Prepared, Source,
    Sources, dry_run, prepare,
};

use crate::{request, text_of, write};

/// Stories whose first word names their file.
fn stories(of: &str, n: usize) -> String {
    (0..n).map(|i| format!("{of} story {i}\n<|endoftext|>\n")).collect()
}

/// The texts to train on and to validate on.
fn texts(request: &PrepareRequest) -> (String, String) {
    let prepared = Prepared::open(&request.data_dir, &request.dataset_name, None).unwrap();
    (text_of(&prepared, &prepared.train), text_of(&prepared, &prepared.val))
}

/// The files of a summary: to train on, to validate on, left out with the reason.
fn files(summary: &PrepareSummary) -> (Vec<&str>, Vec<&str>, Vec<String>) {
    fn names(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    let files = &summary.files;
    let left_out = files.left_out.iter().map(|it| format!("{} ({})", it.name, it.why));
    (names(&files.train), names(&files.validation), left_out.collect())
}

#[test]
fn names_of_files_in_a_folder_determine_the_splits() {
    for (names, train, validation, left_out) in [
        (
            &["train-0.txt", "train-1.txt", "validation-0.txt", "test-0.txt", "extra.txt"][..],
            &["train-0.txt", "train-1.txt"][..],
            &["validation-0.txt"][..],
            &["test-0.txt (the test split)", "extra.txt (names no split, but others do)"][..],
        ),
        (&["a-train.txt", "a-valid.txt"], &["a-train.txt"], &["a-valid.txt"], &[]),
        (&["train/a.txt", "test/a.txt"], &["train/a.txt"], &["test/a.txt"], &[]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("texts");
        for name in names {
            write(&folder, name, stories(&name.replace(['-', '/', '.'], "_"), 4));
        }
        let request = request(dir.path(), &folder);
        let summary = prepare(&request, &NoProgress).unwrap();
        let left_out: Vec<String> = left_out.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(files(&summary), (train.to_vec(), validation.to_vec(), left_out));
        assert_eq!(summary.meta.settings.val_fraction, None);
        let (trained, validated) = texts(&request);
        for name in names {
            let word = name.replace(['-', '/', '.'], "_");
            assert_eq!(trained.contains(&word), train.contains(name), "{name}");
            assert_eq!(validated.contains(&word), validation.contains(name), "{name}");
        }
        let look = dry_run(&request, &NoProgress).unwrap();
        let validating = look.files.iter().filter(|it| it.validates).map(|it| it.name.as_str());
        assert_eq!(validating.collect::<Vec<_>>(), validation);
        assert_eq!(look.left_out, summary.files.left_out);
        // The same again is kept, and says the same of the files.
        let again = prepare(&request, &NoProgress).unwrap();
        assert!(again.kept);
        assert_eq!(again.files, summary.files);
    }
}

#[test]
fn names_without_both_splits_are_one_text() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("texts");
    write(&folder, "train.txt", stories("train", 10));
    write(&folder, "book.txt", stories("book", 10));
    let base = request(dir.path(), &folder);
    let summary = prepare(&base, &NoProgress).unwrap();
    assert_eq!(files(&summary), (vec!["book.txt", "train.txt"], vec![], vec![]));
    // A file by itself is that file, whatever it is called.
    let one = request(dir.path(), &folder.join("train.txt"));
    let one = PrepareRequest { dataset_name: "one".into(), ..one };
    let summary = prepare(&one, &NoProgress).unwrap();
    assert_eq!(files(&summary), (vec!["train.txt"], vec![], vec![]));
}

#[test]
fn validation_text_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("texts");
    for name in ["a.txt", "train.txt", "val.txt"] {
        write(&folder, name, stories(&name[..1].to_uppercase(), 5));
    }
    write(dir.path(), "held/x.txt", stories("held", 3));
    let base = request(dir.path(), &folder);
    let given = PrepareRequest { val_source: vec![dir.path().join("held")], ..base.clone() };
    let summary = prepare(&given, &NoProgress).unwrap();
    assert_eq!(files(&summary), (vec!["a.txt", "train.txt", "val.txt"], vec!["x.txt"], vec![]));
    assert_eq!((summary.meta.train.n_documents, summary.meta.val.n_documents), (15, 3));

    // A file of the source that validates is not trained on.
    let given = PrepareRequest {
        val_source: vec![folder.join("../texts/a.txt")],
        dataset_name: "inside".into(),
        ..base.clone()
    };
    let summary = prepare(&given, &NoProgress).unwrap();
    let why = "a.txt (validates, so it is not trained on)".to_owned();
    assert_eq!(files(&summary), (vec!["train.txt", "val.txt"], vec!["a.txt"], vec![why]));
    let (trained, validated) = texts(&given);
    assert!(!trained.contains("A story") && validated.contains("A story"), "{trained}");

    let all = PrepareRequest { val_source: vec![folder.clone()], ..base.clone() };
    let error = prepare(&all, &NoProgress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(crate::explained(&error).contains("`val_source`"), "{error}");
    let without = PrepareRequest { source: None, dataset_name: "tiny_tales".into(), ..all };
    let error = crate::explained(&prepare(&without, &NoProgress).unwrap_err());
    assert!(error.contains("val_source"), "{error}");
}

#[test]
fn which_file_validates_is_part_of_what_a_text_is_known_by() {
    let dir = tempfile::tempdir().unwrap();
    let a = write(dir.path(), "a.txt", stories("a", 5));
    let b = write(dir.path(), "b.txt", stories("b", 5));
    let both = PrepareRequest {
        source: Sources::new([a.clone().into(), b.clone().into()]),
        ..request(dir.path(), &a)
    };
    prepare(&both, &NoProgress).unwrap();
    let split = PrepareRequest { val_source: vec![b], ..request(dir.path(), &a) };
    let error = prepare(&split, &NoProgress).unwrap_err();
    assert!(crate::explained(&error).contains("already prepared"), "{error}");
}

#[test]
fn several_sources_are_one_text_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let b = write(dir.path(), "b.txt", stories("bee", 5));
    let a = write(dir.path(), "a/a.jsonl", "{\"text\": \"ant story\"}\n".repeat(5));
    let sources = Sources::new([b.clone().into(), dir.path().join("a").into()]);
    let request = PrepareRequest { source: sources, ..request(dir.path(), &b) };
    let summary = prepare(&request, &NoProgress).unwrap();
    assert_eq!(files(&summary).0, ["b.txt", "a.jsonl"]);
    let (train, val) = texts(&request);
    assert!(train.starts_with("bee story 0") && val.contains("ant"), "{train}{val}");
    assert!(summary.meta.settings.source.starts_with("b.txt ("), "{:?}", summary.meta.settings);

    let hub = Sources::new([Source::from("hub:o/n"), a.into()]);
    let mixed = PrepareRequest { source: hub, ..request.clone() };
    let error = crate::explained(&prepare(&mixed, &NoProgress).unwrap_err());
    assert!(error.contains("hub:o/n@main") && error.contains("only source"), "{error}");
}

#[test]
fn literal_special_tokens_in_records_are_text_unless_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let line = |i: usize| format!("{{\"text\": \"Row {i} of <|endoftext|> and more.\"}}\n");
    let source = write(dir.path(), "a.jsonl", (0..40).map(line).collect::<String>());
    for encoding in Encoding::ALL {
        let base = PrepareRequest {
            encoding_type: Some(encoding),
            vocab_size: 300,
            force: true,
            ..request(dir.path(), &source)
        };
        for (parse_special, n_ends_a_row) in [(false, 1), (true, 2)] {
            let request = PrepareRequest { parse_special, ..base.clone() };
            let meta = prepare(&request, &NoProgress).unwrap().meta;
            assert_eq!(meta.train.n_documents + meta.val.n_documents, 40);
            let prepared = Prepared::open(&request.data_dir, "mine", Some(encoding)).unwrap();
            let ids = crate::ids_of(&prepared.train);
            let n_ends = ids.iter().filter(|&&id| id == prepared.tokenizer.eot_id()).count() as u64;
            assert_eq!(n_ends, n_ends_a_row * meta.train.n_documents, "{encoding}");
            assert!(text_of(&prepared, &prepared.train).starts_with("Row 0 of <|endoftext|> and"));
        }
    }
}

/// A tokenizer of other people's, in which the library encodes.
#[test]
fn the_library_too_takes_literal_special_tokens_for_text() {
    let dir = tempfile::tempdir().unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bpe/tokenizer.json");
    let text = fs::read_to_string(golden).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["pre_tokenizer"]["use_regex"] = false.into();
    write(dir.path(), "t/tokenizer.json", json.to_string());
    let tokenizer = tinygpt_data::Tokenizer::from_dir(dir.path().join("t")).unwrap();
    assert!(tokenizer.slow_because().is_some());
    let encode = |parses: bool| {
        let mut ids = Vec::new();
        let mut encoder = tokenizer.encoder().parsing_special(parses);
        encoder.encode_into("a<|endoftext|>b", &mut ids).unwrap();
        ids
    };
    assert!(encode(true).contains(&tokenizer.eot_id()));
    assert!(!encode(false).contains(&tokenizer.eot_id()));
    assert!(tokenizer.decode(&encode(false)).unwrap().ends_with("a<|endoftext|>b"));
}

#[test]
fn what_decides_the_text_is_remembered_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "names.txt", "anna\nbo\n\nclara\ndora\n".repeat(5));
    let base = request(dir.path(), &source);
    let lines = PrepareRequest { separator: "line".parse().unwrap(), ..base.clone() };
    let meta = prepare(&lines, &NoProgress).unwrap().meta;
    assert_eq!(meta.stats.n_documents, 20);
    assert_eq!(meta.settings.separator.as_deref(), Some("line"));
    let again = |request: &PrepareRequest| match prepare(request, &NoProgress) {
        Ok(summary) => summary.kept.to_string(),
        Err(error) => crate::explained(&error),
    };
    assert_eq!(again(&lines), "true");
    for (request, expected_text) in [
        (base.clone(), "separator: line → none"),
        (PrepareRequest { parse_special: true, ..lines.clone() }, "parse_special: false → true"),
        (PrepareRequest { format: Some(Format::Text), ..lines.clone() }, "format: none → text"),
        (PrepareRequest { max_bad_fraction: 0.5, ..lines.clone() }, "true"),
    ] {
        assert!(again(&request).contains(expected_text), "{expected_text}: {}", again(&request));
    }
}

#[test]
fn options_that_have_no_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = write(dir.path(), "a.txt", stories("a", 9));
    let lines = write(dir.path(), "a.jsonl", "{\"text\": \"a\"}\n".repeat(9));
    let (text, lines) = (request(dir.path(), &text), request(dir.path(), &lines));
    let template = |template: &str| Some(template.to_owned());
    for (request, expected_text) in [
        (PrepareRequest { separator: "line".parse().unwrap(), ..lines.clone() }, "`separator`"),
        (PrepareRequest { text_template: template("{a}"), ..text.clone() }, "`text_template`"),
        (PrepareRequest { text_template: template("a"), ..lines.clone() }, "no field is named"),
        (
            PrepareRequest {
                text_template: template("{a}"),
                text_column: Some("b".into()),
                ..lines.clone()
            },
            "cannot be combined",
        ),
        (PrepareRequest { max_bad_fraction: 1.5, ..lines.clone() }, "max_bad_fraction is 1.5"),
        (PrepareRequest { max_bad_fraction: f64::NAN, ..lines }, "max_bad_fraction is NaN"),
    ] {
        let error = prepare(&request, &NoProgress).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(crate::explained(&error).contains(expected_text), "{expected_text}: {error}");
    }
}

/// The bytes of the shards, the tokenizer and the settings of earlier versions.
#[test]
fn a_preparation_of_the_last_version_counts_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "An older program made this. ".repeat(40));
    let request = request(dir.path(), &source);
    prepare(&request, &NoProgress).unwrap();
    let path: &Path = &request.data_dir.join("mine/simple/meta.json");
    let mut meta: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for key in ["format", "separator", "text_template", "parse_special"] {
        meta["settings"].as_object_mut().unwrap().remove(key).unwrap();
    }
    for key in ["n_documents", "n_bad", "examples", "n_half_pairs", "n_nul"] {
        meta["tally"].as_object_mut().unwrap().remove(key).unwrap();
    }
    fs::write(path, meta.to_string()).unwrap();
    assert!(prepare(&request, &NoProgress).unwrap().kept);
}
