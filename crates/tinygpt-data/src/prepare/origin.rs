//! Where the text of a request comes from: its own source, or else the recipe's.
//!
//! An origin can be described without the network, so that `prepare` can check whether
//! the same preparation is already there before anything is downloaded.

use std::fs;
use std::path::PathBuf;

use crate::error::DataError;
use crate::hub::{self, HubError, HubOptions, HubRequest};
use crate::progress::{PrepareProgress, Stage};
use crate::recipe::{BuiltInSource, Generator, HubSource, Recipe, SourceSpec};
use crate::source::{
    self, Format, GeneratedText, Grammar, LeftOut, ReadAs, Separator, Source, Sources, Text,
    TextFile,
};
use crate::tales::Tales;
use crate::talks::Talks;

use super::PrepareRequest;
use super::files::{LocalFiles, SourceFile, SourceFiles, Texts, local_files, texts_of};

/// A source of text that was found, but not yet read.
pub(super) enum Origin {
    Files(LocalFiles),
    Hub(Repository),
    BuiltIn(BuiltInSource),
}

impl Origin {
    /// Finds the text that `request` or `recipe` names.
    pub(super) fn of(
        recipe: &Recipe,
        request: &PrepareRequest,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        let origin = match (&request.source, &recipe.source) {
            (Some(sources), _) => Self::given(sources, request, progress)?,
            (None, SourceSpec::Files(files)) => Self::Files(LocalFiles::of_recipe(files, request)?),
            (None, SourceSpec::Hub(hub)) => Self::Hub(Repository::of_recipe(hub)),
            (None, SourceSpec::BuiltIn(built_in)) => Self::BuiltIn(built_in.clone()),
            (None, SourceSpec::Given) => {
                return Err(DataError::usage(
                    format!("dataset `{}` comes without text", recipe.name),
                    "set `source` to a .txt, .jsonl or .parquet file or a folder",
                ));
            }
        };
        origin.check(request)?;
        Ok(origin)
    }

    fn given(
        sources: &Sources,
        request: &PrepareRequest,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        match sources.first() {
            Source::Hub { repository, folder, revision } if sources.count() == 1 => {
                Ok(Self::Hub(Repository::finding_splits(repository, folder.as_deref(), revision)))
            }
            _ => LocalFiles::given(sources, request, progress).map(Self::Files),
        }
    }

    /// Rejects options that do not apply to this origin.
    fn check(&self, request: &PrepareRequest) -> Result<(), DataError> {
        let is_given = request.source.is_some();
        let is_local = matches!(self, Self::Files(_));
        let unused = [
            ("val_source", !request.val_source.is_empty(), is_local && is_given),
            ("format", request.format.is_some(), is_local),
            ("separator", request.separator != Separator::default(), is_local),
        ];
        match unused.into_iter().find(|(_, is_set, has_use)| *is_set && !has_use) {
            Some((key, ..)) => Err(DataError::usage(
                format!("`{key}` is set, but the text does not come from files"),
                format!("leave `{key}` out, or set `source` to files"),
            )),
            None => Ok(()),
        }
    }

    /// Whether the source certainly has a validation split.
    pub(super) fn has_validation(&self) -> bool {
        match self {
            Self::Files(it) => !it.validation.is_empty(),
            Self::Hub(it) => !it.finds_splits && !it.validation.is_empty(),
            Self::BuiltIn(_) => true,
        }
    }

    /// The files that are read, as far as that is known without the network.
    pub(super) fn files(&self) -> SourceFiles {
        match self {
            Self::Files(it) => it.source_files(),
            Self::Hub(_) | Self::BuiltIn(_) => SourceFiles::default(),
        }
    }

    /// What `meta.json` records to recognize the text: of files their
    /// names, sizes and hashes, of a repository its revision.
    pub(super) fn describe(&self, progress: &dyn PrepareProgress) -> Result<String, DataError> {
        match self {
            Self::Files(it) => {
                let sizes = it.all().map(|file| fs::metadata(&file.path).ok().map(|it| it.len()));
                progress.begin(Stage::Identify, sizes.sum());
                let description = it.describe(|files| identify(files, progress))?;
                progress.finish();
                Ok(description)
            }
            Self::Hub(it) => Ok(it.describe()),
            Self::BuiltIn(it) => Ok(format!(
                "built in: {} + {} documents, seed {}",
                it.train_documents, it.validation_documents, it.seed
            )),
        }
    }

    /// Fetches the text; only that of the hub has to be downloaded.
    pub(super) fn fetch(
        &self,
        read_as: &ReadAs,
        hub: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Fetched, DataError> {
        let (texts, files, commit) = match self {
            Self::Files(it) => (it.texts(read_as), it.source_files(), None),
            Self::BuiltIn(it) => (built_in_texts(it), SourceFiles::default(), None),
            Self::Hub(it) => {
                let fetched = it.ask(|request| hub::fetch(request, hub, progress))?;
                let files = HubTexts::of(&fetched.train, &fetched.validation);
                (files.texts(read_as), files.source_files(), Some(fetched.commit))
            }
        };
        Ok(Fetched { texts, files, commit })
    }

    /// Finds the text without downloading anything.
    pub(super) fn locate(
        &self,
        read_as: &ReadAs,
        hub: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Located, DataError> {
        match self {
            Self::Files(it) => {
                let mut files = local_files(&it.train, false)?;
                files.extend(local_files(&it.validation, true)?);
                let left_out = it.source_files().left_out;
                Ok(Located { files, left_out, texts: Some(it.texts(read_as)) })
            }
            Self::BuiltIn(it) => {
                let texts = Some(built_in_texts(it));
                Ok(Located { files: Vec::new(), left_out: Vec::new(), texts })
            }
            Self::Hub(it) => {
                let (found, missing) = it.ask(|request| hub::locate(request, hub, progress))?;
                let all = HubTexts::of(&found.train, &found.validation);
                let mut files = Vec::new();
                for (list, validates) in [(&all.train, false), (&all.validation, true)] {
                    let is_missing =
                        |file: &&TextFile| missing.iter().find(|it| it.place == file.path);
                    let here = list.iter().filter(|file| is_missing(file).is_none());
                    files.extend(local_files(here, validates)?);
                    let remote = list.iter().filter_map(|file| is_missing(&file));
                    files.extend(remote.map(|file| SourceFile {
                        name: file.name.clone(),
                        n_bytes: file.size,
                        is_remote: true,
                        validates,
                    }));
                }
                let texts = missing.is_empty().then(|| all.texts(read_as));
                Ok(Located { files, left_out: Vec::new(), texts })
            }
        }
    }
}

/// The parquet files of a repository.
struct HubTexts {
    train: Vec<TextFile>,
    validation: Vec<TextFile>,
}

impl HubTexts {
    fn of(train: &[PathBuf], validation: &[PathBuf]) -> Self {
        let file = |path: &PathBuf| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            TextFile { path: path.clone(), format: Format::Parquet, name }
        };
        Self {
            train: train.iter().map(file).collect(),
            validation: validation.iter().map(file).collect(),
        }
    }

    fn texts(&self, read_as: &ReadAs) -> Texts {
        texts_of(&self.train, &self.validation, read_as)
    }

    fn source_files(&self) -> SourceFiles {
        let names = |files: &[TextFile]| files.iter().map(|file| file.name.clone()).collect();
        let (train, validation) = (names(&self.train), names(&self.validation));
        SourceFiles { train, validation, ..SourceFiles::default() }
    }
}

/// A dataset repository on the hub: that of a recipe, or one named on the command line, whose
/// splits have yet to be found.
pub(super) struct Repository {
    repository: String,
    revision: String,
    folder: Option<String>,
    train: String,
    /// The splits to validate on, or the candidate names for one.
    validation: Vec<String>,
    finds_splits: bool,
}

impl Repository {
    /// A repository whose splits are found by their names.
    fn finding_splits(repository: &str, folder: Option<&str>, revision: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            folder: folder.map(str::to_owned),
            train: "train".to_owned(),
            validation: hub::VALIDATION_NAMES.map(str::to_owned).to_vec(),
            finds_splits: true,
        }
    }

    /// The repository of a recipe, with the splits that it names.
    fn of_recipe(hub: &HubSource) -> Self {
        if hub.folder.is_some() {
            return Self::finding_splits(&hub.repository, hub.folder.as_deref(), &hub.revision);
        }
        Self {
            repository: hub.repository.clone(),
            revision: hub.revision.clone(),
            folder: None,
            train: hub.train.clone(),
            validation: hub.validation.clone(),
            finds_splits: false,
        }
    }

    /// Sends the request for this repository.
    pub(super) fn ask<T>(
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

/// A text that is on this machine.
pub(super) struct Fetched {
    pub(super) texts: Texts,
    pub(super) files: SourceFiles,
    /// The commit of the hub's repository that it came from.
    pub(super) commit: Option<String>,
}

/// A text that may have to be downloaded.
pub(super) struct Located {
    pub(super) files: Vec<SourceFile>,
    pub(super) left_out: Vec<LeftOut>,
    /// The texts, if all files are on this machine.
    pub(super) texts: Option<Texts>,
}

fn built_in_texts(source: &BuiltInSource) -> Texts {
    let text = |is_validation, n| {
        let grammar = match source.generator {
            Generator::TinyTales => Grammar::Tales(Tales::new(source.seed)),
            Generator::TinyTalks => Grammar::Talks(Talks::new(source.seed)),
        };
        Text::Generated(GeneratedText { grammar, is_validation, n })
    };
    (text(false, source.train_documents), Some(text(true, source.validation_documents)))
}

/// Hashes the files.
fn identify(files: &[&TextFile], progress: &dyn PrepareProgress) -> Result<String, DataError> {
    source::identify(files, &|n_bytes| {
        progress.advance(n_bytes);
        if progress.is_stopped() { Err(DataError::Stopped) } else { Ok(()) }
    })
}
