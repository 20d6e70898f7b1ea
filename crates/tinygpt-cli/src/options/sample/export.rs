//! The file or directory that `sample --export` writes.

use std::path::PathBuf;

use tinygpt_model::gguf::WeightType;

use super::super::layer::{Faults, Layered};
use super::SampleOptions;

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
        let weights = options.r#type.unwrap_or(WeightType::F32);
        let format = match options.export.as_deref() {
            None => None,
            Some([format, path]) if !path.is_empty() && format == "gguf" => {
                Some(ExportFormat::Gguf(weights))
            }
            Some([format, path]) if !path.is_empty() && format == "hf" => Some(ExportFormat::Hf),
            Some(_) => {
                faults.add("export", "gguf and a file, or hf and a directory");
                return None;
            }
        };
        if options.r#type.is_some() && !matches!(format, Some(ExportFormat::Gguf(_))) {
            faults.needs("type", "--export gguf FILE");
        }
        let path = options.export.as_ref()?.get(1)?;
        Some(Self {
            format: format?,
            path: path.into(),
            overwrite: options.overwrite == Some(true),
        })
    }
}
