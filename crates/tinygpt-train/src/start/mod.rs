//! Where a run starts: random weights, a checkpoint of its own, or another model.
//!
//! `resume.rs` continues from a checkpoint of the same run.

mod resume;
mod share;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tinygpt_data::{FILE_SETS, Prepared, Tokenizer, shell_word};
use tinygpt_model::{ComputeDevice, Gpt, ModelConfig, hf};

use self::resume::resume;
pub use self::resume::{Recorded, recorded, recorded_plateau};
pub(crate) use self::share::{receive_start, send_start};
use crate::adamw::AdamW;
use crate::checkpoint::{self, Best, Skipped};
use crate::config::{InitFrom, TrainConfig};
use crate::error::{Fault, TrainError};

/// The progress of a run: all of its state except weights and moments.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Steps made.
    pub(crate) step: u64,
    /// Windows of the training split that were used.
    pub(crate) window_cursor: u64,
    /// The `iter` of the last evaluation.
    pub(crate) last_eval_iter: Option<u64>,
    /// The lowest validation loss among the checkpoints.
    pub(crate) best: Option<Best>,
    /// Skipped steps.
    pub(crate) skipped: Skipped,
    /// Evaluations since the last one that improved the loss.
    pub(crate) evals_without_improvement: u64,
    /// Wall time of the earlier processes of the run.
    pub(crate) seconds_before: f64,
    /// The step of the newest good checkpoint.
    pub(crate) last_saved: Option<u64>,
}

/// Everything a run starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) gpt: Gpt,
    pub(crate) optimizer: AdamW,
    pub(crate) progress: Progress,
    /// A description of where the weights came from.
    pub(crate) from: String,
    /// What the run originally started from; a resumed run keeps it.
    pub(crate) origin: InitFrom,
    /// The keys of the configuration that differ from the saved ones.
    pub(crate) changed: Changed,
    /// Notices for the user.
    pub(crate) notices: Vec<String>,
}

/// The changed keys of a resumed run: the saved value and the new one.
pub(crate) type Changed = BTreeMap<String, [Value; 2]>;

/// The shape of the model that `init_from` names, if it names one: what the configuration of a
/// fine-tuning run has to agree with.
///
/// # Errors
/// [`TrainError::Config`] if there is no model, [`TrainError::Model`] if it is not a GPT-2.
pub fn model_shape(init_from: &InitFrom) -> Result<Option<ModelConfig>, TrainError> {
    let Some(model) = Named::of(init_from) else { return Ok(None) };
    check_is_model(&model)?;
    Ok(Some(hf::read_config(model.dir)?))
}

/// Loads the weights that `config` names, or initializes random ones.
///
/// # Errors
/// [`TrainError::UsedOutDir`], [`TrainError::NothingToResume`], [`TrainError::Mismatch`],
/// [`TrainError::NoGoodCheckpoint`], and the errors of reading or initializing weights.
pub(crate) fn start(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &ComputeDevice,
    n_ranks: usize,
) -> Result<Start, TrainError> {
    let resume = || resume(config, prepared, device, n_ranks);
    let is_used = !checkpoint::list(&config.out_dir)?.is_empty();
    match &config.init_from {
        InitFrom::Resume => resume(),
        InitFrom::Plateau(_) if !is_used || config.eval_only => resume(),
        InitFrom::Auto if is_used && !config.overwrite => resume(),
        init_from if is_used && !config.overwrite && !config.eval_only => {
            Err(used(config, init_from))
        }
        init_from => match Named::of(init_from) {
            Some(model)
                if is_used && !config.eval_only && is_of_run(&config.out_dir, model.dir) =>
            {
                Err(in_place(&model))
            }
            Some(model) => fine_tune(config, &model, prepared, device),
            None => scratch(config, prepared, device),
        },
    }
}

/// Whether a model is a checkpoint of the run in `out_dir`.
fn is_of_run(out_dir: &Path, model: &Path) -> bool {
    let checkpoints = out_dir.join(checkpoint::DIR_NAME).canonicalize();
    let model = model.canonicalize();
    matches!((checkpoints, model), (Ok(checkpoints), Ok(model)) if model.starts_with(&checkpoints))
}

fn in_place(model: &Named<'_>) -> TrainError {
    let expected = "a model outside of `out_dir`, since `overwrite` removes the run there with its \
                    checkpoints: choose another `out_dir` for the new run";
    TrainError::Config(vec![Fault::new("init_from", model.name.display(), expected)])
}

fn used(config: &TrainConfig, init_from: &InitFrom) -> TrainError {
    let theirs = recorded(&config.out_dir).ok().flatten().map(|run| run.config.dataset_name);
    TrainError::UsedOutDir {
        out_dir: config.out_dir.clone(),
        init_from: init_from.to_string(),
        other_dataset: theirs.filter(|name| *name != config.dataset_name),
        dataset: config.dataset_name.clone(),
    }
}

fn scratch(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &ComputeDevice,
) -> Result<Start, TrainError> {
    let vocab_size = vocab_size(config, prepared)?;
    let gpt = Gpt::init(config.model_config(vocab_size), config.seed, &device.tensors())?;
    begin(config, gpt, device, "random weights".to_string(), Vec::new())
}

/// The rows of the token table: the tokenizer's, or more of them as padding.
fn vocab_size(config: &TrainConfig, prepared: &Prepared) -> Result<usize, TrainError> {
    let needed = prepared.tokenizer.vocab_size();
    match config.vocab_size {
        Some(asked) if asked < needed => {
            let expected = format!("null or at least {needed}, the size of the tokenizer");
            Err(TrainError::Config(vec![Fault::new("vocab_size", asked, expected)]))
        }
        Some(asked) => Ok(asked),
        None => Ok(needed),
    }
}

/// A model's directory, and the name that the user gave.
pub(crate) struct Named<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) name: &'a Path,
}

impl<'a> Named<'a> {
    fn of(init_from: &'a InitFrom) -> Option<Self> {
        match init_from {
            InitFrom::Dir(dir) => Some(Self { dir, name: dir }),
            InitFrom::Hub { name, dir } => {
                let name = name.as_ref();
                // Before the download there is no directory, so the name is refused as one.
                Some(Self { dir: dir.as_deref().unwrap_or(name), name })
            }
            InitFrom::Scratch | InitFrom::Resume | InitFrom::Auto | InitFrom::Plateau(_) => None,
        }
    }
}

/// Starts from a model in Hugging Face's GPT-2 format. `config` must have its shape, except for a
/// `block_size` that may be smaller, and `prepared` its tokenizer.
fn fine_tune(
    config: &TrainConfig,
    model: &Named<'_>,
    prepared: &Prepared,
    device: &ComputeDevice,
) -> Result<Start, TrainError> {
    let Named { dir, name } = *model;
    check_is_model(model)?;
    check_shape(config, &hf::read_config(dir)?, name)?;
    let mut gpt = hf::read_dir(dir, &device.tensors())?;
    gpt.set_dropout(config.dropout as f32)?;
    let mut notices = Vec::new();
    let positions = gpt.config().block_size;
    if config.block_size < positions {
        gpt.cut_block_size(config.block_size)?;
        notices.push(format!(
            "block_size is {}: the model keeps this many of its {positions} positions and takes \
             less memory",
            config.block_size
        ));
    }
    let has_all = |names: &&[&str]| names.iter().all(|name| dir.join(name).is_file());
    if FILE_SETS.iter().any(has_all) {
        let theirs = Tokenizer::from_path(dir)?;
        // Conversations are prepared with a few more special tokens than the text before them.
        let theirs = if prepared.is_chat() { theirs.for_chat()? } else { theirs };
        check_tokenizer(model, theirs.sha256(), prepared)?;
    } else {
        notices.push(format!(
            "{} holds no tokenizer: whether the data was prepared with its tokenizer cannot be \
             checked",
            name.display()
        ));
    }
    let (rows, needed) = (gpt.config().vocab_size, prepared.tokenizer.vocab_size());
    if rows < needed && prepared.is_chat() {
        gpt.grow_vocab(needed)?;
        notices.push(format!(
            "the vocabulary grows from {rows} to {needed} tokens, for the turns of conversations"
        ));
    } else if rows < needed {
        return Err(TrainError::Mismatch {
            checkpoint: name.to_path_buf(),
            key: "vocab_size",
            saved: rows.to_string(),
            now: format!("{needed} in the prepared data"),
            hint: prepare_with(prepared, name),
        });
    }
    begin(config, gpt, device, format!("the model in {}", name.display()), notices)
}

/// Refuses a word that is neither a keyword nor a directory with a model.
fn check_is_model(&Named { dir, name }: &Named<'_>) -> Result<(), TrainError> {
    if dir.join("config.json").is_file() {
        return Ok(());
    }
    let mut expected = "scratch, resume, auto, hub:owner/name, or a directory with config.json \
                        and model.safetensors"
        .to_string();
    if dir.join(checkpoint::BEST).exists() {
        expected += &format!("; {} is a run: name {0}/best", dir.display());
    }
    Err(TrainError::Config(vec![Fault::new("init_from", name.display(), expected)]))
}

/// Refuses each key of the configuration that differs from the shape of the model's weights.
fn check_shape(config: &TrainConfig, model: &ModelConfig, name: &Path) -> Result<(), TrainError> {
    let name = name.display();
    let mut faults = Vec::new();
    let asked = config.model_config(config.vocab_size.unwrap_or(model.vocab_size));
    for ((key, asked), (_, theirs)) in asked.shape().into_iter().zip(model.shape()) {
        if key != "block_size" && asked != theirs {
            let expected = format!("{theirs} as the model in {name} has; leave `{key}` out");
            faults.push(Fault::new(key, asked, expected));
        }
    }
    if config.block_size > model.block_size {
        let expected =
            format!("at most {}: the model in {name} has no more positions", model.block_size);
        faults.push(Fault::new("block_size", config.block_size, expected));
    }
    if faults.is_empty() { Ok(()) } else { Err(TrainError::Config(faults)) }
}

fn begin(
    config: &TrainConfig,
    mut gpt: Gpt,
    device: &ComputeDevice,
    from: String,
    notices: Vec<String>,
) -> Result<Start, TrainError> {
    device.place(&mut gpt, config.dtype)?;
    let optimizer = AdamW::new(config.adamw(), &gpt)?;
    let (progress, changed) = (Progress::default(), Changed::new());
    let origin = config.init_from.clone();
    Ok(Start { gpt, optimizer, progress, from, origin, changed, notices })
}

/// Refuses data that was not prepared with the tokenizer of `model`.
pub(crate) fn check_tokenizer(
    model: &Named<'_>,
    sha256: &str,
    prepared: &Prepared,
) -> Result<(), TrainError> {
    if sha256 == prepared.tokenizer.sha256() {
        return Ok(());
    }
    let (data, ours) = (&prepared.meta.dataset, prepared.meta.encoding);
    let prepare = prepare_with(prepared, model.name);
    let theirs = Tokenizer::from_path(model.dir).map(|tokenizer| tokenizer.encoding());
    let (what, hint) = match theirs {
        Ok(theirs) if theirs != ours => (
            format!("its tokenizer is {theirs}, and `{data}` is prepared as {ours}"),
            format!("choose the other preparation with `encoding_type` {theirs}, or {prepare}"),
        ),
        _ => (format!("`{data}` was prepared with another tokenizer than the model's"), prepare),
    };
    Err(TrainError::OtherData { checkpoint: model.name.to_path_buf(), what, hint })
}

fn prepare_with(prepared: &Prepared, tokenizer: &Path) -> String {
    format!(
        "prepare the data with its tokenizer: prepare `dataset_name` {} `tokenizer` {}",
        prepared.meta.dataset,
        shell_word(&tokenizer.to_string_lossy())
    )
}

/// The vector instructions that the kernels use here.
pub(crate) fn instruction_set() -> &'static str {
    tinygpt_kernels::simd::level().name()
}
