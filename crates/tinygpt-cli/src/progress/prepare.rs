//! The progress of `prepare`: one bar a stage on a terminal, one line a finished stage elsewhere.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tinygpt_data::{PrepareProgress, Stage};

use crate::terminal::{say, spoken};

const SIZED: &str = "{prefix:>18} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
const UNSIZED: &str = "{prefix:>18} {spinner} {bytes} {bytes_per_sec}";

/// Shows the stages of `prepare` as they run.
#[derive(Debug, Default)]
pub struct PrepareBars {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    since: Instant,
    bar: ProgressBar,
}

impl PrepareBars {
    fn with_running(&self, act: impl FnOnce(&mut Option<Running>)) {
        // Only a panic in here could poison the lock, and then the bar does not matter.
        if let Ok(mut running) = self.running.lock() {
            act(&mut running);
        }
    }
}

impl PrepareProgress for PrepareBars {
    fn begin(&self, stage: Stage, total_bytes: Option<u64>) {
        let is_terminal = io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        let template = if total_bytes.is_some() { SIZED } else { UNSIZED };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage.label());
        if let Some(total) = total_bytes {
            bar.set_length(total);
        }
        self.with_running(|running| *running = Some(Running { stage, since: Instant::now(), bar }));
    }

    fn advance(&self, bytes: u64) {
        self.with_running(|running| {
            if let Some(running) = running {
                running.bar.inc(bytes);
            }
        });
    }

    fn finish(&self) {
        self.with_running(|running| {
            if let Some(Running { stage, since, bar }) = running.take() {
                bar.finish_and_clear();
                let (bytes, seconds) = (bar.position(), since.elapsed().as_secs_f64());
                let label = stage.label();
                say(&format!("{label:>18} {} in {}", HumanBytes(bytes), spoken(seconds)));
            }
        });
    }

    fn notice(&self, message: &str) {
        self.with_running(|running| match running {
            Some(running) => running.bar.suspend(|| say(&format!("note: {message}"))),
            None => say(&format!("note: {message}")),
        });
    }
}
