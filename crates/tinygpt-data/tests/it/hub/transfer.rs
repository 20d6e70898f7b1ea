//! Transfers that break, stall, resume or send wrong bytes: the result is the right file, or none.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{EVER, TRAIN, World};
use crate::fake_hub::{Ask, Fault, sha256};

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
fn an_interrupted_transfer_resumes_where_it_stopped() {
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
    assert!(message.contains("was interrupted after 40000"), "{message}");
    assert!(message.contains("the download resumes"), "{message}");
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
    assert!(world.notices().contains("was interrupted after 50000"), "{}", world.notices());
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
    assert!(world.notices().contains("downloading it again"), "{}", world.notices());
}

#[test]
fn a_part_longer_than_the_file_is_dropped() {
    let world = World::new();
    fs::create_dir_all(world.blobs()).unwrap();
    fs::write(world.part(), vec![b'x'; world.train.len() + 1]).unwrap();
    world.fetch_well();
    assert_eq!(world.notices(), "", "it is recognized by its length, not by its hash");
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
fn a_file_that_changes_between_its_parts_is_noticed() {
    let world = World::new();
    world.hub.fail(Ask::Bytes, 1, Fault::Cut(70_000));
    world.hub.fail(Ask::Bytes, 1, Fault::Altered);
    world.fetch_well();
    assert!(world.notices().contains("downloading it again"), "{}", world.notices());
}

#[test]
fn two_downloads_of_one_file_take_turns() {
    let world = World::new();
    let locks = world.options.cache_dir.join(".locks/datasets--someone--Stories");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&world.train)))).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // No longer than the fetch waits for an answer, or a failure would never end.
            let since = Instant::now();
            while !world.notices().contains("another program") && since.elapsed().as_secs() < 60 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The other program finishes the file before it lets go.
            fs::create_dir_all(world.blobs()).unwrap();
            fs::write(world.blobs().join(sha256(&world.train)), &world.train).unwrap();
            lock.unlock().unwrap();
        });
        world.fetch_well();
    });
    assert_eq!(world.hub.transfers().len(), 1, "only the validation file is transferred");
}

#[test]
fn wrong_lengths_are_refused() {
    for (fault, expected_text) in [
        (Fault::Short(5), "instead of"),
        (Fault::LongUnsized(5), "more than"),
        (Fault::Html, "a web page"),
    ] {
        let world = World::new();
        world.hub.fail(Ask::Bytes, EVER, fault.clone());
        let message = world.fetch_badly();
        assert!(message.contains(expected_text) && message.contains(TRAIN), "{fault:?}: {message}");
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
fn an_etag_that_is_not_a_file_name_is_refused() {
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
        let mut world = World::new();
        world.wait_at_most(Duration::from_secs(2));
        world.hub.fail(Ask::Bytes, 1, fault);
        world.fetch_well();
        assert!(world.notices().contains("trying again"), "{}", world.notices());
    }
    let mut world = World::new();
    world.wait_at_most(Duration::from_millis(300));
    world.hub.fail(Ask::Listing, EVER, Fault::Silence);
    let message = world.fetch_badly();
    assert!(message.contains("timeout") && message.contains(&world.hub.url()), "{message}");
}
