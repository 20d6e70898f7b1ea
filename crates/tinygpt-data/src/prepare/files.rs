//! The files on this machine that a request or a recipe names: which are for training, which for
//! validation, which are skipped and why.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::progress::PrepareProgress;
use crate::quote::quoted_list;
use crate::recipe::FilesSource;
use crate::source::{
    BySplit, Format, Found, LeftOut, ReadAs, Source, Sources, Spooled, Text, TextFile, by_split,
    expand,
};

use super::PrepareRequest;

/// The texts to train on and, if there is one, to validate on.
pub(super) type Texts = (Text, Option<Text>);

/// A file that would be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, or its name in the hub's repository.
    pub name: String,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// Whether it has yet to be downloaded.
    pub is_remote: bool,
    /// Whether it is used for validation and not for training.
    pub validates: bool,
}

/// The files of a source by their use, for display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFiles {
    /// The files to train on.
    pub train: Vec<String>,
    /// The files to validate on; none if a part of the training text is used.
    pub validation: Vec<String>,
    /// The files that are not read.
    pub left_out: Vec<LeftOut>,
    /// Whether all of them are plain text.
    pub is_plain_text: bool,
}

/// The files on this machine that are a dataset's text.
#[derive(Default)]
pub(super) struct LocalFiles {
    pub(super) train: Vec<TextFile>,
    pub(super) validation: Vec<TextFile>,
    left_out: Vec<LeftOut>,
    /// Whether the description of the source names the validation files; recipes never did.
    describes_splits: bool,
    /// The copy of standard input, if it is one of the files.
    spooled: Option<Spooled>,
}

impl LocalFiles {
    /// Finds the files of sources that are not on the hub.
    pub(super) fn given(
        sources: &Sources,
        request: &PrepareRequest,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        let mut files = Self { describes_splits: true, ..Self::default() };
        let mut found = Found::default();
        for source in sources.iter() {
            let mut more = match source {
                Source::Path(path) => expand(std::slice::from_ref(path), request.format)?,
                Source::Stdin => files.standard_input(request.format, progress)?,
                Source::Hub { .. } => return Err(hub_and_others(source)),
            };
            found.has_folder |= more.has_folder;
            found.files.append(&mut more.files);
            found.left_out.append(&mut more.left_out);
        }
        files.left_out = found.left_out;
        if request.val_source.is_empty() {
            let is_folder = found.has_folder && sources.count() == 1;
            files.split_by_name(found.files, is_folder, progress);
        } else {
            files.train = found.files;
            files.validate_on(&request.val_source, request.format)?;
        }
        files.check(request)?;
        Ok(files)
    }

    /// Finds the files of a recipe.
    pub(super) fn of_recipe(
        source: &FilesSource,
        request: &PrepareRequest,
    ) -> Result<Self, DataError> {
        let train = expand(&source.train, request.format)?;
        let validation = expand(&source.validation, request.format)?;
        let files = Self {
            train: train.files,
            validation: validation.files,
            left_out: [train.left_out, validation.left_out].concat(),
            ..Self::default()
        };
        files.check(request)?;
        Ok(files)
    }

    fn standard_input(
        &mut self,
        format: Option<Format>,
        progress: &dyn PrepareProgress,
    ) -> Result<Found, DataError> {
        if self.spooled.is_some() {
            return Err(DataError::usage(
                "standard input is specified twice",
                "set `source` to `-` once: standard input can be read only once",
            ));
        }
        let spooled = Spooled::read(progress)?;
        let format = format.unwrap_or(Format::Text);
        let name = "standard input".to_owned();
        let file = TextFile { path: spooled.path(), format, name };
        self.spooled = Some(spooled);
        Ok(Found { files: vec![file], ..Found::default() })
    }

    /// Assigns a folder's files to splits by their names.
    fn split_by_name(
        &mut self,
        files: Vec<TextFile>,
        is_folder: bool,
        progress: &dyn PrepareProgress,
    ) {
        if is_folder {
            match by_split(files, |file| &file.name) {
                Ok(split) => self.take_splits(split),
                Err(files) => self.train = files,
            }
            return;
        }
        if let Ok(split) = by_split(&files, |file| &file.name) {
            let names: Vec<&str> = split.validation.iter().map(|it| it.name.as_str()).collect();
            progress.notice(&format!(
                "the file names name splits, but several sources are read as one text; to \
                 validate on {}, set `val_source`",
                quoted_list(&names)
            ));
        }
        self.train = files;
    }

    fn take_splits(&mut self, split: BySplit<TextFile>) {
        let leave_out = |why| move |file: TextFile| LeftOut { name: file.name, why };
        self.train = split.train;
        self.validation = split.validation;
        self.left_out.extend(split.test.into_iter().map(leave_out("the test split")));
        let unnamed = "names no split, but others do";
        self.left_out.extend(split.unnamed.into_iter().map(leave_out(unnamed)));
    }

    /// Validates on other files; none of them is trained on.
    fn validate_on(&mut self, paths: &[PathBuf], format: Option<Format>) -> Result<(), DataError> {
        let found = expand(paths, format)?;
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let validating: HashSet<PathBuf> = found.files.iter().map(|it| real(&it.path)).collect();
        let (both, train): (Vec<_>, Vec<_>) = std::mem::take(&mut self.train)
            .into_iter()
            .partition(|file| validating.contains(&real(&file.path)));
        if train.is_empty() {
            return Err(DataError::usage(
                "every file of `source` is also in `val_source`",
                "give text to train on and other text to validate on",
            ));
        }
        self.train = train;
        self.validation = found.files;
        self.left_out.extend(found.left_out);
        let why = "validates, so it is not trained on";
        self.left_out.extend(both.into_iter().map(|file| LeftOut { name: file.name, why }));
        Ok(())
    }

    /// Rejects options that apply to none of the files.
    fn check(&self, request: &PrepareRequest) -> Result<(), DataError> {
        let has = |is_text: bool| self.all().any(|file| (file.format == Format::Text) == is_text);
        if request.separator != Default::default() && !has(true) {
            return Err(DataError::usage(
                "`separator` is for plain text, but none of the files is plain text",
                "leave `separator` out: in other formats every record is a document",
            ));
        }
        if request.text_template.is_some() && !has(false) {
            return Err(DataError::usage(
                "`text_template` is for records, but all files are plain text",
                "leave `text_template` out, or set `format`",
            ));
        }
        Ok(())
    }

    /// All files that are read, those to train on first.
    pub(super) fn all(&self) -> impl Iterator<Item = &TextFile> {
        self.train.iter().chain(&self.validation)
    }

    /// Joins the descriptions of the files of each split.
    pub(super) fn describe(
        &self,
        identify: impl Fn(&[&TextFile]) -> Result<String, DataError>,
    ) -> Result<String, DataError> {
        if self.describes_splits && !self.validation.is_empty() {
            let train = identify(&self.train.iter().collect::<Vec<_>>())?;
            let validation = identify(&self.validation.iter().collect::<Vec<_>>())?;
            return Ok(format!("{train}; to validate on: {validation}"));
        }
        identify(&self.all().collect::<Vec<_>>())
    }

    pub(super) fn texts(&self, read_as: &ReadAs) -> Texts {
        texts_of(&self.train, &self.validation, read_as)
    }

    pub(super) fn source_files(&self) -> SourceFiles {
        let names = |files: &[TextFile]| files.iter().map(|file| file.name.clone()).collect();
        SourceFiles {
            train: names(&self.train),
            validation: names(&self.validation),
            left_out: self.left_out.clone(),
            is_plain_text: self.all().all(|file| file.format == Format::Text),
        }
    }
}

/// The texts of some files.
pub(super) fn texts_of(train: &[TextFile], validation: &[TextFile], read_as: &ReadAs) -> Texts {
    let text = |files: &[TextFile]| Text::Files { files: files.into(), read_as: read_as.clone() };
    (text(train), (!validation.is_empty()).then(|| text(validation)))
}

/// Describes files on this machine.
pub(super) fn local_files<'a>(
    files: impl IntoIterator<Item = &'a TextFile>,
    validates: bool,
) -> Result<Vec<SourceFile>, DataError> {
    let describe = |file: &TextFile| {
        let n_bytes = fs::metadata(&file.path).map_err(DataError::io("read", &file.path))?.len();
        Ok(SourceFile { name: file.name.clone(), n_bytes, is_remote: false, validates })
    };
    files.into_iter().map(describe).collect()
}

fn hub_and_others(source: &Source) -> DataError {
    DataError::usage(
        format!("{source} is specified together with other sources"),
        "a dataset of the hub must be the only source",
    )
}
