//! Where the text of a request comes from: what the command line names, else the recipe.
//!
//! An origin can be described without touching the network, so that `prepare` can tell whether
//! the same preparation is already there before anything is downloaded.

use std::fs;
use std::path::PathBuf;

use crate::error::DataError;
use crate::hub::{self, HubOptions, HubRequest};
use crate::progress::PrepareProgress;
use crate::recipe::{BuiltInSource, HubSource, Recipe, SourceSpec};
use crate::source::{self, Text};
use crate::tales::Tales;

use super::PrepareRequest;

/// A source of text that was found, but not yet read.
pub(super) enum Origin {
    Files { train: Vec<PathBuf>, validation: Vec<PathBuf> },
    Hub(HubSource),
    BuiltIn(BuiltInSource),
}

impl Origin {
    /// Finds the text that `request` or `recipe` names.
    pub(super) fn of(recipe: &Recipe, request: &PrepareRequest) -> Result<Self, DataError> {
        if let Some(path) = &request.source {
            let train = source::expand(std::slice::from_ref(path))?;
            return Ok(Self::Files { train, validation: Vec::new() });
        }
        match &recipe.source {
            SourceSpec::Files(files) => Ok(Self::Files {
                train: source::expand(&files.train)?,
                validation: source::expand(&files.validation)?,
            }),
            SourceSpec::Hub(hub) => Ok(Self::Hub(hub.clone())),
            SourceSpec::BuiltIn(built_in) => Ok(Self::BuiltIn(built_in.clone())),
            SourceSpec::Given => Err(DataError::usage(
                format!("dataset `{}` has no text of its own", recipe.name),
                "give one with --source PATH (a .txt, .jsonl or .parquet file or a folder)",
            )),
        }
    }

    /// Whether there is a validation split, so that no part of the training text validates.
    pub(super) fn has_validation(&self) -> bool {
        match self {
            Self::Files { validation, .. } => !validation.is_empty(),
            Self::Hub(hub) => hub.validation.is_some(),
            Self::BuiltIn(_) => true,
        }
    }

    /// What `meta.json` remembers, enough to notice that another text is meant: of files their
    /// names and sizes, of a repository its revision.
    pub(super) fn describe(&self) -> Result<String, DataError> {
        match self {
            Self::Files { train, validation } => {
                let described: Vec<String> =
                    train.iter().chain(validation).map(describe_file).collect::<Result<_, _>>()?;
                Ok(described.join(", "))
            }
            Self::Hub(hub) => Ok(format!(
                "hub:{}@{}, {} and {}",
                hub.repository,
                hub.revision,
                hub.train,
                hub.validation.as_deref().unwrap_or("its end")
            )),
            Self::BuiltIn(it) => Ok(format!(
                "built in: {} + {} documents, seed {}",
                it.train_documents, it.validation_documents, it.seed
            )),
        }
    }

    /// Brings the text to this machine; only that of the hub has to come from elsewhere.
    pub(super) fn bring(
        self,
        text_column: &str,
        hub: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Brought, DataError> {
        let files = |train, validation: Vec<PathBuf>, commit| {
            let text = |paths| Text::Files { paths, text_column: text_column.to_owned() };
            let validation = (!validation.is_empty()).then(|| text(validation));
            Brought { train: text(train), validation, commit }
        };
        match self {
            Self::Files { train, validation } => Ok(files(train, validation, None)),
            Self::Hub(source) => {
                let wanted = HubRequest {
                    repository: &source.repository,
                    revision: &source.revision,
                    train: &source.train,
                    validation: source.validation.as_deref(),
                };
                let fetched = hub::fetch(&wanted, hub, progress)?;
                Ok(files(fetched.train, fetched.validation, Some(fetched.commit)))
            }
            Self::BuiltIn(BuiltInSource {
                train_documents, validation_documents, seed, ..
            }) => {
                let tales = || Tales::new(seed);
                let train = Text::TrainingTales { tales: tales(), n: train_documents };
                let validation = Text::ValidationTales { tales: tales(), n: validation_documents };
                Ok(Brought { train, validation: Some(validation), commit: None })
            }
        }
    }
}

/// A text that is on this machine.
pub(super) struct Brought {
    pub(super) train: Text,
    /// The text to validate on, if the origin has one.
    pub(super) validation: Option<Text>,
    /// The commit of the hub's repository that it came from.
    pub(super) commit: Option<String>,
}

fn describe_file(path: &PathBuf) -> Result<String, DataError> {
    let n_bytes = fs::metadata(path).map_err(DataError::io("read", path))?.len();
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(format!("{} ({n_bytes} bytes)", name.to_string_lossy()))
}
