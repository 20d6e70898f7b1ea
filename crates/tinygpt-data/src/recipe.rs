//! Datasets as recipes: `data/<name>/dataset.json` says where a text comes from, how it is split
//! and which encoding it has by default. A dataset is added by adding such a file.
//!
//! The recipes of this repository are compiled in, so that they work in any directory; a
//! file in the data directory overrides them. This file reads recipes, not texts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::encoding::Encoding;
use crate::error::{DataError, quoted_list};
use crate::json;
use crate::name;
use crate::prepared::ValSplit;
use crate::quote::escaped_excerpt;
use crate::regular::{FileError, read_regular_text};

/// The name of a recipe's file inside its dataset's directory.
const FILE_NAME: &str = "dataset.json";

/// The largest recipe, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The recipes of this repository, by name. They are copies of `data/<name>/dataset.json`, because a
/// package has only its own files; a test compares them.
const SHIPPED: [(&str, &str); 5] = [
    ("tiny_stories", include_str!("recipes/tiny_stories.json")),
    ("tiny_tales", include_str!("recipes/tiny_tales.json")),
    ("tiny_talks", include_str!("recipes/tiny_talks.json")),
    ("shakespeare_char", include_str!("recipes/shakespeare_char.json")),
    ("fineweb_edu", include_str!("recipes/fineweb_edu.json")),
];

/// Where a dataset's text comes from, how it is split and how it is encoded by default.
///
/// ```
/// use tinygpt_data::Recipe;
/// let recipe = Recipe::find("tiny_tales", "data".as_ref()).unwrap();
/// assert!(recipe.description.starts_with("TinyTales"));
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The dataset's name: that of the recipe's directory.
    #[serde(skip)]
    pub name: String,
    /// One line about the dataset.
    #[serde(default)]
    pub description: String,
    /// The licence of the text, if it is known.
    #[serde(default)]
    pub license: Option<String>,
    /// Where the text comes from.
    pub source: SourceSpec,
    /// The column that holds the text, for parquet and JSON lines.
    #[serde(default = "default_text_column")]
    pub text_column: String,
    /// Whether the documents are conversations.
    #[serde(default)]
    pub chat: bool,
    /// The fraction of the text to validate on, if the source has no validation split.
    #[serde(default = "default_val_fraction")]
    pub val_fraction: f64,
    /// Which part that is.
    #[serde(default)]
    pub val_split: ValSplit,
    /// Whether a request may name another copy of the text as its `source`.
    #[serde(default)]
    pub accepts_source: bool,
    /// The default encoding.
    #[serde(default = "default_encoding", rename = "encoding_type")]
    pub encoding: Encoding,
    /// The tokenizer to use, as a request names one, unless the request has a tokenizer or an
    /// encoding of its own.
    #[serde(default)]
    pub tokenizer: Option<String>,
}

/// The places that text can come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceSpec {
    /// The parquet files of a dataset repository on the Hugging Face hub.
    Hub(HubSource),
    /// Files next to the recipe.
    Files(FilesSource),
    /// A generator inside this crate.
    BuiltIn(BuiltInSource),
    /// The `source` of the request.
    Given,
}

/// A dataset repository on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// `owner/name`.
    pub repository: String,
    /// A commit, branch or tag; a commit makes the preparation repeatable.
    #[serde(default = "default_revision")]
    pub revision: String,
    /// The folder of the files, as in `hub:owner/name/folder`; the splits are then found by name, as
    /// those of such a source.
    #[serde(default)]
    pub folder: Option<String>,
    /// The split to train on.
    #[serde(default = "default_train_split")]
    pub train: String,
    /// The split to validate on, or several in order; without any, a part of the
    /// training text is used.
    #[serde(default, deserialize_with = "one_or_many")]
    pub validation: Vec<String>,
    /// Whether the rows of a split are one document, so that no `<|endoftext|>` separates them.
    #[serde(default)]
    pub one_document: bool,
}

/// Files of text in any format that `source` accepts, or folders of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSource {
    /// The files to train on; a relative path starts at the recipe's directory.
    pub train: Vec<PathBuf>,
    /// The files to validate on; without any, the end of the training text is used.
    #[serde(default)]
    pub validation: Vec<PathBuf>,
}

/// A generator of documents inside this crate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltInSource {
    /// Which generator.
    pub generator: Generator,
    /// How many documents to train on.
    pub train_documents: usize,
    /// How many documents to validate on.
    pub validation_documents: usize,
    /// The seed of the stories.
    #[serde(default)]
    pub seed: u64,
}

/// The built-in generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// The story grammar of [`crate::tales`].
    TinyTales,
    /// The conversations of [`crate::talks`].
    TinyTalks,
}

impl SourceSpec {
    /// Whether each split is one document, in however many records it comes.
    pub(crate) fn is_one_document(&self) -> bool {
        matches!(self, Self::Hub(hub) if hub.one_document)
    }
}

/// `"name"`, `["name", "name"]` or `null`.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected the name of a split or a list of names")]
    enum Names {
        None,
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::None => Vec::new(),
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}

fn default_text_column() -> String {
    "text".to_owned()
}

fn default_val_fraction() -> f64 {
    0.1
}

fn default_encoding() -> Encoding {
    Encoding::Simple
}

fn default_revision() -> String {
    "main".to_owned()
}

fn default_train_split() -> String {
    "train".to_owned()
}

impl Recipe {
    /// The recipe `name`: the file in `data_dir` if there is one, else the one compiled in.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an invalid or unknown name (with the list of those
    /// available), [`DataError::Json`] for a mistake in the file, [`DataError::Io`].
    pub fn find(name: &str, data_dir: &Path) -> Result<Self, DataError> {
        name::check(name)?;
        let path = data_dir.join(name).join(FILE_NAME);
        let text = match read_regular_text(&path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => {
                let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
                let (_, text) = shipped.ok_or_else(|| unknown_dataset(name, data_dir))?;
                (*text).to_owned()
            }
            Err(error) => {
                return Err(FileError::at(&path, "a recipe is a small file of JSON")(error));
            }
        };
        let mut recipe: Self = json::parse(&path, &text)?;
        name.clone_into(&mut recipe.name);
        recipe.check(&path)?;
        if let SourceSpec::Files(files) = &mut recipe.source {
            let dir = data_dir.join(name);
            for file in files.train.iter_mut().chain(&mut files.validation) {
                *file = dir.join(&*file);
            }
        }
        Ok(recipe)
    }

    /// The recipe for a request with a `source` whose dataset has no recipe.
    ///
    /// # Errors
    /// [`DataError::Usage`] if `name` cannot name a directory.
    pub fn for_given_source(name: &str) -> Result<Self, DataError> {
        name::check(name)?;
        Ok(Self {
            name: name.to_owned(),
            description: String::new(),
            license: None,
            source: SourceSpec::Given,
            text_column: default_text_column(),
            chat: false,
            val_fraction: default_val_fraction(),
            val_split: ValSplit::End,
            accepts_source: true,
            encoding: default_encoding(),
            tokenizer: None,
        })
    }

    /// The names of all recipes: those compiled in and those in `data_dir`.
    pub fn names(data_dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
        // A data directory that does not exist yet holds no recipes.
        for entry in fs::read_dir(data_dir).into_iter().flatten().flatten() {
            if entry.path().join(FILE_NAME).is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Whether a request may name the text as its `source`.
    pub fn takes_source(&self) -> bool {
        self.accepts_source || self.source == SourceSpec::Given
    }

    /// Checks the values that the types leave open.
    fn check(&self, path: &Path) -> Result<(), DataError> {
        let refuse = |what: String| Err(DataError::Json { path: path.to_path_buf(), what });
        check_val_fraction(self.val_fraction)?;
        match &self.source {
            SourceSpec::Files(files) if files.train.is_empty() => {
                refuse("source.files.train is empty; name at least one file".to_owned())
            }
            SourceSpec::BuiltIn(it) if it.train_documents == 0 || it.validation_documents == 0 => {
                refuse("train_documents and validation_documents must be at least 1".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Checks that `0 < val_fraction < 1`.
pub(crate) fn check_val_fraction(val_fraction: f64) -> Result<(), DataError> {
    if val_fraction > 0.0 && val_fraction < 1.0 {
        return Ok(());
    }
    Err(DataError::usage(
        format!("val_fraction is {val_fraction}"),
        "give a number above 0 and below 1, for example 0.1",
    ))
}

fn unknown_dataset(name: &str, data_dir: &Path) -> DataError {
    let names = Recipe::names(data_dir);
    let suggestion = json::nearest(name, names.iter().map(String::as_str))
        .map(|nearest| format!(" (did you mean `{nearest}`?)"))
        .unwrap_or_default();
    DataError::usage(
        format!("unknown dataset `{}`{suggestion}", escaped_excerpt(name)),
        format!(
            "available datasets: {}; add one by writing {}, or name a text with `source`",
            quoted_list(&names),
            data_dir.join(name).join(FILE_NAME).display()
        ),
    )
}
