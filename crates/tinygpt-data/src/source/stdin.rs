//! Standard input as a file: `prepare` reads a text several times, a pipe can be read once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::DataError;
use crate::progress::{PrepareProgress, Stage};

/// How much is copied at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// How often a wait for more asks whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// A copy of standard input in the system's folder for temporary files; dropped, it is removed.
pub(crate) struct Spooled {
    folder: TempDir,
}

impl Spooled {
    /// Copies all of standard input.
    ///
    /// # Errors
    /// [`DataError::Io`], or [`DataError::Stopped`].
    pub(crate) fn read(progress: &dyn PrepareProgress) -> Result<Self, DataError> {
        let folder = tempfile::tempdir().map_err(DataError::io("create", &std::env::temp_dir()))?;
        let spooled = Self { folder };
        let path = spooled.path();
        let mut file = File::create(&path).map_err(DataError::io("create", &path))?;
        // On a thread of its own: a read from a terminal or a pipe may wait forever.
        let (sender, chunks) = sync_channel::<io::Result<Vec<u8>>>(2);
        let reading = move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = stdin.read(&mut chunk).map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                let is_last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().spawn(reading).map_err(DataError::io("read", "stdin".as_ref()))?;
        progress.begin(Stage::ReadInput, None);
        loop {
            match chunks.recv_timeout(PATIENCE) {
                Ok(chunk) => {
                    let chunk = chunk.map_err(DataError::io("read", "stdin".as_ref()))?;
                    if chunk.is_empty() {
                        break;
                    }
                    file.write_all(&chunk).map_err(DataError::io("write", &path))?;
                    progress.advance(chunk.len() as u64);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if progress.is_stopped() {
                return Err(DataError::Stopped);
            }
        }
        progress.finish();
        Ok(spooled)
    }

    /// Where the copy lies; its name is part of what the text is known by.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("stdin")
    }
}
