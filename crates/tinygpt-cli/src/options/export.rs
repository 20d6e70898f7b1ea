//! The file or directory that `sample --export` writes.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tinygpt_model::gguf::WeightType;

use super::SampleOptions;
use crate::layer::{Faults, Layered};

/// How a GGUF file stores matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum GgufType {
    /// Single precision: the model as it is.
    F32,
    /// Half precision.
    F16,
    /// 8-bit integers, one scale per 32 weights.
    Q8_0,
}

impl From<GgufType> for WeightType {
    fn from(asked: GgufType) -> Self {
        match asked {
            GgufType::F32 => Self::F32,
            GgufType::F16 => Self::F16,
            GgufType::Q8_0 => Self::Q8_0,
        }
    }
}

/// The program for which a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// llama.cpp: one file.
    Gguf(WeightType),
    /// transformers: a directory.
    Hf,
}

/// A model to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The format.
    pub format: ExportFormat,
    /// The file or directory.
    pub path: PathBuf,
    /// Whether it may replace an earlier export.
    pub overwrite: bool,
}

impl Export {
    /// The export that the options ask for, if any; adds its faults.
    pub(super) fn of(
        layered: &Layered<SampleOptions>,
        faults: &mut Faults<'_, SampleOptions>,
    ) -> Option<Self> {
        let options = &layered.options;
        let weights = options.r#type.unwrap_or(GgufType::F32);
        let format = match options.export.as_deref() {
            None => None,
            Some([format, path]) if !path.is_empty() && format == "gguf" => {
                Some(ExportFormat::Gguf(weights.into()))
            }
            Some([format, path]) if !path.is_empty() && format == "hf" => Some(ExportFormat::Hf),
            Some(_) => {
                faults.add("export", "gguf and a file, or hf and a directory");
                return None;
            }
        };
        if options.r#type.is_some() && !matches!(format, Some(ExportFormat::Gguf(_))) {
            faults.needs("type", "--export gguf FILE", "");
        }
        let path = options.export.as_ref()?.get(1)?;
        Some(Self {
            format: format?,
            path: path.into(),
            overwrite: options.overwrite == Some(true),
        })
    }
}
