//! The options of `train`: the keys of the original's `config/train_tiny_stories.json` under
//! their own names, and the few that this port adds. Ranges are checked by
//! [`TrainConfig::validate`], which also holds the defaults.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tinygpt_train::{TrainConfig, TrainError, as_typed};

use super::{EncodingType, Options, finite, recorded};
use crate::device::DeviceChoice;
use crate::layer::{Faults, Layered, Origin};
use crate::usage::UsageError;

/// Flags of `train`, which are also the keys of its config file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// Directory for checkpoints, metrics.jsonl and loss.svg
    #[arg(long, help_heading = "Run", value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Where to start: `scratch` (new weights), `resume` (the last checkpoint of out_dir, with the
    /// settings it was saved with), `auto` (resume if there is one, else scratch), or to fine-tune a
    /// Hugging Face GPT-2 directory or `hub:owner/name`
    #[arg(long, help_heading = "Run", value_name = "HOW")]
    pub init_from: Option<String>,
    /// Let `scratch` replace the run that out_dir already holds
    #[arg(long, help_heading = "Run")]
    pub overwrite: Option<bool>,
    /// Optimizer steps in all; exactly this many updates are made
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub max_iters: Option<u64>,
    /// Steps between two evaluations (and checkpoints)
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub eval_interval: Option<u64>,
    /// Batches per evaluation, from fixed, evenly spread windows
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub eval_iters: Option<usize>,
    /// Evaluate once and stop, without training
    #[arg(long, help_heading = "Run")]
    pub eval_only: Option<bool>,
    /// Steps between two progress lines
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub log_interval: Option<u64>,
    /// Save `last` at every evaluation, not only when the validation loss improved
    #[arg(long, help_heading = "Run")]
    pub always_save_checkpoint: Option<bool>,
    /// Steps between two checkpoints that are saved even where the validation loss did not improve
    /// [default: none, see checkpoint_minutes]
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub checkpoint_interval: Option<u64>,
    /// Minutes after the last checkpoint when one is saved in any case; 0 turns it off
    #[arg(long, help_heading = "Run", value_name = "X", value_parser = finite)]
    pub checkpoint_minutes: Option<f64>,
    /// Newest checkpoints to keep, beside the best
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub keep_checkpoints: Option<usize>,
    /// Save and end within this time, finished or not; the command that resumes is printed
    /// [default: no limit]
    #[arg(long, help_heading = "Run", value_name = "SECONDS", value_parser = finite)]
    pub max_seconds: Option<f64>,
    /// Instead of training, prove in a temporary directory that N updates, a stop and N more are the
    /// same as 2 N in one go: weights, moments, counters and losses, bit for bit [default: train; N
    /// is 10 if not given]
    #[arg(long, help_heading = "Run", value_name = "N", num_args = 0..=1,
          default_missing_value = "10")]
    pub verify_resume: Option<u64>,
    /// Print a short story at every evaluation
    #[arg(long, help_heading = "Run")]
    pub sample_at_eval: Option<bool>,
    /// Seed of initial weights, data order, dropout and samples
    #[arg(long, help_heading = "Run", value_name = "N")]
    pub seed: Option<u64>,

    /// Dataset to train on, as named to `prepare`
    #[arg(long, help_heading = "Data", value_name = "NAME")]
    pub dataset_name: Option<String>,
    /// Directory that holds the prepared datasets
    #[arg(long, help_heading = "Data", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which preparation of the dataset to use [default: the one prepared last]
    #[arg(long, help_heading = "Data")]
    pub encoding_type: Option<EncodingType>,
    /// Sequences per micro-batch
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub batch_size: Option<usize>,
    /// Tokens per sequence, the model's context; when fine-tuning, at most the model's own, and less
    /// takes less memory
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub block_size: Option<usize>,
    /// Fresh micro-batches whose gradients are summed for one step
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub gradient_accumulation_steps: Option<usize>,

    /// Transformer blocks
    #[arg(long, help_heading = "Model", value_name = "N")]
    pub n_layer: Option<usize>,
    /// Attention heads per block; divides n_embd
    #[arg(long, help_heading = "Model", value_name = "N")]
    pub n_head: Option<usize>,
    /// Width of the residual stream
    #[arg(long, help_heading = "Model", value_name = "N")]
    pub n_embd: Option<usize>,
    /// Rows of the token table; larger than the tokenizer's pads it [default: the tokenizer's]
    #[arg(long, help_heading = "Model", value_name = "N")]
    pub vocab_size: Option<usize>,
    /// Biases in linear layers and layer norms
    #[arg(long, help_heading = "Model")]
    pub bias: Option<bool>,
    /// Probability of dropping an activation while training, from 0 to below 1
    #[arg(long, help_heading = "Model", value_name = "P", value_parser = finite)]
    pub dropout: Option<f64>,

    /// Highest learning rate, reached after the warm-up
    #[arg(long, help_heading = "Optimizer", value_name = "LR", value_parser = finite)]
    pub learning_rate: Option<f64>,
    /// Whether the learning rate warms up and decays at all; if not, it stays as it is
    #[arg(long, help_heading = "Optimizer")]
    pub decay_lr: Option<bool>,
    /// Steps of linear warm-up [default: 100, or the length of the run if that is less]
    #[arg(long, help_heading = "Optimizer", value_name = "N")]
    pub warmup_iters: Option<u64>,
    /// Step at which the cosine decay ends [default: max_iters]
    #[arg(long, help_heading = "Optimizer", value_name = "N")]
    pub lr_decay_iters: Option<u64>,
    /// Learning rate at the end of the decay and after it
    #[arg(long, help_heading = "Optimizer", value_name = "LR", value_parser = finite)]
    pub min_lr: Option<f64>,
    /// AdamW's decoupled weight decay, for matrices and embeddings only
    #[arg(long, help_heading = "Optimizer", value_name = "X", value_parser = finite)]
    pub weight_decay: Option<f64>,
    /// AdamW's decay of the first moment
    #[arg(long, help_heading = "Optimizer", value_name = "X", value_parser = finite)]
    pub beta1: Option<f64>,
    /// AdamW's decay of the second moment
    #[arg(long, help_heading = "Optimizer", value_name = "X", value_parser = finite)]
    pub beta2: Option<f64>,
    /// Largest global gradient norm; 0 turns clipping off
    #[arg(long, help_heading = "Optimizer", value_name = "X", value_parser = finite)]
    pub grad_clip: Option<f64>,

    /// Where a loss or a gradient is not finite: end the run before the update, or pass over the
    /// batch (at most 10 in a row, and 1 in 20 of all)
    #[arg(long, help_heading = "Optimizer", value_name = "HOW")]
    pub on_non_finite: Option<NonFiniteChoice>,

    /// `cpu`, `cuda`, `cuda:1`, `metal` or `mps` (the same as metal)
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// Number type of the matrix products; a CPU always computes in float32
    #[arg(long, help_heading = "Machine")]
    pub dtype: Option<Dtype>,
    /// CPU threads [default: one per physical core]
    #[arg(long, help_heading = "Machine", value_name = "N")]
    pub threads: Option<usize>,
    /// When the run ends, print where the time of its steps went, operation by operation (CPU)
    #[arg(long, help_heading = "Machine")]
    pub profile: Option<bool>,

    /// Accepted while false, for the original's configs: there is nothing to compile here
    #[arg(long, help_heading = "Original")]
    pub compile: Option<bool>,
    /// Accepted while false, for the original's configs: metrics.jsonl holds every step
    #[arg(long, help_heading = "Original")]
    pub wandb_log: Option<bool>,
    /// Accepted and unused while wandb_log is false
    #[arg(long, help_heading = "Original", value_name = "NAME")]
    pub wandb_project: Option<String>,
    /// Accepted and unused while wandb_log is false
    #[arg(long, help_heading = "Original", value_name = "NAME")]
    pub wandb_run_name: Option<String>,
}

impl Options for TrainOptions {
    const BINARY: &'static str = "train";
    const ABOUT: &'static str = "Train a GPT-2 on a prepared dataset.\n\n\
        Without arguments this is the original's run: tiny_stories, 6 layers, 6 heads, width 384. \
        For stories in two minutes: train --config-file config/quickstart.json\n\
        To fine-tune GPT-2 (124 million parameters, 2.5 GB of memory) on a prepared text of yours: \
        train --config-file config/finetune_gpt2.json --dataset-name NAME";

    /// The defaults of [`TrainConfig`], which are those of the original's run; only the warm-up and
    /// the decay follow `max_iters`.
    fn defaults() -> Self {
        let defaults = serde_json::to_value(TrainConfig::default());
        let options: Self = defaults.and_then(serde_json::from_value).unwrap_or_default();
        Self { warmup_iters: None, lr_decay_iters: None, ..options }
    }

    fn derive(&mut self) {
        self.lr_decay_iters = self.lr_decay_iters.or(self.max_iters);
        self.warmup_iters = self.warmup_iters.or(Some(TrainConfig::default().warmup_iters));
    }

    fn fit(layered: &mut Layered<Self>) {
        fit_warmup(layered);
        fit_min_lr(layered);
    }

    fn resume(layered: Layered<Self>) -> anyhow::Result<Layered<Self>> {
        recorded::put_under(layered)
    }
}

/// A warm-up that nobody gave on the command line is no longer than the run that somebody did.
fn fit_warmup(layered: &mut Layered<TrainOptions>) {
    let options = &layered.options;
    let (Some(max_iters), Some(lr_decay_iters), Some(warmup_iters)) =
        (options.max_iters, options.lr_decay_iters, options.warmup_iters)
    else {
        return;
    };
    let is_flag = |key| layered.origin(key) == Origin::Flag;
    let end = match (is_flag("lr_decay_iters"), is_flag("max_iters")) {
        (false, true) => lr_decay_iters.min(max_iters),
        _ => lr_decay_iters,
    };
    let is_asked = is_flag("lr_decay_iters") || is_flag("max_iters");
    let may_change = match layered.origin("warmup_iters") {
        Origin::Flag | Origin::Checkpoint => false,
        Origin::File => is_asked,
        Origin::Default => true,
    };
    if may_change && warmup_iters > end {
        let place = layered.place("warmup_iters");
        layered.note(format!(
            "warmup_iters is {end} instead of {warmup_iters} ({place}), the whole of a run this short"
        ));
        layered.fit("warmup_iters", end.into());
    }
}

/// The end of the decay follows a learning rate that was given on the command line below it.
fn fit_min_lr(layered: &mut Layered<TrainOptions>) {
    let options = &layered.options;
    let (Some(learning_rate), Some(min_lr)) = (options.learning_rate, options.min_lr) else {
        return;
    };
    let is_flag = |key| layered.origin(key) == Origin::Flag;
    let is_below = learning_rate > 0.0 && learning_rate < min_lr;
    if is_below && is_flag("learning_rate") && !is_flag("min_lr") {
        let (tenth, place) = (learning_rate / 10.0, layered.place("min_lr"));
        // A tenth as people write it: 3e-6, not 3.0000000000000001e-6.
        let tenth = format!("{tenth:.3e}").parse().unwrap_or(tenth);
        layered.note(format!(
            "min_lr is {} instead of {} ({place}), a tenth of learning_rate",
            as_typed(tenth),
            as_typed(min_lr)
        ));
        layered.fit("min_lr", tenth.into());
    }
}

impl Layered<TrainOptions> {
    /// Says what the options mean to the training crate, and where it shall compute.
    ///
    /// # Errors
    /// All faults that show without a look at the data, at once, as a [`UsageError`].
    pub fn resolve(&self) -> anyhow::Result<(TrainConfig, DeviceChoice)> {
        // Both sides have the same keys (a test holds them to it); types were checked with each
        // layer, so what is left to fail here is an empty `init_from`.
        let config = serde_json::to_value(&self.options).and_then(serde_json::from_value);
        let config: TrainConfig = config.map_err(|error| UsageError::new(error.to_string()))?;
        let mut faults = Faults::of(self);
        let device = faults.device(Some(&config.device));
        faults.threads(config.threads);
        match config.validate() {
            Err(TrainError::Config(found)) => faults.extend(&found),
            other => other?,
        }
        faults.into_result()?;
        Ok((config, device))
    }
}

/// What happens where numbers stop being finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFiniteChoice {
    /// The run ends, with the last checkpoint as it was.
    Stop,
    /// The update is not made, and the run goes on.
    Skip,
}

/// Number types as the original names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision everywhere.
    Float32,
    /// bfloat16 products with float32 accumulation, on CUDA and Metal.
    Bfloat16,
    /// Known to the original, refused here: it would need loss scaling.
    #[value(hide = true)]
    Float16,
}
