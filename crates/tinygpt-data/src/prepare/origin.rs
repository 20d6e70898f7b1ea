//! Where the text of a request comes from: what the command line names, else the recipe.
//!
//! An origin can be described without touching the network, so that `prepare` can tell whether
//! the same preparation is already there before anything is downloaded.

use std::fs;
use std::path::PathBuf;

use crate::error::DataError;
use crate::hub::{self, HubOptions, HubRequest};
use crate::progress::{PrepareProgress, Stage};
use crate::recipe::{BuiltInSource, HubSource, Recipe, SourceSpec};
use crate::source::{self, ReadAs, Source, Text};
use crate::tales::Tales;

use super::PrepareRequest;

/// A source of text that was found, but not yet read.
pub(super) enum Origin {
    Files {
        train: Vec<PathBuf>,
        validation: Vec<PathBuf>,
    },
    Hub(HubSource),
    /// A repository that is named on the command line; its splits have yet to be found.
    FoundOnHub {
        repository: String,
        folder: Option<String>,
        revision: String,
    },
    BuiltIn(BuiltInSource),
}

impl Origin {
    /// Finds the text that `request` or `recipe` names.
    pub(super) fn of(recipe: &Recipe, request: &PrepareRequest) -> Result<Self, DataError> {
        match &request.source {
            Some(Source::Path(path)) => {
                let train = source::expand(std::slice::from_ref(path))?;
                return Ok(Self::Files { train, validation: Vec::new() });
            }
            Some(Source::Hub { repository, folder, revision }) => {
                let (repository, revision) = (repository.clone(), revision.clone());
                return Ok(Self::FoundOnHub { repository, folder: folder.clone(), revision });
            }
            None => {}
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

    /// Whether there surely is a validation split, so that no part of the training text validates.
    pub(super) fn has_validation(&self) -> bool {
        match self {
            Self::Files { validation, .. } => !validation.is_empty(),
            Self::Hub(hub) => hub.validation.is_some(),
            Self::FoundOnHub { .. } => false,
            Self::BuiltIn(_) => true,
        }
    }

    /// What `meta.json` remembers, enough to notice that another text is meant: of files their
    /// names, sizes and hashes, of a repository its revision.
    pub(super) fn describe(&self, progress: &dyn PrepareProgress) -> Result<String, DataError> {
        match self {
            Self::Files { train, validation } => {
                let paths: Vec<PathBuf> = train.iter().chain(validation).cloned().collect();
                identify(&paths, progress)
            }
            Self::FoundOnHub { repository, folder, revision } => {
                let (repository, revision) = (repository.clone(), revision.clone());
                Ok(Source::Hub { repository, folder: folder.clone(), revision }.to_string())
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
        &self,
        read_as: &ReadAs,
        hub: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Brought, DataError> {
        let files = |train: &[PathBuf], validation: &[PathBuf], commit| {
            let text =
                |paths: &[PathBuf]| Text::Files { paths: paths.into(), read_as: read_as.clone() };
            let validation = (!validation.is_empty()).then(|| text(validation));
            Brought { train: text(train), validation, commit }
        };
        if let Some(wanted) = self.on_hub(&self.validation_names()) {
            let fetched = hub::fetch(&wanted, hub, progress)?;
            return Ok(files(&fetched.train, &fetched.validation, Some(fetched.commit)));
        }
        match self {
            Self::Files { train, validation } => Ok(files(train, validation, None)),
            Self::BuiltIn(it) => {
                let (tales, n) = (Tales::new(it.seed), it.train_documents);
                let train = Text::TrainingTales { tales, n };
                let (tales, n) = (Tales::new(it.seed), it.validation_documents);
                let validation = Some(Text::ValidationTales { tales, n });
                Ok(Brought { train, validation, commit: None })
            }
            Self::Hub(_) | Self::FoundOnHub { .. } => unreachable!("fetched above"),
        }
    }

    /// The names under which a split to validate on is looked for on the hub.
    fn validation_names(&self) -> Vec<&str> {
        match self {
            Self::Hub(source) => source.validation.as_deref().into_iter().collect(),
            Self::FoundOnHub { .. } => hub::VALIDATION_NAMES.to_vec(),
            _ => Vec::new(),
        }
    }

    /// What is asked of the hub, if the text is there.
    fn on_hub<'a>(&'a self, validation: &'a [&'a str]) -> Option<HubRequest<'a>> {
        match self {
            Self::Hub(source) => Some(HubRequest {
                repository: &source.repository,
                revision: &source.revision,
                folder: None,
                train: &source.train,
                validation,
                finds_splits: false,
            }),
            Self::FoundOnHub { repository, folder, revision } => Some(HubRequest {
                repository,
                revision,
                folder: folder.as_deref(),
                train: "train",
                validation,
                finds_splits: true,
            }),
            Self::Files { .. } | Self::BuiltIn(_) => None,
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

/// Reads the files once, to know them again.
fn identify(paths: &[PathBuf], progress: &dyn PrepareProgress) -> Result<String, DataError> {
    let sizes = paths.iter().map(|path| fs::metadata(path).ok().map(|metadata| metadata.len()));
    progress.begin(Stage::Identify, sizes.sum());
    let identity = source::identify(paths, &|n_bytes| {
        progress.advance(n_bytes);
        if progress.is_stopped() { Err(DataError::Stopped) } else { Ok(()) }
    })?;
    progress.finish();
    Ok(identity)
}
