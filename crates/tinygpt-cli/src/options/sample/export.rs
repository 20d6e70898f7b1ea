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
    /// Ollama: a directory with a GGUF file and a `Modelfile`.
    Ollama(WeightType),
}

impl ExportFormat {
    /// Whether PATH is a directory.
    pub(crate) fn is_dir(self) -> bool {
        !matches!(self, Self::Gguf(_))
    }
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
            Some([_, path]) if path.is_empty() => Some(None),
            Some([format, _]) => Some(match format.as_str() {
                "gguf" => Some(ExportFormat::Gguf(weights)),
                "hf" => Some(ExportFormat::Hf),
                "ollama" => Some(ExportFormat::Ollama(weights)),
                _ => None,
            }),
            Some(_) => Some(None),
        };
        if format == Some(None) {
            faults.add("export", "gguf and a file, or hf or ollama and a directory");
            return None;
        }
        let format = format.flatten();
        if options.r#type.is_some() && matches!(format, None | Some(ExportFormat::Hf)) {
            faults.needs("type", "--export gguf FILE or --export ollama DIR");
        }
        if options.system.is_some()
            && options.chat != Some(true)
            && !matches!(format, Some(ExportFormat::Ollama(_)))
        {
            faults.needs("system", "--chat or --export ollama DIR");
        }
        let path = options.export.as_ref()?.get(1)?;
        Some(Self {
            format: format?,
            path: path.into(),
            overwrite: options.overwrite == Some(true),
        })
    }
}
