//! What the targets share: a small dataset, a short run, and ways to damage their files.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use candle_core::Device;
use tempfile::TempDir;
use tinygpt_data::{NoProgress, PrepareRequest, Prepared, is_in_library, prepare};
use tinygpt_train::{InitFrom, Silent, StopFlag, TrainConfig, Trainer};

/// What happens to the bytes of a file.
#[derive(Arbitrary, Debug)]
pub enum Damage {
    /// Other content.
    Replace(Vec<u8>),
    /// Less of it.
    Truncate(u16),
    /// Bytes in place of those that were there.
    Overwrite(u16, Vec<u8>),
    /// More bytes somewhere.
    Insert(u16, Vec<u8>),
    /// Fewer bytes somewhere.
    Remove(u16, u8),
    /// One bit turned over.
    Flip(u16, u8),
}

impl Damage {
    /// Damages `bytes`; positions wrap around.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |position: u16, len: usize| usize::from(position) % (len + 1);
        match self {
            Self::Replace(with) => with.clone_into(bytes),
            Self::Truncate(position) => bytes.truncate(at(*position, bytes.len())),
            Self::Overwrite(position, with) => {
                let start = at(*position, bytes.len());
                for (byte, with) in bytes[start..].iter_mut().zip(with) {
                    *byte = *with;
                }
            }
            Self::Insert(position, more) => {
                let start = at(*position, bytes.len());
                bytes.splice(start..start, more.iter().copied());
            }
            Self::Remove(position, n) => {
                let start = at(*position, bytes.len());
                let end = bytes.len().min(start + usize::from(*n));
                bytes.drain(start..end);
            }
            Self::Flip(position, bit) => {
                let start = at(*position, bytes.len());
                if let Some(byte) = bytes.get_mut(start) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }
}

/// A prepared dataset and a run of two checkpoints, as they were written.
pub struct World {
    root: TempDir,
    pristine: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    /// Prepares a short text and trains four steps on it.
    pub fn new() -> Self {
        ignore_foreign_panics();
        let root = tempfile::tempdir().expect("a temporary directory");
        let source = root.path().join("text.txt");
        let text = "the cat sat on a mat and the dog ran to see it. ".repeat(22);
        fs::write(&source, text).expect("the text");
        let request = PrepareRequest {
            dataset_name: "text".to_owned(),
            data_dir: root.path().join("data"),
            source: Some(source.into()),
            val_fraction: Some(0.2),
            ..PrepareRequest::default()
        };
        prepare(&request, &NoProgress).expect("a prepared text");
        let mut world = Self { root, pristine: BTreeMap::new() };
        let mut trainer = world.trainer(InitFrom::Scratch).expect("a trainer");
        trainer.run(&StopFlag::new(), &mut Silent).expect("a run");
        drop(trainer);
        world.pristine = files_below(world.root.path());
        world
    }

    /// The directory of the prepared datasets.
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The run's directory.
    pub fn out_dir(&self) -> PathBuf {
        self.root.path().join("out")
    }

    /// A trainer of the run, from `init_from` on.
    pub fn trainer(&self, init_from: InitFrom) -> Result<Trainer, Box<dyn std::error::Error>> {
        let config = TrainConfig {
            out_dir: self.out_dir(),
            data_dir: self.data_dir(),
            dataset_name: "text".to_owned(),
            init_from,
            n_layer: 1,
            n_head: 2,
            n_embd: 8,
            block_size: 8,
            batch_size: 1,
            gradient_accumulation_steps: 1,
            warmup_iters: 1,
            lr_decay_iters: 4,
            max_iters: 4,
            eval_interval: 2,
            eval_iters: 1,
            sample_at_eval: false,
            threads: Some(1),
            ..TrainConfig::default()
        };
        let prepared = Prepared::open(&config.data_dir, &config.dataset_name, None)?;
        Ok(Trainer::new(config, prepared, &Device::Cpu)?)
    }

    /// The files below `dir`, a directory of this run, as they were written.
    pub fn files(&self, dir: &Path) -> Vec<(&Path, &[u8])> {
        let below = self.pristine.iter().filter(|(path, _)| path.starts_with(dir));
        below.map(|(path, bytes)| (path.as_path(), bytes.as_slice())).collect()
    }

    /// Puts back whatever is not as it was written.
    pub fn restore(&self) {
        for path in files_below(self.root.path()).into_keys() {
            if !self.pristine.contains_key(&path) {
                fs::remove_file(&path).expect("a file that can be removed");
            }
        }
        for (path, bytes) in &self.pristine {
            if fs::read(path).ok().as_ref() != Some(bytes) {
                fs::create_dir_all(path.parent().unwrap_or(path)).expect("a directory");
                fs::write(path, bytes).expect("a file that can be written");
            }
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A library may answer a broken file with a panic as long as we make an error of it; the fuzzer
/// would end at any panic.
fn ignore_foreign_panics() {
    let end = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_in_library() {
            end(panic);
        }
    }));
}

/// Every file below `dir` that is not a link, with its content.
fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&path)),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(&path).expect("a readable file");
                files.insert(path, bytes);
            }
            _ => {}
        }
    }
    files
}
