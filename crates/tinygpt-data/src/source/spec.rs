//! A source or a tokenizer as a user specifies it: a path, standard input or a repository on the hub.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::name;
use crate::quote::Shown;

/// The last name of a path without its extension; where the path names nothing, as `.` and `..`
/// do, that of the folder itself.
fn stem(path: &Path) -> String {
    let named = || std::fs::canonicalize(path).ok();
    let stem = path.file_stem().map(ToOwned::to_owned);
    let stem = stem.or_else(|| named()?.file_name().map(ToOwned::to_owned));
    stem.unwrap_or_default().to_string_lossy().into_owned()
}

/// The prefix of a name on the hub.
const HUB_PREFIX: &str = "hub:";

/// A text in place of a recipe's, or a tokenizer in place of a new one.
///
/// ```
/// use tinygpt_data::Source;
/// let source: Source = "hub:roneneldan/TinyStories@main".parse().unwrap();
/// assert_eq!(source.dataset_name(), "TinyStories");
/// assert_eq!(Source::from("a/My story (1).txt").dataset_name(), "My_story_1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a folder of files.
    Path(PathBuf),
    /// Standard input, typed as `-`.
    Stdin,
    /// `hub:owner/name`, `hub:owner/name/folder`, with `@revision` behind it or not.
    Hub {
        /// `owner/name`.
        repository: String,
        /// The folder of the repository whose files are meant, such as `wikitext-2-raw-v1`.
        folder: Option<String>,
        /// A branch, a tag or a commit.
        revision: String,
    },
}

impl Source {
    /// A name for the dataset, from that of the file, the folder or the repository.
    pub fn dataset_name(&self) -> String {
        match self {
            Self::Path(path) => name::derived(&stem(path)),
            Self::Hub { repository, .. } => {
                name::derived(repository.rsplit('/').next().unwrap_or(repository))
            }
            Self::Stdin => "stdin".to_owned(),
        }
    }
}

impl FromStr for Source {
    type Err = Infallible;

    /// `-` is standard input; everything that does not start with `hub:` is a path.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let Some(named) = text.strip_prefix(HUB_PREFIX) else {
            return Ok(Self::Path(PathBuf::from(text)));
        };
        let (path, revision) = named.split_once('@').unwrap_or((named, "main"));
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        let end = slashes.nth(1).unwrap_or(path.len());
        let folder = path[end..].trim_matches('/');
        Ok(Self::Hub {
            repository: path[..end].to_owned(),
            folder: (!folder.is_empty()).then(|| folder.to_owned()),
            revision: revision.to_owned(),
        })
    }
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        let Ok(source) = text.parse();
        source
    }
}

/// A name that is not UTF-8 is a path.
impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        path.to_str().map_or_else(|| Self::Path(path.clone()), Self::from)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => Shown(path).fmt(f),
            Self::Stdin => f.write_str("standard input"),
            Self::Hub { repository, folder, revision } => {
                write!(f, "{HUB_PREFIX}{repository}")?;
                if let Some(folder) = folder {
                    write!(f, "/{folder}")?;
                }
                write!(f, "@{revision}")
            }
        }
    }
}

/// One source or several, which are read in order as one text.
///
/// A repository on the hub is a source by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    first: Source,
    others: Vec<Source>,
}

impl Sources {
    /// The sources in this order; `None` for an empty list.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Option<Self> {
        let mut sources = sources.into_iter();
        Some(Self { first: sources.next()?, others: sources.collect() })
    }

    /// The first source, after which a dataset is named.
    pub fn first(&self) -> &Source {
        &self.first
    }

    /// All sources in order.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many sources there are, at least one.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }
}

impl<S: Into<Source>> From<S> for Sources {
    fn from(source: S) -> Self {
        Self { first: source.into(), others: Vec::new() }
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others.len() {
            0 => self.first.fmt(f),
            n => write!(f, "{} and {n} more", self.first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_shown_as_typed() {
        let hub = |repository: &str, folder: Option<&str>, revision: &str| Source::Hub {
            repository: repository.to_owned(),
            folder: folder.map(str::to_owned),
            revision: revision.to_owned(),
        };
        let cases = [
            ("hub:o/n", hub("o/n", None, "main"), "hub:o/n@main"),
            ("hub:n", hub("n", None, "main"), "hub:n@main"),
            ("hub:o/n@v1", hub("o/n", None, "v1"), "hub:o/n@v1"),
            ("hub:o/n/a/b@refs/x", hub("o/n", Some("a/b"), "refs/x"), "hub:o/n/a/b@refs/x"),
            ("dir/a@b.txt", Source::Path("dir/a@b.txt".into()), "dir/a@b.txt"),
            ("-", Source::Stdin, "standard input"),
            ("./-", Source::Path("./-".into()), "./-"),
        ];
        for (typed, source, shown) in cases {
            assert_eq!(Source::from(typed), source);
            assert_eq!(source.to_string(), shown);
        }
    }

    #[test]
    fn a_folder_without_a_name_has_its_real_one() {
        let here = std::env::current_dir().unwrap_or_default();
        let name = here.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert_eq!(name, "tinygpt-data");
        for typed in [".", "./", "./.", "src/.."] {
            assert_eq!(Source::from(typed).dataset_name(), name, "{typed}");
        }
        assert_eq!(Source::from("..").dataset_name(), "crates");
        assert_eq!(Source::from("/").dataset_name(), "text");
        assert_eq!(Source::from("*.txt").dataset_name(), "text");
    }
}
