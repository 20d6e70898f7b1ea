//! The progress of `prepare`: a bar for each stage on a terminal; elsewhere a line for each finished
//! stage, and every 20 seconds one for a long stage.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tinygpt_data::{PrepareProgress, Stage};
use tinygpt_train::StopFlag;

use crate::hints::in_flags;
use crate::terminal::{say, spoken};

const SIZED: &str = "{prefix:>18} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
const UNSIZED: &str = "{prefix:>18} {spinner} {bytes} {bytes_per_sec}";

/// Time between two lines of a long stage, without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Shows the stages of `prepare` as they run.
#[derive(Debug, Default)]
pub struct PrepareBars {
    running: Mutex<Option<Running>>,
    stop: StopFlag,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    since: Instant,
    bar: ProgressBar,
    last_line: Instant,
}

impl Running {
    /// Bytes, speed and remaining time of the stage.
    fn line(&self) -> String {
        let (done, speed) = (self.bar.position(), self.bar.per_sec());
        let label = self.stage.label();
        let of_all = match self.bar.length() {
            Some(total) => format!(" of {}", HumanBytes(total)),
            None => String::new(),
        };
        let eta = match self.bar.length() {
            Some(total) if speed > 0.0 => {
                let seconds = total.saturating_sub(done) as f64 / speed;
                format!(", ETA {}", spoken(seconds))
            }
            _ => String::new(),
        };
        let speed = HumanBytes(speed as u64);
        format!("{label:>18} {}{of_all}, {speed}/s{eta}", HumanBytes(done))
    }
}

impl PrepareBars {
    /// Bars of a run that ends when `stop` is raised.
    pub fn new(stop: StopFlag) -> Self {
        Self { stop, ..Self::default() }
    }

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
        let (since, last_line) = (Instant::now(), Instant::now());
        self.with_running(|running| *running = Some(Running { stage, since, bar, last_line }));
    }

    fn advance(&self, bytes: u64) {
        self.with_running(|running| {
            if let Some(running) = running {
                running.bar.inc(bytes);
                if running.bar.is_hidden() && running.last_line.elapsed() >= LINE_EVERY {
                    running.last_line = Instant::now();
                    say(&running.line());
                }
            }
        });
    }

    fn finish(&self) {
        self.with_running(|running| {
            if let Some(Running { stage, since, bar, .. }) = running.take() {
                bar.finish_and_clear();
                let (bytes, seconds) = (bar.position(), since.elapsed().as_secs_f64());
                let label = stage.label();
                say(&format!("{label:>18} {} in {}", HumanBytes(bytes), spoken(seconds)));
            }
        });
    }

    fn notice(&self, message: &str) {
        let message = in_flags(message);
        self.with_running(|running| match running {
            Some(running) => running.bar.suspend(|| say(&format!("note: {message}"))),
            None => say(&format!("note: {message}")),
        });
    }

    fn is_stopped(&self) -> bool {
        self.stop.signal().is_some()
    }
}
