//! What the tests run on: a small text, a small model, and a report that records everything.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tinygpt_data::{NoProgress, PrepareRequest, Prepared, prepare};
use tinygpt_model::ComputeType;
use tinygpt_train::checkpoint::{RunConfig, State};
use tinygpt_train::{
    EvalRecord, Outcome, Report, RunSummary, SampleRecord, SaveRecord, SkipRecord, StepRecord,
    StopFlag, TrainConfig, TrainError, Trainer,
};

/// A directory with a prepared text and the directories of runs.
pub(crate) struct World {
    root: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        world.prepare("text", "the cat sat on a mat and the dog ran to see it. ");
        world
    }

    /// Prepares 1,056 characters of `sentence` with a few words changed from time to time.
    pub(crate) fn prepare(&self, dataset_name: &str, sentence: &str) {
        let words = ["cat", "hen", "fox", "mouse", "frog"];
        let text: String = (0..22).map(|i| sentence.replace("cat", words[i % 5])).collect();
        let source = self.root.path().join(format!("{dataset_name}.txt"));
        fs::write(&source, text).unwrap();
        let request = PrepareRequest {
            dataset_name: dataset_name.to_string(),
            data_dir: self.root.path().join("data"),
            source: Some(source.into()),
            val_fraction: Some(0.2),
            ..PrepareRequest::default()
        };
        prepare(&request, &NoProgress).unwrap();
    }

    pub(crate) fn out_dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Two layers, two micro-batches of two windows a step, dropout on, 20 steps.
    pub(crate) fn config(&self, out_dir: &str) -> TrainConfig {
        TrainConfig {
            out_dir: self.out_dir(out_dir),
            data_dir: self.root.path().join("data"),
            dataset_name: "text".to_string(),
            n_layer: 2,
            n_head: 2,
            n_embd: 16,
            block_size: 16,
            batch_size: 2,
            gradient_accumulation_steps: 2,
            dropout: 0.2,
            learning_rate: 1e-2,
            min_lr: 1e-3,
            warmup_iters: 3,
            lr_decay_iters: 20,
            max_iters: 20,
            eval_interval: 4,
            eval_iters: 2,
            sample_at_eval: false,
            threads: Some(1),
            dtype: ComputeType::Float32,
            ..TrainConfig::default()
        }
    }

    pub(crate) fn trainer(&self, config: TrainConfig) -> Result<Trainer, TrainError> {
        let data = (&config.data_dir, &config.dataset_name, config.encoding_type);
        let prepared = Prepared::open(data.0, data.1, data.2)?;
        Trainer::new(config, prepared)
    }

    pub(crate) fn run(&self, config: TrainConfig) -> Result<(Outcome, Recording), TrainError> {
        self.run_until(config, None)
    }

    /// Runs, and raises SIGINT (2) after `stop_after` steps.
    pub(crate) fn run_until(
        &self,
        config: TrainConfig,
        stop_after: Option<u64>,
    ) -> Result<(Outcome, Recording), TrainError> {
        let stop = StopFlag::new();
        let mut recording = Recording::stopping(&stop, stop_after);
        let outcome = self.trainer(config)?.run(&stop, &mut recording)?;
        Ok((outcome, recording))
    }
}

/// Keeps everything that a run reports.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) summary: Option<RunSummary>,
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) skips: Vec<SkipRecord>,
    pub(crate) evals: Vec<EvalRecord>,
    pub(crate) samples: Vec<SampleRecord>,
    pub(crate) saved: Vec<SaveRecord>,
    pub(crate) notices: Vec<String>,
    stop: StopFlag,
    stop_after: Option<u64>,
}

impl Recording {
    /// Raises `stop` after `stop_after` steps.
    pub(crate) fn stopping(stop: &StopFlag, stop_after: Option<u64>) -> Self {
        Self { stop: stop.clone(), stop_after, ..Self::default() }
    }
}

impl Report for Recording {
    fn run_summary(&mut self, summary: &RunSummary) {
        self.summary = Some(summary.clone());
    }

    fn step(&mut self, record: &StepRecord) {
        if Some(record.iter + 1) == self.stop_after {
            self.stop.raise(2);
        }
        self.steps.push(record.clone());
    }

    fn skip(&mut self, record: &SkipRecord) {
        if Some(record.iter + 1) == self.stop_after {
            self.stop.raise(2);
        }
        self.skips.push(record.clone());
    }

    fn eval(&mut self, record: &EvalRecord) {
        self.evals.push(record.clone());
    }

    fn sample(&mut self, record: &SampleRecord) {
        self.samples.push(record.clone());
    }

    fn saved(&mut self, saved: &SaveRecord) {
        self.saved.push(saved.clone());
    }

    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_string());
    }
}

/// An error and its hint, as a user reads them.
pub(crate) fn message_of(error: &TrainError) -> String {
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

/// The bytes of a file of a checkpoint; `name` is `last`, `best` or a directory in `checkpoints`.
pub(crate) fn bytes(out_dir: &Path, name: &str, file: &str) -> Vec<u8> {
    fs::read(out_dir.join(name).join(file)).unwrap()
}

pub(crate) fn state(out_dir: &Path, name: &str) -> State {
    serde_json::from_slice(&bytes(out_dir, name, "state.json")).unwrap()
}

/// Names of the checkpoints, oldest first.
pub(crate) fn checkpoints(out_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(out_dir.join("checkpoints")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asserts that two runs have ended in the same weights, moments and counters, to the bit.
pub(crate) fn assert_same_end(left: &Path, right: &Path) {
    for file in ["model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json"] {
        assert!(bytes(left, "last", file) == bytes(right, "last", file), "{file} differs");
    }
    let config = TrainConfig::default();
    let config = RunConfig::from(config);
    let left = State { config: config.clone(), seconds: 0.0, ..state(left, "last") };
    assert_eq!(left, State { config, seconds: 0.0, ..state(right, "last") });
}
