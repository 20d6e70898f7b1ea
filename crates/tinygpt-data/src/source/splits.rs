//! Which split a file belongs to, by its name: one rule for folders and for the hub.
//!
//! Nothing here touches disk or network.

use super::format::{Format, stem_and_extension};

/// The splits that file names can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedSplit {
    Train,
    Validation,
    Test,
}

/// The split that `name` names, a path with `/` between its parts below the source.
///
/// A word of the file's name decides or, if none does, one of its folders' names, the nearest
/// folder first. Words are runs of letters: `TinyStories-train.txt`, `val/0.jsonl`.
pub(crate) fn named_split(name: &str) -> Option<NamedSplit> {
    let mut parts = name.rsplit('/');
    let file = parts.next().unwrap_or_default();
    split_of_words(without_extensions(file)).or_else(|| parts.find_map(split_of_words))
}

/// `wiki.train` of `wiki.train.txt.gz`; an extension such as `.train` is part of the name.
fn without_extensions(file: &str) -> &str {
    match stem_and_extension(file) {
        Some((stem, extension))
            if Format::of(file.as_ref()).is_some() && split_of_words(&extension).is_none() =>
        {
            stem
        }
        _ => file,
    }
}

/// The split named by the first of the words that names one.
fn split_of_words(text: &str) -> Option<NamedSplit> {
    text.split(|c: char| !c.is_alphabetic()).find_map(|word| match word.to_lowercase().as_str() {
        "train" | "training" => Some(NamedSplit::Train),
        "validation" | "valid" | "val" | "dev" => Some(NamedSplit::Validation),
        "test" | "testing" => Some(NamedSplit::Test),
        _ => None,
    })
}

/// What the files of a source are for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BySplit<T> {
    pub(crate) train: Vec<T>,
    pub(crate) validation: Vec<T>,
    /// Files of the test split, which nothing reads, if another one validates.
    pub(crate) test: Vec<T>,
    /// Files that name no split.
    pub(crate) unnamed: Vec<T>,
}

/// Sorts files by the splits in their names, or returns them unless there is one to
/// train on and one to validate on. Without a validation split the test split validates.
pub(crate) fn by_split<T>(
    files: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> Result<BySplit<T>, Vec<T>> {
    let files: Vec<T> = files.into_iter().collect();
    let splits: Vec<_> = files.iter().map(|file| named_split(name(file))).collect();
    let has = |split| splits.contains(&Some(split));
    let (has_validation, has_test) = (has(NamedSplit::Validation), has(NamedSplit::Test));
    if !has(NamedSplit::Train) || !(has_validation || has_test) {
        return Err(files);
    }
    let (train, validation, test, unnamed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut sorted = BySplit { train, validation, test, unnamed };
    for (file, split) in files.into_iter().zip(splits) {
        let list = match split {
            Some(NamedSplit::Train) => &mut sorted.train,
            Some(NamedSplit::Test) if has_validation => &mut sorted.test,
            Some(NamedSplit::Validation | NamedSplit::Test) => &mut sorted.validation,
            None => &mut sorted.unnamed,
        };
        list.push(file);
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use NamedSplit::{Test, Train, Validation};

    #[test]
    fn names_determine_splits() {
        for (name, split) in [
            ("train-00000-of-00004.jsonl", Some(Train)),
            ("train.txt", Some(Train)),
            ("TinyStoriesV2-GPT4-train.txt", Some(Train)),
            ("TinyStoriesV2-GPT4-valid.txt.gz", Some(Validation)),
            ("en_Training_1.csv", Some(Train)),
            ("wiki.train.tokens", Some(Train)),
            ("wiki.test.tokens", Some(Test)),
            ("childes.dev", Some(Validation)),
            ("train/part-0.parquet", Some(Train)),
            ("validation/a/b.txt", Some(Validation)),
            ("train_100M/childes.train", Some(Train)),
            ("train/test-0.txt", Some(Test)),
            ("data/VAL.jsonl", Some(Validation)),
            ("train-and-test.txt", Some(Train)),
            ("testing.txt", Some(Test)),
            ("training.parquet", Some(Train)),
            ("contest.txt", None),
            ("trainer.txt", None),
            ("book.txt", None),
            ("values.txt", None),
            ("trains.txt", None),
        ] {
            assert_eq!(named_split(name), split, "{name}");
        }
    }

    #[test]
    fn names_count_only_with_a_split_to_train_on_and_one_to_validate_on() {
        let sort = |names: &[&'static str]| by_split(names.to_vec(), |name| *name);
        for names in [&["train.txt", "book.txt"][..], &["test.txt", "val.txt"], &["a.txt"], &[]] {
            assert_eq!(sort(names), Err(names.to_vec()), "{names:?}");
        }
        let all = sort(&["a.txt", "dev.txt", "test.txt", "train.txt"]).ok();
        let all = all.map(|it| (it.train, it.validation, it.test, it.unnamed));
        let expected = (vec!["train.txt"], vec!["dev.txt"], vec!["test.txt"], vec!["a.txt"]);
        assert_eq!(all, Some(expected));
        let without = sort(&["test.txt", "train.txt"]).ok();
        let without = without.map(|it| (it.train, it.validation, it.test));
        assert_eq!(without, Some((vec!["train.txt"], vec!["test.txt"], vec![])));
    }
}
