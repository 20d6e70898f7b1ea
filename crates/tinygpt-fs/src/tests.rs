//! What is at a path after each operation, and that no temporary name is left.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn dir_with(path: &Path, text: &str) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("text"), text).unwrap();
}

#[test]
fn a_file_is_written_and_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    for text in ["one", "two"] {
        write_file(&path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(dir.path()), ["a.json"]);
    }
}

#[test]
fn a_failed_write_changes_nothing_and_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taken");
    dir_with(&path, "one");
    let error = write_file(&path, b"two").unwrap_err();
    assert_eq!(error.action, "rename");
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(names(dir.path()), ["taken"]);
}

#[cfg(unix)]
#[test]
fn the_target_of_a_link_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("a"), dir.path().join("other"));
    fs::write(&other, "keep").unwrap();
    for link in [&path, &part_of(&path)] {
        std::os::unix::fs::symlink(&other, link).unwrap();
    }
    write_file(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::read_to_string(&other).unwrap(), "keep");
    assert_eq!(names(dir.path()), ["a", "other"]);
}

#[test]
fn a_directory_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let (new, old) = (part_of(&path), old_of(&path));
    for text in ["one", "two"] {
        dir_with(&new, text);
        sync_contents(&new).unwrap();
        replace_dir(&new, &path, &old).unwrap();
        assert_eq!(fs::read_to_string(path.join("text")).unwrap(), text);
        assert_eq!(names(dir.path()), ["out"]);
    }
}

#[test]
fn a_crash_between_the_two_renames_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let old = old_of(&path);
    dir_with(&old, "one");
    restore_dir(&path, &old).unwrap();
    assert_eq!(fs::read_to_string(path.join("text")).unwrap(), "one");
    dir_with(&old, "zero");
    restore_dir(&path, &old).unwrap();
    assert_eq!(fs::read_to_string(path.join("text")).unwrap(), "one");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_directory_is_created_with_its_parents() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    create_dir_all(&deep).unwrap();
    create_dir_all(&deep).unwrap();
    create_dir(&deep).unwrap();
    assert!(deep.is_dir());
    assert!(create_dir(&dir.path().join("x/y")).is_err());
    remove(&dir.path().join("a")).unwrap();
    remove(&dir.path().join("a")).unwrap();
    assert!(names(dir.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("last");
    for target in ["one", "two"] {
        assert!(replace_link(Path::new(target), &link).unwrap());
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
    }
    assert_eq!(names(dir.path()), ["last"]);
}
