//! Where the text of a request comes from: what the command line names, else the recipe.
//!
//! An origin can be described without touching the network, so that `prepare` can tell whether
//! the same preparation is already there before anything is downloaded.

use std::fs;
use std::path::PathBuf;

use crate::error::DataError;
use crate::hub::{self, HubError, HubOptions, HubRequest};
use crate::progress::{PrepareProgress, Stage};
use crate::recipe::{BuiltInSource, Recipe, SourceSpec};
use crate::source::{self, ReadAs, Source, Text};
use crate::tales::Tales;

use super::PrepareRequest;
use super::dry_run::{SourceFile, local_files};

/// A source of text that was found, but not yet read.
pub(super) enum Origin {
    Files { train: Vec<PathBuf>, validation: Vec<PathBuf> },
    Hub(Repository),
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
                return Ok(Self::Hub(Repository {
                    repository: repository.clone(),
                    revision: revision.clone(),
                    folder: folder.clone(),
                    train: "train".to_owned(),
                    validation: hub::VALIDATION_NAMES.map(str::to_owned).to_vec(),
                    finds_splits: true,
                }));
            }
            None => {}
        }
        match &recipe.source {
            SourceSpec::Files(files) => Ok(Self::Files {
                train: source::expand(&files.train)?,
                validation: source::expand(&files.validation)?,
            }),
            SourceSpec::Hub(hub) => Ok(Self::Hub(Repository {
                repository: hub.repository.clone(),
                revision: hub.revision.clone(),
                folder: None,
                train: hub.train.clone(),
                validation: hub.validation.clone(),
                finds_splits: false,
            })),
            SourceSpec::BuiltIn(built_in) => Ok(Self::BuiltIn(built_in.clone())),
            SourceSpec::Given => Err(DataError::usage(
                format!("dataset `{}` has no text of its own", recipe.name),
                "give one with --source PATH (a .txt, .jsonl or .parquet file or a folder)",
            )),
        }
    }

    /// Whether there surely is a validation split, so that no training text validates.
    pub(super) fn has_validation(&self) -> bool {
        match self {
            Self::Files { validation, .. } => !validation.is_empty(),
            Self::Hub(it) => !it.finds_splits && !it.validation.is_empty(),
            Self::BuiltIn(_) => true,
        }
    }

    /// What `meta.json` remembers, enough to notice that another text is meant: of files their
    /// names, sizes and hashes, of a repository its revision.
    pub(super) fn describe(&self, progress: &dyn PrepareProgress) -> Result<String, DataError> {
        match self {
            Self::Files { train, validation } => {
                identify(&[train.as_slice(), validation].concat(), progress)
            }
            Self::Hub(it) => Ok(it.describe()),
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
        let (texts, commit) = match self {
            Self::Files { train, validation } => (file_texts(train, validation, read_as), None),
            Self::BuiltIn(it) => (told_texts(it), None),
            Self::Hub(it) => {
                let fetched = it.ask(|request| hub::fetch(request, hub, progress))?;
                let texts = file_texts(&fetched.train, &fetched.validation, read_as);
                (texts, Some(fetched.commit))
            }
        };
        Ok(Brought { texts, commit })
    }

    /// Looks where the text is, and brings nothing.
    pub(super) fn look(
        &self,
        read_as: &ReadAs,
        hub: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Place, DataError> {
        match self {
            Self::Files { train, validation } => {
                let files = local_files(&[train.as_slice(), validation].concat())?;
                Ok(Place { files, texts: Some(file_texts(train, validation, read_as)) })
            }
            Self::BuiltIn(it) => Ok(Place { files: Vec::new(), texts: Some(told_texts(it)) }),
            Self::Hub(it) => {
                let (found, missing) = it.ask(|request| hub::look(request, hub, progress))?;
                let is_missing = |path: &PathBuf| missing.iter().any(|file| file.place == *path);
                let all = found.train.iter().chain(&found.validation);
                let here: Vec<PathBuf> = all.filter(|path| !is_missing(path)).cloned().collect();
                let texts = file_texts(&found.train, &found.validation, read_as);
                let texts = missing.is_empty().then_some(texts);
                let remote = |file: hub::Missing| SourceFile {
                    name: file.name,
                    n_bytes: file.size,
                    is_remote: true,
                };
                let mut files = local_files(&here)?;
                files.extend(missing.into_iter().map(remote));
                Ok(Place { files, texts })
            }
        }
    }
}

/// A dataset repository on the hub: that of a recipe, or one named on the command line, whose
/// splits have yet to be found.
pub(super) struct Repository {
    repository: String,
    revision: String,
    folder: Option<String>,
    train: String,
    /// The splits to validate on, or the names under which one is looked for.
    validation: Vec<String>,
    finds_splits: bool,
}

impl Repository {
    /// Asks the hub for this.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&HubRequest<'_>) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let validation: Vec<&str> = self.validation.iter().map(String::as_str).collect();
        ask(&HubRequest {
            repository: &self.repository,
            revision: &self.revision,
            folder: self.folder.as_deref(),
            train: &self.train,
            validation: &validation,
            finds_splits: self.finds_splits,
        })
    }

    fn describe(&self) -> String {
        let (repository, revision) = (self.repository.clone(), self.revision.clone());
        if self.finds_splits {
            return Source::Hub { repository, folder: self.folder.clone(), revision }.to_string();
        }
        let validation = match self.validation.as_slice() {
            [] => "its end".to_owned(),
            names => names.join(" + "),
        };
        format!("hub:{repository}@{revision}, {} and {validation}", self.train)
    }
}

/// The texts to train on and, if there is one, to validate on.
pub(super) type Texts = (Text, Option<Text>);

/// A text that is on this machine.
pub(super) struct Brought {
    pub(super) texts: Texts,
    /// The commit of the hub's repository that it came from.
    pub(super) commit: Option<String>,
}

/// Where a text is.
pub(super) struct Place {
    pub(super) files: Vec<SourceFile>,
    /// The texts, if all of them is on this machine.
    pub(super) texts: Option<Texts>,
}

fn file_texts(train: &[PathBuf], validation: &[PathBuf], read_as: &ReadAs) -> Texts {
    let text = |paths: &[PathBuf]| Text::Files { paths: paths.into(), read_as: read_as.clone() };
    (text(train), (!validation.is_empty()).then(|| text(validation)))
}

fn told_texts(told: &BuiltInSource) -> Texts {
    let tales = || Tales::new(told.seed);
    let train = Text::TrainingTales { tales: tales(), n: told.train_documents };
    let validation = Text::ValidationTales { tales: tales(), n: told.validation_documents };
    (train, Some(validation))
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
