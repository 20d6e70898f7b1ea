//! Listings, names, redirects, the token and the cache: which host gets which request, and what is used.

use std::fs;
use std::sync::atomic::Ordering;

use tinygpt_data::hub::{self, HubRequest};
use tinygpt_data::{ErrorKind, PrepareRequest, prepare};

use super::{EVER, REPOSITORY, TOKEN, TRAIN, VALIDATION, World};
use crate::fake_hub::{Ask, COMMIT, FakeHub, Fault, parquet_file, sha256};

#[test]
fn a_dataset_lands_in_the_standard_cache() {
    let world = World::new();
    let files = world.fetch_well();
    let repository = world.options.cache_dir.join("datasets--someone--Stories");
    assert_eq!(files.train, [repository.join("snapshots").join(COMMIT).join(TRAIN)]);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert!(repository.join("blobs").join(sha256(&world.train)).is_file());
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&files.train[0]).unwrap(),
        std::path::Path::new("../../../blobs").join(sha256(&world.train)),
    );
    assert!(
        world.hub.requests().iter().all(|r| r.authorization == Some(format!("Bearer {TOKEN}")))
    );
    let counted = world.recorder.advanced.load(Ordering::SeqCst);
    assert_eq!(counted, world.recorder.total.load(Ordering::SeqCst));
    assert!(counted > world.train.len() as u64);
}

#[test]
fn prepare_reads_what_the_hub_serves() {
    let stories = ["Once there was a cat.", "Once there was a dog.", "The cat met the dog."];
    let files =
        [(TRAIN, parquet_file(&stories)), (VALIDATION, parquet_file(&["A cat and a dog."]))];
    let world = World::with(FakeHub::start("roneneldan/TinyStories", &files), Vec::new());
    let request = PrepareRequest {
        dataset_name: "tiny_stories".to_owned(),
        data_dir: world.home.path().join("data"),
        hub: world.options.clone(),
        ..PrepareRequest::default()
    };
    let summary = prepare(&request, &world.recorder).unwrap();
    assert_eq!(summary.meta.train.n_documents, 3);
    assert_eq!(summary.meta.val.n_documents, 1);
    assert_eq!(summary.meta.source_commit.as_deref(), Some(COMMIT));
    assert_eq!(
        summary.meta.settings.source,
        "hub:roneneldan/TinyStories@main, train and validation"
    );
}

#[test]
fn what_is_cached_is_not_fetched_again_and_works_offline() {
    let mut world = World::new();
    let first = world.fetch_well();
    let transfers = world.hub.transfers().len();
    assert_eq!(world.fetch_well(), first);
    assert_eq!(world.hub.transfers().len(), transfers);

    let requests = world.hub.requests().len();
    world.options.offline = true;
    assert_eq!(world.fetch_well(), first);
    assert_eq!(world.hub.requests().len(), requests);
}

#[test]
fn offline_without_a_copy_names_cache_and_hint() {
    let mut world = World::new();
    world.options.offline = true;
    let message = world.fetch_badly();
    assert!(message.contains("`offline`") && message.contains("never downloaded"), "{message}");
    assert!(message.contains(&*world.options.cache_dir.to_string_lossy()), "{message}");
    assert!(world.hub.requests().is_empty());
}

#[test]
fn offline_with_half_a_copy_is_refused() {
    let mut world = World::new();
    let files = world.fetch_well();
    let half = TRAIN.replace("-of-00001", "-of-00004");
    fs::rename(&files.train[0], files.train[0].with_file_name(half.rsplit('/').next().unwrap()))
        .unwrap();
    world.options.offline = true;
    let message = world.fetch_badly();
    assert!(message.contains("only 1 of 4 train files"), "{message}");
}

#[test]
fn a_dead_host_is_named() {
    let mut world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    world.options.endpoint = dead.clone();
    let message = world.fetch_badly();
    assert!(message.contains(&dead), "{message}");
    let error = world.fetch().unwrap_err();
    assert_eq!((error.kind(), error.is_about_model()), (ErrorKind::Network, false));
    assert_eq!(world.notices(), "", "a host that never answered is not asked again");
}

#[test]
fn a_dead_host_does_not_matter_when_the_copy_is_whole() {
    let mut world = World::new();
    let first = world.fetch_well();
    world.options.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(world.fetch_well(), first);
    assert!(world.notices().contains("using the copy"), "{}", world.notices());
}

#[test]
fn error_statuses_are_final_and_have_a_hint() {
    for (status, hint) in [
        (401, "`token`"),
        (403, "accept the repository's terms"),
        (404, "no such repository"),
        (410, "`endpoint`"),
    ] {
        for ask in [Ask::Listing, Ask::Description, Ask::Bytes] {
            let world = World::new();
            world.hub.fail(ask, EVER, Fault::Status(status, &[]));
            let message = world.fetch_badly();
            assert!(message.contains(&status.to_string()), "{message}");
            assert!(message.contains(hint) && message.contains(&world.hub.url()), "{message}");
            assert_eq!(world.notices(), "", "{status} was tried again");
        }
    }
}

#[test]
fn storage_on_another_host_gets_no_token() {
    let world = World::new();
    let storage = FakeHub::start(REPOSITORY, &[(TRAIN, world.train.clone())]);
    let path = format!("/datasets/{REPOSITORY}/resolve/{COMMIT}/{TRAIN}");
    let location = format!("{}{path}?X-Signature=signed", storage.url());
    world.hub.fail(Ask::Description, 1, Fault::Redirect(location.clone()));
    world.hub.fail(Ask::Bytes, 1, Fault::Redirect(location));
    world.fetch_well();
    let at_storage = storage.requests();
    assert_eq!(at_storage.len(), 2);
    assert!(at_storage.iter().all(|request| request.authorization.is_none()));
}

#[test]
fn a_failing_storage_host_is_named_without_its_signature() {
    let world = World::new();
    let storage = FakeHub::start(REPOSITORY, &[]);
    let location = format!("{}/gone?X-Signature=signed", storage.url());
    world.hub.fail(Ask::Bytes, EVER, Fault::Redirect(location));
    let message = world.fetch_badly();
    assert!(message.contains(&storage.url()) && !message.contains("signed"), "{message}");
}

#[test]
fn a_moved_repository_is_followed() {
    let world = World::new();
    let path = format!("/api/datasets/{REPOSITORY}/revision/main?moved=1");
    world.hub.fail(Ask::Listing, 1, Fault::Redirect(path));
    world.hub.fail(Ask::Listing, 1, Fault::Redirect("main?moved=2".to_owned()));
    world.fetch_well();
    let requests = world.hub.requests();
    assert!(requests[2].target.ends_with("/revision/main?moved=2"), "{:?}", requests[2]);
    assert!(requests[2].authorization.is_some());
}

#[test]
fn redirects_that_lead_nowhere_end() {
    for location in ["", "ftp://example/x", "file:///etc/passwd", "http://"] {
        let world = World::new();
        world.hub.fail(Ask::Listing, EVER, Fault::Redirect(location.to_owned()));
        let message = world.fetch_badly();
        assert!(message.contains("not followed"), "{location}: {message}");
    }
    let world = World::new();
    let path = format!("/api/datasets/{REPOSITORY}/revision/main");
    world.hub.fail(Ask::Listing, EVER, Fault::Redirect(path));
    assert!(world.fetch_badly().contains("circle"));
    assert_eq!(world.hub.requests().len(), 6);
}

#[test]
fn listed_names_cannot_leave_the_cache() {
    for name in [
        "../train-0.parquet",
        "/train-0.parquet",
        "data/../../../train.parquet",
        "C:\\train.parquet",
    ] {
        let train = parquet_file(&["once"]);
        let hub = FakeHub::start(REPOSITORY, &[(name, train.clone()), (VALIDATION, train.clone())]);
        let world = World::with(hub, train);
        let message = world.fetch_badly();
        assert!(message.contains("lists a file named"), "{name}: {message}");
        assert_eq!(world.hub.requests().len(), 1, "only the listing was requested");
    }
}

#[test]
fn odd_but_honest_names_work() {
    let train = parquet_file(&["once"]);
    let files = [("data/train-#1 é?%2e.x.parquet", train.clone()), (VALIDATION, train.clone())];
    let message = World::with(FakeHub::start(REPOSITORY, &files), train.clone()).fetch_badly();
    assert!(message.contains("not allowed in file names"), "`?` is refused: {message}");
    let files = [("data/train-#1 é%2e.x.parquet", train.clone()), (VALIDATION, train.clone())];
    let place = World::with(FakeHub::start(REPOSITORY, &files), train).fetch_well();
    assert!(place.train[0].ends_with("train-#1 é%2e.x.parquet"));
}

#[test]
fn splits_that_are_not_there_or_not_clear_are_explained() {
    let file = parquet_file(&["once"]);
    let cases: [(&[&str], &str); 3] = [
        (&["README.md"], "no parquet files"),
        (&["data/test-0.parquet"], "data/test-0.parquet"),
        (&["a/train-0.parquet", "b/train-0.parquet", VALIDATION], "folders a, b"),
    ];
    for (names, expected_text) in cases {
        let files: Vec<_> = names.iter().map(|name| (*name, file.clone())).collect();
        let world = World::with(FakeHub::start(REPOSITORY, &files), file.clone());
        let message = world.fetch_badly();
        assert!(message.contains(expected_text), "{message}");
    }
}

#[test]
fn names_from_the_recipe_are_checked_before_any_request() {
    let world = World::new();
    for (repository, revision) in [("../x", "main"), ("a/b?c", "main"), ("a/b", "../main")] {
        let request = HubRequest {
            repository,
            revision,
            folder: None,
            train: "train",
            validation: &[],
            finds_splits: false,
        };
        let error = hub::fetch(&request, &world.options, &world.recorder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    assert!(world.hub.requests().is_empty());
}

#[test]
fn a_token_does_not_travel_unencrypted() {
    let mut world = World::new();
    world.options.endpoint = "http://hub.example".to_owned();
    let message = world.fetch_badly();
    assert!(message.contains("unencrypted"), "{message}");
    world.options.endpoint = "https://me:hf_marker_token@hub.example".to_owned();
    let message = world.fetch_badly();
    assert!(message.contains("must not contain a login"), "{message}");
    world.options.endpoint = "huggingface.co".to_owned();
    assert!(world.fetch_badly().contains("https://huggingface.co"));
}

#[test]
fn a_cache_that_cannot_be_written_is_an_io_error() {
    let mut world = World::new();
    let file = world.home.path().join("file");
    fs::write(&file, "in the way").unwrap();
    world.options.cache_dir = file.join("hub");
    let error = world.fetch().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("file"), "{error}");
}
