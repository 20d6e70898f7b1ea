//! `best`, `last` and `plateau`: names for some of the checkpoints.
//!
//! On Unix they are relative symbolic links, so that a run can be moved and so that any program can
//! open `out/best` as a directory. If the system refuses links, they are files of one line that
//! holds the same path. All are swapped by a rename: a reader finds the old or the new one.

use std::path::{Path, PathBuf};

use tinygpt_data::read_regular;
use tinygpt_fs::{replace_link, write_file};

use super::{DIR_NAME, dir_name, step_of};
use crate::error::TrainError;

/// The largest file that stands for a link, in bytes.
const MAX_BYTES: u64 = 1 << 10;

/// Points `name` in `out_dir` at the checkpoint of `step`, durably.
pub(crate) fn point(out_dir: &Path, name: &str, step: u64) -> Result<(), TrainError> {
    let target = format!("{DIR_NAME}/{}", dir_name(step));
    let path = out_dir.join(name);
    // On Windows links to directories need a privilege that most users lack.
    if cfg!(windows) || !replace_link(Path::new(&target), &path)? {
        write_file(&path, format!("{target}\n").as_bytes())?;
    }
    Ok(())
}

/// The checkpoint that `name` in `out_dir` names, whether or not it is there. `None` if there is no
/// such name or it does not name a checkpoint.
pub(super) fn target(out_dir: &Path, name: &str) -> Option<(u64, PathBuf)> {
    let path = out_dir.join(name);
    let target = match std::fs::read_link(&path) {
        Ok(target) => target.to_str()?.to_string(),
        Err(_) => String::from_utf8(read_regular(&path, MAX_BYTES).ok()?).ok()?,
    };
    let dir_name = target.trim_end().strip_prefix(DIR_NAME)?.strip_prefix(['/', '\\'])?;
    Some((step_of(dir_name)?, out_dir.join(DIR_NAME).join(dir_name)))
}

/// The step of the checkpoint that `name` in `out_dir` names.
pub(crate) fn step_named(out_dir: &Path, name: &str) -> Option<u64> {
    target(out_dir, name).map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn follows_the_last_swap_and_takes_links_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path();
        assert_eq!(target(out_dir, "last"), None);
        for step in [10, 250] {
            point(out_dir, "last", step).unwrap();
            let expected = out_dir.join("checkpoints").join(format!("step-{step:08}"));
            assert_eq!(target(out_dir, "last"), Some((step, expected)));
        }
        std::fs::write(out_dir.join("best"), "checkpoints/step-00000010\n").unwrap();
        assert_eq!(target(out_dir, "best").unwrap().0, 10);
        point(out_dir, "best", 250).unwrap();
        assert_eq!(target(out_dir, "best").unwrap().0, 250);
    }

    #[test]
    fn nonsense_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for nonsense in ["", "elsewhere", "checkpoints/../..", "checkpoints/step-x", "checkpoints"]
        {
            std::fs::write(dir.path().join("best"), nonsense).unwrap();
            assert_eq!(target(dir.path(), "best"), None, "{nonsense:?}");
        }
    }
}
