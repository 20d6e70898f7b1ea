//! Reading a model: every tensor by its name, its shape checked, converted to f32, refused where
//! it is not finite.
//!
//! Each file is read as a whole and checked before anything is made from it; a name that GPT-2
//! does not have, or one that is missing, is an error that lists it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use super::{INDEX, WEIGHTS, read_config};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::params::{ParamSpec, Params, param_specs};

const WTE: &str = "wte.weight";
const LM_HEAD: &str = "lm_head.weight";

/// Reads the model in `dir` onto `device`.
///
/// # Errors
/// [`ModelError::Io`] if a file cannot be read; [`ModelError::File`] naming the file and the
/// tensor if something is truncated, missing, unknown, misshapen, not finite, or if the head is
/// not the embedding table; [`ModelError::Tensor`] if the device refuses.
pub fn read_dir(dir: &Path, device: &Device) -> Result<Gpt> {
    let config = read_config(dir)?;
    let mut weights = Weights::new(&config);
    let files = weight_files(dir)?;
    for path in &files {
        let bytes = fs::read(path).map_err(|e| ModelError::io("read", path, e))?;
        weights.add_file(path, &bytes)?;
    }
    let values = weights.into_values(&config, &files[0])?;
    Gpt::from_params(Params::from_values(&config, values, device)?)
}

/// The file or files that hold the weights; never none.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(WEIGHTS);
    let index = dir.join(INDEX);
    if single.exists() {
        return Ok(vec![single]);
    }
    if index.exists() {
        return shard_files(dir, &index);
    }
    let message = if dir.join("pytorch_model.bin").exists() {
        "there is only pytorch_model.bin, which is pickle and can run code: save the model again \
         with `save_pretrained(dir, safe_serialization=True)`"
    } else {
        "there is no model.safetensors: expected a directory that `train` or `transformers` saved"
    };
    Err(ModelError::file(dir, message))
}

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// The shards that an index names, each once.
fn shard_files(dir: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(index).map_err(|e| ModelError::io("read", index, e))?;
    let parsed: Index = serde_json::from_str(&text)
        .map_err(|e| ModelError::file(index, format!("is not an index of shards: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(ModelError::file(index, "names no shard"));
    }
    let plain = |name: &String| !name.contains(['/', '\\']) && name.ends_with(".safetensors");
    if let Some(name) = names.iter().find(|name| !plain(name)) {
        let message = format!("names the shard `{name}`, expected a file in the same directory");
        return Err(ModelError::file(index, message));
    }
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// Tensors found so far, by GPT-2's names without a prefix.
struct Weights {
    specs: HashMap<String, ParamSpec>,
    values: HashMap<String, Vec<f32>>,
}

impl Weights {
    fn new(config: &ModelConfig) -> Self {
        // A model without biases is saved with zero biases, so they are expected either way.
        let mut specs = param_specs(&ModelConfig { bias: true, ..config.clone() });
        let head = specs.iter().find(|spec| spec.name == WTE).cloned();
        specs.extend(head.map(|spec| ParamSpec { name: LM_HEAD.to_owned(), ..spec }));
        let specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        Self { specs, values: HashMap::new() }
    }

    fn add_file(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| {
            let message = format!("is truncated or no safetensors file ({e}): copy it again");
            ModelError::file(path, message)
        })?;
        for (full_name, view) in file.iter() {
            let name = full_name.strip_prefix("transformer.").unwrap_or(full_name);
            if is_buffer(name) {
                continue;
            }
            let fault =
                |what: String| Err(ModelError::file(path, format!("tensor `{full_name}` {what}")));
            let Some(spec) = self.specs.get(name) else {
                return fault(format!("is none of GPT-2's with {} layers", self.n_layer()));
            };
            if view.shape() != spec.shape {
                return fault(format!("has shape {:?}, expected {:?}", view.shape(), spec.shape));
            }
            let Some(values) = to_f32(&view) else {
                return fault(format!("is {:?}, expected F32, F16 or BF16", view.dtype()));
            };
            if !values.iter().all(|value| value.is_finite()) {
                return fault("holds values that are not finite: the model is broken".to_owned());
            }
            if self.values.insert(name.to_owned(), values).is_some() {
                return fault("stands there twice".to_owned());
            }
        }
        Ok(())
    }

    /// The values in canonical order, after the checks that need all of them.
    fn into_values(mut self, config: &ModelConfig, path: &Path) -> Result<Vec<Vec<f32>>> {
        if let Some(head) = self.values.remove(LM_HEAD)
            && self.values.get(WTE).is_some_and(|wte| *wte != head)
        {
            let message = "lm_head.weight differs from wte.weight: an untied head is not supported";
            return Err(ModelError::file(path, message));
        }
        let specs = param_specs(config);
        let missing: Vec<&str> = specs
            .iter()
            .map(|spec| spec.name.as_str())
            .filter(|name| !self.values.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            let message = format!("tensors are missing: {}", missing.join(", "));
            return Err(ModelError::file(path, message));
        }
        let values: Vec<Vec<f32>> =
            specs.iter().filter_map(|spec| self.values.remove(&spec.name)).collect();
        // Only the biases of a model that says it has none are left.
        match self.values.iter().find(|(_, bias)| bias.iter().any(|value| *value != 0.0)) {
            None => Ok(values),
            Some((name, _)) => {
                let message = format!("config.json says bias = false, but `{name}` is not zero");
                Err(ModelError::file(path, message))
            }
        }
    }

    fn n_layer(&self) -> usize {
        self.specs.keys().filter(|name| name.ends_with("ln_1.weight")).count()
    }
}

/// The causal mask, which older versions of `transformers` saved as if it were a weight.
fn is_buffer(name: &str) -> bool {
    name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"))
}

/// The values as f32; `None` for a dtype that is not read.
fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let halves = |convert: fn([u8; 2]) -> f32| {
        view.data().chunks_exact(2).map(|b| convert([b[0], b[1]])).collect()
    };
    match view.dtype() {
        Dtype::F32 => {
            let words = view.data().chunks_exact(4);
            Some(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::F16 => Some(halves(|b| f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => Some(halves(|b| bf16::from_le_bytes(b).to_f32())),
        _ => None,
    }
}
