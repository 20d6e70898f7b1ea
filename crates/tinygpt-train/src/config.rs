//! The configuration of a training run: every key with its meaning, default and range.
//!
//! Each key has the name it has in a JSON file. Merging defaults, file and flags is the program's
//! work; this struct has no holes. Checks that involve two keys are in `check.rs`.

mod budget;
mod check;
mod init_from;
mod key;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tinygpt_data::Encoding;
use tinygpt_model::{ComputeType, DeviceSpec, ModelConfig, Recompute};

use crate::adamw::AdamWConfig;
use crate::schedule::{LrSchedule, Schedule};
use crate::threads::physical_cores;

pub use self::budget::Budget;
pub use self::init_from::InitFrom;
pub use self::key::{Key, KeyValue, Kind, Range};

/// What happens if a loss or a gradient is not a finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNonFinite {
    /// The run ends before the step.
    #[default]
    Stop,
    /// The step is not made and the run continues with the next batch; too many of them end it.
    Skip,
}

impl KeyValue for OnNonFinite {
    const KIND: Kind = Kind::choice(&["stop", "skip"]);
}

impl KeyValue for LrSchedule {
    const KIND: Kind = Kind::choice(&["cosine", "linear", "constant", "wsd"]);
}

/// Where the sequences of a batch start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Anywhere: the stream of tokens is cut into sequences from a random offset.
    #[default]
    Stream,
    /// With a document, and more documents follow up to the length of the sequence.
    Documents,
}

impl KeyValue for Rows {
    const KIND: Kind = Kind::choice(&["stream", "documents"]);
}

impl KeyValue for ComputeType {
    const KIND: Kind = Kind::Choice {
        words: &["float32", "tf32", "bfloat16"],
        refused: Some(("float16", "needs loss scaling, which is left out")),
    };
}

impl KeyValue for Recompute {
    const KIND: Kind = Kind::choice(&["none", "cheap", "block"]);
}

impl KeyValue for DeviceSpec {
    const KIND: Kind = Kind::Text;
}

crate::config! {
    /// Every setting of a run. [`Default`] is the original's `train_tiny_stories.json` on a CPU.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TrainConfig {
        "Run" {
            /// Directory for checkpoints, metrics.jsonl and loss.svg
            out_dir: PathBuf = PathBuf::from("out-tiny-stories"), "DIR";
            /// Where to start: `scratch` (new weights), `resume` (the last checkpoint of out_dir,
            /// with the settings it was saved with), `auto` (resume if there is one, else scratch),
            /// to fine-tune a Hugging Face GPT-2 directory or `hub:owner/name`, or
            /// `plateau:DIR` (continue the `wsd` run in DIR from before its decay)
            init_from: InitFrom = InitFrom::Scratch, "HOW";
            /// Let `scratch` replace the run that out_dir already holds
            overwrite: bool = false;
            /// Number of optimizer steps
            max_iters: u64 = 10_000, "N";
            /// Time that the run may take, such as `30m`, from the start of the program: fixes
            /// max_iters, and lr_schedule is `wsd` [default: none, max_iters counts]
            budget: Option<Budget> = None, "TIME";
            /// Steps between two evaluations (and checkpoints)
            eval_interval: u64 = 250, in AtLeastOne, "N";
            /// Batches per evaluation, from fixed, evenly spread windows
            eval_iters: usize = 100, in AtLeastOne, "N";
            /// Evaluate once and stop, without training
            eval_only: bool = false;
            /// Save `last` at every evaluation, not only when the validation loss improved
            always_save_checkpoint: bool = false;
            /// Steps between two checkpoints that are saved even if the validation loss did not
            /// improve [default: none, see checkpoint_minutes]
            checkpoint_interval: Option<u64> = None, in AtLeastOne, "N";
            /// Save a checkpoint when this many minutes have passed since the last one; 0 turns it
            /// off
            checkpoint_minutes: f64 = 10.0, in ZeroIsOff, "X";
            /// Newest checkpoints to keep, in addition to the best
            keep_checkpoints: usize = 2, in AtLeastOne, "N";
            /// Save and end within this time, finished or not; the command that resumes is printed
            /// [default: no limit]
            max_seconds: Option<f64> = None, in Positive, "SECONDS";
            /// Stop after this many evaluations in a row that did not improve the validation loss by
            /// more than early_stopping_threshold [default: never]
            early_stopping_patience: Option<u64> = None, in AtLeastOne, "N";
            /// Smallest improvement of the validation loss that counts, in nats per token
            early_stopping_threshold: f64 = 0.0, in ZeroOrMore, "X";
            /// Print a short sample at every evaluation
            sample_at_eval: bool = true;
            /// Also write the metrics into out_dir as a TensorBoard event file
            tensorboard: bool = false;
            /// Seed of initial weights, data order, dropout and samples
            seed: u64 = 1337, "N";
        }
        "Data" {
            /// Dataset to train on, as named to `prepare`
            dataset_name: String = "tiny_stories".to_string(), "NAME";
            /// Directory that holds the prepared datasets
            data_dir: PathBuf = PathBuf::from("data"), "DIR";
            /// Which preparation of the dataset to use [default: the one prepared last]
            encoding_type: Option<Encoding> = None;
            /// Sequences per micro-batch (B)
            batch_size: usize = 64, in AtLeastOne, "N";
            /// Tokens per sequence, the model's context (T); when fine-tuning, at most the model's
            /// own, and less takes less memory
            block_size: usize = 256, in AtLeastOne, "N";
            /// Where a sequence starts: anywhere in the `stream` of tokens, or with a document
            /// (`documents`), as a sample does
            rows: Rows = Rows::Stream, "HOW";
            /// Micro-batches whose gradients are averaged for one step
            gradient_accumulation_steps: usize = 1, in AtLeastOne, "N";
        }
        "Model" {
            /// Transformer blocks (L)
            n_layer: usize = 6, in AtLeastOne, "N";
            /// Attention heads per block (H); divides n_embd
            n_head: usize = 6, in AtLeastOne, "N";
            /// Width of the residual stream (C)
            n_embd: usize = 384, in AtLeastOne, "N";
            /// Rows of the token table (V); more than the tokenizer has pads it
            /// [default: the tokenizer's]
            vocab_size: Option<usize> = None, in AtLeastOne, "N";
            /// Biases in linear layers and layer norms
            bias: bool = true;
            /// Probability of dropping an activation while training
            dropout: f64 = 0.2, in BelowOne, "P";
            /// Standard deviation of the initial weights [default: GPT-2's 0.02, and more for models
            /// narrower than 768: 0.02 √(768/C)]
            init_std: Option<f64> = None, in Positive, "X";
            /// Standard deviation of the initial token embeddings; 100 learning rates or more help a small model
            /// to copy words such as names [default: that of the other weights]
            embedding_std: Option<f64> = None, in Positive, "X";
        }
        "Optimizer" {
            /// Highest learning rate, reached after the warm-up
            learning_rate: f64 = 1e-3, in Positive, "LR";
            /// Learning rate after the warm-up: `cosine` or `linear` down to min_lr, `constant`, or
            /// `wsd` (constant, then linear over the last part, see --warmdown-ratio)
            lr_schedule: LrSchedule = LrSchedule::Cosine, "SHAPE";
            /// Fraction of lr_decay_iters over which `wsd` decays
            warmdown_ratio: f64 = 0.2, in BelowOne, "X";
            /// Steps of linear warm-up [default: 100, or the length of the run if that is less]
            warmup_iters: u64 = 100, "N";
            /// Step at which the decay ends [default: max_iters]
            lr_decay_iters: u64 = 10_000, "N";
            /// Learning rate at the end of the decay and after it
            min_lr: f64 = 1e-4, "LR";
            /// AdamW's decoupled weight decay, for matrices and embeddings only
            weight_decay: f64 = 0.1, in ZeroIsOff, "X";
            /// AdamW's decay of the first moment
            beta1: f64 = 0.9, in BelowOne, "X";
            /// AdamW's decay of the second moment
            beta2: f64 = 0.99, in BelowOne, "X";
            /// Largest L2 norm of the whole gradient; 0 turns clipping off
            grad_clip: f64 = 1.0, in ZeroIsOff, "X";
            /// If a loss or a gradient is not finite: `stop` before the step, or `skip` the batch
            /// (at most 10 in a row, and 5% overall)
            on_non_finite: OnNonFinite = OnNonFinite::Stop, "HOW";
        }
        "Machine" {
            /// `cpu`, `cuda`, `cuda:1`, `metal` or `mps` (the same as metal), or `auto`: a GPU if
            /// there is one
            device: DeviceSpec = DeviceSpec::Cpu;
            /// Number type of the matrix products; a CPU always computes in float32
            dtype: ComputeType = ComputeType::Bfloat16;
            /// Launch the kernels of a step as one CUDA graph, which saves time between them (CUDA only)
            cuda_graph: bool = true;
            /// What a step computes twice to need less memory: `none`, `cheap` (layer norms and GELU)
            /// or `block` (the whole forward pass) [default: the first that fits] (CUDA only)
            recompute: Option<Recompute> = None, "WHAT";
            /// CPU threads [default: one per physical core]
            threads: Option<usize> = None, in AtLeastOne, "N";
            /// With several ranks: steps between two checks that all have the same weights
            check_ranks: u64 = 1_000, in AtLeastOne, "N";
            /// With several ranks: end the run when one does not answer for this time
            rank_timeout: f64 = 120.0, in Positive, "SECONDS";
            /// When the run ends, print where the time of its steps went, operation by operation
            /// (CPU and CUDA)
            profile: bool = false;
        }
    }
}

impl TrainConfig {
    /// The model shape of this configuration, with `vocab_size` rows in its token table.
    pub fn model_config(&self, vocab_size: usize) -> ModelConfig {
        ModelConfig {
            vocab_size,
            block_size: self.block_size,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_embd: self.n_embd,
            dropout: self.dropout as f32,
            bias: self.bias,
            init_std: self.initial_std(),
            embedding_std: self.embedding_std.map_or(self.initial_std(), |std| std as f32),
        }
    }

    fn initial_std(&self) -> f32 {
        let of_width = || ModelConfig::init_std_of_width(self.n_embd);
        self.init_std.map_or_else(of_width, |std| std as f32)
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
            lr_schedule: self.lr_schedule,
            learning_rate: self.learning_rate,
            min_lr: self.min_lr,
            warmup_iters: self.warmup_iters,
            lr_decay_iters: self.lr_decay_iters,
            warmdown_ratio: self.warmdown_ratio,
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
