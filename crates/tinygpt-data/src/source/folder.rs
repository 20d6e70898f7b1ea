//! The text files of a path: the file itself, or the texts in a folder and its subfolders.
//!
//! Skipped files are listed with the reason, so that it is clear what a
//! model was trained on.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::format::{self, Format, Rank, USUAL};
use super::input::{looks_like_text, refuse_unknown};
use crate::error::DataError;
use crate::quote::{Shown, quoted_list};

/// A file of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Its path below the source, with `/` between the parts; its name if it is the source.
    pub(crate) name: String,
}

/// A file or folder that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path below the source, with `/` between the parts.
    pub name: String,
    /// Why it is not read, as a few words.
    pub why: &'static str,
}

/// The files found at some paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) files: Vec<TextFile>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Whether any of the paths is a folder.
    pub(crate) has_folder: bool,
}

/// Checks that each path exists and replaces a folder by the texts in it, sorted by path.
///
/// A specified `format` applies to every file whose extension is not that of another format.
///
/// # Errors
/// [`DataError::Io`] for a path that does not exist, [`DataError::Usage`] for a file of unknown
/// format and for a folder without text.
pub(crate) fn expand(paths: &[PathBuf], format: Option<Format>) -> Result<Found, DataError> {
    let mut found = Found::default();
    for path in paths {
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        if metadata.is_dir() {
            found.has_folder = true;
            Folder::walk(path)?.choose(format, &mut found)?;
            continue;
        }
        if !metadata.is_file() {
            return Err(DataError::usage(
                format!("{}: not a regular file, so it can be read only once", Shown(path)),
                "pipe it in and set `source` to `-`",
            ));
        }
        let format = format.or_else(|| Format::of(path)).ok_or_else(|| refuse_unknown(path))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        found.files.push(TextFile { path: path.clone(), format, name });
    }
    Ok(found)
}

/// Everything in a folder.
struct Folder {
    root: PathBuf,
    /// Each file with its path below the root.
    files: BTreeMap<PathBuf, String>,
    left_out: Vec<LeftOut>,
}

impl Folder {
    /// Lists a folder and all below it. Links are followed, each folder is visited once.
    fn walk(root: &Path) -> Result<Self, DataError> {
        let mut folder =
            Self { root: root.to_path_buf(), files: BTreeMap::new(), left_out: Vec::new() };
        let mut seen = HashSet::new();
        let mut open = vec![(root.to_path_buf(), String::new())];
        while let Some((dir, prefix)) = open.pop() {
            let real = fs::canonicalize(&dir).map_err(DataError::io("list", &dir))?;
            if !seen.insert(real) {
                folder.leave_out(prefix, "a link to a folder that is read already");
                continue;
            }
            for entry in fs::read_dir(&dir).map_err(DataError::io("list", &dir))? {
                let entry = entry.map_err(DataError::io("list", &dir))?;
                let (path, file_name) = (entry.path(), entry.file_name());
                let file_name = file_name.to_string_lossy();
                let slash = if prefix.is_empty() { "" } else { "/" };
                let name = format!("{prefix}{slash}{file_name}");
                match fs::metadata(&path) {
                    _ if leftover(&file_name).is_some() => {
                        folder.leave_out(name, leftover(&file_name).unwrap_or_default());
                    }
                    Ok(metadata) if metadata.is_dir() => open.push((path, name)),
                    Ok(metadata) if metadata.is_file() => _ = folder.files.insert(path, name),
                    Ok(_) => folder.leave_out(name, "not a file"),
                    Err(_) if path.is_symlink() => folder.leave_out(name, "a broken link"),
                    Err(error) => return Err(DataError::io("read", &path)(error)),
                }
            }
        }
        Ok(folder)
    }

    fn leave_out(&mut self, name: String, why: &'static str) {
        self.left_out.push(LeftOut { name, why });
    }

    /// Chooses the files that are the folder's text, and records why the others are not.
    fn choose(mut self, format: Option<Format>, found: &mut Found) -> Result<(), DataError> {
        let best =
            self.files.keys().filter_map(|path| format::in_folder(path)).map(|it| it.1).min();
        let mut n_files = 0;
        for (path, name) in std::mem::take(&mut self.files) {
            let chosen = match format {
                Some(format) => specified(&path, format),
                None => by_rank(&path, best),
            };
            match chosen {
                Ok(format) => {
                    found.files.push(TextFile { path, format, name });
                    n_files += 1;
                }
                Err(why) => self.leave_out(name, why),
            }
        }
        if n_files == 0 {
            return Err(self.without_text());
        }
        self.left_out.sort_by(|a, b| a.name.cmp(&b.name));
        found.left_out.append(&mut self.left_out);
        Ok(())
    }

    fn without_text(&self) -> DataError {
        let names: Vec<&str> = self.left_out.iter().map(|file| file.name.as_str()).collect();
        let has = if names.is_empty() {
            String::new()
        } else {
            format!(", only {}", quoted_list(&names))
        };
        DataError::usage(
            format!("{}: the folder holds no text{has}", Shown(&self.root)),
            format!("put files into it: {USUAL}; or set `format` to `text` for other names"),
        )
    }
}

/// The format of a file if none is specified: only files of the best rank are read.
fn by_rank(path: &Path, best: Option<Rank>) -> Result<Format, &'static str> {
    match format::in_folder(path) {
        Some((format, rank)) if Some(rank) == best => Ok(format),
        Some((_, Rank::About)) => Err("about the data"),
        Some((_, Rank::Table)) => Err("a table among texts; set `format` to read it"),
        Some(_) => Err("a document among data files; set `format` to read it"),
        None => Err("unknown format"),
    }
}

/// Whether a file is read as the format that is specified.
fn specified(path: &Path, format: Format) -> Result<Format, &'static str> {
    match format::in_folder(path) {
        Some((_, Rank::About)) => Err("about the data"),
        Some((its, _)) if its == format => Ok(format),
        Some(_) => Err("another format"),
        None if format == Format::Text && !looks_like_text(path) => Err("no text"),
        None => Ok(format),
    }
}

/// What editors, version control and operating systems leave behind.
fn leftover(name: &str) -> Option<&'static str> {
    const ENDINGS: [&str; 6] = [".bak", ".orig", ".swp", ".tmp", ".part", ".crdownload"];
    const NAMES: [&str; 5] =
        ["__MACOSX", "__pycache__", "node_modules", "Thumbs.db", "desktop.ini"];
    let is_backup = name.ends_with('~') || (name.starts_with('#') && name.ends_with('#'));
    if name.starts_with('.') {
        return Some("hidden");
    }
    let is_leftover =
        is_backup || NAMES.contains(&name) || ENDINGS.iter().any(|end| name.ends_with(end));
    is_leftover.then_some("a leftover")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::file;
    use super::*;

    /// The names of the files that are read of a folder with these, and of those left out.
    fn listed(names: &[&str], format: Option<Format>) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            file(&dir, name, "text");
        }
        let found = expand(&[dir.path().into()], format).unwrap();
        let left_out = found.left_out.into_iter();
        let left_out = left_out.map(|file| format!("{}: {}", file.name, file.why)).collect();
        (found.files.into_iter().map(|file| file.name).collect(), left_out)
    }

    #[test]
    fn folders_are_read_sorted_with_the_folders_in_them() {
        let names = ["b.txt", "a.jsonl", "c.TXT", "sub/x.txt", "sub/deep/y.txt.gz"];
        let expected = ["a.jsonl", "b.txt", "c.TXT", "sub/deep/y.txt.gz", "sub/x.txt"];
        assert_eq!(listed(&names, None).0, expected);
    }

    #[test]
    fn files_that_are_not_text_are_skipped_with_the_reason() {
        let names = [
            "a.txt",
            ".hidden.txt",
            "._a.txt",
            "a.txt~",
            "__MACOSX/a.txt",
            "b.txt.bak",
            "README.txt",
            "notes.md",
            "meta.json",
            "LICENSE",
            "photo.jpg",
            "prog.py",
            ".git/x.txt",
        ];
        let (read, left_out) = listed(&names, None);
        assert_eq!(read, ["a.txt"]);
        let expected = [
            "._a.txt: hidden",
            ".git: hidden",
            ".hidden.txt: hidden",
            "LICENSE: unknown format",
            "README.txt: about the data",
            "__MACOSX: a leftover",
            "a.txt~: a leftover",
            "b.txt.bak: a leftover",
            "meta.json: a table among texts; set `format` to read it",
            "notes.md: a document among data files; set `format` to read it",
            "photo.jpg: unknown format",
            "prog.py: a document among data files; set `format` to read it",
        ];
        assert_eq!(left_out, expected);
    }

    #[test]
    fn tables_and_documents_are_read_where_nothing_else_is() {
        for (names, format, expected) in [
            (&["a.json", "b.csv", "README.md"][..], None, &["a.json", "b.csv"][..]),
            (&["notes.md", "prog.py", "README.md"], None, &["notes.md", "prog.py"]),
            (&["README.md", "x.png"], None, &["README.md"]),
            (&["a.txt", "b.csv"], Some(Format::Csv), &["b.csv"]),
            (&["a.jsonl", "b.md", "Makefile"], Some(Format::Text), &["Makefile", "b.md"]),
            (&["a.train", "b.dev"], None, &["a.train", "b.dev"]),
        ] {
            assert_eq!(listed(names, format).0, expected, "{names:?}");
        }
    }

    #[test]
    fn a_folder_without_text_names_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let message = || expand(&[dir.path().into()], None).unwrap_err().explained();
        assert!(message().contains("holds no text; put files"), "{}", message());
        file(&dir, "photo.jpg", "");
        assert!(message().contains("holds no text, only `photo.jpg`"), "{}", message());
    }

    #[test]
    fn one_file_needs_a_format_from_its_name_or_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "noext", "text");
        let message = expand(std::slice::from_ref(&path), None).unwrap_err().explained();
        assert!(message.contains("noext") && message.contains("set `format`"), "{message}");
        let found = expand(&[path], Some(Format::JsonLines)).unwrap();
        assert_eq!(found.files[0].format, Format::JsonLines);
        for (name, content, what) in [
            ("a.docx", &b"PK\x03\x04 and so on"[..], "a zip archive"),
            ("a.pdf", b"%PDF-1.4", "a PDF"),
            ("a.bz2", b"BZh91AY", "bunzip2"),
        ] {
            let message = expand(&[file(&dir, name, content)], None).unwrap_err().explained();
            assert!(message.contains(name) && message.contains(what), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_once_and_broken_ones_left_out() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        file(&dir, "sub/a.txt", "a");
        symlink(dir.path(), dir.path().join("sub/up")).unwrap();
        symlink(dir.path().join("sub/a.txt"), dir.path().join("link.txt")).unwrap();
        symlink(dir.path().join("nowhere"), dir.path().join("broken.txt")).unwrap();
        let found = expand(&[dir.path().into()], None).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["link.txt", "sub/a.txt"]);
        let left_out: Vec<_> = found.left_out.iter().map(|it| (it.name.as_str(), it.why)).collect();
        let loops = "a link to a folder that is read already";
        assert_eq!(left_out, [("broken.txt", "a broken link"), ("sub/up", loops)]);
    }
}
