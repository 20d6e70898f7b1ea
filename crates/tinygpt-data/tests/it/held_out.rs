//! Which part of a text becomes the validation split, for documents of all lengths, and what is reported.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tinygpt_data::{
    DataError, Encoding, HeldOut, NoProgress, PrepareProgress, PrepareRequest, PrepareSummary,
    Prepared, Stage, ValSplit, prepare,
};

use crate::{ids_of, request, text_of, write};

const SEPARATOR: &str = "\n<|endoftext|>\n";

/// Keeps the notices of a preparation.
#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl PrepareProgress for Notices {
    fn begin(&self, _stage: Stage, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn notice(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// Prepares, and returns the notices too.
fn prepare_noting(request: &PrepareRequest) -> (PrepareSummary, Vec<String>) {
    let notices = Notices::default();
    let summary = prepare(request, &notices).unwrap();
    (summary, notices.0.into_inner().unwrap())
}

fn open(request: &PrepareRequest) -> Prepared {
    Prepared::open(&request.data_dir, &request.dataset_name, None).unwrap()
}

/// `n` lines about a number, without a separator.
fn lines(n: usize) -> String {
    (0..n).map(|i| format!("The {i}th of the sheep jumped over the gate.\n")).collect()
}

#[test]
fn documents_of_unequal_length_give_validation_its_share() {
    let (book, note) = (lines(2000), "A note of the printer.");
    for (name, documents, cut_document) in [
        ("note_and_book", vec![note, &book], Some(2)),
        ("book_and_note", vec![&book, note], Some(1)),
        ("three_books", vec![&book, &book, &book], Some(3)),
        ("two_books_and_notes", vec![&book, note, &book, note, note], Some(3)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let source = write(dir.path(), "text.txt", documents.join(SEPARATOR));
        for val_split in [ValSplit::End, ValSplit::Random] {
            let asked = Some(val_split);
            let request =
                PrepareRequest { val_split: asked, force: true, ..request(dir.path(), &source) };
            let meta = prepare(&request, &NoProgress).unwrap().meta;
            let (train, val) = (meta.train.n_characters, meta.val.n_characters);
            let share = val as f64 / (train + val) as f64;
            assert!((0.09..=0.11).contains(&share), "{name} {val_split}: {share}");
            let held_out = meta.held_out.clone().unwrap();
            assert_eq!(held_out.split, val_split);
            if val_split == ValSplit::End {
                assert_eq!(held_out.cut_document, cut_document, "{name}");
                let prepared = open(&request);
                let joined =
                    text_of(&prepared, &prepared.train) + &text_of(&prepared, &prepared.val);
                let plain = documents.iter().map(|it| it.trim_end_matches('\n'));
                let mut expected = plain.collect::<Vec<_>>().join("<|endoftext|>");
                // The end of the file is kept as it is.
                if documents.last() == Some(&book.as_str()) {
                    expected.push('\n');
                }
                assert_eq!(joined, expected + "<|endoftext|>", "{name}");
                assert!(!ids_of(&prepared.train).ends_with(&[prepared.tokenizer.eot_id()]));
            }
        }
    }
}

#[test]
fn a_random_choice_is_seeded_and_the_same_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    // Sorted: first one alphabet, then another.
    let sheep = (0..300).map(|i| format!("The {i}th sheep jumped."));
    let owce = (0..300).map(|i| format!("Skoczyła {i} owca, żółta."));
    let documents: Vec<String> = sheep.chain(owce).collect();
    let source = write(dir.path(), "sheep.txt", documents.join(SEPARATOR));
    let drawn = |seed: u64, n_threads: usize| {
        let request = PrepareRequest {
            val_split: Some(ValSplit::Random),
            seed,
            force: true,
            ..request(dir.path(), &source)
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let meta = pool.install(|| prepare(&request, &NoProgress)).unwrap().meta;
        let prepared = open(&request);
        (meta.fingerprint(), text_of(&prepared, &prepared.train), text_of(&prepared, &prepared.val))
    };
    let (first, train, val) = drawn(1, 1);
    assert_eq!(drawn(1, 5).0, first);
    assert_ne!(drawn(2, 1).0, first);
    let split = |text: &str| -> Vec<String> {
        text.split_terminator("<|endoftext|>").map(str::to_owned).collect()
    };
    let (train, val) = (split(&train), split(&val));
    let mut all = [train, val.clone()].concat();
    all.sort();
    let mut expected = documents.clone();
    expected.sort();
    assert_eq!(all, expected, "each document is in one split");
    let n_owce = val.iter().filter(|it| it.starts_with("Sko")).count();
    assert!((15..50).contains(&n_owce), "{n_owce} of {}", val.len());

    // A part of the training documents leaves the validation documents as they are.
    let part = PrepareRequest {
        val_split: Some(ValSplit::Random),
        seed: 1,
        data_percentage: 30.0,
        force: true,
        ..request(dir.path(), &source)
    };
    let meta = prepare(&part, &NoProgress).unwrap().meta;
    assert!((110..220).contains(&meta.train.n_documents), "{}", meta.train.n_documents);
    assert_eq!(split(&text_of(&open(&part), &open(&part).val)), val);
}

#[test]
fn a_random_choice_among_one_document_is_its_end_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "one.txt", lines(100));
    let end = request(dir.path(), &source);
    let at_end = prepare(&end, &NoProgress).unwrap().meta;
    assert_eq!(at_end.held_out, Some(HeldOut { split: ValSplit::End, cut_document: Some(1) }));
    let random = PrepareRequest { val_split: Some(ValSplit::Random), force: true, ..end };
    let (summary, notices) = prepare_noting(&random);
    assert_eq!(summary.meta.fingerprint(), at_end.fingerprint());
    assert_eq!(summary.meta.held_out, at_end.held_out);
    assert!(notices.iter().any(|it| it.contains("this text is one document")), "{notices:?}");
    assert!(prepare(&PrepareRequest { force: false, ..random }, &NoProgress).unwrap().kept);
}

#[test]
fn validation_text_that_training_never_has_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let sheep = (0..90).map(|i| format!("The {i}th sheep jumped."));
    let owce = (0..7).map(|i| format!("Skoczyła {i} owca, żółta gęś."));
    let sorted: Vec<String> = sheep.chain(owce).collect();
    let sorted = write(dir.path(), "sorted.txt", sorted.join(SEPARATOR));
    let noted = |request: &PrepareRequest| -> Vec<String> {
        let (_, notices) = prepare_noting(request);
        notices.into_iter().filter(|it| it.contains("never occur")).collect()
    };
    let simple = PrepareRequest { force: true, ..request(dir.path(), &sorted) };
    let notes = noted(&simple);
    assert_eq!(notes.len(), 1, "{notes:?}");
    for part in ["% of the characters", "\"a\"", "\"ł\"", "`val_split`"] {
        assert!(notes[0].contains(part), "{part}: {notes:?}");
    }
    let bpe =
        PrepareRequest { encoding_type: Some(Encoding::Bpe), vocab_size: 300, ..simple.clone() };
    let notes = noted(&bpe);
    assert!(notes.len() == 1 && notes[0].contains("% of the tokens"), "{notes:?}");
    let random = PrepareRequest { val_split: Some(ValSplit::Random), ..simple };
    assert_eq!(noted(&random), Vec::<String>::new());

    // One text in one language, with a word now and then that is new: nothing to note.
    let plain = write(dir.path(), "plain.txt", lines(500) + "Quite zany.\n");
    let plain = PrepareRequest { force: true, ..request(dir.path(), &plain) };
    assert_eq!(noted(&plain), Vec::<String>::new());
}

/// Changes `meta.json` of a preparation.
fn edit_meta(dir: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join("meta.json");
    let mut meta = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut meta);
    fs::write(&path, meta.to_string()).unwrap();
}

#[test]
fn a_preparation_of_an_earlier_version_is_the_same_if_its_share_is() {
    let dir = tempfile::tempdir().unwrap();
    let documents: Vec<String> = (0..40).map(|i| format!("Story {i}. It ends.")).collect();
    let source = write(dir.path(), "stories.txt", documents.join(SEPARATOR));
    let request = request(dir.path(), &source);
    let made = prepare(&request, &NoProgress).unwrap();
    let text = fs::read_to_string(made.dir.join("meta.json")).unwrap();
    assert!(!text.contains("val_split"), "what is usual is not named: {text}");
    edit_meta(&made.dir, |meta| _ = meta.as_object_mut().unwrap().remove("held_out"));
    assert!(prepare(&request, &NoProgress).unwrap().kept);
    // As it was with documents of very unequal length.
    edit_meta(&made.dir, |meta| meta["val"]["n_characters"] = 100_000.into());
    let error = prepare(&request, &NoProgress).unwrap_err();
    assert!(matches!(&error, DataError::AlreadyPrepared { .. }), "{error}");
    assert!(crate::explained(&error).contains("validation share: 0.99"), "{error}");
}

#[test]
fn options_without_effect_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = r#"{"source": {"files": {"train": ["a.txt"], "validation": ["b.txt"]}}}"#;
    write(dir.path(), "two/dataset.json", recipe);
    write(dir.path(), "two/a.txt", lines(30));
    write(dir.path(), "two/b.txt", lines(5));
    let request = PrepareRequest {
        dataset_name: "two".into(),
        data_dir: dir.path().to_path_buf(),
        ..Default::default()
    };
    assert_eq!(prepare_noting(&request).1, Vec::<String>::new());
    let asked = PrepareRequest { val_split: Some(ValSplit::Random), ..request };
    assert!(prepare(&asked, &NoProgress).unwrap().kept);
    let (_, notices) = prepare_noting(&PrepareRequest { force: true, ..asked });
    assert!(notices.iter().any(|it| it.contains("has a validation split")), "{notices:?}");
}

#[test]
fn the_text_of_a_recipe_is_not_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "tiny_tales.txt", lines(30));
    for name in ["tiny_tales", "tiny_stories"] {
        let named = PrepareRequest { dataset_name: name.into(), ..request(dir.path(), &source) };
        let message = crate::explained(&prepare(&named, &NoProgress).unwrap_err());
        assert!(message.contains(name) && message.contains("`dataset_name`"), "{message}");
        assert!(!dir.path().join("data").join(name).exists());
    }
    // Shakespeare's text is also available as a file, and a recipe may be made for a given text.
    write(dir.path(), "data/given/dataset.json", r#"{"source": "given"}"#);
    for name in ["shakespeare_char", "given"] {
        let named = PrepareRequest { dataset_name: name.into(), ..request(dir.path(), &source) };
        prepare(&named, &NoProgress).unwrap();
    }
}
