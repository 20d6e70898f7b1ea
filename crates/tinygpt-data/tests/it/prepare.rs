//! Whole preparations of small texts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tinygpt_data::{DataError, Encoding, NoProgress, PrepareRequest, Prepared, prepare};

use crate::fake_hub::parquet_file_in_groups;
use crate::{ids_of, request, text_of, write};

#[test]
fn one_document_is_cut_at_a_character_as_nanogpt_does() {
    let dir = tempfile::tempdir().unwrap();
    let text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ".repeat(100);
    let source = write(dir.path(), "deich.txt", &text);
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

#[test]
fn both_encodings_of_the_tales_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = r#"{"source": {"built_in": {"generator": "tiny_tales",
        "train_documents": 60, "validation_documents": 5}}}"#;
    write(dir.path(), "tales/dataset.json", recipe);
    let simple = PrepareRequest {
        dataset_name: "tales".into(),
        data_dir: dir.path().to_path_buf(),
        ..Default::default()
    };
    let bpe =
        PrepareRequest { encoding_type: Some(Encoding::Bpe), vocab_size: 400, ..simple.clone() };
    prepare(&simple, &NoProgress).unwrap();
    prepare(&bpe, &NoProgress).unwrap();
    let open = |encoding| Prepared::open(dir.path(), "tales", encoding).unwrap();
    let (last, chars) = (open(None), open(Some(Encoding::Simple)));
    assert_eq!(last.meta.encoding, Encoding::Bpe);
    assert_eq!(last.meta.vocab_size, 400);
    for prepared in [&last, &chars] {
        assert_eq!((prepared.meta.train.n_documents, prepared.meta.val.n_documents), (60, 5));
        let stories = text_of(prepared, &prepared.train);
        assert_eq!(stories.matches("<|endoftext|>").count(), 60);
        assert!(stories.ends_with("<|endoftext|>"));
    }
    assert_eq!(text_of(&last, &last.train), text_of(&chars, &chars.train));
    assert!(last.meta.val.bytes_per_token() > 1.5 * chars.meta.val.bytes_per_token());

    // The same again is kept, and is now the one prepared last.
    assert!(prepare(&simple, &NoProgress).unwrap().kept);
    assert_eq!(open(None).meta.encoding, Encoding::Simple);
}

#[test]
fn many_documents_are_split_between_documents() {
    let dir = tempfile::tempdir().unwrap();
    let documents: Vec<String> = (0..40).map(|i| format!("Story {i}.\n\nIt ends.")).collect();
    let text = documents.join("\n<|endoftext|>\n") + "\n<|endoftext|>\n";
    let source = write(dir.path(), "stories.txt", text);
    let request = PrepareRequest { val_fraction: Some(0.25), ..request(dir.path(), &source) };
    let meta = prepare(&request, &NoProgress).unwrap().meta;
    assert_eq!(meta.train.n_documents + meta.val.n_documents, 40);
    assert!((9..=11).contains(&meta.val.n_documents), "{}", meta.val.n_documents);
    let prepared = Prepared::open(&request.data_dir, "mine", None).unwrap();
    let joined = text_of(&prepared, &prepared.train) + &text_of(&prepared, &prepared.val);
    assert_eq!(joined, documents.join("<|endoftext|>") + "<|endoftext|>");
}

#[test]
fn a_subset_is_the_same_for_tokenizer_and_shards_and_spares_validation() {
    let dir = tempfile::tempdir().unwrap();
    // Each document has a character of its own.
    let document = |i: u32| char::from_u32(0x4E00 + i).unwrap().to_string().repeat(30);
    let lines: String = (0..300).map(|i| format!("{{\"text\": \"{}\"}}\n", document(i))).collect();
    let source = write(dir.path(), "stories.jsonl", lines);
    let request = PrepareRequest { data_percentage: 20.0, ..request(dir.path(), &source) };
    let meta = prepare(&request, &NoProgress).unwrap().meta;
    assert!((30..80).contains(&meta.train.n_documents), "{}", meta.train.n_documents);
    assert_eq!(meta.val.n_documents, 30);
    assert_eq!(meta.vocab_size as u64, meta.train.n_documents + 257);
    // No character of the training subset fell back to bytes.
    assert_eq!(meta.train.n_tokens, meta.train.n_documents * 31);
}

#[test]
fn another_preparation_is_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "What is asked for decides. ".repeat(50));
    let first = request(dir.path(), &source);
    let before = prepare(&first, &NoProgress).unwrap();
    let second = PrepareRequest { val_fraction: Some(0.5), ..first.clone() };
    let error = prepare(&second, &NoProgress).unwrap_err();
    assert!(matches!(&error, DataError::AlreadyPrepared { .. }), "{error}");
    assert!(crate::explained(&error).contains("val_fraction: 0.1 → 0.5"), "{error}");
    assert!(crate::explained(&error).contains("`force`"), "{error}");
    assert_eq!(Prepared::open(&first.data_dir, "mine", None).unwrap().meta, before.meta);

    let forced = PrepareRequest { force: true, ..second };
    let after = prepare(&forced, &NoProgress).unwrap();
    assert!(!after.kept);
    assert_ne!(after.meta.fingerprint(), before.meta.fingerprint());
    assert_eq!(Prepared::open(&first.data_dir, "mine", None).unwrap().meta, after.meta);
}

/// The files of a preparation, `meta.json` without times.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: BTreeMap<String, Vec<u8>> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    let mut meta: serde_json::Value = serde_json::from_slice(&files["meta.json"]).unwrap();
    let made_at = meta["made_at"].take();
    assert!(made_at.as_str().unwrap().ends_with('Z'), "{made_at}");
    assert!(meta["seconds"].take().as_f64().unwrap() > 0.0);
    files.insert("meta.json".to_owned(), meta.to_string().into_bytes());
    files
}

#[test]
fn the_same_text_gives_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let story = |i: usize| format!("Story {i} of the {}th shelf. ", i % 17).repeat(1 + i % 40);
    let stories: Vec<String> = (0..4000).map(story).collect();
    let rows: Vec<&str> = stories.iter().map(String::as_str).collect();
    let folder = dir.path().join("texts");
    for (name, rows) in [("a.parquet", &rows[..2500]), ("b.parquet", &rows[2500..3000])] {
        write(&folder, name, parquet_file_in_groups(rows, 300));
    }
    let line = |text: &&str| format!("{}\n", serde_json::json!({ "text": text }));
    write(&folder, "c.jsonl", rows[3000..3500].iter().map(line).collect::<String>());
    write(&folder, "d.txt", rows[3500..].join("\n<|endoftext|>\n"));
    let request = PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        force: true,
        ..request(dir.path(), &folder)
    };
    let mut all = Vec::new();
    for n_threads in [2, 2, 1, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| prepare(&request, &NoProgress)).unwrap();
        all.push(files_of(&request.data_dir.join("mine/bpe")));
    }
    assert!(all.iter().all(|files| *files == all[0]));
    let mut names: Vec<String> = fs::read_dir(request.data_dir.join("mine"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, [".prepare.lock", "bpe", "prepared-last"]);
    let prepared = Prepared::open(&request.data_dir, "mine", None).unwrap();
    assert!(
        text_of(&prepared, &prepared.train).starts_with(&(stories[0].clone() + "<|endoftext|>"))
    );
    let n_documents = prepared.meta.train.n_documents + prepared.meta.val.n_documents;
    assert_eq!(n_documents, 4000);
}

#[test]
fn a_changed_text_of_the_same_name_and_size_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let text = "The cat sat on the mat, and that was that. ".repeat(3000);
    let source = write(dir.path(), "a.txt", &text);
    let request = request(dir.path(), &source);
    prepare(&request, &NoProgress).unwrap();
    assert!(prepare(&request, &NoProgress).unwrap().kept);
    // A letter in the middle, and the date that the file had before.
    let before = fs::metadata(&source).unwrap().modified().unwrap();
    let at = text.len() / 2;
    fs::write(&source, format!("{}x{}", &text[..at], &text[at + 1..])).unwrap();
    fs::File::options().write(true).open(&source).unwrap().set_modified(before).unwrap();
    let error = prepare(&request, &NoProgress).unwrap_err();
    assert!(matches!(&error, DataError::AlreadyPrepared { .. }), "{error}");
    assert!(crate::explained(&error).contains("source: a.txt (129000 bytes, sha256 "), "{error}");
}

#[test]
fn invalid_utf_8_is_replaced_and_counted_on_request() {
    let dir = tempfile::tempdir().unwrap();
    // Three wrong places in more than 300 bytes: a larger part would be another encoding.
    let words = "with words around it, ".repeat(20);
    let row = |i: usize| {
        [words.as_bytes(), format!("row {i} caf").as_bytes(), b"\xe9 au lait \xff\xfe!"].concat()
    };
    let rows: Vec<Vec<u8>> = (0..50).map(row).collect();
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let json = rows.iter().map(|row| [b"{\"text\": \"".as_slice(), row, b"\"}\n"].concat());
    let separated = rows.join(&b"\n<|endoftext|>\n"[..]);
    // Longer than a piece, with a bad byte and whole characters around every cut.
    let long = "ein Wort über das andere, ".repeat(120_000).into_bytes();
    let long = [&long[..], b"\xc3(", &long[..], b"\xe2\x82"].concat();
    let n_threes = rows.len() as u64 * 3;
    for (name, content, n_replaced) in [
        ("a.parquet", parquet_file_in_groups(&rows, 20), n_threes),
        ("a.jsonl", json.collect::<Vec<_>>().concat(), n_threes),
        ("a.txt", separated, n_threes),
        ("long.txt", long, 2),
    ] {
        let source = write(dir.path(), name, content);
        let strict = PrepareRequest { force: true, ..request(dir.path(), &source) };
        let error = prepare(&strict, &NoProgress).unwrap_err();
        assert!(
            crate::explained(&error).contains("`lossy`") && crate::explained(&error).contains(name)
        );
        let lossy = PrepareRequest { lossy: true, ..strict };
        let meta = prepare(&lossy, &NoProgress).unwrap().meta;
        assert_eq!(meta.stats.n_replaced, n_replaced, "{name}");
        let prepared = Prepared::open(&lossy.data_dir, "mine", None).unwrap();
        let text = text_of(&prepared, &prepared.train) + &text_of(&prepared, &prepared.val);
        assert_eq!(text.matches('\u{FFFD}').count() as u64, n_replaced, "{name}");
        if n_replaced > 2 {
            assert!(text.contains("row 7 caf\u{FFFD} au lait \u{FFFD}\u{FFFD}!<|end"), "{name}");
        } else {
            assert_eq!(text.matches("über das andere").count(), 240_000);
        }
    }
}

#[test]
fn what_a_killed_run_left_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let source = write(dir.path(), "a.txt", "Killed between two renames. ".repeat(50));
    let request = request(dir.path(), &source);
    let meta = prepare(&request, &NoProgress).unwrap().meta;
    let dataset_dir = request.data_dir.join("mine");
    fs::rename(dataset_dir.join("simple"), dataset_dir.join(".simple.old")).unwrap();
    write(&dataset_dir, ".simple.part/train-00000.bin", "half a shard");
    // Readers do not wait for the next run to put it right.
    for encoding in [None, Some(Encoding::Simple)] {
        let read = Prepared::open(&request.data_dir, "mine", encoding).unwrap();
        assert_eq!(read.meta, meta);
    }
    let again = prepare(&request, &NoProgress).unwrap();
    assert!(again.kept);
    assert_eq!(again.meta, meta);
    assert!(!dataset_dir.join(".simple.part").exists());
}

#[test]
fn a_tokenizer_is_reused_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let text = "She sells sea shells by the sea shore. ".repeat(200);
    let source = write(dir.path(), "a.txt", &text);
    let first = PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        ..request(dir.path(), &source)
    };
    let made = prepare(&first, &NoProgress).unwrap();
    let other = write(dir.path(), "b.txt", "Something else: «été» 🐚. ".repeat(50));
    let second = PrepareRequest {
        dataset_name: "other".into(),
        tokenizer: Some(made.dir.into()),
        ..request(dir.path(), &other)
    };
    let reused = prepare(&second, &NoProgress).unwrap().meta;
    assert_eq!(reused.tokenizer_sha256, made.meta.tokenizer_sha256);
    assert_eq!(reused.encoding, Encoding::Bpe);
    let prepared = Prepared::open(&second.data_dir, "other", None).unwrap();
    assert!(text_of(&prepared, &prepared.train).contains("«été» 🐚"));

    let asked_for_chars = PrepareRequest { encoding_type: Some(Encoding::Simple), ..second };
    assert!(
        crate::explained(&prepare(&asked_for_chars, &NoProgress).unwrap_err()).contains("`bpe`")
    );
}

#[test]
fn a_text_longer_than_a_piece_gives_the_tokens_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..150_000u64 {
        text.push_str(if i % 7 == 0 { "  \n\n" } else { " " });
        text.push_str(&format!("it's {}", i * i));
    }
    assert!(text.len() > 2 << 20);
    let source = write(dir.path(), "long.txt", &text);
    let request = PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        ..request(dir.path(), &source)
    };
    prepare(&request, &NoProgress).unwrap();
    let prepared = Prepared::open(&request.data_dir, "mine", None).unwrap();
    let n_train = (text.len() as f64 * 0.9) as usize; // ASCII.
    let expected = prepared.tokenizer.encode(&text[..n_train]).unwrap();
    assert!(ids_of(&prepared.train) == expected);
}
