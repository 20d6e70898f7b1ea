//! Writing a model: names as `GPT2LMHeadModel` saves them, the head left out because it is the
//! embedding table, zeros where the model has no biases.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{CONFIG, SpecialTokens, WEIGHTS, config_json};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::parts::{ParamKind, param_specs};

/// Writes `config.json`, `generation_config.json` and `model.safetensors` into `dir`, which
/// exists. Files of these names are replaced; the caller makes the whole atomic.
///
/// # Errors
/// [`ModelError::Request`] if a special token has no row, [`ModelError::Io`] if a file cannot be
/// written, [`ModelError::Tensor`] if the device refuses.
pub fn write_dir(gpt: &Gpt, dir: &Path, special: &SpecialTokens) -> Result<()> {
    write_dir_without_padding(gpt, gpt.config().vocab_size, dir, special)
}

/// As [`write_dir`], with only the first `n_tokens` rows of the table: a model may have more rows than
/// its tokenizer has tokens, and other programs would give the rest a probability.
///
/// # Errors
/// Those of [`write_dir`]; [`ModelError::Request`] if the table has fewer rows.
pub fn write_dir_without_padding(
    gpt: &Gpt,
    n_tokens: usize,
    dir: &Path,
    special: &SpecialTokens,
) -> Result<()> {
    let rows = gpt.config().vocab_size;
    if n_tokens > rows {
        let message = format!("{n_tokens} tokens, but the model has {rows} rows");
        return Err(ModelError::request(message));
    }
    let config = &ModelConfig { vocab_size: n_tokens, ..gpt.config().clone() };
    for (key, id) in [("bos", Some(special.bos)), ("eos", special.eos)] {
        if let Some(id) = id.filter(|id| *id as usize >= config.vocab_size) {
            return Err(ModelError::request(format!(
                "the {key} token {id} is outside the vocabulary of {} rows",
                config.vocab_size
            )));
        }
    }
    config_json::write(config, dir, special)?;

    let mut tensors = Vec::new();
    for spec in param_specs(&ModelConfig { bias: true, ..config.clone() }) {
        let tensor = match gpt.params().get(&spec.name) {
            // The safetensors format has no strides.
            Some(table) if spec.kind == ParamKind::Table => {
                table.narrow(0, 0, n_tokens)?.contiguous()?
            }
            Some(tensor) => tensor.clone(),
            None => Tensor::zeros(spec.shape.as_slice(), DType::F32, &Device::Cpu)?,
        };
        tensors.push((format!("transformer.{}", spec.name), tensor));
    }
    // `transformers` requires this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let path = dir.join(WEIGHTS);
    safetensors::serialize_to_file(tensors, Some(metadata), &path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => ModelError::io("write", &path, e),
        other => ModelError::io("write", &path, std::io::Error::other(other)),
    })?;
    // safetensors renames a private temporary file; give it what its neighbours got from the umask.
    let neighbour = dir.join(CONFIG);
    fs::metadata(&neighbour)
        .and_then(|metadata| fs::set_permissions(&path, metadata.permissions()))
        .map_err(|e| ModelError::io("set the permissions of", &path, e))
}
