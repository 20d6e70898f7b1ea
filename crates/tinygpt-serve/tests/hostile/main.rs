//! Malformed requests and misbehaving clients, over raw connections: each gets the right status and an
//! OpenAI error object, other clients are served meanwhile, and no resources leak.
//!
//! A separate program, since it counts the threads and descriptors of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "figures to look at with --nocapture")]

mod clients;
#[path = "../it/common.rs"]
#[allow(dead_code, reason = "some of it is for the other tests")]
mod common;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tinygpt_serve::Limits;

use common::{Answer, World};

/// Short times, so that the test is short.
fn limits() -> Limits {
    Limits {
        connections: 280,
        waiting: 4,
        header_timeout: Duration::from_millis(1500),
        body_timeout: Duration::from_millis(700),
        write_timeout: Duration::from_millis(700),
        ..Limits::default()
    }
}

/// `/health` responds within this time, whatever other clients do.
const HEALTHY: Duration = Duration::from_millis(100);

#[test]
fn hostile_clients_are_rejected_and_others_served() {
    let world = World::new(limits(), None);
    let keyed = World::new(limits(), Some("open-sesame"));
    // The first round reaches the size of a busy server, the others check that it stays there. A leak grows
    // in every round; the allocator's memory for client threads grows in some.
    let (mut n_cases, mut slowest) = round(&world, &keyed);
    let mut grown = usize::MAX;
    for _ in 0..3 {
        let before = settled();
        let (n, slowest_now) = round(&world, &keyed);
        (n_cases, slowest) = (n_cases + n, slowest.min(slowest_now));
        let after = settled();
        println!("{n_cases} cases; before and after the last round: {before:?} {after:?}");
        assert!(after.threads <= before.threads, "threads are left behind");
        assert!(after.descriptors <= before.descriptors, "descriptors are left behind");
        grown = grown.min(after.kib.saturating_sub(before.kib));
        if grown < 4 << 10 && slowest < HEALTHY {
            break;
        }
    }
    assert!(n_cases >= 2 * 40, "{n_cases} cases");
    assert!(grown < 4 << 10, "memory grows by {grown} KiB and more in every round");
    // The minimum over several rounds, since the machine may be busy with something else.
    assert!(slowest < HEALTHY, "in every round some answer of /health took {slowest:?} and more");
    world.end().unwrap();
    keyed.end().unwrap();
}

/// Every case once, while texts are generated and `/health` is requested. Returns the number of cases
/// and the slowest response of `/health`.
fn round(world: &World, keyed: &World) -> (usize, Duration) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let health = scope.spawn(|| ask_for_health(world, &over));
        let writing = scope.spawn(|| keep_writing(world, &over));
        let n_cases = {
            let _over = RaisedAtEnd(&over);
            table::run(world, keyed) + clients::run(world, keyed)
        };
        let mut times: Vec<Duration> = health.join().unwrap();
        assert!(writing.join().unwrap() > 0, "nothing was generated meanwhile");
        times.sort_unstable();
        let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
        println!("/health {} times: median {median:?}, slowest {last:?}", times.len());
        assert!(median < HEALTHY, "median {median:?}");
        (n_cases, last)
    })
}

/// Sets the flag even if a case panics.
struct RaisedAtEnd<'a>(&'a AtomicBool);

impl Drop for RaisedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long each response took.
fn ask_for_health(world: &World, over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let since = Instant::now();
        assert_eq!(world.get("/health").status, 200);
        times.push(since.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    times
}

/// Keeps the model busy; returns the number of texts received.
fn keep_writing(world: &World, over: &AtomicBool) -> usize {
    let mut n_texts = 0;
    while !over.load(Ordering::Relaxed) {
        let answer = world.complete(&json!({"max_tokens": 300, "n": 2}));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        n_texts += usize::from(answer.status == 200);
    }
    n_texts
}

/// What a server could leak. Zeros if the system does not report it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Resources {
    threads: usize,
    descriptors: usize,
    kib: usize,
}

fn resources() -> Resources {
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    Resources {
        threads: entries("/proc/self/task"),
        descriptors: entries("/proc/self/fd"),
        kib: kib.unwrap_or(0),
    }
}

/// The resources once they stay the same for a while, or after a timeout.
fn settled() -> Resources {
    let count = |resources: Resources| (resources.threads, resources.descriptors);
    let (mut last, mut n_same) = (resources(), 0);
    for _ in 0..200 {
        thread::sleep(Duration::from_millis(50));
        let now = resources();
        n_same = if count(now) == count(last) { n_same + 1 } else { 0 };
        last = now;
        if n_same == 8 {
            break;
        }
    }
    last
}

/// Checks that a response is an OpenAI error object.
#[track_caller]
fn assert_is_error(name: &str, answer: &Answer) {
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{name}: {answer:?}");
    let kind = error["type"].as_str();
    assert!(matches!(kind, Some("invalid_request_error" | "server_error")), "{name}: {answer:?}");
    for key in ["param", "code"] {
        let value = error.get(key);
        assert!(value.is_some_and(|v| v.is_null() || v.is_string()), "{name}: {answer:?}");
    }
    assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
    assert_eq!(answer.header("access-control-allow-origin"), None, "{name}");
}
