//! The resolved configuration of a training run.
//!
//! Every key has the name it has in the JSON file. Layering (defaults, file, flags) is the command
//! line's work; this struct has no holes. What a key may hold is checked beside this file.

mod check;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tinygpt_data::{Encoding, Source};
use tinygpt_model::ModelConfig;

use crate::adamw::AdamWConfig;
use crate::schedule::Schedule;
use crate::threads::physical_cores;

/// Where the first weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InitFrom {
    /// Freshly drawn weights.
    #[default]
    Scratch,
    /// The newest good checkpoint of `out_dir`; an error where there is none.
    Resume,
    /// `Resume` where `out_dir` holds a checkpoint, else `Scratch`.
    Auto,
    /// A Hugging Face GPT-2 directory, to fine-tune. One named like a keyword is written `./auto`.
    Dir(PathBuf),
    /// A GPT-2 on the Hugging Face hub, to fine-tune.
    Hub {
        /// `hub:owner/name`, with `@revision` behind it or not.
        name: String,
        /// Where it was brought to, by whoever can download; empty until then.
        dir: PathBuf,
    },
}

impl InitFrom {
    /// The directory of the model to fine-tune, if one is; empty until one of the hub was brought.
    pub fn model_dir(&self) -> Option<&Path> {
        match self {
            Self::Dir(dir) | Self::Hub { dir, .. } => Some(dir),
            Self::Scratch | Self::Resume | Self::Auto => None,
        }
    }
}

impl FromStr for InitFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "scratch" => Ok(Self::Scratch),
            "resume" => Ok(Self::Resume),
            "auto" => Ok(Self::Auto),
            "" => Err("expected scratch, resume, auto, a directory or hub:owner/name".to_string()),
            name if matches!(Source::from(name), Source::Hub { .. }) => {
                Ok(Self::Hub { name: name.to_string(), dir: PathBuf::new() })
            }
            dir => Ok(Self::Dir(PathBuf::from(dir))),
        }
    }
}

impl fmt::Display for InitFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::Resume => f.write_str("resume"),
            Self::Auto => f.write_str("auto"),
            Self::Dir(dir) => write!(f, "{}", dir.display()),
            Self::Hub { name, .. } => f.write_str(name),
        }
    }
}

impl Serialize for InitFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InitFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What happens where a loss or a gradient is not a finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNonFinite {
    /// The run ends before the update.
    #[default]
    Stop,
    /// The update is not made, the run goes on with the next batch; too many of them end it.
    Skip,
}

/// Everything a run is told. [`Default`] is the original's `train_tiny_stories.json` on a CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Directory of the run: checkpoints, metrics, drawing.
    pub out_dir: PathBuf,
    /// Updates between two evaluations.
    pub eval_interval: u64,
    /// Updates between two lines of the log.
    pub log_interval: u64,
    /// Batches in one evaluation, of each split.
    pub eval_iters: usize,
    /// Evaluate once and leave; no update, no checkpoint.
    pub eval_only: bool,
    /// Save at every evaluation, not only at those that are the best so far.
    pub always_save_checkpoint: bool,
    /// Updates between two checkpoints that are saved whatever the loss; `None` saves none so.
    pub checkpoint_interval: Option<u64>,
    /// Minutes without a checkpoint after which one is saved whatever the loss; 0 switches it off.
    pub checkpoint_minutes: f64,
    /// Newest checkpoints that are kept, beside the best.
    pub keep_checkpoints: usize,
    /// Seconds after which the run saves and ends, finished or not; `None` has no limit.
    pub max_seconds: Option<f64>,
    /// Where the first weights come from.
    pub init_from: InitFrom,
    /// N of the proof that N + N updates are 2 N, which is made instead of training (see
    /// [`verify_resume`](crate::verify_resume)); a [`Trainer`](crate::Trainer) does not look at it.
    pub verify_resume: Option<u64>,
    /// Whether a new run may delete an earlier one in `out_dir`; `auto` then starts over.
    pub overwrite: bool,
    /// Directory that holds one directory per dataset.
    pub data_dir: PathBuf,
    /// The dataset, as `prepare` named it.
    pub dataset_name: String,
    /// The encoding to read; `None` takes the one that was prepared last.
    pub encoding_type: Option<Encoding>,
    /// Fresh micro-batches whose gradients make one update.
    pub gradient_accumulation_steps: usize,
    /// B: windows in one micro-batch.
    pub batch_size: usize,
    /// T: tokens in one window.
    pub block_size: usize,
    /// L: number of blocks.
    pub n_layer: usize,
    /// H: attention heads; divides `n_embd`.
    pub n_head: usize,
    /// C: width of the residual stream.
    pub n_embd: usize,
    /// V: rows of the token table; `None` takes the tokenizer's, more pads the table.
    pub vocab_size: Option<usize>,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// Probability of dropping an element, at the three places where GPT-2 drops.
    pub dropout: f64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Exact number of updates.
    pub max_iters: u64,
    /// Decay of matrices and embeddings; vectors are never decayed.
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// Largest L2 norm of the whole gradient; 0 switches clipping off.
    pub grad_clip: f64,
    /// What happens where a loss or a gradient is not finite.
    pub on_non_finite: OnNonFinite,
    /// Whether the learning rate falls after the warm-up.
    pub decay_lr: bool,
    /// Updates of linear warm-up.
    pub warmup_iters: u64,
    /// The update at which the learning rate has fallen to `min_lr`.
    pub lr_decay_iters: u64,
    /// Lowest learning rate.
    pub min_lr: f64,
    /// Seed of initial weights, data order, dropout and the samples.
    pub seed: u64,
    /// `cpu`, `cuda`, `metal`; the command line turns it into a device.
    pub device: String,
    /// `float32` or `bfloat16`; a CPU computes in f32 either way.
    pub dtype: String,
    /// CPU threads; `None` takes all cores.
    pub threads: Option<usize>,
    /// Whether a short sample is written at each evaluation.
    pub sample_at_eval: bool,
    /// Whether the time of each operation is taken and reported when the run ends; CPU only.
    pub profile: bool,
    /// Known from PyTorch; must stay false.
    pub compile: bool,
    /// Known from nanoGPT; must stay false.
    pub wandb_log: bool,
    /// Without meaning while `wandb_log` is false.
    pub wandb_project: String,
    /// Without meaning while `wandb_log` is false.
    pub wandb_run_name: String,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            out_dir: PathBuf::from("out-tiny-stories"),
            eval_interval: 250,
            log_interval: 10,
            eval_iters: 100,
            eval_only: false,
            always_save_checkpoint: false,
            checkpoint_interval: None,
            checkpoint_minutes: 10.0,
            keep_checkpoints: 2,
            max_seconds: None,
            init_from: InitFrom::Scratch,
            verify_resume: None,
            overwrite: false,
            data_dir: PathBuf::from("data"),
            dataset_name: "tiny_stories".to_string(),
            encoding_type: None,
            gradient_accumulation_steps: 1,
            batch_size: 64,
            block_size: 256,
            n_layer: 6,
            n_head: 6,
            n_embd: 384,
            vocab_size: None,
            bias: true,
            dropout: 0.2,
            learning_rate: 1e-3,
            max_iters: 10_000,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            grad_clip: 1.0,
            on_non_finite: OnNonFinite::Stop,
            decay_lr: true,
            warmup_iters: 100,
            lr_decay_iters: 10_000,
            min_lr: 1e-4,
            seed: 1337,
            device: "cpu".to_string(),
            dtype: "bfloat16".to_string(),
            threads: None,
            sample_at_eval: true,
            profile: false,
            compile: false,
            wandb_log: false,
            wandb_project: "tiny-stories".to_string(),
            wandb_run_name: "tiny-gpt".to_string(),
        }
    }
}

impl TrainConfig {
    /// The model this configuration asks for, with `vocab_size` rows in its token table.
    pub fn model_config(&self, vocab_size: usize) -> ModelConfig {
        ModelConfig {
            vocab_size,
            block_size: self.block_size,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_embd: self.n_embd,
            dropout: self.dropout as f32,
            bias: self.bias,
        }
    }

    /// Takes the shape of `model`, which this run is to start from or to resume.
    pub fn take_shape(&mut self, model: &ModelConfig) {
        self.block_size = model.block_size;
        self.n_layer = model.n_layer;
        self.n_head = model.n_head;
        self.n_embd = model.n_embd;
        self.vocab_size = Some(model.vocab_size);
        self.bias = model.bias;
    }

    /// The curve of the learning rate.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            learning_rate: self.learning_rate,
            min_lr: self.min_lr,
            warmup_iters: self.warmup_iters,
            lr_decay_iters: self.lr_decay_iters,
            decay_lr: self.decay_lr,
        }
    }

    /// The constants of the optimiser.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: AdamWConfig::EPS,
            weight_decay: self.weight_decay,
        }
    }

    /// The CPU threads to use: `threads`, or one for each physical core that this process may use.
    pub fn resolved_threads(&self) -> usize {
        self.threads.unwrap_or_else(physical_cores)
    }
}
