//! What is missing in the metrics of a run that is resumed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tinygpt_data::Shown;

use super::{Line, Seen};

/// The most lines or steps that a message lists.
const MAX_NAMED: usize = 5;
/// Bytes at the start of a file that show whether a run wrote it.
const START_BYTES: u64 = 4096;

/// The steps and lines that were found in a file.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// The `iter` of each step that has a line.
    iters: Vec<u64>,
    /// Numbers of the lines that are not records.
    pub(super) bad_lines: Vec<usize>,
}

impl Gap {
    pub(super) fn note(&mut self, line: &Line) {
        match line {
            Line::Step(record) => self.iters.push(record.iter),
            Line::Skip(record) => self.iters.push(record.iter),
            Line::Eval(_) | Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => {}
        }
    }

    /// What is missing of the steps of the checkpoint; `None` if nothing is.
    pub(super) fn message(mut self, path: &Path, seen: Seen) -> Option<String> {
        self.iters.sort_unstable();
        let (mut missing, mut next) = (Vec::new(), 0);
        for iter in self.iters.into_iter().chain([seen.n_iters]) {
            match iter.saturating_sub(next) {
                0 => {}
                1 => missing.push(next.to_string()),
                _ => missing.push(format!("{next} to {}", iter - 1)),
            }
            next = next.max(iter.saturating_add(1));
        }
        let mut faults = Vec::new();
        if !self.bad_lines.is_empty() {
            let lines: Vec<String> = self.bad_lines.iter().map(usize::to_string).collect();
            faults.push(format!("lines that are not records were dropped: {}", named(&lines)));
        }
        if !missing.is_empty() {
            faults.push(format!("it has no losses of steps {}", named(&missing)));
        }
        let faults = faults.join("; ");
        (!faults.is_empty()).then(|| format!("METRICS INCOMPLETE: {}: {faults}", Shown(path)))
    }
}

fn named(places: &[String]) -> String {
    match places.len().checked_sub(MAX_NAMED) {
        None | Some(0) => places.join(", "),
        Some(more) => format!("{} and {more} more", places[..MAX_NAMED].join(", ")),
    }
}

/// Whether a file starts like the metrics of a run, as far as it was written.
pub(crate) fn is_own(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return false;
    }
    // A power cut can leave zeros.
    let text = String::from_utf8_lossy(&bytes);
    match text.trim_start_matches('\0').split_once('\n') {
        Some((line, _)) => serde_json::from_str::<Line>(line).is_ok(),
        None => text.trim_start_matches('\0').is_empty() || text.starts_with(r#"{"event":"#),
    }
}
