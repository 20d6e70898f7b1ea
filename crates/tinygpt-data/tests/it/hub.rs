//! The download against a hub that misbehaves in every way we could think of.
//!
//! The law behind most tests: whatever the network does, a file under its final name is the file
//! that the hub announced, nothing is written outside the cache, and the error says which address
//! failed and what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tinygpt_data::ErrorKind;
use tinygpt_data::hub::{self, HubError, HubFiles, HubOptions, HubRequest, Patience, Token};
use tinygpt_data::{PrepareProgress, PrepareRequest, Stage, prepare};

use crate::fake_hub::{Ask, COMMIT, FakeHub, Fault, parquet_file, sha256};

const REPOSITORY: &str = "someone/Stories";
const TRAIN: &str = "data/train-00000-of-00001-2d5a1467fff1081b.parquet";
const VALIDATION: &str = "data/validation-00000-of-00001.parquet";
const TOKEN: &str = "hf_marker_token";
const EVER: usize = usize::MAX;

/// Counts bytes and keeps notices.
#[derive(Default)]
struct Recorder {
    total: AtomicU64,
    advanced: AtomicU64,
    notices: Mutex<Vec<String>>,
}

impl PrepareProgress for Recorder {
    fn begin(&self, _stage: Stage, total_bytes: Option<u64>) {
        self.total.store(total_bytes.unwrap_or(0), Ordering::SeqCst);
    }
    fn advance(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::SeqCst);
    }
    fn finish(&self) {}
    fn notice(&self, message: &str) {
        self.notices.lock().unwrap().push(message.to_owned());
    }
}

/// A hub, an empty cache, and options that wait for milliseconds only.
struct World {
    hub: FakeHub,
    home: tempfile::TempDir,
    options: HubOptions,
    train: Vec<u8>,
    recorder: Recorder,
}

/// A parquet file of about 200 KB that does not pack well.
fn big_parquet() -> Vec<u8> {
    let mut state = 1u64;
    let texts: Vec<String> = (0..8_000)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            format!("{state:016x}")
        })
        .collect();
    parquet_file(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

impl World {
    fn new() -> Self {
        let train = big_parquet();
        let files = [
            ("README.md", b"# Stories".to_vec()),
            (VALIDATION, parquet_file(&["The end."])),
            (TRAIN, train.clone()),
        ];
        Self::with(FakeHub::start(REPOSITORY, &files), train)
    }

    fn with(hub: FakeHub, train: Vec<u8>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(home.path().join("hub"));
        options.endpoint = hub.url();
        options.token = Token::new(TOKEN);
        options.patience = Patience {
            retries: 3,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_secs(5),
            answer_timeout: Duration::from_millis(500),
            stall_timeout: Duration::from_millis(300),
        };
        Self { hub, home, options, train, recorder: Recorder::default() }
    }

    fn fetch(&self) -> Result<HubFiles, HubError> {
        let request = HubRequest {
            repository: REPOSITORY,
            revision: "main",
            train: "train",
            validation: Some("validation"),
        };
        hub::fetch(&request, &self.options, &self.recorder)
    }

    /// Fetches and checks that what came is the dataset, byte for byte.
    #[track_caller]
    fn fetch_well(&self) -> HubFiles {
        let files = self.fetch().unwrap();
        assert_eq!(files.commit, COMMIT);
        assert_eq!(files.train.len(), 1);
        assert_eq!(files.validation.len(), 1);
        assert!(fs::read(&files.train[0]).unwrap() == self.train, "the training file differs");
        files
    }

    /// Fetches in vain and checks what holds for every failure.
    #[track_caller]
    fn fetch_badly(&self) -> String {
        let error = self.fetch().unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(!message.contains(TOKEN), "the token is in {message}");
        self.assert_nothing_bad_is_published();
        error.to_string()
    }

    /// Every file under a final name must be one of the hub's.
    #[track_caller]
    fn assert_nothing_bad_is_published(&self) {
        let mut paths = Vec::new();
        walk(self.home.path(), &mut paths);
        for path in paths {
            let path_text = path.to_string_lossy().replace('\\', "/");
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes()), "{path_text}");
            if path_text.contains("/blobs/") && path.extension().is_none() {
                assert!(path.ends_with(sha256(&bytes)), "{path_text} holds other bytes");
            }
            if path_text.contains("/snapshots/") {
                assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{path_text}");
            }
        }
    }

    fn blobs(&self) -> PathBuf {
        self.options.cache_dir.join("datasets--someone--Stories/blobs")
    }

    fn part(&self) -> PathBuf {
        self.blobs().join(format!("{}.part", sha256(&self.train)))
    }

    fn notices(&self) -> String {
        self.recorder.notices.lock().unwrap().join("\n")
    }
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), paths);
        } else {
            paths.push(entry.path());
        }
    }
}

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
        Path::new("../../../blobs").join(sha256(&world.train)),
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
fn offline_without_a_copy_names_cache_and_cure() {
    let mut world = World::new();
    world.options.offline = true;
    let message = world.fetch_badly();
    assert!(
        message.contains("HF_HUB_OFFLINE") && message.contains("never downloaded"),
        "{message}"
    );
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
fn a_dead_host_is_named_with_the_ways_on() {
    let mut world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    world.options.endpoint = dead.clone();
    let message = world.fetch_badly();
    assert!(message.contains(&dead), "{message}");
    for way in ["--source PATH", "--dataset-name tiny_tales", "HF_ENDPOINT", "HTTPS_PROXY"] {
        assert!(message.contains(way), "{message} lacks {way}");
    }
    assert_eq!(world.fetch().unwrap_err().kind(), ErrorKind::Network);
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
fn refusals_are_final_and_say_what_to_do() {
    for (status, cure) in [
        (401, "HF_TOKEN"),
        (403, "accept the dataset's terms"),
        (404, "no such dataset"),
        (410, "HF_ENDPOINT"),
    ] {
        for ask in [Ask::Listing, Ask::Description, Ask::Bytes] {
            let world = World::new();
            world.hub.fail(ask, EVER, Fault::Status(status, &[]));
            let message = world.fetch_badly();
            assert!(message.contains(&status.to_string()), "{message}");
            assert!(message.contains(cure) && message.contains(&world.hub.url()), "{message}");
            assert_eq!(world.notices(), "", "{status} was tried again");
        }
    }
}

#[test]
fn passing_troubles_are_waited_out() {
    for status in [408, 429, 500, 502, 503, 504] {
        for ask in [Ask::Listing, Ask::Description, Ask::Bytes] {
            let world = World::new();
            world.hub.fail(ask, 2, Fault::Status(status, &[]));
            world.fetch_well();
            assert!(world.notices().contains("trying again"), "{status}");
        }
    }
}

#[test]
fn lasting_troubles_end_after_the_retries() {
    for status in [429, 500, 503] {
        let world = World::new();
        world.hub.fail(Ask::Bytes, EVER, Fault::Status(status, &[]));
        let message = world.fetch_badly();
        assert!(message.contains(&status.to_string()), "{message}");
        assert_eq!(world.hub.transfers().len(), 4, "one request and three retries");
        world.hub.heal();
        world.fetch_well();
    }
}

#[test]
fn a_pause_that_the_host_asks_for_is_kept() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::Status(429, &["Retry-After: 1"]));
    let begin = std::time::Instant::now();
    world.fetch_well();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(world.notices().contains("trying again in 1.0 s"), "{}", world.notices());
}

#[test]
fn a_pause_that_is_too_long_is_handed_to_the_user() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, EVER, Fault::Status(429, &["Retry-After: 3600"]));
    let message = world.fetch_badly();
    assert!(message.contains("asks to wait 3600 s"), "{message}");
    assert_eq!(world.hub.transfers().len(), 1);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 2, Fault::Cut(70_000));
    world.fetch_well();
    let ranges: Vec<_> = world.hub.transfers().into_iter().filter_map(|r| r.range).collect();
    assert_eq!(ranges, ["bytes=70000-", "bytes=140000-"]);
    let counted = world.recorder.advanced.load(Ordering::SeqCst);
    assert_eq!(counted, world.recorder.total.load(Ordering::SeqCst));
}

#[test]
fn a_transfer_that_breaks_for_ever_is_kept_for_the_next_run() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, EVER, Fault::Cut(10_000));
    let message = world.fetch_badly();
    assert!(message.contains("broke off after 40000"), "{message}");
    assert!(message.contains("goes on from there"), "{message}");
    assert_eq!(fs::metadata(world.part()).unwrap().len(), 40_000);
    world.hub.heal();
    world.fetch_well();
    let last = world.hub.transfers();
    assert!(last.iter().any(|r| r.range.as_deref() == Some("bytes=40000-")));
    assert!(!world.part().exists());
}

#[test]
fn a_body_that_just_ends_is_a_broken_transfer() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::ShortUnsized(50_000));
    world.fetch_well();
    assert!(world.notices().contains("broke off after 50000"), "{}", world.notices());
}

#[test]
fn a_host_that_ignores_ranges_is_served_from_zero() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::Cut(70_000));
    world.hub.fail(Ask::Bytes, 1, Fault::IgnoreRange);
    world.fetch_well();
    let counted = world.recorder.advanced.load(Ordering::SeqCst);
    assert_eq!(counted, world.recorder.total.load(Ordering::SeqCst), "no byte counts twice");
}

#[test]
fn another_range_than_asked_for_is_not_taken() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::Cut(70_000));
    world.hub.fail(Ask::Bytes, 1, Fault::WrongRange);
    world.fetch_well();
    assert!(world.notices().contains("another range"), "{}", world.notices());
}

#[test]
fn a_range_that_is_refused_starts_again() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::Cut(70_000));
    world.hub.fail(Ask::Bytes, 1, Fault::Status(416, &[]));
    world.fetch_well();
}

#[test]
fn spoilt_bytes_of_an_earlier_run_are_replaced() {
    let world = World::new();
    fs::create_dir_all(world.blobs()).unwrap();
    fs::write(world.part(), vec![b'x'; 1000]).unwrap();
    world.fetch_well();
    assert!(world.notices().contains("downloading it once more"), "{}", world.notices());
}

#[test]
fn a_part_longer_than_the_file_is_dropped() {
    let world = World::new();
    fs::create_dir_all(world.blobs()).unwrap();
    fs::write(world.part(), vec![b'x'; world.train.len() + 1]).unwrap();
    world.fetch_well();
}

#[test]
fn a_finished_part_is_published_without_a_transfer() {
    let world = World::new();
    fs::create_dir_all(world.blobs()).unwrap();
    fs::write(world.part(), &world.train).unwrap();
    world.fetch_well();
    assert_eq!(world.hub.transfers().len(), 1, "only the validation file is transferred");
}

#[test]
fn altered_bytes_never_get_a_name() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, EVER, Fault::Altered);
    let message = world.fetch_badly();
    assert!(message.contains("SHA-256") && message.contains(&sha256(&world.train)), "{message}");
    assert_eq!(world.hub.transfers().len(), 2, "one second chance");
    world.hub.heal();
    world.fetch_well();
}

#[test]
fn wrong_lengths_are_refused() {
    for (fault, said) in [
        (Fault::Short(5), "instead of"),
        (Fault::LongUnsized(5), "more than"),
        (Fault::Html, "a web page"),
    ] {
        let world = World::new();
        world.hub.fail(Ask::Bytes, EVER, fault.clone());
        let message = world.fetch_badly();
        assert!(message.contains(said) && message.contains(TRAIN), "{fault:?}: {message}");
        world.hub.heal();
        world.fetch_well();
    }
}

#[test]
fn a_web_page_instead_of_a_listing_is_recognised() {
    let world = World::new();
    world.hub.fail(Ask::Listing, EVER, Fault::Html);
    let message = world.fetch_badly();
    assert!(message.contains("a web page") && message.contains("login page"), "{message}");
}

#[test]
fn an_etag_that_is_no_file_name_is_refused() {
    let world = World::new();
    world.hub.fail(Ask::Description, EVER, Fault::Etag("../../evil"));
    let message = world.fetch_badly();
    assert!(message.contains("usable ETag"), "{message}");
}

#[test]
fn a_wrong_hash_is_refused() {
    const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let world = World::new();
    world.hub.fail(Ask::Description, EVER, Fault::Etag(OTHER));
    let message = world.fetch_badly();
    assert!(message.contains(OTHER), "{message}");
}

#[test]
fn silence_and_trickles_are_given_up() {
    for fault in [Fault::Silence, Fault::Drip(Duration::from_millis(20))] {
        let world = World::new();
        world.hub.fail(Ask::Bytes, 1, fault);
        world.fetch_well();
        assert!(world.notices().contains("trying again"), "{}", world.notices());
    }
    let world = World::new();
    world.hub.fail(Ask::Listing, EVER, Fault::Silence);
    let message = world.fetch_badly();
    assert!(message.contains("timeout") && message.contains(&world.hub.url()), "{message}");
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
        assert_eq!(world.hub.requests().len(), 1, "nothing but the listing was asked for");
    }
}

#[test]
fn odd_but_honest_names_work() {
    let train = parquet_file(&["once"]);
    let files = [("data/train-#1 é?%2e.x.parquet", train.clone()), (VALIDATION, train.clone())];
    let message = World::with(FakeHub::start(REPOSITORY, &files), train.clone()).fetch_badly();
    assert!(message.contains("no part of a file name"), "`?` is refused: {message}");
    let files = [("data/train-#1 é%2e.x.parquet", train.clone()), (VALIDATION, train.clone())];
    let place = World::with(FakeHub::start(REPOSITORY, &files), train).fetch_well();
    assert!(place.train[0].ends_with("train-#1 é%2e.x.parquet"));
}

#[test]
fn splits_that_are_not_there_or_not_clear_are_explained() {
    let file = parquet_file(&["once"]);
    let cases: [(&[&str], &str); 3] = [
        (&["README.md"], "no parquet files at all"),
        (&["data/test-0.parquet"], "data/test-0.parquet"),
        (&["a/train-0.parquet", "b/train-0.parquet", VALIDATION], "folders a, b"),
    ];
    for (names, said) in cases {
        let files: Vec<_> = names.iter().map(|name| (*name, file.clone())).collect();
        let world = World::with(FakeHub::start(REPOSITORY, &files), file.clone());
        let message = world.fetch_badly();
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn names_from_the_recipe_are_checked_before_any_request() {
    let world = World::new();
    for (repository, revision) in [("../x", "main"), ("a/b?c", "main"), ("a/b", "../main")] {
        let request = HubRequest { repository, revision, train: "train", validation: None };
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
    assert!(message.contains("login does not belong"), "{message}");
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
