//! All network faults in one table, each with the required result.
//!
//! The rule is the same for each row. A transient fault ends with the right file; a permanent one
//! ends with a message that names the address and a fix but not the token. There is never a
//! wrong byte under a final name and never a file outside the cache, and when the hub works
//! again the same call succeeds.

use std::fs;
use std::time::Duration;

use super::{EVER, REPOSITORY, TRAIN, VALIDATION, World, walk};
use crate::fake_hub::{Ask, COMMIT, FakeHub, Fault, parquet_file};

/// The required result of a fault.
enum Outcome {
    /// The right file; a word of the notice, if there is one.
    Recovers(&'static str),
    /// A failure that says these words besides the address.
    Fails(&'static [&'static str]),
}

use Ask::{Bytes, Description, Listing};
use Outcome::{Fails, Recovers};

/// A fault for this many requests of a kind.
type Row = (&'static str, Vec<(Ask, usize, Fault)>, Outcome);

fn statuses() -> Vec<Row> {
    let status = |ask, times, status| vec![(ask, times, Fault::Status(status, &[]))];
    let asked = |times, headers| vec![(Bytes, times, Fault::Status(429, headers))];
    vec![
        ("401", status(Listing, EVER, 401), Fails(&["401", "`token`"])),
        ("401 for the bytes", status(Bytes, EVER, 401), Fails(&["401", "`token`"])),
        ("403", status(Bytes, EVER, 403), Fails(&["403", "accept the repository's terms"])),
        ("404", status(Listing, EVER, 404), Fails(&["404", "no such repository"])),
        ("404 for a listed file", status(Description, EVER, 404), Fails(&["404", "file"])),
        ("407", status(Listing, EVER, 407), Fails(&["407", "`proxy`"])),
        ("408 once", status(Bytes, 1, 408), Recovers("408")),
        ("416 from the start", status(Bytes, EVER, 416), Fails(&["416", "`source`"])),
        ("429 once, in seconds", asked(1, &["Retry-After: 1"]), Recovers("1.0 s")),
        (
            "429 once, until a date",
            asked(
                1,
                &[
                    "Date: Sun, 22 Nov 2026 23:59:59 GMT",
                    "Retry-After: Mon, 23 Nov 2026 00:00:00 GMT",
                ],
            ),
            Recovers("1.0 s"),
        ),
        (
            "429 until a date that has passed",
            asked(1, &["Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"]),
            Recovers("0.0 s"),
        ),
        ("429 without a date", asked(1, &["Retry-After: soon"]), Recovers("trying again")),
        (
            "429 for an hour",
            asked(EVER, &["Retry-After: 3600"]),
            Fails(&["asks to wait 3600 s", "too many requests"]),
        ),
        ("429 for ever", asked(EVER, &[]), Fails(&["429", "wait a little"])),
        ("500 once", status(Listing, 1, 500), Recovers("500")),
        ("500 for ever", status(Bytes, EVER, 500), Fails(&["500", "again later"])),
        ("503 twice", status(Description, 2, 503), Recovers("2 of 3")),
        ("503 for ever", status(Description, EVER, 503), Fails(&["503", "`endpoint`"])),
        ("another success", status(Bytes, EVER, 204), Fails(&["instead of", "`proxy`"])),
    ]
}

fn bodies() -> Vec<Row> {
    const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    let bytes = |times, fault| vec![(Bytes, times, fault)];
    let then = |fault| vec![(Bytes, 1, Fault::Cut(70_000)), (Bytes, 1, fault)];
    let drip = Fault::Drip(Duration::from_millis(20));
    vec![
        ("cut once", bytes(1, Fault::Cut(70_000)), Recovers("was interrupted after 70000")),
        (
            "cut for ever",
            bytes(EVER, Fault::Cut(10_000)),
            Fails(&["40000", "the download resumes"]),
        ),
        ("cut before the first byte", bytes(1, Fault::Cut(0)), Recovers("was interrupted after 0")),
        ("ends early, no length", bytes(1, Fault::ShortUnsized(50_000)), Recovers("50000")),
        ("short", bytes(EVER, Fault::Short(5)), Fails(&["instead of", "`proxy`"])),
        ("long", bytes(EVER, Fault::LongUnsized(5)), Fails(&["more than", "`proxy`"])),
        ("altered once", bytes(1, Fault::Altered), Recovers("downloading it again")),
        ("altered for ever", bytes(EVER, Fault::Altered), Fails(&["SHA-256", "`proxy`"])),
        ("a web page", bytes(EVER, Fault::Html), Fails(&["a web page", "`proxy`"])),
        ("wrong hash", vec![(Description, EVER, Fault::Etag(OTHER))], Fails(&[OTHER])),
        (
            "an ETag that is a path",
            vec![(Description, EVER, Fault::Etag("../../evil"))],
            Fails(&["usable ETag", "mirror"]),
        ),
        ("range ignored", then(Fault::IgnoreRange), Recovers("70000")),
        ("another range", then(Fault::WrongRange), Recovers("another range")),
        ("416 when resuming", then(Fault::Status(416, &[])), Recovers("416")),
        ("changed between its parts", then(Fault::Altered), Recovers("downloading it again")),
        ("silence once", bytes(1, Fault::Silence), Recovers("trying again")),
        ("silence for ever", vec![(Listing, EVER, Fault::Silence)], Fails(&["could not reach"])),
        ("a byte now and then", bytes(1, drip.clone()), Recovers("trying again")),
        ("a byte now and then for ever", bytes(EVER, drip), Fails(&["the download resumes"])),
        ("a listing that is a page", vec![(Listing, EVER, Fault::Html)], Fails(&["login page"])),
        ("a listing cut short", vec![(Listing, 1, Fault::Cut(20))], Recovers("trying again")),
    ]
}

fn redirects() -> Vec<Row> {
    let to = |ask, times, location: &str| vec![(ask, times, Fault::Redirect(location.to_owned()))];
    let same = format!("/datasets/{REPOSITORY}/resolve/{COMMIT}/{TRAIN}");
    let refused = || Fails(&["not followed"]);
    vec![
        ("redirect by path", to(Bytes, 1, &same), Recovers("")),
        ("redirect from here", to(Bytes, 1, TRAIN.rsplit('/').next().unwrap()), Recovers("")),
        ("redirect in a circle", to(Bytes, EVER, &same), Fails(&["circle"])),
        ("redirect to nowhere", to(Listing, EVER, ""), refused()),
        ("redirect to a file", to(Bytes, EVER, "file:///etc/passwd"), refused()),
        ("redirect to ftp", to(Description, EVER, "ftp://elsewhere/x"), refused()),
        ("redirect to a dead host", to(Bytes, EVER, "http://127.0.0.1:9/x"), Fails(&[":9"])),
    ]
}

#[test]
fn every_fault_of_the_table_ends_as_it_must() {
    let rows: Vec<Row> = statuses().into_iter().chain(bodies()).chain(redirects()).collect();
    assert!(rows.len() >= 45, "{} faults", rows.len());
    let mut wrong = Vec::new();
    for (name, faults, outcome) in rows {
        let mut world = World::new();
        let retry = world.options.retry.clone();
        for (ask, times, fault) in faults {
            if matches!(fault, Fault::Silence | Fault::Drip(_)) {
                // What recovers needs time for the good answer.
                let millis = if matches!(outcome, Recovers(_)) { 2_000 } else { 300 };
                world.wait_at_most(Duration::from_millis(millis));
            }
            world.hub.fail(ask, times, fault);
        }
        match outcome {
            Recovers(notice) => {
                world.fetch_well();
                if !world.notices().contains(notice) {
                    wrong.push(format!("{name}: no `{notice}` in {}", world.notices()));
                }
            }
            Fails(words) => {
                let message = world.fetch_badly();
                let all = words.iter().chain(&["http://127.0.0.1:"]);
                let missing: Vec<_> = all.filter(|word| !message.contains(**word)).collect();
                if !missing.is_empty() {
                    wrong.push(format!("{name}: no {missing:?} in {message}"));
                }
                world.hub.heal();
                world.options.retry = retry;
                world.fetch_well();
            }
        }
        world.assert_nothing_bad_is_published();
        assert_nothing_outside(&world);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Everything is written into the cache folders of this repository.
#[track_caller]
fn assert_nothing_outside(world: &World) {
    let mut paths = Vec::new();
    walk(world.home.path(), &mut paths);
    let cache = &world.options.cache_dir;
    let places = ["datasets--someone--Stories", ".locks/datasets--someone--Stories"];
    for path in paths {
        let is_inside = places.iter().any(|place| path.starts_with(cache.join(place)));
        assert!(is_inside, "{}", path.display());
    }
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused_before_any_file() {
    for name in [
        "../train-0.parquet",
        "data/../../train-0.parquet",
        "/train-0.parquet",
        "//host/train-0.parquet",
        "C:/train-0.parquet",
        "C:\\train-0.parquet",
        "\\\\host\\share\\train-0.parquet",
        "data/./train-0.parquet",
        "data//train-0.parquet",
        "data/train-0\n.parquet",
        "data/train-0\u{1b}[2J.parquet",
        "data/train-0?.parquet",
        "data ./train-0.parquet",
    ] {
        let train = parquet_file(&["once"]);
        let hub = FakeHub::start(REPOSITORY, &[(name, train.clone()), (VALIDATION, train.clone())]);
        let world = World::with(hub, train);
        let message = world.fetch_badly();
        assert!(message.contains("lists a file named"), "{name:?}: {message}");
        assert!(message.contains("`source`") && !message.contains('\u{1b}'), "{message}");
        assert_eq!(world.hub.requests().len(), 1, "{name:?}: only the listing was requested");
        let mut paths = Vec::new();
        walk(world.home.path(), &mut paths);
        assert!(paths.is_empty(), "{paths:?}");
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_is_refused() {
    // A link in the cache that leads elsewhere is replaced and not written through.
    let world = World::new();
    let outside = world.home.path().join("precious");
    fs::write(&outside, "mine").unwrap();
    let files = world.fetch_well();
    fs::remove_file(&files.train[0]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, &files.train[0]).unwrap();
    world.fetch_well();
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
}
