//! Keeps the word list of `docs/style.md`: the phrases of its left column must not be in what people read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is checked: files, folders, and the help of binaries.
const AREAS: [&str; 10] = [
    "README.md",
    "CONTRIBUTING.md",
    "bench",
    "crates",
    "data",
    "docs",
    "fuzz",
    "prepare --help",
    "train --help",
    "sample --help",
];

/// Extensions of the files that are read in a folder.
const EXTENSIONS: [&str; 5] = ["md", "rs", "py", "html", "js"];

/// A longer text in which a phrase is right, in the files that start with `place`.
struct Exception {
    text: &'static str,
    place: &'static str,
    #[allow(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 20] = [
    Exception { text: "there is no", place: "", reason: "plain English for a missing thing" },
    Exception { text: "there are no", place: "", reason: "plain English for missing things" },
    Exception { text: "there is none", place: "", reason: "plain English for a missing thing" },
    Exception { text: "there are none", place: "", reason: "plain English for missing things" },
    Exception { text: "is no longer", place: "", reason: "a comparison" },
    Exception { text: "are no longer", place: "", reason: "a comparison" },
    Exception { text: "is no larger", place: "", reason: "a comparison" },
    Exception { text: "is no slower", place: "", reason: "a comparison" },
    Exception { text: "is no faster", place: "", reason: "a comparison" },
    Exception { text: ".is none", place: "crates/", reason: "a function of Rust's Option" },
    Exception { text: "::is none", place: "crates/", reason: "a function of Rust's Option" },
    Exception { text: " is none", place: "bench/", reason: "a value of Python" },
    Exception {
        text: " is none",
        place: "crates/tinygpt-model/tests/interop/",
        reason: "a value of Python",
    },
    Exception { text: "\" said ", place: "README.md", reason: "a generated story" },
    Exception { text: "\" she said", place: "README.md", reason: "a generated story" },
    Exception { text: "\" he said", place: "README.md", reason: "a generated story" },
    Exception {
        text: "owl said",
        place: "crates/tinygpt-data/README.md",
        reason: "a text to tokenize",
    },
    Exception {
        text: "said the owl",
        place: "crates/tinygpt-data/src/tokenizer/tests.rs",
        reason: "a text to tokenize",
    },
    Exception {
        text: "\" said ben",
        place: "crates/tinygpt-data/src/tales/tests.rs",
        reason: "a generated story",
    },
    Exception {
        text: "is no separator",
        place: "crates/tinygpt-data/tests/interop/golden.py",
        reason: "a text to tokenize",
    },
];

#[test]
fn the_word_list_is_kept() {
    let phrases = phrases();
    assert!(phrases.len() > 30, "the word list was not found: {phrases:?}");
    let mut faults = Vec::new();
    for area in AREAS {
        let texts = match area.strip_suffix(" --help") {
            Some(binary) => vec![(area.to_owned(), help(binary))],
            None => files(&root().join(area)),
        };
        assert!(!texts.is_empty(), "{area}: nothing to read");
        for (name, text) in texts {
            let words = Words::of(&text);
            for phrase in &phrases {
                for line in words.lines_with(phrase, &name) {
                    faults.push(format!("{name}:{line}: {phrase}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "see docs/style.md\n{}\n", faults.join("\n"));
}

#[test]
fn phrases_are_found_across_lines_and_outside_exceptions() {
    let words =
        Words::of("/// A run that goes\n/// on.\nfn go_on() {}\n// besides\n// There is no way.\n");
    assert_eq!(words.lines_with("goes on", ""), [1]);
    assert_eq!(words.lines_with("go on", ""), [3]);
    assert_eq!(words.lines_with("beside", ""), [0; 0]);
    assert_eq!(words.lines_with("is no", ""), [0; 0]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// The left column of the word list.
fn phrases() -> Vec<String> {
    let style = fs::read_to_string(root().join("docs/style.md")).unwrap();
    let rows = style.lines().skip_while(|line| !line.starts_with("| Instead of")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(','))
        .map(|phrase| phrase.trim().to_owned())
        .collect()
}

fn help(binary: &str) -> String {
    let path = match binary {
        "prepare" => env!("CARGO_BIN_EXE_prepare"),
        "train" => env!("CARGO_BIN_EXE_train"),
        _ => env!("CARGO_BIN_EXE_sample"),
    };
    let output = Command::new(path).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A file, or all files of a folder that people read, with their names from the root.
fn files(path: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut paths = vec![path.to_path_buf()];
    while let Some(path) = paths.pop() {
        let file_name = path.file_name().unwrap().to_string_lossy();
        let is_generated = ["target", "node_modules"].contains(&&*file_name);
        if path.is_dir() && !is_generated && !file_name.starts_with('.') {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            // They contain the phrases themselves.
            if name != "docs/style.md" && !name.ends_with("tests/language.rs") {
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A text as words with one space between them, in lower case, without comment signs.
struct Words {
    text: String,
    /// The line of each byte of `text`.
    lines: Vec<usize>,
}

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Self { text: String::new(), lines: Vec::new() };
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim().trim_start_matches(['/', '!', '#']).trim_end_matches('\\');
            for word in content.split(|c: char| c.is_whitespace() || c == '_') {
                if !word.is_empty() {
                    words.text.push_str(&word.to_ascii_lowercase());
                    words.text.push(' ');
                }
            }
            words.lines.resize(words.text.len(), line);
        }
        words
    }

    /// The lines where `phrase` starts, as whole words and outside the exceptions of this file.
    fn lines_with(&self, phrase: &str, file: &str) -> Vec<usize> {
        let is_part_of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_allowed = |start: usize| {
            let mut exceptions =
                EXCEPTIONS.iter().filter(|e| file.starts_with(e.place) && e.text.contains(phrase));
            exceptions.any(|e| {
                self.text
                    .match_indices(e.text)
                    .any(|(at, text)| at <= start && start + phrase.len() <= at + text.len())
            })
        };
        let found = self.text.match_indices(phrase).map(|(start, _)| start);
        found
            .filter(|&start| {
                let before = self.text[..start].chars().next_back();
                let after = self.text[start + phrase.len()..].chars().next();
                let is_word = phrase.starts_with('\'') || !is_part_of_word(before);
                is_word && !is_part_of_word(after) && !is_allowed(start)
            })
            .map(|start| self.lines[start])
            .collect()
    }
}
