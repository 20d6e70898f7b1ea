//! The number of tries, the seed, and how the outcome is printed.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether `TINYGPT_FAULTS=full` asks for the full set.
pub(crate) fn is_full() -> bool {
    match std::env::var("TINYGPT_FAULTS").as_deref() {
        Err(_) | Ok("" | "quick") => false,
        Ok("full") => true,
        Ok(other) => panic!("TINYGPT_FAULTS is {other:?}, expected quick or full"),
    }
}

/// How often a fault is tried.
pub(crate) fn times(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

/// `TINYGPT_FAULT_SEED`, from which all moments, bits and orders follow.
pub(crate) fn seed() -> u64 {
    match std::env::var("TINYGPT_FAULT_SEED") {
        Err(_) => 1,
        Ok(text) => text.parse().expect("TINYGPT_FAULT_SEED is an integer"),
    }
}

/// Makes `n_tries` tries, some of them at a time; what went wrong.
pub(crate) fn concurrently(
    at_a_time: usize,
    n_tries: usize,
    attempt: impl Fn(usize) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let numbers = std::iter::from_fn(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            (number < n_tries).then_some(number)
        });
        let failed = numbers
            .filter_map(|number| attempt(number).err().map(|what| format!("try {number}: {what}")));
        failed.collect::<Vec<String>>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Past the harness, which keeps the output of tests that pass to itself.
fn print_line(line: &dyn Display) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}

/// Says that a test could not be made here, and why.
pub(crate) fn skip(what: &str, why: &str) {
    print_line(&format_args!("skipped: {what}: {why}"));
}

/// Ends a test: a row of the table, and a panic that names every failure.
#[track_caller]
pub(crate) fn conclude(what: &str, n_tried: usize, failures: &[String]) {
    let (n_good, seed) = (n_tried - failures.len().min(n_tried), seed());
    if is_full() {
        print_line(&format_args!("| {what} | {n_good} of {n_tried} | {seed} |"));
    }
    assert!(n_tried > 0, "{what}: nothing was tried");
    let shown = failures.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    let set = if is_full() { "TINYGPT_FAULTS=full " } else { "" };
    assert!(
        failures.is_empty(),
        "{what}: {n_good} of {n_tried} good; again with {set}TINYGPT_FAULT_SEED={seed}\n{shown}"
    );
}

/// SplitMix64: numbers for faults, a stream for each purpose and case.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of `case` under the seed of this run.
    pub(crate) fn of(purpose: &str, case: usize) -> Self {
        let mixed = purpose.bytes().fold(seed(), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        Self(mixed ^ (case as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
