//! Loads the model of a checkpoint with its tokenizer and special tokens.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Model, ModelConfig, ModelError};

use super::find::find;
use crate::options::SampleSettings;
use crate::usage::UsageError;

/// A model with its tokenizer.
pub(super) struct LoadedModel<M> {
    /// Where it was read from.
    pub(super) dir: PathBuf,
    pub(super) tokenizer: Tokenizer,
    pub(super) model: M,
    pub(super) special: SpecialTokens,
}

impl<M: Model + 'static> LoadedModel<M> {
    /// For callers that take a model of either kind.
    pub(super) fn boxed(self) -> LoadedModel<Box<dyn Model>> {
        let Self { dir, tokenizer, model, special } = self;
        LoadedModel { dir, tokenizer, model: Box::new(model), special }
    }
}

/// Loads the checkpoint; if a trainer has removed it meanwhile, the one that replaced it.
pub(super) fn load<M: Model>(
    settings: &SampleSettings,
    read_model: &dyn Fn(&Path) -> Result<M, ModelError>,
) -> Result<LoadedModel<M>> {
    let mut dir = find(settings)?;
    loop {
        match load_from(&dir, read_model) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => {
                let now = find(settings)?;
                if now == dir {
                    return Err(error);
                }
                dir = now;
            }
        }
    }
}

fn load_from<M: Model>(
    dir: &Path,
    read_model: &dyn Fn(&Path) -> Result<M, ModelError>,
) -> Result<LoadedModel<M>> {
    let tokenizer = Tokenizer::from_path(dir)?;
    let model = read_model(dir)?;
    check_vocabulary(model.config(), &tokenizer, dir)?;
    let special = special_tokens(dir, &tokenizer)?;
    Ok(LoadedModel { dir: dir.to_owned(), tokenizer, model, special })
}

/// Refuses a tokenizer with more tokens than the model has rows: it belongs to another model.
fn check_vocabulary(config: &ModelConfig, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    let (rows, tokens) = (config.vocab_size, tokenizer.vocab_size());
    if tokens > rows {
        let message = format!(
            "{}: tokenizer.json has {tokens} tokens, but the model only {rows} rows: they do not \
             belong together",
            dir.display()
        );
        return Err(UsageError::new(message).into());
    }
    Ok(())
}

/// The tokens for start and end of a document: those of the config, else `<|endoftext|>`.
fn special_tokens(dir: &Path, tokenizer: &Tokenizer) -> Result<SpecialTokens> {
    let eot = tokenizer.eot_id();
    let configured = hf::read_special_tokens(dir)?;
    let is_known = |special: &SpecialTokens| (special.bos as usize) < tokenizer.vocab_size();
    Ok(configured.filter(is_known).unwrap_or(SpecialTokens { bos: eot, eos: Some(eot) }))
}
