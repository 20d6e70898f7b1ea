//! Sources `hub:…`: any dataset of the hub, its splits found by name, and single files of models.

use std::fs;

use tinygpt_data::hub::{self, HubError};
use tinygpt_data::{DataError, ErrorKind, PrepareRequest, PrepareSummary, Prepared, prepare};

use super::World;
use crate::fake_hub::{COMMIT, FakeHub, parquet_file};

const STORIES: [&str; 4] = ["The cat sat.", "The dog ran.", "The cow lay.", "The hen stood."];

/// A world whose hub has a dataset `o/n` with stories in these files.
fn world(names: &[&str]) -> World {
    let files: Vec<_> = names.iter().map(|name| (*name, parquet_file(&STORIES))).collect();
    World::with(FakeHub::start("o/n", &files), Vec::new())
}

fn prepare_from(world: &World, source: &str) -> Result<PrepareSummary, DataError> {
    let request = PrepareRequest {
        dataset_name: "n".to_owned(),
        data_dir: world.home.path().join("data"),
        source: Some(source.into()),
        hub: world.options.clone(),
        ..PrepareRequest::default()
    };
    prepare(&request, &world.recorder)
}

#[test]
fn any_dataset_is_prepared_with_the_splits_it_has() {
    // Without a split to validate on, a tenth of the text is taken: if need be a part of a story.
    for (names, n_train, n_val) in [
        (vec!["data/train-0.parquet", "data/val-0.parquet", "data/test-0.parquet"], 4, 4),
        (vec!["data/train-0.parquet", "data/train-1.parquet", "README.md"], 8, 1),
        (vec!["part-0.parquet", "part-1.parquet", "part-2.parquet"], 11, 1),
    ] {
        let world = world(&names);
        let meta = prepare_from(&world, "hub:o/n").unwrap().meta;
        let found = (meta.train.n_documents, meta.val.n_documents);
        assert_eq!(found, (n_train, n_val), "{names:?}");
        assert_eq!(meta.settings.source, "hub:o/n@main");
        assert_eq!(meta.source_commit.as_deref(), Some(COMMIT));
    }
}

#[test]
fn a_revision_and_a_folder_can_be_named() {
    let world = world(&["a/train-0.parquet", "a/test-0.parquet", "b/train-0.parquet"]);
    let error = prepare_from(&world, "hub:o/n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(crate::explained(&error).contains("folders a, b"), "{error}");
    let source = format!("hub:o/n/a@{COMMIT}");
    let meta = prepare_from(&world, &source).unwrap().meta;
    assert_eq!((meta.train.n_documents, meta.val.n_documents), (4, 4));
    assert_eq!(meta.settings.source, source);
    let listings: Vec<String> = world.hub.requests().into_iter().map(|r| r.target).collect();
    assert!(listings.iter().any(|target| target.ends_with(&format!("revision/{COMMIT}"))));
}

#[test]
fn names_that_no_hub_has_are_refused_by_name() {
    let world = world(&["train.parquet"]);
    for (source, expected_text) in [
        ("hub:", "repository"),
        ("hub:../x", "repository"),
        ("hub:o/n@", "revision"),
        ("hub:o/n@a..b/../c", "revision"),
        ("hub:o/n/nowhere", "in its folder `nowhere`"),
    ] {
        let error = prepare_from(&world, source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{source}: {error}");
        assert!(crate::explained(&error).contains(expected_text), "{source}: {error}");
    }
    let error = prepare_from(&world, "hub:other/n").unwrap_err();
    assert!(
        crate::explained(&error).contains("404") && crate::explained(&error).contains("other/n"),
        "{error}"
    );
}

#[test]
fn a_missing_column_is_answered_with_those_there_are() {
    let world = world(&["train.parquet"]);
    let request = PrepareRequest {
        dataset_name: "n".to_owned(),
        data_dir: world.home.path().join("data"),
        source: Some("hub:o/n".into()),
        text_column: Some("story".to_owned()),
        hub: world.options.clone(),
        ..PrepareRequest::default()
    };
    let error = prepare(&request, &world.recorder).unwrap_err();
    assert!(matches!(error, DataError::MissingColumn { .. }));
    let message = crate::explained(&error);
    assert!(message.contains("it has `text`") && message.contains("`text_column`"), "{message}");
}

#[test]
fn what_was_downloaded_is_prepared_again_offline() {
    let mut world = world(&["train.parquet", "validation.parquet"]);
    let online = prepare_from(&world, "hub:o/n").unwrap();
    fs::remove_dir_all(&online.dir).unwrap();
    world.options.offline = true;
    let n_requests = world.hub.requests().len();
    let offline = prepare_from(&world, "hub:o/n").unwrap();
    assert_eq!(offline.meta.fingerprint(), online.meta.fingerprint());
    assert_eq!(world.hub.requests().len(), n_requests);
    Prepared::open(&world.home.path().join("data"), "n", None).unwrap();
}

#[test]
fn files_of_a_model_are_fetched_by_name_and_found_again() {
    let files = [("vocab.json", b"{}".to_vec()), ("merges.txt", b"#version: 0.2\n".to_vec())];
    let mut world = World::with(FakeHub::start_model("o/m", &files), Vec::new());
    let fetch = |world: &World, wanted: &[&[&str]]| {
        hub::fetch_model_files("o/m", "main", (wanted, &[]), &world.options, &world.recorder)
    };
    let both: [&[&str]; 2] = [&["tokenizer.json"], &["vocab.json", "merges.txt"]];
    let paths = fetch(&world, &both).unwrap();
    assert_eq!(fs::read(&paths[1]).unwrap(), b"#version: 0.2\n");
    assert!(paths[0].starts_with(world.options.cache_dir.join("models--o--m/snapshots")));
    let error = fetch(&world, &both[..1]).unwrap_err();
    assert!(matches!(error, HubError::NoFile { .. }));
    assert!(error.to_string().contains("o/m has no tokenizer.json"), "{error}");
    world.options.offline = true;
    assert_eq!(fetch(&world, &both).unwrap(), paths);
    let error = fetch(&world, &both[..1]).unwrap_err().to_string();
    assert!(error.contains("does not hold tokenizer.json"), "{error}");
}

#[test]
fn optional_files_come_if_the_repository_has_them() {
    let files = [("tokenizer.json", b"{}".to_vec()), ("chat_template.jinja", b"Hi".to_vec())];
    let mut world = World::with(FakeHub::start_model("o/m", &files), Vec::new());
    let wanted: (&[&[&str]], &[&str]) =
        (&[&["tokenizer.json"]], &["tokenizer_config.json", "chat_template.jinja"]);
    for offline in [false, true] {
        world.options.offline = offline;
        let found =
            hub::fetch_model_files("o/m", "main", wanted, &world.options, &world.recorder).unwrap();
        assert_eq!(found.len(), 1, "only files that are needed are returned");
        let template = found[0].with_file_name("chat_template.jinja");
        assert_eq!(fs::read(template).unwrap(), b"Hi");
        assert_eq!(world.hub.transfers().len(), 2, "{:?}", world.hub.transfers());
    }
}

#[test]
fn a_tokenizer_of_the_hub_brings_its_chat_template() {
    let golden = |name: &str| {
        fs::read(format!("{}/tests/golden/chat/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let template = b"{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}".to_vec();
    let files =
        [("a/tokenizer.json", golden("tokenizer.json")), ("a/chat_template.jinja", template)];
    let world = World::with(FakeHub::start_model("o/m", &files), Vec::new());
    let summary = prepare_with_model(&world, "hub:o/m/a").unwrap();
    let config = fs::read_to_string(summary.dir.join("tokenizer_config.json")).unwrap();
    assert!(config.contains("{{ m.content }}<|im_end|>"), "{config}");
}

/// What `prepare` makes of a text with the tokenizer of `o/m`.
fn prepare_with_model(world: &World, tokenizer: &str) -> Result<PrepareSummary, DataError> {
    let text = crate::write(world.home.path(), "owl.txt", "It's an owl's café. ".repeat(40));
    let request = PrepareRequest {
        tokenizer: Some(tokenizer.into()),
        hub: world.options.clone(),
        ..crate::request(world.home.path(), &text)
    };
    prepare(&request, &world.recorder)
}

#[test]
fn a_tokenizer_comes_from_the_hub() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bpe/tokenizer.json");
    let whole = fs::read(golden).unwrap();
    let files = [("small/tokenizer.json", whole.clone()), ("tokenizer.json", b"{}".to_vec())];
    let mut world = World::with(FakeHub::start_model("o/m", &files), Vec::new());
    let summary = prepare_with_model(&world, "hub:o/m/small").unwrap();
    assert!(fs::read(summary.dir.join("tokenizer.json")).unwrap() == whole);
    let message = crate::explained(&prepare_with_model(&world, "hub:o/m").unwrap_err());
    assert!(message.contains("not a tokenizer.json"), "{message}");
    let message = crate::explained(&prepare_with_model(&world, "hub:o/m/other").unwrap_err());
    assert!(message.contains("other/vocab.json"), "{message}");
    world.options.offline = true;
    assert!(prepare_with_model(&world, "hub:o/m/small").unwrap().kept);

    let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges: String = merges
        .map(|merge| format!("{} {}\n", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()))
        .collect();
    let vocab = json["model"]["vocab"].to_string();
    let files = [("vocab.json", vocab.into_bytes()), ("merges.txt", merges.into_bytes())];
    let world = World::with(FakeHub::start_model("o/m", &files), Vec::new());
    let summary = prepare_with_model(&world, "hub:o/m").unwrap();
    assert!(fs::read(summary.dir.join("tokenizer.json")).unwrap() == whole);
}

/// A text as Shakespeare's is on the hub: a tenth in two splits, each split one row.
fn prepare_shakespeare(world: &World, dataset_name: &str) -> Result<PrepareSummary, DataError> {
    let request = PrepareRequest {
        dataset_name: dataset_name.to_owned(),
        data_dir: world.home.path().join("data"),
        hub: world.options.clone(),
        ..PrepareRequest::default()
    };
    prepare(&request, &world.recorder)
}

#[test]
fn shakespeare_from_the_hub_is_shakespeare_from_the_file() {
    let line = |i: usize| format!("MESSENGER:\nMy lord, {i} ships are come to the isle.\n\n");
    let text: String = (0..900).map(line).collect();
    // As the dataset's own script divides it: nine tenths, then the halves of what is left.
    let (train, rest) = text.split_at(text.len() * 9 / 10);
    let (validation, test) = rest.split_at(rest.len() / 2);
    let files = [
        ("default/train/0000.parquet", parquet_file(&[train])),
        ("default/validation/0000.parquet", parquet_file(&[validation])),
        ("default/test/0000.parquet", parquet_file(&[test])),
    ];
    let mut world = World::with(FakeHub::start("karpathy/tiny_shakespeare", &files), Vec::new());
    let from_hub = prepare_shakespeare(&world, "shakespeare_char").unwrap();
    let listing = &world.hub.requests()[0].target;
    assert!(listing.ends_with("revision/refs%2Fconvert%2Fparquet"), "{listing}");
    let meta = &from_hub.meta;
    assert_eq!(meta.train.n_tokens, train.len() as u64);
    assert_eq!(meta.val.n_tokens, rest.len() as u64);
    assert_eq!((meta.train.n_documents, meta.val.n_documents), (1, 1));
    let described =
        "hub:karpathy/tiny_shakespeare@refs/convert/parquet, train and validation + test";
    assert_eq!(meta.settings.source, described);

    let source = crate::write(world.home.path(), "input.txt", &text);
    let from_file = PrepareRequest {
        dataset_name: "shakespeare_char".to_owned(),
        force: true,
        ..crate::request(world.home.path(), &source)
    };
    let from_file = prepare(&from_file, &world.recorder).unwrap();
    assert_eq!(from_file.meta.fingerprint(), meta.fingerprint());

    world.options.offline = true;
    fs::remove_dir_all(&from_hub.dir).unwrap();
    let offline = prepare_shakespeare(&world, "shakespeare_char").unwrap();
    assert_eq!(offline.meta.fingerprint(), meta.fingerprint());
}

#[test]
fn a_recipe_names_one_validation_split_or_several() {
    let world = world(&["train.parquet", "dev.parquet", "test.parquet"]);
    let data = world.home.path().join("data");
    for (name, validation, n) in [
        ("one", r#""dev""#, Ok(4)),
        ("both", r#"["test", "dev"]"#, Ok(8)),
        ("none", "null", Ok(1)),
        ("empty", "[]", Ok(1)),
        ("lost", r#"["dev", "holdout"]"#, Err("`holdout`")),
        ("wrong", "5", Err("the name of a split or a list of names")),
    ] {
        let source = format!(r#"{{"hub": {{"repository": "o/n", "validation": {validation}}}}}"#);
        let recipe = format!(r#"{{"source": {source}}}"#);
        crate::write(&data, &format!("{name}/dataset.json"), recipe);
        let found = prepare_shakespeare(&world, name).map(|it| it.meta.val.n_documents);
        match (found, n) {
            (Ok(found), Ok(n)) => assert_eq!(found, n, "{name}"),
            (Err(error), Err(part)) => assert!(crate::explained(&error).contains(part), "{error}"),
            (found, n) => panic!("{name}: {found:?}, expected {n:?}"),
        }
    }
}
