//! The formats of text files and their file name extensions: the one
//! place that lists them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::quote::{Shown, escaped_excerpt};

/// The format of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text, whose documents are separated by a line or a text.
    Text,
    /// An object or a string on each line.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// An array of objects or strings, or a sequence of such values.
    Json,
    /// A table with a header, separated by commas.
    Csv,
    /// A table with a header, separated by tabs.
    Tsv,
    /// A parquet table.
    Parquet,
}

/// Which files of a folder are its text: those of the first rank that any file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Usual formats of datasets.
    Data,
    /// Tables and JSON, which often only describe the texts next to them.
    Table,
    /// Documents and source code: a corpus if nothing else is there.
    Prose,
    /// About the data and not part of it: README, LICENSE and similar.
    About,
}

/// The extensions: what they stand for, and how likely they are the text of a folder.
const EXTENSIONS: [(Format, Rank, &[&str]); 7] = [
    (
        Format::Text,
        Rank::Data,
        &["txt", "text", "train", "valid", "validation", "val", "dev", "test", "tokens"],
    ),
    (Format::JsonLines, Rank::Data, &["jsonl", "ndjson"]),
    (Format::Parquet, Rank::Data, &["parquet"]),
    (Format::Json, Rank::Table, &["json"]),
    (Format::Csv, Rank::Table, &["csv"]),
    (Format::Tsv, Rank::Table, &["tsv"]),
    (
        Format::Text,
        Rank::Prose,
        &[
            "md", "markdown", "rst", "tex", "org", "py", "rs", "c", "h", "cc", "cpp", "hpp", "js",
            "ts", "java", "go", "rb", "lua", "jl", "hs", "sh",
        ],
    ),
];

/// The extensions of compressed files; the first bytes show the compression.
const COMPRESSED: [&str; 4] = ["gz", "zst", "zstd", "xz"];

/// The names of files about the data: README, README.md, requirements-dev.txt.
const ABOUT: [&str; 10] = [
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "changelog",
    "contributing",
    "requirements",
    "cmakelists",
    "citation",
];

impl Format {
    /// Every format, in the order in which messages list them.
    pub const ALL: [Self; 6] =
        [Self::Text, Self::JsonLines, Self::Json, Self::Csv, Self::Tsv, Self::Parquet];

    /// The usual file name extensions, for the help of a program.
    pub const EXTENSIONS: &str =
        ".txt, .md, .jsonl, .json, .csv, .tsv, .parquet; also .gz, .zst, .xz";

    /// The name in settings and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::JsonLines => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
        }
    }

    /// The format of a file by its extension; `x.jsonl.gz` is the same as `x.jsonl`.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        known(path).map(|(format, _)| format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|format| format.as_str() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            DataError::usage(
                format!("format is `{}`, expected one of {names}", escaped_excerpt(name)),
                "choose one of them",
            )
        })
    }
}

/// The format of a file by its name, and its rank in a folder.
fn known(path: &Path) -> Option<(Format, Rank)> {
    let (_, extension) = stem_and_extension(path.file_name()?.to_str()?)?;
    EXTENSIONS
        .into_iter()
        .find(|(.., extensions)| extensions.contains(&extension.as_str()))
        .map(|(format, rank, _)| (format, rank))
}

/// The same for a file in a folder, where README.md is not part of the text.
pub(super) fn in_folder(path: &Path) -> Option<(Format, Rank)> {
    let (format, rank) = known(path)?;
    Some((format, if is_about(path) { Rank::About } else { rank }))
}

fn is_about(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = name.split('.').next().unwrap_or_default();
    // README-de.md and requirements-dev.txt, but no notice-board.txt.
    ABOUT.contains(&stem) || stem.starts_with("readme") || stem.starts_with("requirements")
}

/// `x` and `jsonl` of `x.jsonl.gz`, the extension in lower case; none without an extension.
pub(super) fn stem_and_extension(name: &str) -> Option<(&str, String)> {
    let (stem, extension) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    let extension = extension.to_ascii_lowercase();
    if COMPRESSED.contains(&extension.as_str()) {
        let (stem, inner) = stem.rsplit_once('.')?;
        return Some((stem, inner.to_ascii_lowercase()));
    }
    Some((stem, extension))
}

/// The most common extensions, for messages.
pub(super) const USUAL: &str =
    ".txt, .jsonl, .json, .csv, .tsv or .parquet (all but .parquet also as .gz, .zst or .xz)";

/// The error of a file with an unknown extension.
pub(super) fn unknown(path: &Path) -> DataError {
    DataError::usage(
        format!("{}: unknown file name extension", Shown(path)),
        format!("give {USUAL}, or set `format` (`text` for any plain text)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_formats() {
        for (name, expected) in [
            ("a.txt", Some((Format::Text, Rank::Data))),
            ("A.TXT", Some((Format::Text, Rank::Data))),
            ("a.b.jsonl.gz", Some((Format::JsonLines, Rank::Data))),
            ("a.NDJSON.ZST", Some((Format::JsonLines, Rank::Data))),
            ("childes.train", Some((Format::Text, Rank::Data))),
            ("a.json.xz", Some((Format::Json, Rank::Table))),
            ("a.tsv", Some((Format::Tsv, Rank::Table))),
            ("notes.md", Some((Format::Text, Rank::Prose))),
            ("README.md", Some((Format::Text, Rank::About))),
            ("LICENSE.txt", Some((Format::Text, Rank::About))),
            ("requirements-dev.txt", Some((Format::Text, Rank::About))),
            ("notice-board.txt", Some((Format::Text, Rank::Data))),
            ("a.gz", None),
            ("a.tar.gz", None),
            ("noext", None),
            (".txt", None),
            ("a.docx", None),
        ] {
            assert_eq!(in_folder(Path::new(name)), expected, "{name}");
        }
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().ok(), Some(format));
        }
    }
}
