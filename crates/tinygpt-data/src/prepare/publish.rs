//! Where `prepare` writes, and how that becomes visible: whole, or not at all.
//!
//! All files go into `data/<name>/.<encoding>.part`, are synced, and the directory is renamed to
//! `data/<name>/<encoding>`. If there is a preparation, the two exchange their names in one step.
//! Where the system cannot do that, the old one is renamed to `.<encoding>.old` first, where readers
//! find it until the new one has its name. A lock keeps two runs apart.
//!
//! A preparation file by file can be continued: an interrupted one keeps its directory, and
//! `data/<name>/.<encoding>.files` holds its progress and the files that it has downloaded.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tinygpt_fs::{
    create_dir_all, old_of, part_of, remove, replace_dir, restore_dir, sync_contents, write_file,
};

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{MARKER_FILE_NAME, META_FILE_NAME, Meta};
use crate::progress::PrepareProgress;
use crate::quote::Shown;
use crate::tokenizer::{CONFIG_FILE_NAME, FILE_NAME};

use super::PrepareRequest;
use super::plan::Plan;
use super::saved;

/// How long a process that has just been killed may take to let go of its dataset.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// A place to write a preparation in, for one process at a time.
pub(super) struct Staging {
    dataset_dir: PathBuf,
    encoding: Encoding,
    /// The directory to write into.
    dir: PathBuf,
    /// The directory that it becomes.
    target: PathBuf,
    /// The directory of the downloads and the progress of a preparation file by file.
    files_dir: PathBuf,
    /// Whether an interrupted preparation stays, to be continued.
    stays: bool,
    /// Holds the lock until dropped.
    _lock: File,
}

impl Staging {
    /// Takes the lock and makes a place to write in. It is empty unless `request` may continue an
    /// interrupted preparation.
    pub(super) fn begin(
        request: &PrepareRequest,
        plan: &Plan,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        let dataset_dir = request.data_dir.join(&plan.dataset);
        let encoding = plan.encoding;
        refuse_files_of_others(&dataset_dir.join(encoding.as_str()))?;
        create_dir_all(&dataset_dir)?;
        let lock_path = dataset_dir.join(".prepare.lock");
        let lock = File::create(&lock_path).map_err(DataError::io("create", &lock_path))?;
        wait_for(&lock, &lock_path, progress)?;
        let target = dataset_dir.join(encoding.as_str());
        let (dir, files_dir) = (part_of(&target), files_dir_of(&target));
        let stays = !request.keep_downloads;
        if !stays && !request.force && saved::is_in(&files_dir) && dir.is_dir() {
            return Err(interrupted(&dir));
        }
        // Removes only an empty directory, which is not a preparation.
        _ = fs::remove_dir(&target);
        restore_dir(&target, &old_of(&target))?;
        let staging = Self { dataset_dir, encoding, dir, target, files_dir, stays, _lock: lock };
        // What a killed run left; without shards nothing can be continued.
        if !stays || !staging.dir.is_dir() {
            staging.clear()?;
        }
        if !stays {
            create_dir_all(&staging.dir)?;
        }
        Ok(staging)
    }

    /// Removes an interrupted preparation.
    pub(super) fn clear(&self) -> Result<(), DataError> {
        remove(&self.dir)?;
        Ok(remove(&self.files_dir)?)
    }

    /// The directory of the downloads and the progress of a preparation file by file.
    pub(super) fn files_dir(&self) -> &Path {
        &self.files_dir
    }

    /// The directory to write into.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that it becomes.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes everything written so far, and `meta`, the preparation of this encoding.
    pub(super) fn publish(self, meta: &Meta) -> Result<PathBuf, DataError> {
        let text = serde_json::to_string_pretty(meta).map_err(|error| {
            DataError::corrupt(&self.dir.join(META_FILE_NAME), error.to_string(), "report this")
        })?;
        let meta_path = self.dir.join(META_FILE_NAME);
        fs::write(&meta_path, text + "\n").map_err(DataError::io("write", &meta_path))?;
        sync_contents(&self.dir)?;
        replace_dir(&self.dir, &self.target, &old_of(&self.target))?;
        self.mark_prepared_last()?;
        // What cannot be removed now is removed by the next run.
        _ = remove(&self.files_dir);
        Ok(self.target.clone())
    }

    /// Makes this encoding the one that `train` takes by default.
    pub(super) fn mark_prepared_last(&self) -> Result<(), DataError> {
        let marker = self.dataset_dir.join(MARKER_FILE_NAME);
        Ok(write_file(&marker, format!("{}\n", self.encoding).as_bytes())?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.stays {
            // What cannot be removed now is removed by the next run.
            _ = remove(&self.dir);
        }
    }
}

/// `.<encoding>.files`, next to the directory of the encoding.
fn files_dir_of(target: &Path) -> PathBuf {
    let encoding = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{encoding}.files"))
}

/// The error of a preparation that would remove an interrupted one.
fn interrupted(dir: &Path) -> DataError {
    DataError::usage(
        format!("{} is an interrupted preparation without `keep_downloads`", Shown(dir)),
        "set `keep_downloads` to false to continue it, or use `force` to start again",
    )
}

/// Refuses a directory with anything in it that no preparation holds: it would be replaced with it.
fn refuse_files_of_others(target: &Path) -> Result<(), DataError> {
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let foreign = match fs::read_dir(target) {
        Err(error) if is_missing(&error) => return Ok(()),
        // Of a path below a file, the error says more.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            match target.symlink_metadata() {
                Ok(_) => target.to_path_buf(),
                Err(_) => return Ok(()),
            }
        }
        Err(error) => return Err(DataError::io("list", target)(error)),
        Ok(entries) => {
            let paths: Result<Vec<_>, _> = entries.map(|entry| Ok(entry?.path())).collect();
            let paths = paths.map_err(DataError::io("list", target))?;
            let Some(path) = paths.into_iter().find(|path| !is_of_preparation(path)) else {
                return Ok(());
            };
            path
        }
    };
    let what =
        format!("{} is not part of a prepared dataset, so it is not replaced", Shown(&foreign));
    Err(DataError::usage(what, "move it somewhere else"))
}

/// Whether `prepare` writes a file of this name.
fn is_of_preparation(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // `train-mask-00000.bin` is one, too.
    let is_shard = name.ends_with(".bin") && ["train-", "val-"].iter().any(|p| name.starts_with(p));
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    is_file && (is_shard || [META_FILE_NAME, FILE_NAME, CONFIG_FILE_NAME].contains(&&*name))
}

/// Takes the lock, for which a run that was killed gets a moment to end.
fn wait_for(lock: &File, path: &Path, progress: &dyn PrepareProgress) -> Result<(), DataError> {
    let mut since = None;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            // Some network file systems have no locks; a run alone in its place needs none.
            Err(TryLockError::Error(_)) => return Ok(()),
        }
        let begin = *since.get_or_insert_with(|| {
            let seconds = LOCK_PATIENCE.as_secs();
            let dir = path.parent().unwrap_or(path).display();
            progress.notice(&format!("{dir} is in use: waiting up to {seconds} s for it"));
            Instant::now()
        });
        if progress.is_stopped() {
            return Err(DataError::Stopped);
        }
        if begin.elapsed() >= LOCK_PATIENCE {
            return Err(DataError::Locked { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
