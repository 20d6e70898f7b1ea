//! Which of a repository's parquet files belong to which split, by their names.
//!
//! Names come from the listing, or from the cache when there is no network; a file is never
//! chosen by a hard-coded name.

use super::HubRequest;
use super::error::HubError;
use super::names::{folder, in_split, unsafe_reason};
use crate::quote::escaped_excerpt;
use crate::source::by_split;

/// The candidate names of the validation split, the best first.
pub(crate) const VALIDATION_NAMES: [&str; 5] = ["validation", "val", "valid", "dev", "test"];

/// The names of the files that make up the splits, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) train: Vec<String>,
    /// Those of each split to validate on.
    pub(super) validation: Vec<Vec<String>>,
}

impl Selected {
    /// All files of both splits.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.train.iter().chain(self.validation.iter().flatten()).map(String::as_str)
    }

    /// Chooses from all files of a repository.
    pub(super) fn from_listing(
        request: &HubRequest<'_>,
        listed: &[&str],
    ) -> Result<Self, HubError> {
        let mut parquet: Vec<&str> =
            listed.iter().copied().filter(|name| name.ends_with(".parquet")).collect();
        for name in &parquet {
            if let Some(reason) = unsafe_reason(name) {
                return Err(HubError::FileName {
                    repository: request.repository.to_owned(),
                    name: (*name).to_owned(),
                    reason,
                });
            }
        }
        if let Some(folder) = request.folder {
            parquet = in_folder(request, folder, &parquet)?;
        }
        if let Some(found) = Self::by_words(request, &parquet)? {
            return Ok(found);
        }
        let mut splits = request.validation.iter();
        let validation: Result<Vec<_>, HubError> = if request.finds_splits {
            let found = splits.find(|split| has_split(&parquet, split));
            found.map(|split| select(request, split, &parquet)).into_iter().collect()
        } else {
            splits.map(|split| select(request, split, &parquet)).collect()
        };
        let validation = validation?;
        // As on the hub itself: where no file is named after a split, all are to train on.
        let names_none = |name: &&str| {
            !in_split(name, request.train)
                && !VALIDATION_NAMES.iter().any(|split| in_split(name, split))
        };
        let train = if request.finds_splits && !parquet.is_empty() && parquet.iter().all(names_none)
        {
            checked(request, request.train, parquet.iter().copied(), &parquet)?
        } else {
            select(request, request.train, &parquet)?
        };
        Ok(Self { train, validation })
    }

    /// The splits by words in the names, as in a folder on this machine, if no file is
    /// named after the training split as the hub names them.
    fn by_words(request: &HubRequest<'_>, parquet: &[&str]) -> Result<Option<Self>, HubError> {
        if !request.finds_splits || has_split(parquet, request.train) {
            return Ok(None);
        }
        let Ok(split) = by_split(parquet.to_vec(), |name| *name) else { return Ok(None) };
        let files =
            |split: &str, names: Vec<&str>| checked(request, split, names.into_iter(), parquet);
        let train = files("train", split.train)?;
        let validation = vec![files("validation", split.validation)?];
        Ok(Some(Self { train, validation }))
    }
}

/// The files below a folder of the repository.
fn in_folder<'a>(
    request: &HubRequest<'_>,
    folder: &str,
    parquet: &[&'a str],
) -> Result<Vec<&'a str>, HubError> {
    let is_below =
        |name: &&&str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let below: Vec<&str> = parquet.iter().filter(is_below).copied().collect();
    if !below.is_empty() {
        return Ok(below);
    }
    let mut folders: Vec<&str> = parquet.iter().map(|name| self::folder(name)).collect();
    folders.sort_unstable();
    folders.dedup();
    let reason = format!(
        "there is no parquet file in its folder `{}`; there are {}",
        escaped_excerpt(folder),
        if folders.is_empty() { "none at all".to_owned() } else { first_few(&folders) }
    );
    Err(no_split(request, request.train, reason))
}

fn has_split(parquet: &[&str], split: &str) -> bool {
    parquet.iter().any(|name| in_split(name, split))
}

/// The files of one split, sorted and without repetition.
fn select(
    request: &HubRequest<'_>,
    split: &str,
    parquet: &[&str],
) -> Result<Vec<String>, HubError> {
    let names = parquet.iter().copied().filter(|name| in_split(name, split));
    checked(request, split, names, parquet)
}

/// Rejects a split without files, and one that several subsets have.
fn checked<'a>(
    request: &HubRequest<'_>,
    split: &str,
    names: impl Iterator<Item = &'a str>,
    parquet: &[&str],
) -> Result<Vec<String>, HubError> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    let mut folders: Vec<&str> = names.iter().map(|name| folder(name)).collect();
    folders.dedup();
    let reason = match (names.is_empty(), parquet, folders.as_slice()) {
        (true, [], _) => "it has no parquet files: set `source` to the hub's own conversion, \
             `hub:OWNER/NAME@refs/convert/parquet`, to another dataset, or to a local text"
            .to_owned(),
        (true, some, _) => format!(
            "its {} parquet files are named like {}: name the split in a recipe's `train` and \
             `validation`",
            some.len(),
            first_few(some)
        ),
        (false, _, [first, _, ..]) => format!(
            "several subsets have it, in the folders {}: set `source` to \
             `hub:{}/FOLDER`, or name one in a recipe as `{}/{split}`",
            first_few(&folders),
            request.repository,
            escaped_excerpt(first)
        ),
        _ => return Ok(names),
    };
    Err(no_split(request, split, reason))
}

fn no_split(request: &HubRequest<'_>, split: &str, reason: String) -> HubError {
    let (repository, split) = (request.repository.to_owned(), split.to_owned());
    HubError::NoSplit { repository, split, reason }
}

/// The first names of a list, for a message.
fn first_few(names: &[&str]) -> String {
    let more = if names.len() > 5 { ", …" } else { "" };
    format!(
        "{}{more}",
        names.iter().take(5).map(|name| escaped_excerpt(name)).collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: Option<&str>, listed: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let request = HubRequest {
            repository: "o/n",
            revision: "main",
            folder,
            train: "train",
            validation: &VALIDATION_NAMES,
            finds_splits: true,
        };
        let selected = Selected::from_listing(&request, listed);
        selected.map(|it| (it.train, it.validation.concat())).map_err(|error| error.to_string())
    }

    #[test]
    fn splits_are_found_by_the_names_that_people_use() {
        for (listed, train, validation) in [
            (vec!["data/train-0.parquet", "data/val-0.parquet"], 1, vec!["data/val-0.parquet"]),
            (vec!["train.parquet", "test.parquet", "dev.parquet"], 1, vec!["dev.parquet"]),
            (vec!["d/train/0.parquet", "d/test/0.parquet"], 1, vec!["d/test/0.parquet"]),
            (vec!["train-0.parquet", "train-1.parquet", "x.txt"], 2, vec![]),
            (vec!["data/part-0.parquet", "data/part-1.parquet"], 2, vec![]),
            (
                vec!["en-train.parquet", "en-val.parquet", "en-test.parquet"],
                1,
                vec!["en-val.parquet"],
            ),
            (vec!["training.parquet", "test.parquet"], 1, vec!["test.parquet"]),
            (vec!["train-0.parquet", "more-train.parquet"], 1, vec![]),
        ] {
            let found = found(None, &listed).map(|(train, val)| (train.len(), val));
            let validation = validation.into_iter().map(str::to_owned).collect();
            assert_eq!(found, Ok((train, validation)), "{listed:?}");
        }
    }

    #[test]
    fn subsets_are_chosen_by_folder() {
        let listed = ["a/train-0.parquet", "a/test-0.parquet", "b/train-0.parquet"];
        let message = found(None, &listed).map_err(|error| error.contains("hub:o/n/FOLDER"));
        assert_eq!(message, Err(true));
        let of_a = (vec!["a/train-0.parquet".to_owned()], vec!["a/test-0.parquet".to_owned()]);
        assert_eq!(found(Some("a"), &listed), Ok(of_a));
        assert!(found(Some("c"), &listed).is_err_and(|error| error.contains("there are a, b")));
        assert!(found(None, &["x.json"]).is_err_and(|error| error.contains("refs/convert")));
        let mixed = found(None, &["test-0.parquet", "x.parquet"]);
        assert!(mixed.is_err_and(|error| error.contains("named like test-0.parquet")));
    }
}
