//! `optimizer.safetensors`: both moments of AdamW, named by parameter.
//!
//! `m.{parameter}` and `v.{parameter}`, f32, shaped as the parameter. How many steps they have seen
//! is in `state.json`. Reading is strict: a tensor that is missing, left over or of another shape
//! is an error, because a resumed run would silently differ.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};
use tinygpt_data::read_regular;
use tinygpt_model::{Gpt, ParamSpec, Params};

use super::WEIGHTS_FILE;
use crate::adamw::Moments;
use crate::error::TrainError;

/// The longest header of the file, in bytes: it names each tensor.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Writes `moments` to `path`, in the order of `params`.
pub(crate) fn write_moments(
    path: &Path,
    params: &Params,
    moments: &Moments,
) -> Result<(), TrainError> {
    let (m, v) = (moments.m.to_host()?, moments.v.to_host()?);
    let mut tensors = Vec::with_capacity(2 * params.len());
    for ((spec, m), v) in params.specs().iter().zip(m).zip(v) {
        tensors.push((format!("m.{}", spec.name), F32View { shape: &spec.shape, values: m }));
        tensors.push((format!("v.{}", spec.name), F32View { shape: &spec.shape, values: v }));
    }
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| {
        TrainError::io("write", path)(match error {
            safetensors::SafeTensorError::IoError(error) => error,
            other => std::io::Error::other(other),
        })
    })?;
    // safetensors renames a private temporary file; the model's has what the umask gives already.
    let neighbour = path.with_file_name(WEIGHTS_FILE);
    std::fs::metadata(&neighbour)
        .and_then(|metadata| std::fs::set_permissions(path, metadata.permissions()))
        .map_err(TrainError::io("set the permissions of", path))
}

/// Reads the moments of `gpt` from `path`, to where it computes.
pub(crate) fn read_moments(path: &Path, gpt: &Gpt) -> Result<Moments, TrainError> {
    let params = gpt.params();
    let n_values: usize = params.specs().iter().map(ParamSpec::len).sum();
    let max_bytes = MAX_HEADER_BYTES + 2 * (n_values * size_of::<f32>()) as u64;
    let bytes = read_regular(path, max_bytes).map_err(TrainError::file(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        TrainError::corrupt(path, format!("is not a safetensors file ({error})"))
    })?;
    if file.len() != 2 * params.len() {
        let reason = format!("holds {} tensors, expected {}", file.len(), 2 * params.len());
        return Err(TrainError::corrupt(path, reason));
    }
    let read_all = |prefix: &str| -> Result<Vec<Vec<f32>>, TrainError> {
        params.specs().iter().map(|spec| read_one(path, &file, prefix, spec)).collect()
    };
    Ok(Moments { m: gpt.arrays(read_all("m")?)?, v: gpt.arrays(read_all("v")?)? })
}

fn read_one(
    path: &Path,
    file: &SafeTensors<'_>,
    prefix: &str,
    spec: &ParamSpec,
) -> Result<Vec<f32>, TrainError> {
    let name = format!("{prefix}.{}", spec.name);
    let view =
        file.tensor(&name).map_err(|_| TrainError::corrupt(path, format!("lacks `{name}`")))?;
    if view.dtype() != Dtype::F32 || view.shape() != spec.shape {
        let reason = format!(
            "holds `{name}` as {:?} {:?}, expected F32 {:?}",
            view.dtype(),
            view.shape(),
            spec.shape
        );
        return Err(TrainError::corrupt(path, reason));
    }
    let words = view.data().chunks_exact(4);
    Ok(words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}

/// One tensor in the form that safetensors writes; its bytes exist only while they are written.
struct F32View<'a> {
    shape: &'a [usize],
    values: Cow<'a, [f32]>,
}

impl View for F32View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val::<[f32]>(&self.values)
    }
}
