//! What `sample --export` is asked to write, and where.

use std::path::PathBuf;

use tinygpt_model::gguf::WeightType;

use super::SampleOptions;
use crate::layer::{Faults, Layered};

/// For whom a model is written.
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
    /// As what.
    pub format: ExportFormat,
    /// Where to.
    pub path: PathBuf,
    /// Whether it may replace an earlier export.
    pub overwrite: bool,
}

impl Export {
    /// What the options say, if they ask for an export; notes what they cannot mean.
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
        if !matches!(format, Some(ExportFormat::Gguf(_))) {
            let expected = "nothing but with --export gguf FILE";
            faults.unless(options.r#type.is_none(), "type", expected);
        }
        let path = options.export.as_ref()?.get(1)?;
        Some(Self {
            format: format?,
            path: path.into(),
            overwrite: options.overwrite == Some(true),
        })
    }
}
