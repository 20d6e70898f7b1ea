//! Reading a model: every tensor by its name, its shape checked, converted to f32 or rounded to 8 bits,
//! and rejected if a value is not finite.
//!
//! Names and shapes are checked before any value is read; a name that GPT-2 does not have, or one
//! that is missing, is an error that lists it. Values go from the file through a small buffer to
//! where they stay: the file as a whole is never in memory.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::Device;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use super::{INDEX, WEIGHTS, files, read_config};
use crate::config::ModelConfig;
use crate::decode::q8_model::QuantizedGpt;
use crate::decode::q8_params::Q8Param;
use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::params::Params;
use crate::parts::{ParamSpec, param_specs};

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
    Gpt::from_params(Params::from_values(&config, read_values(dir, &config)?, device)?)
}

/// Reads the model in `dir` and rounds it to 8 bits on the way.
///
/// # Errors
/// As [`read_dir`].
pub fn read_quantized(dir: &Path) -> Result<QuantizedGpt> {
    let config = read_config(dir)?;
    let values = read_values(dir, &config)?;
    QuantizedGpt::from_ordered(config, values)
}

/// All parameters in canonical order.
fn read_values<T: Kept>(dir: &Path, config: &ModelConfig) -> Result<Vec<T>> {
    let mut weights = Weights::new(config);
    let files = weight_files(dir)?;
    for path in &files {
        weights.add_file(path)?;
    }
    weights.into_values(config, &files[0])
}

/// What becomes of a tensor that was read.
trait Kept: PartialEq + Send + Sized {
    /// Takes its values in order.
    fn read(spec: &ParamSpec, tensor: &mut TensorReader<'_>) -> Result<Self>;

    /// Whether it is a vector with a value that is not zero.
    fn is_nonzero_vector(&self) -> bool;
}

impl Kept for Vec<f32> {
    fn read(spec: &ParamSpec, tensor: &mut TensorReader<'_>) -> Result<Self> {
        let mut values = vec![0.0; spec.len()];
        tensor.fill(&mut values)?;
        Ok(values)
    }

    fn is_nonzero_vector(&self) -> bool {
        self.iter().any(|value| *value != 0.0)
    }
}

impl Kept for Q8Param {
    fn read(spec: &ParamSpec, tensor: &mut TensorReader<'_>) -> Result<Self> {
        Self::read(spec, |values| tensor.fill(values))
    }

    fn is_nonzero_vector(&self) -> bool {
        matches!(self, Self::Full(values) if values.is_nonzero_vector())
    }
}

/// The file or files that hold the weights; never none.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(WEIGHTS);
    let index = dir.join(INDEX);
    if single.exists() {
        return Ok(vec![single]);
    }
    if index.exists() {
        return Ok(shard_names(dir)?.iter().map(|name| dir.join(name)).collect());
    }
    let message = if dir.join("pytorch_model.bin").exists() {
        "there is only pytorch_model.bin, which is pickle and can run code: save the model again \
         with `save_pretrained(dir, safe_serialization=True)`"
    } else {
        "there is no model.safetensors: expected a directory that `train` or `transformers` saved"
    };
    Err(ModelError::file(dir, message))
}

/// The largest index, in bytes: it names each tensor with its file.
const MAX_INDEX: u64 = 16 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// The files in `dir` that its [`INDEX`] names, each once; they need not be there yet.
///
/// # Errors
/// [`ModelError::Io`] if the index cannot be read, [`ModelError::File`] if it is not an index or names
/// anything but a file next to it.
pub fn shard_names(dir: &Path) -> Result<Vec<String>> {
    let index = &dir.join(INDEX);
    let text = files::read_text(index, MAX_INDEX)?;
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
    Ok(names.into_iter().collect())
}

/// Tensors found so far, by GPT-2's names without a prefix.
struct Weights<T> {
    specs: HashMap<String, ParamSpec>,
    values: HashMap<String, T>,
}

impl<T: Kept> Weights<T> {
    fn new(config: &ModelConfig) -> Self {
        // A model without biases is saved with zero biases, so they are expected either way.
        let mut specs = param_specs(&ModelConfig { bias: true, ..config.clone() });
        let head = specs.iter().find(|spec| spec.name == WTE).cloned();
        specs.extend(head.map(|spec| ParamSpec { name: LM_HEAD.to_owned(), ..spec }));
        let specs = specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        Self { specs, values: HashMap::new() }
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let (metadata, start) = header(path)?;
        let mut found = Vec::new();
        // In the order of the file, so that of several errors the same one is always reported.
        for full_name in metadata.offset_keys() {
            let Some(info) = metadata.info(&full_name) else { continue };
            let name = full_name.strip_prefix("transformer.").unwrap_or(&full_name);
            if is_buffer(name) {
                continue;
            }
            let fault =
                |what: String| Err(ModelError::file(path, format!("tensor `{full_name}` {what}")));
            let Some(spec) = self.specs.get(name) else {
                return fault(format!("is not a tensor of GPT-2 with {} layers", self.n_layer()));
            };
            if info.shape != spec.shape {
                return fault(format!("has shape {:?}, expected {:?}", info.shape, spec.shape));
            }
            if size_of_value(info.dtype).is_none() {
                return fault(format!("is {:?}, expected F32, F16 or BF16", info.dtype));
            }
            if self.values.contains_key(name) || found.iter().any(|(other, _, _)| other == name) {
                return fault("is stored twice".to_owned());
            }
            found.push((name.to_owned(), full_name.clone(), info));
        }
        let read = found.into_par_iter().map(|(name, full_name, info)| {
            let mut tensor = TensorReader::open(path, &full_name, start, info)?;
            let values = T::read(&self.specs[&name], &mut tensor)?;
            Ok((name, values))
        });
        let read = read.collect::<Result<Vec<_>>>()?;
        self.values.extend(read);
        Ok(())
    }

    /// The values in canonical order, after the checks that need all of them.
    fn into_values(mut self, config: &ModelConfig, path: &Path) -> Result<Vec<T>> {
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
        let values = specs.iter().filter_map(|spec| self.values.remove(&spec.name)).collect();
        // Only the biases of a model that says it has none are left.
        match self.values.iter().find(|(_, bias)| bias.is_nonzero_vector()) {
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

/// The longest header that is read, in bytes. The format allows 100 MB, a million tensors; those of the
/// largest GPT-2 are 580, in 60 KB.
const MAX_HEADER: u64 = 16 << 20;

/// What the head of a safetensors file says, and where its values begin.
fn header(path: &Path) -> Result<(Metadata, u64)> {
    let io = |e| ModelError::io("read", path, e);
    let broken = |what: String| {
        let message = format!("is truncated or not a safetensors file ({what}): copy it again");
        ModelError::file(path, message)
    };
    let mut file = files::open(path)?;
    let n_bytes = file.metadata().map_err(io)?.len();
    let mut len = Vec::new();
    (&mut file).take(8).read_to_end(&mut len).map_err(io)?;
    let len = len.first_chunk().map_or(u64::MAX, |len| u64::from_le_bytes(*len));
    if len > n_bytes.saturating_sub(8) {
        return Err(broken("the header does not fit".to_owned()));
    }
    if len > MAX_HEADER {
        let message = format!(
            "has a header of {len} bytes, more than the {MAX_HEADER} bytes that it may have"
        );
        return Err(ModelError::file(path, message));
    }
    let mut head = Vec::new();
    file.take(len).read_to_end(&mut head).map_err(io)?;
    // Which also checks that the tensors lie one after the other, each as long as its shape says.
    let metadata: Metadata = serde_json::from_slice(&head).map_err(|e| broken(e.to_string()))?;
    let (start, data) = (8 + len, metadata.data_len() as u64);
    if start + data != n_bytes {
        return Err(broken(format!("{n_bytes} bytes, the header describes {}", start + data)));
    }
    Ok((metadata, start))
}

/// How much of a file is read at a time, in bytes; it stays in the cache until it is converted.
const PIECE: usize = 256 << 10;

/// The values of one tensor, one after the other.
struct TensorReader<'a> {
    path: &'a Path,
    name: &'a str,
    file: File,
    dtype: Dtype,
    piece: Vec<u8>,
}

impl<'a> TensorReader<'a> {
    fn open(path: &'a Path, name: &'a str, start: u64, info: &TensorInfo) -> Result<Self> {
        let io = |e| ModelError::io("read", path, e);
        let mut file = File::open(path).map_err(io)?;
        let (begin, end) = info.data_offsets;
        file.seek(SeekFrom::Start(start + begin as u64)).map_err(io)?;
        Ok(Self { path, name, file, dtype: info.dtype, piece: vec![0; PIECE.min(end - begin)] })
    }

    /// Reads as many of the next values as there is room for, which must not be more than are left.
    fn fill(&mut self, values: &mut [f32]) -> Result<()> {
        let size = size_of_value(self.dtype).unwrap_or(1);
        for values in values.chunks_mut((self.piece.len() / size).max(1)) {
            let piece = &mut self.piece[..values.len() * size];
            self.file.read_exact(piece).map_err(|e| ModelError::io("read", self.path, e))?;
            convert(self.dtype, piece, values);
            if values.iter().fold(false, |bad, value| bad | !value.is_finite()) {
                let name = self.name;
                let message = format!(
                    "tensor `{name}` holds values that are not finite: the model is broken"
                );
                return Err(ModelError::file(self.path, message));
            }
        }
        Ok(())
    }
}

/// Bytes of a value that lies in a file as `dtype`; `None` for one that is not read.
fn size_of_value(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

fn convert(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    let (words, _) = bytes.as_chunks::<4>();
    let (halves, _) = bytes.as_chunks::<2>();
    match dtype {
        Dtype::F16 => put(values, halves, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => put(values, halves, |b| bf16::from_le_bytes(b).to_f32()),
        _ => put(values, words, f32::from_le_bytes),
    }
}

fn put<const N: usize>(values: &mut [f32], from: &[[u8; N]], convert: impl Fn([u8; N]) -> f32) {
    values.iter_mut().zip(from).for_each(|(value, bytes)| *value = convert(*bytes));
}
