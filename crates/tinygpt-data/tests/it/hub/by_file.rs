//! Datasets that are prepared file by file: the same result as at once, no file that stays, and a
//! run that was interrupted continues at the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tinygpt_data::hub::HubError;
use tinygpt_data::{
    DataError, Encoding, ErrorKind, Meta, PrepareRequest, PrepareSummary, Prepared, ValSplit,
    dry_run, prepare,
};

use super::World;
use crate::fake_hub::{Ask, FakeHub, Fault, parquet_file, questions_file};
use crate::text_of;

/// The names of the files of FineWeb-Edu's sample, as far as the hub of these tests has them.
const SAMPLE: [&str; 4] = [
    "sample/10BT/000_00000.parquet",
    "sample/10BT/001_00000.parquet",
    "sample/10BT/002_00000.parquet",
    "sample/10BT/003_00000.parquet",
];
const SPLITS: [&str; 4] = [
    "data/train-00000-of-00003.parquet",
    "data/train-00001-of-00003.parquet",
    "data/train-00002-of-00003.parquet",
    "data/validation-00000-of-00001.parquet",
];

/// 30 documents for file number `n`, each of them another text.
fn documents(n: usize) -> Vec<String> {
    (0..30).map(|i| format!("File {n} has walk {i} of owl {}.", (n * 31 + i) % 17)).collect()
}

fn world(names: &[&'static str]) -> World {
    let file = |n: usize| {
        let documents = documents(n);
        parquet_file(&documents.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut files: Vec<_> = names.iter().enumerate().map(|(n, name)| (*name, file(n))).collect();
    files.push(("README.md", b"# Pages".to_vec()));
    let world = World::with(FakeHub::start("o/n", &files), Vec::new());
    let text = crate::write(world.home.path(), "text.txt", documents(0).join("<|endoftext|>"));
    let local = PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        ..crate::request(world.home.path(), &text)
    };
    carry_out(&world, &local).unwrap();
    world
}

/// A request for the tokens of these files, without keeping them.
fn request(world: &World, data_dir: &str) -> PrepareRequest {
    PrepareRequest {
        dataset_name: "n".to_owned(),
        data_dir: world.home.path().join(data_dir),
        source: Some("hub:o/n".into()),
        tokenizer: Some(world.home.path().join("data/mine/bpe").into()),
        val_split: Some(ValSplit::Random),
        val_fraction: Some(0.2),
        hub: world.options.clone(),
        keep_downloads: false,
        ..PrepareRequest::default()
    }
}

fn carry_out(world: &World, request: &PrepareRequest) -> Result<PrepareSummary, DataError> {
    prepare(request, &world.recorder)
}

/// The tokenizer and the shards of a preparation, and what its `meta.json` says about them.
fn result(summary: &PrepareSummary) -> (BTreeMap<String, Vec<u8>>, Meta) {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&summary.dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, fs::read(entry.path()).unwrap());
    }
    files.remove("meta.json").unwrap();
    let meta = Meta { made_at: String::new(), seconds: 0.0, ..summary.meta.clone() };
    (files, meta)
}

/// The names below a directory that do not belong to a complete preparation.
fn left_over(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("n")).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| ![".prepare.lock", "bpe", "prepared-last"].contains(&&**name)).collect()
}

#[test]
fn a_dataset_with_splits_becomes_the_same_shards_and_no_file_stays() {
    let world = world(&SPLITS);
    // The same part of the documents, whatever file they are in.
    let request = |name: &str| PrepareRequest { data_percentage: 60.0, ..request(&world, name) };
    let by_file = request("by_file");
    let summary = carry_out(&world, &by_file).unwrap();
    assert_eq!(world.hub.transfers().len(), 4, "each file once");
    assert!(!world.options.cache_dir.join("datasets--o--n/blobs").exists());
    assert_eq!(left_over(&by_file.data_dir), Vec::<String>::new());
    let at_once = PrepareRequest { keep_downloads: true, ..request("at_once") };
    let at_once = carry_out(&world, &at_once).unwrap();
    assert_eq!(result(&summary), result(&at_once));
    assert!((40..70).contains(&summary.meta.train.n_documents));
    assert_eq!(summary.meta.val.n_documents, 30);
    assert_eq!(summary.files.train.len(), 3);
    assert!(carry_out(&world, &by_file).unwrap().kept);
}

#[test]
fn without_a_validation_split_each_document_is_drawn_and_none_is_lost() {
    let world = world(&SAMPLE);
    let request =
        PrepareRequest { source: Some("hub:o/n/sample/10BT".into()), ..request(&world, "data") };
    let summary = carry_out(&world, &request).unwrap();
    let prepared = Prepared::open(&request.data_dir, "n", None).unwrap();
    let texts = |stream| -> Vec<String> {
        let text = text_of(&prepared, stream);
        text.split_terminator("<|endoftext|>").map(str::to_owned).collect()
    };
    let (train, val) = (texts(&prepared.train), texts(&prepared.val));
    let counts = (summary.meta.train.n_documents, summary.meta.val.n_documents);
    assert_eq!(counts, (train.len() as u64, val.len() as u64));
    assert!((12..=36).contains(&val.len()), "{}", val.len());
    let mut all = [train, val].concat();
    let mut expected: Vec<String> = (0..4).flat_map(documents).collect();
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    let held_out = summary.meta.held_out.unwrap();
    assert_eq!((held_out.split, held_out.cut_document), (ValSplit::Random, None));
}

#[test]
fn files_of_the_shared_cache_are_read_and_stay() {
    let mut world = world(&SPLITS);
    let at_once = PrepareRequest { keep_downloads: true, ..request(&world, "at_once") };
    let at_once = carry_out(&world, &at_once).unwrap();
    let blobs = world.options.cache_dir.join("datasets--o--n/blobs");
    let names = || fs::read_dir(&blobs).unwrap().count();
    assert_eq!(names(), 4);
    let missing = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(missing).unwrap();
    let by_file = carry_out(&world, &request(&world, "by_file")).unwrap();
    assert_eq!(result(&by_file), result(&at_once));
    assert_eq!((world.hub.transfers().len(), names()), (5, 3), "only what was missing");
    // Offline, the cache must have all of them.
    world.options.offline = true;
    let error = carry_out(&world, &request(&world, "offline")).unwrap_err();
    assert!(matches!(error, DataError::Hub(HubError::NotCached { .. })), "{error}");
}

/// Prepares until only `n_arrive` files could be downloaded.
fn interrupt(world: &World, request: &PrepareRequest, n_arrive: usize) {
    // A fault of no effect, for each file that arrives.
    world.hub.fail(Ask::Bytes, n_arrive, Fault::IgnoreRange);
    world.hub.fail(Ask::Bytes, usize::MAX, Fault::Status(404, &[]));
    let error = carry_out(world, request).unwrap_err();
    assert!(matches!(error, DataError::Hub(_)), "{error}");
    world.hub.heal();
}

#[test]
fn an_interrupted_run_continues_at_the_file_with_the_same_result() {
    for names in [&SPLITS, &SAMPLE] {
        let world = world(names);
        let whole = carry_out(&world, &request(&world, "whole")).unwrap();
        for n_arrive in 1..4 {
            let request = request(&world, &format!("data-{n_arrive}"));
            interrupt(&world, &request, n_arrive);
            assert!(!request.data_dir.join("n/bpe").exists());
            let files = request.data_dir.join("n/.bpe.files");
            assert!(files.join("progress.json").is_file(), "{n_arrive}");
            let blobs = fs::read_dir(files.join("hub/datasets--o--n/blobs")).unwrap();
            assert_eq!(blobs.count(), 0, "{n_arrive}: what is encoded is removed");
            let n_before = world.hub.transfers().len();
            let continued = carry_out(&world, &request).unwrap();
            assert_eq!(world.hub.transfers().len() - n_before, 4 - n_arrive, "{n_arrive}");
            assert_eq!(result(&continued), result(&whole), "{n_arrive}");
            assert_eq!(left_over(&request.data_dir), Vec::<String>::new());
            let note = format!("{n_arrive} of 4 files are done");
            assert!(world.notices().contains(&note), "{}", world.notices());
        }
    }
}

#[test]
fn damage_to_what_was_saved_is_found_and_starts_again() {
    let world = world(&SAMPLE);
    let whole = carry_out(&world, &request(&world, "whole")).unwrap();
    for (name, at) in [
        (".bpe.files/progress.json", 0),
        (".bpe.files/progress.json", 500),
        (".bpe.part/train-00000.bin", 300),
        (".bpe.part/val-00000.bin", 130),
        (".bpe.part/tokenizer.json", 90),
    ] {
        let request = request(&world, &format!("data-{}-{at}", name.len()));
        interrupt(&world, &request, 2);
        let path = request.data_dir.join("n").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        world.recorder.notices.lock().unwrap().clear();
        let n_before = world.hub.transfers().len();
        let again = carry_out(&world, &request).unwrap();
        assert_eq!(world.hub.transfers().len() - n_before, 4, "{name}: all files again");
        assert_eq!(result(&again), result(&whole), "{name}");
        assert!(world.notices().contains("starts again"), "{name}: {}", world.notices());
        assert_eq!(left_over(&request.data_dir), Vec::<String>::new());
    }
}

#[test]
fn what_a_killed_run_wrote_behind_the_last_file_is_dropped() {
    let world = world(&SAMPLE);
    let whole = carry_out(&world, &request(&world, "whole")).unwrap();
    let request = request(&world, "data");
    interrupt(&world, &request, 2);
    let part = request.data_dir.join("n/.bpe.part");
    let shard = part.join("train-00000.bin");
    let longer = [fs::read(&shard).unwrap(), vec![7; 99]].concat();
    fs::write(&shard, longer).unwrap();
    fs::write(part.join("train-00001.bin"), "later").unwrap();
    fs::write(part.join("meta.json"), "later").unwrap();
    let continued = carry_out(&world, &request).unwrap();
    assert_eq!(result(&continued), result(&whole));
}

#[test]
fn an_interrupted_run_is_discarded_only_on_request() {
    let world = world(&SAMPLE);
    let earlier = request(&world, "data");
    interrupt(&world, &earlier, 2);
    let saved = earlier.data_dir.join("n/.bpe.files/progress.json");
    let other = PrepareRequest { val_fraction: Some(0.4), ..request(&world, "data") };
    let error = carry_out(&world, &other).unwrap_err();
    let message = crate::explained(&error);
    for words in ["interrupted", "val_fraction: 0.2 → 0.4", "`force`"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let kept = PrepareRequest { keep_downloads: true, ..request(&world, "data") };
    let message = crate::explained(&carry_out(&world, &kept).unwrap_err());
    assert!(message.contains("interrupted") && message.contains("`force`"), "{message}");
    assert!(saved.is_file());
    let forced = PrepareRequest { force: true, ..other };
    let meta = carry_out(&world, &forced).unwrap().meta;
    assert!((30..=70).contains(&meta.val.n_documents), "{}", meta.val.n_documents);
    // An earlier preparation stays while one that replaces it is interrupted.
    let forced = PrepareRequest { force: true, ..earlier };
    interrupt(&world, &forced, 2);
    assert_eq!(Prepared::open(&forced.data_dir, "n", None).unwrap().meta, meta);
    assert!(carry_out(&world, &forced).unwrap().meta.val.n_documents < meta.val.n_documents);
    let kept = PrepareRequest { keep_downloads: true, ..forced };
    carry_out(&world, &kept).unwrap();
    assert_eq!(left_over(&kept.data_dir), Vec::<String>::new());
}

#[test]
fn what_cannot_be_done_file_by_file_is_refused_before_any_download() {
    let world = world(&SAMPLE);
    let text = crate::write(world.home.path(), "a.txt", "a b c");
    let base = request(&world, "data");
    for (request, says) in [
        (PrepareRequest { source: Some(text.into()), ..base.clone() }, "from the hub"),
        (PrepareRequest { tokenizer: None, ..base.clone() }, "characters"),
        (PrepareRequest { val_split: None, ..base.clone() }, "no validation split"),
        (
            PrepareRequest {
                source: None,
                dataset_name: "shakespeare_char".to_owned(),
                tokenizer: None,
                ..base.clone()
            },
            "one document",
        ),
    ] {
        let error = carry_out(&world, &request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        let message = crate::explained(&error);
        assert!(message.contains("`keep_downloads`") && message.contains(says), "{message}");
    }
    assert_eq!(world.hub.transfers().len(), 0);
    let remote = dry_run(&base, &world.recorder).unwrap().files;
    assert!(remote.len() == 4 && remote.iter().all(|file| file.is_remote), "{remote:?}");
}

#[test]
fn the_recipe_of_fineweb_edu_reads_its_sample_with_the_tokenizer_of_gpt2() {
    let file = |n: usize| {
        let documents = documents(n);
        parquet_file(&documents.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut files: Vec<_> = SAMPLE.iter().enumerate().map(|(n, name)| (*name, file(n))).collect();
    files.push(("sample/100BT/000_00000.parquet", file(9)));
    files.push(("data/CC-MAIN-2013-20/train-00000-of-00014.parquet", file(9)));
    let world = World::with(FakeHub::start("HuggingFaceFW/fineweb-edu", &files), Vec::new());
    let recipe = PrepareRequest {
        dataset_name: "fineweb_edu".to_owned(),
        source: None,
        tokenizer: None,
        val_split: None,
        val_fraction: None,
        ..request(&world, "data")
    };
    // The hub of these tests has one repository.
    let error = carry_out(&world, &recipe).unwrap_err();
    assert!(error.to_string().contains("openai-community/gpt2"), "{error}");
    let of_its_own = PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        val_fraction: Some(0.2),
        ..recipe
    };
    let meta = carry_out(&world, &of_its_own).unwrap().meta;
    assert_eq!(meta.train.n_documents + meta.val.n_documents, 120);
    assert_eq!(meta.settings.source, "hub:HuggingFaceFW/fineweb-edu/sample/10BT@main");
    assert_eq!(meta.settings.val_split, ValSplit::Random);
}

#[test]
fn bad_records_of_all_files_are_counted_together() {
    let good = [("How many legs has a cat?", Some("Four.")); 9];
    let mixed = [&good[..], &[("And a snake?", None)]].concat();
    let files = [(SAMPLE[0], questions_file(&mixed)), (SAMPLE[1], questions_file(&good))];
    let world = World::with(FakeHub::start("o/n", &files), Vec::new());
    let request = |max_bad_fraction| PrepareRequest {
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        tokenizer: None,
        chat: true,
        max_bad_fraction,
        ..request(&world, "data")
    };
    // One of 19, although it is a tenth of its file.
    let error = carry_out(&world, &request(0.05)).unwrap_err();
    let says = "1 of 19 records cannot be used (5.3%)";
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.hint().unwrap().contains("`max_bad_fraction` to 0.06"), "{error}");
    // What was done is kept.
    let n_before = world.hub.transfers().len();
    let summary = carry_out(&world, &request(0.06)).unwrap();
    assert_eq!(world.hub.transfers().len(), n_before);
    let meta = &summary.meta;
    assert_eq!(meta.train.n_documents + meta.val.n_documents, 18);
}
