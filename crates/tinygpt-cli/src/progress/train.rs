//! The progress of `train`: a line per `log_interval`, a line per evaluation and checkpoint, and
//! on a terminal a bar below them.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tinygpt_train::checkpoint::LAST;
use tinygpt_train::{
    EvalRecord, HorizonRecord, Profile, Report, RunSummary, SampleRecord, SaveRecord, SkipRecord,
    StepRecord, TrainConfig, few_digits,
};

use super::doing::Doing;
use super::pace::Pace;
use super::profile::profile_lines;
use super::rising::Rising;
use crate::hints::in_flags;
use crate::signals::Answer;
use crate::terminal::{clock, escape_controls, grouped, say};

/// Shows a training run as it goes.
#[derive(Debug)]
pub struct TrainLines {
    log_interval: u64,
    eval_interval: u64,
    n_micro_batches: usize,
    dropout: f64,
    out_dir: PathBuf,
    max_iters: u64,
    bar: Option<ProgressBar>,
    /// Milliseconds and number of the steps since the last line.
    since_line: (f64, u32),
    began: Instant,
    pace: Pace,
    rising: Rising,
    doing: Doing,
    /// When the last batch of the evaluation started.
    batch_began: Option<Instant>,
    save_seconds: f64,
}

impl TrainLines {
    /// Lines for a run of `config`, one every `log_interval` steps.
    pub fn new(config: &TrainConfig, log_interval: u64) -> Self {
        Self {
            log_interval,
            eval_interval: config.eval_interval,
            n_micro_batches: config.gradient_accumulation_steps,
            dropout: config.dropout,
            out_dir: config.out_dir.clone(),
            max_iters: 0,
            bar: None,
            since_line: (0.0, 0),
            began: Instant::now(),
            pace: Pace::default(),
            rising: Rising::default(),
            doing: Doing::default(),
            batch_began: None,
            save_seconds: 0.0,
        }
    }

    /// Prints the message after a signal during the run.
    pub fn answer(&self) -> impl Answer + use<> {
        self.doing.clone()
    }

    /// Prints `line` above the bar.
    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// Moves the bar to the finished step.
    fn show_on_bar(&self, record: &StepRecord, seconds_left: Option<f64>) {
        let Some(bar) = &self.bar else { return };
        bar.set_message(format!("loss {:.4}{}", record.loss, eta(seconds_left)));
        bar.set_position(record.iter + 1);
    }

    /// Records that the next step starts, for the message after a signal.
    fn note_step(&self) {
        let mut now = self.doing.now();
        let step = self.pace.step_seconds();
        now.evaluates = false;
        now.accumulates = self.n_micro_batches > 1;
        now.seconds =
            step.map(|seconds| seconds / self.n_micro_batches.max(1) as f64 + self.save_seconds);
    }

    /// Removes the bar at the end of the progress.
    pub fn close(&mut self) {
        self.doing.now().bar = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Report for TrainLines {
    fn run_summary(&mut self, summary: &RunSummary) {
        self.max_iters = summary.max_iters;
        self.began = Instant::now();
        self.pace = Pace::new(summary.max_iters, self.eval_interval);
        for line in summary_lines(summary) {
            say(&line);
        }
        let left = summary.max_iters.saturating_sub(summary.start_iter);
        if left > 0 && io::stderr().is_terminal() {
            let bar = ProgressBar::new(summary.max_iters).with_position(summary.start_iter);
            let template = "[{wide_bar}] {pos}/{len} {msg:24}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            self.doing.now().bar = Some(bar.clone());
            self.bar = Some(bar);
        }
        if summary.start_iter > 0 {
            self.doing.now().saved = Some(summary.out_dir.join(LAST));
        }
        self.note_step();
    }

    fn step(&mut self, record: &StepRecord) {
        self.pace.updated(record.step_ms / 1000.0, self.began.elapsed().as_secs_f64());
        let seconds_left = self.pace.seconds_left(record.iter + 1);
        let (total_ms, n_steps) = self.since_line;
        self.since_line = (total_ms + record.step_ms, n_steps + 1);
        self.show_on_bar(record, seconds_left);
        self.note_step();
        let is_last = record.iter + 1 == self.max_iters;
        if record.iter.is_multiple_of(self.log_interval) || is_last {
            let (total_ms, n_steps) = std::mem::take(&mut self.since_line);
            let mean_ms = total_ms / f64::from(n_steps);
            self.line(&step_line(record, mean_ms, self.max_iters, seconds_left));
        }
    }

    fn skip(&mut self, record: &SkipRecord) {
        self.pace.skipped(self.began.elapsed().as_secs_f64());
        self.note_step();
        let SkipRecord { iter, reason, first_window, last_window, in_row, total, .. } = record;
        self.line(&format!(
            "iter {iter} SKIPPED: {reason}; windows {first_window} to {last_window}, \
             {in_row} in a row, {total} in total"
        ));
    }

    fn horizon(&mut self, record: &HorizonRecord) {
        let HorizonRecord { max_iters, before, .. } = *record;
        self.max_iters = max_iters;
        self.pace.set_max_iters(max_iters);
        if let Some(bar) = &self.bar {
            bar.set_length(max_iters);
        }
        let speed = if max_iters < before { "slower" } else { "faster" };
        self.line(&format!(
            "note: max_iters is {max_iters} instead of {before} to end within the budget: the machine \
             is {speed} than it was"
        ));
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        let last_began = self.batch_began.replace(Instant::now());
        {
            let mut now = self.doing.now();
            now.evaluates = true;
            now.seconds = last_began.map(|began| began.elapsed().as_secs_f64() + self.save_seconds);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!("evaluating {done}/{total}"));
            bar.tick();
        }
    }

    fn eval(&mut self, record: &EvalRecord) {
        self.pace.evaluated();
        self.batch_began = None;
        self.line(&eval_line(record));
        if let Some(note) = self.rising.note(record, &self.out_dir, self.dropout) {
            self.notice(&note);
        }
    }

    fn sample(&mut self, record: &SampleRecord) {
        let text = escape_controls(record.text.trim());
        self.line(&format!("  | {}", text.replace('\n', "\n  | ")));
    }

    fn saved(&mut self, saved: &SaveRecord) {
        let best = if saved.is_best { ", best so far" } else { "" };
        let ms = saved.save_ms;
        self.save_seconds = ms / 1000.0;
        self.doing.now().saved = Some(saved.dir.clone());
        self.note_step();
        self.line(&format!("saved {} in {ms:.0} ms{best}", saved.dir.display()));
    }

    fn profile(&mut self, profile: &Profile) {
        for line in profile_lines(profile) {
            self.line(&line);
        }
    }

    fn notice(&mut self, text: &str) {
        self.line(&format!("note: {}", in_flags(text)));
    }
}

/// `eval 250  train 1.8702  val 1.9191 nats  2.7687 bits/byte  perplexity 6.81`.
fn eval_line(record: &EvalRecord) -> String {
    let EvalRecord { iter, train_loss, val_loss, val_bits_per_byte, perplexity } = record;
    format!(
        "eval {iter}  train {train_loss:.4}  val {val_loss:.4} nats  \
         {val_bits_per_byte:.4} bits/byte  perplexity {perplexity:.2}"
    )
}

/// The remaining time, if known.
fn eta(seconds_left: Option<f64>) -> String {
    seconds_left.map_or(String::new(), |seconds| format!("  ETA {}", clock(seconds)))
}

/// `iter   120  loss 2.3412  lr 1.00e-3  norm 0.84  215 ms  76,200 tok/s  71% MFU  ETA 35:24`: `norm`
/// is the gradient norm before clipping, MFU the fraction of the machine's peak speed.
fn step_line(
    record: &StepRecord,
    mean_ms: f64,
    max_iters: u64,
    seconds_left: Option<f64>,
) -> String {
    let StepRecord { iter, loss, learning_rate, grad_norm, step_ms, tokens_per_second, mfu } =
        record;
    // The record has the speed of one step; the line shows the mean since the last line.
    let tokens_per_second = tokens_per_second * step_ms / mean_ms;
    let mfu = mfu.map_or(String::new(), |mfu| {
        format!("  {:.0}% MFU", (f64::from(mfu) * step_ms / mean_ms).min(1.0) * 100.0)
    });
    let width = max_iters.to_string().len();
    format!(
        "iter {iter:width$}  loss {}  lr {learning_rate:.2e}  norm {}  {mean_ms:.0} ms  \
         {} tok/s{mfu}{}",
        few_digits(f64::from(*loss), 4),
        few_digits(f64::from(*grad_norm), 2),
        grouped(tokens_per_second.round() as u64),
        eta(seconds_left)
    )
}

/// A speed in GFLOP/s or TFLOP/s.
fn flops(per_second: f64) -> String {
    match per_second * 1e-9 {
        giga if giga < 10_000.0 => format!("{giga:.0} GFLOP/s"),
        giga => format!("{:.0} TFLOP/s", giga * 1e-3),
    }
}

/// What happens to conversations that are longer than a window.
fn cut(summary: &RunSummary) -> String {
    match summary.n_cut {
        0 => String::new(),
        1 => "; 1 conversation is longer than block_size, cut behind an answer".to_owned(),
        n => format!(
            "; {} conversations are longer than block_size, cut behind an answer",
            grouped(n as u64)
        ),
    }
}

/// The lines at the start of a run.
fn summary_lines(summary: &RunSummary) -> Vec<String> {
    let count = |n: usize| grouped(n as u64);
    let mut lines = vec![
        format!(
            "model    {} parameters, {} with weight decay",
            count(summary.n_params),
            count(summary.n_decayed_params),
        ),
        format!("start    {}", summary.started_from),
        format!(
            "data     {} training and {} validation tokens",
            count(summary.train_tokens),
            count(summary.val_tokens)
        ),
        format!("epoch    {} windows{}", count(summary.windows_per_epoch), cut(summary)),
        format!(
            "step     {} tokens, about {} of {}memory; {} steps in total",
            count(summary.tokens_per_step),
            HumanBytes(summary.memory.total()),
            if summary.device.is_cuda() { "GPU " } else { "" },
            grouped(summary.max_iters)
        ),
    ];
    let mut machine = format!("machine  {}", summary.device.description());
    if summary.device.is_cpu() {
        let threads = if summary.threads == 1 { "thread" } else { "threads" };
        let ranks = match summary.ranks {
            1 => String::new(),
            n => format!("{n} ranks of "),
        };
        machine += &format!(", {ranks}{} {threads}, {}", summary.threads, summary.instruction_set);
    }
    if let Some(peak) = summary.peak_flops {
        machine += &format!(", {} in matrix products", flops(peak));
    }
    lines.push(machine);
    lines.push(format!("output   {}", summary.out_dir.display()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_line_averages_since_the_line_before() {
        let record = StepRecord {
            iter: 120,
            loss: 2.34125,
            learning_rate: 1e-3,
            grad_norm: 0.8431,
            step_ms: 200.0,
            tokens_per_second: 82_000.0,
            mfu: Some(0.7),
        };
        assert_eq!(
            step_line(&record, 400.0, 10_000, Some(3960.0)),
            "iter   120  loss 2.3412  lr 1.00e-3  norm 0.84  400 ms  41,000 tok/s  35% MFU  ETA 1.1 h"
        );
        let without_mfu = StepRecord { mfu: None, ..record };
        assert!(step_line(&without_mfu, 400.0, 10_000, None).ends_with("  41,000 tok/s"));
        let late = StepRecord { mfu: Some(1.0), ..without_mfu };
        assert!(step_line(&late, 100.0, 10_000, None).ends_with("  100% MFU"));
    }

    #[test]
    fn a_step_line_of_a_diverging_run_stays_short() {
        let record = StepRecord {
            iter: 3,
            loss: 2e20,
            learning_rate: 1e3,
            grad_norm: 1e30,
            step_ms: 200.0,
            tokens_per_second: 1000.0,
            mfu: None,
        };
        let line = step_line(&record, 200.0, 5, None);
        assert!(line.starts_with("iter 3  loss 2.0000e20  lr 1.00e3  norm 1.00e30  "), "{line}");
    }
}
