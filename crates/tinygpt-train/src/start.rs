//! Where a run starts: fresh weights, a checkpoint of its own, or somebody else's model.
//!
//! Going on with a checkpoint of the same run is [`crate::resume`]'s.

use std::path::Path;

use candle_core::Device;
use tinygpt_data::{FILE_SETS, Prepared, Tokenizer};
use tinygpt_model::{Gpt, hf};

use crate::adamw::AdamW;
use crate::checkpoint::{self, Best, Skipped};
use crate::config::{InitFrom, TrainConfig};
use crate::error::{Fault, TrainError};
use crate::resume::resume;

/// How far a run has come: all of its state but weights and moments.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Progress {
    /// Updates made.
    pub(crate) step: u64,
    /// Windows of the training split that were used.
    pub(crate) window_cursor: u64,
    /// The `iter` of the last evaluation.
    pub(crate) last_eval_iter: Option<u64>,
    /// The lowest validation loss among the checkpoints.
    pub(crate) best: Option<Best>,
    /// Updates that were passed over.
    pub(crate) skipped: Skipped,
    /// The step of the newest good checkpoint.
    pub(crate) last_saved: Option<u64>,
}

/// Everything a run begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) gpt: Gpt,
    pub(crate) optimizer: AdamW,
    pub(crate) progress: Progress,
    /// Where the weights came from, in words.
    pub(crate) from: String,
    /// What the user should know.
    pub(crate) notices: Vec<String>,
}

/// Loads or draws the weights that `config` asks for.
///
/// # Errors
/// [`TrainError::UsedOutDir`], [`TrainError::NothingToResume`], [`TrainError::Mismatch`],
/// [`TrainError::NoGoodCheckpoint`], and whatever reading or drawing weights can fail with.
pub(crate) fn start(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &Device,
) -> Result<Start, TrainError> {
    let is_used = !checkpoint::list(&config.out_dir)?.is_empty();
    match &config.init_from {
        InitFrom::Resume => resume(config, prepared, device),
        InitFrom::Auto if is_used && !config.overwrite => resume(config, prepared, device),
        _ if is_used && !config.overwrite && !config.eval_only => Err(TrainError::UsedOutDir {
            out_dir: config.out_dir.clone(),
            init_from: config.init_from.to_string(),
        }),
        InitFrom::Scratch | InitFrom::Auto => scratch(config, prepared, device),
        InitFrom::Dir(dir) => fine_tune(config, &Named { dir, name: dir }, prepared, device),
        InitFrom::Hub { name, dir } => {
            fine_tune(config, &Named { dir, name: name.as_ref() }, prepared, device)
        }
    }
}

fn scratch(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &Device,
) -> Result<Start, TrainError> {
    let vocab_size = vocab_size(config, prepared)?;
    let gpt = Gpt::init(config.model_config(vocab_size), config.seed, device)?;
    begin(config, gpt, "freshly drawn weights".to_string(), Vec::new())
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

/// A model's directory, and what the user calls it.
pub(crate) struct Named<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) name: &'a Path,
}

/// A model of any origin in the form of GPT-2 on the hub; its shape and its tokenizer rule.
fn fine_tune(
    config: &TrainConfig,
    model: &Named<'_>,
    prepared: &Prepared,
    device: &Device,
) -> Result<Start, TrainError> {
    let Named { dir, name } = *model;
    check_is_model(model)?;
    let mut gpt = hf::read_dir(dir, device)?;
    gpt.set_dropout(config.dropout)?;
    let mut notices = Vec::new();
    let has_all = |names: &&[&str]| names.iter().all(|name| dir.join(name).is_file());
    if FILE_SETS.iter().any(has_all) {
        let theirs = Tokenizer::from_path(dir)?;
        check_tokenizer(model, theirs.sha256(), prepared)?;
    } else {
        notices.push(format!(
            "{} holds no tokenizer: that the data was prepared with its tokenizer cannot be checked",
            name.display()
        ));
    }
    let (rows, needed) = (gpt.config().vocab_size, prepared.tokenizer.vocab_size());
    if rows < needed {
        return Err(TrainError::Mismatch {
            checkpoint: name.to_path_buf(),
            key: "vocab_size",
            saved: rows.to_string(),
            now: format!("{needed} in the prepared data"),
            cure: prepare_with(prepared, name),
        });
    }
    notices.extend(other_shape(config, &gpt));
    begin(config, gpt, format!("the model in {}", name.display()), notices)
}

/// Refuses a word that is neither a keyword nor a directory with a model, before it is read as one.
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

fn other_shape(config: &TrainConfig, gpt: &Gpt) -> Option<String> {
    let (ours, theirs) = (config.model_config(gpt.config().vocab_size), gpt.config());
    (ours != *theirs).then(|| {
        format!(
            "the model's own shape is used: n_layer {}, n_head {}, n_embd {}, block_size {}, \
             vocab_size {}, bias {}",
            theirs.n_layer,
            theirs.n_head,
            theirs.n_embd,
            theirs.block_size,
            theirs.vocab_size,
            theirs.bias
        )
    })
}

fn begin(
    config: &TrainConfig,
    gpt: Gpt,
    from: String,
    notices: Vec<String>,
) -> Result<Start, TrainError> {
    let optimizer = AdamW::new(config.adamw(), gpt.params(), config.resolved_threads())?;
    Ok(Start { gpt, optimizer, progress: Progress::default(), from, notices })
}

/// Refuses data that another tokenizer made than that of `model`.
pub(crate) fn check_tokenizer(
    model: &Named<'_>,
    sha256: &str,
    prepared: &Prepared,
) -> Result<(), TrainError> {
    let now = prepared.tokenizer.sha256();
    if sha256 == now {
        return Ok(());
    }
    Err(TrainError::Mismatch {
        checkpoint: model.name.to_path_buf(),
        key: "the tokenizer's SHA-256",
        saved: format!("{sha256:.12}…"),
        now: format!("{now:.12}…"),
        cure: other_encoding(prepared, model.dir) + &prepare_with(prepared, model.name),
    })
}

/// The shorter way where the data is read in the other encoding.
fn other_encoding(prepared: &Prepared, tokenizer_dir: &Path) -> String {
    match Tokenizer::from_path(tokenizer_dir).map(|tokenizer| tokenizer.encoding()) {
        Ok(theirs) if theirs != prepared.meta.encoding => {
            format!("choose its encoding with `--encoding-type {theirs}`, or ")
        }
        _ => String::new(),
    }
}

fn prepare_with(prepared: &Prepared, tokenizer: &Path) -> String {
    format!(
        "prepare the data with its tokenizer: `prepare --dataset-name {} --tokenizer {}`",
        prepared.meta.dataset,
        tokenizer.display()
    )
}

/// The device in one word.
pub(crate) fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// The vector instructions that the kernels use here.
pub(crate) fn instruction_set() -> &'static str {
    tinygpt_kernels::simd::level().name()
}
