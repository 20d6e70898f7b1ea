//! `train --serve`: a page that shows the run while it trains.
//!
//! The server has threads of its own and ends with the run. The trainer adds each line of its metrics to
//! a list and never waits. A checkpoint is read when a text is requested, and generates on one thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use candle_core::Device;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf;
use tinygpt_serve::{
    Card, Curve, Feed, FeedEvent, Limits, LiveRun, ModelSource, NewestModel, ServeError, Server,
    WatchedRun,
};
use tinygpt_train::metrics::Line;
use tinygpt_train::{
    Both, EvalRecord, Outcome, Report, RunSummary, SampleRecord, SaveRecord, StepRecord, StopFlag,
    TrainConfig, TrainError, Trainer, chain, checkpoint,
};

use super::super::listen::listen;
use super::super::sample::{page_defaults, token_kind};
use crate::options::{Layered, ProgramConfig, SampleOptions};
use crate::terminal::say;

/// How long texts may continue after the run has ended.
const GRACE: Duration = Duration::from_secs(1);

/// Listens at the address of `--serve`, if it is given: before any work, because it may be in use.
///
/// # Errors
/// As [`listen`].
pub(super) fn listen_for(program: &ProgramConfig) -> Result<Option<Server>> {
    let limits = Limits { grace: GRACE, ..Limits::default() };
    let address = program.serve_address();
    address.map(|address| listen(address, (None, None), limits)).transpose()
}

/// Trains, and meanwhile serves the run if there is a server.
///
/// # Errors
/// Those of the server when it starts; those of the run are in the inner result.
pub(super) fn run(
    (trainer, config): (&mut Trainer, &TrainConfig),
    server: Option<Server>,
    stop: &StopFlag,
    report: &mut dyn Report,
) -> Result<Result<Outcome, TrainError>> {
    let Some(server) = server else { return Ok(trainer.run(stop, report)) };
    let feed = Arc::new(Feed::default());
    let saved = Arc::new(Mutex::new(None));
    let watched = watched_run(config, trainer, (&feed, &saved))?;
    let page = Page::start(server, watched)?;
    let outcome =
        trainer.run(stop, &mut Both(report, &mut FeedLines { feed: &feed, saved: &saved }));
    feed.end(&json(&ending(&outcome)));
    page.end();
    Ok(outcome)
}

/// How the run ended, for a page that shows it.
fn ending(outcome: &Result<Outcome, TrainError>) -> String {
    match outcome {
        Ok(Outcome::Finished | Outcome::AlreadyFinished) => "The run is finished.".to_owned(),
        Ok(Outcome::Stopped(_)) => "The run was stopped, and all its steps are saved.".to_owned(),
        Ok(Outcome::TimeUp(_)) => {
            "The time of the run is up, and all its steps are saved.".to_owned()
        }
        Ok(_) => "The run has ended.".to_owned(),
        Err(error) => format!("The run ended with an error: {}.", chain(error)),
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What the page shows and generates from.
fn watched_run(
    config: &TrainConfig,
    trainer: &Trainer,
    (feed, saved): (&Arc<Feed>, &Saved),
) -> Result<WatchedRun> {
    let (model, prepared) = (trainer.gpt().config(), trainer.prepared());
    let (tokenizer, special) = (&prepared.tokenizer, trainer.special_tokens());
    let out_dir = &config.out_dir;
    let real = out_dir.canonicalize().unwrap_or_else(|_| out_dir.clone());
    let name = real.file_name().map(|name| name.to_string_lossy().into_owned());
    let sampling = Layered::new(&SampleOptions::default(), None)?;
    let card = Card {
        name: name.unwrap_or_else(|| "tinygpt".to_owned()),
        dataset: Some(config.dataset_name.clone()),
        tokens: token_kind(tokenizer).to_owned(),
        n_params: model.num_params(),
        n_layer: model.n_layer,
        n_head: model.n_head,
        n_embd: model.n_embd,
        block_size: model.block_size,
        vocab_size: tokenizer.vocab_size(),
        chat: tokenizer.chat_template().is_some(),
        n_iters: None,
        curve: Curve::default(),
        defaults: page_defaults(&sampling, &sampling.resolve()?, None),
        live: Some(LiveRun { max_iters: config.max_iters }),
    };
    let source = Checkpoints { saved: Arc::clone(saved), read: None };
    Ok(WatchedRun {
        feed: Arc::clone(feed),
        config: model.clone(),
        vocab_size: tokenizer.vocab_size(),
        bos: special.bos,
        eos: special.eos,
        card,
        source: Box::new(source),
    })
}

/// The newest checkpoint of the run, once there is one.
type Saved = Arc<Mutex<Option<PathBuf>>>;

fn newest(saved: &Mutex<Option<PathBuf>>) -> Option<PathBuf> {
    saved.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The server on its thread; it stops when dropped.
struct Page {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Page {
    fn start(server: Server, run: WatchedRun) -> Result<Self> {
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("page".to_owned())
            .spawn(move || server.watch(run, &|| is_stopped.load(Ordering::Relaxed)))
            .context("cannot start the server")?;
        say(&format!("watch the run at http://{address}/"));
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops the server. What went wrong with it is only reported: the run is not affected.
    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => say(&format!("note: the page ended early: {}", chain(&error))),
            Some(Err(_)) => say("note: the page ended early: a bug in TinyGPT"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // After an error or a panic of the trainer, nothing else matters.
            let _ = thread.join();
        }
    }
}

/// Reads the newest checkpoint.
#[derive(Debug)]
struct Checkpoints {
    saved: Saved,
    /// The one that was read last.
    read: Option<PathBuf>,
}

impl ModelSource for Checkpoints {
    fn newer(&mut self) -> Result<Option<NewestModel>, String> {
        let none = "there is no checkpoint yet: try again after an evaluation, which saves one";
        let mut dir = newest(&self.saved).ok_or(none)?;
        loop {
            if self.read.as_ref() == Some(&dir) {
                return Ok(None);
            }
            match read_model(&dir) {
                Ok(model) => {
                    self.read = Some(dir);
                    return Ok(Some(model));
                }
                // The trainer may have removed it meanwhile.
                Err(error) => match newest(&self.saved) {
                    Some(now) if now != dir => dir = now,
                    _ => return Err(format!("the newest checkpoint cannot be read: {error:#}")),
                },
            }
        }
    }
}

fn read_model(dir: &Path) -> Result<NewestModel> {
    let tokenizer = Tokenizer::from_path(dir)?;
    let mut gpt = hf::read_dir(dir, &Device::Cpu)?;
    // The others are for the trainer.
    gpt.set_threads(1);
    gpt.set_decode_threads(1);
    Ok(NewestModel { model: Box::new(gpt), tokenizer })
}

/// Adds each line of the metrics to the feed.
struct FeedLines<'a> {
    feed: &'a Feed,
    saved: &'a Mutex<Option<PathBuf>>,
}

impl FeedLines<'_> {
    fn set_saved(&self, dir: PathBuf) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(dir);
    }

    fn push(&self, line: &Line) {
        // The same text as in metrics.jsonl.
        if let (Some(kind), Ok(text)) = (kind_of(line), serde_json::to_string(line)) {
            self.feed.push(kind, &text);
        }
    }
}

fn kind_of(line: &Line) -> Option<FeedEvent> {
    match line {
        Line::Step(_) => Some(FeedEvent::Step),
        Line::Eval(_) => Some(FeedEvent::Eval),
        Line::Sample(_) => Some(FeedEvent::Sample),
        Line::Skip(_) | Line::Horizon(_) | Line::Resume(_) => None,
    }
}

impl Report for FeedLines<'_> {
    fn run_summary(&mut self, summary: &RunSummary) {
        if summary.start_iter > 0 {
            self.set_saved(checkpoint::dir_of(&summary.out_dir, summary.start_iter));
        }
    }

    fn resumed(&mut self, metrics: &Path) {
        let text = std::fs::read_to_string(metrics).unwrap_or_default();
        for text in text.lines() {
            let kind = serde_json::from_str(text).ok().and_then(|line| kind_of(&line));
            if let Some(kind) = kind {
                self.feed.push(kind, text);
            }
        }
    }

    fn step(&mut self, record: &StepRecord) {
        self.push(&Line::Step(record.clone()));
    }

    fn eval(&mut self, record: &EvalRecord) {
        self.push(&Line::Eval(record.clone()));
    }

    fn sample(&mut self, record: &SampleRecord) {
        self.push(&Line::Sample(record.clone()));
    }

    fn saved(&mut self, saved: &SaveRecord) {
        self.set_saved(saved.dir.clone());
    }
}
