//! Checks of external names: repository ids, revisions, listed files and their splits.
//!
//! A listed name ends up in an address and in a path below the cache folder, so it is checked
//! against plain components here, once, before either is built. Nothing in this file touches disk
//! or network.

use super::error::HubError;

/// Longest repository or owner name the hub allows.
const MAX_NAME: usize = 96;

/// Checks a repository id: `name` or `owner/name`, letters, digits and `-._` (the hub's rule).
pub(super) fn check_repository(id: &str) -> Result<(), HubError> {
    let parts: Vec<&str> = id.split('/').collect();
    let good = parts.len() <= 2
        && !id.contains("--")
        && !id.contains("..")
        && parts.iter().all(|part| {
            (1..=MAX_NAME).contains(&part.len())
                && part.bytes().all(is_plain)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
        });
    if good {
        return Ok(());
    }
    Err(HubError::Invalid {
        what: "repository",
        value: id.to_owned(),
        reason: "an id is `owner/name` of letters, digits, `-`, `_` and `.`, such as \
                 `roneneldan/TinyStories` or `openai-community/gpt2`"
            .to_owned(),
    })
}

/// Checks a revision: a branch, a tag or a commit, as it may stand in a path.
pub(super) fn check_revision(revision: &str) -> Result<(), HubError> {
    let good = revision.len() <= 255
        && revision.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_plain)
        });
    if good {
        return Ok(());
    }
    Err(HubError::Invalid {
        what: "revision",
        value: revision.to_owned(),
        reason: "a branch, a tag or a commit is expected, such as `main`".to_owned(),
    })
}

/// Whether `sha` can name a snapshot folder: the hub sends 40 hexadecimal digits.
pub(super) fn is_commit(sha: &str) -> bool {
    (1..=64).contains(&sha.len()) && sha.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether `etag` can name a blob file. For files in large-file storage it is the SHA-256.
pub(super) fn is_blob_name(etag: &str) -> bool {
    (1..=128).contains(&etag.len())
        && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Says why a listed file name must not be used as a path, if so.
pub(super) fn unsafe_reason(name: &str) -> Option<&'static str> {
    if name.len() > 1024 {
        return Some("the name is longer than 1,024 bytes");
    }
    if name.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c)) {
        return Some("it contains a character that is not allowed in file names");
    }
    for part in name.split('/') {
        match part {
            "" => return Some("it starts or ends with `/`, or has an empty part"),
            "." | ".." => return Some("it steps out of its folder with `.` or `..`"),
            // Windows drops trailing dots and spaces, so that two names would be one file.
            _ if part.ends_with(['.', ' ']) => return Some("a part of it ends in a dot or space"),
            _ => {}
        }
    }
    None
}

/// Whether a parquet file belongs to a split, by the hub's naming:
/// `data/train-00000-of-00004.parquet`, `train.parquet`, `default/train/0000.parquet`.
///
/// A split with a folder in it, such as `wikitext-2-v1/train`, starts at the repository's root.
pub(super) fn in_split(name: &str, split: &str) -> bool {
    let Some(stem) = name.strip_suffix(".parquet") else { return false };
    let starts = |text: &str, ends: &[char]| {
        text.strip_prefix(split).is_some_and(|rest| rest.is_empty() || rest.starts_with(ends))
    };
    if split.contains('/') {
        return starts(stem, &['-', '.', '_', ' ', '/']);
    }
    let (folders, file) = stem.rsplit_once('/').unwrap_or(("", stem));
    starts(file, &['-', '.', '_', ' ']) || folders.split('/').any(|folder| folder == split)
}

/// The folder that a listed file lies in; empty for the repository's root.
pub(super) fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The count that a shard's name promises: 4 for `train-00000-of-00004-2d5a.parquet`.
pub(super) fn promised_shards(name: &str) -> Option<usize> {
    let (_, after) = name.rsplit_once("-of-")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_ids_follow_the_hub() {
        for good in ["roneneldan/TinyStories", "squad", "a/b.c_d-e"] {
            assert!(check_repository(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "a/b/c", "../b", "a/..", "a--b/c", "a b/c", "a/b?x", "-a/b"] {
            assert!(check_repository(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn revisions_cannot_leave_their_folder() {
        for good in ["main", "refs/convert/parquet", "v1.0", "f54c09fd"] {
            assert!(check_revision(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/../b", "/main", "a//b", "a b", "a\\b", "main\n"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listed_names_are_plain_components() {
        for good in ["data/train-00000-of-00001.parquet", "a b.parquet", "Köln/é.parquet"] {
            assert_eq!(unsafe_reason(good), None, "{good}");
        }
        for bad in [
            "../x.parquet",
            "data/../../x.parquet",
            "/etc/x.parquet",
            "C:/x.parquet",
            "\\\\host\\x.parquet",
            "data//x.parquet",
            "./x.parquet",
            "data./x.parquet",
            "a\nb.parquet",
            "a\0.parquet",
        ] {
            assert!(unsafe_reason(bad).is_some(), "{bad:?}");
        }
        assert!(unsafe_reason(&"x".repeat(2000)).is_some());
    }

    #[test]
    fn splits_are_named_by_file_or_folder() {
        for name in
            ["data/train-00000-of-00004-2d5a.parquet", "train.parquet", "default/train/0.parquet"]
        {
            assert!(in_split(name, "train"), "{name}");
            assert!(!in_split(name, "validation"), "{name}");
        }
        assert!(!in_split("data/training.parquet", "train"));
        assert!(!in_split("data/train-00000.json", "train"));
        assert!(in_split("wiki-2/train-0.parquet", "wiki-2/train"));
        assert!(in_split("wiki-2/train/0.parquet", "wiki-2/train"));
        assert!(!in_split("wiki-103/train-0.parquet", "wiki-2/train"));
    }

    #[test]
    fn shard_counts_are_read_from_the_name() {
        assert_eq!(promised_shards("data/train-00000-of-00004-2d5a.parquet"), Some(4));
        assert_eq!(promised_shards("train.parquet"), None);
        assert_eq!(promised_shards("x-of-.parquet"), None);
    }
}
