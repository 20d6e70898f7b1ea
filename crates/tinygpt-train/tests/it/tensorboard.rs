//! Event files for TensorBoard: they hold the numbers of the metrics, also after a resume.
//!
//! `tests/interop/check_tensorboard.py` reads them with the real package.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tinygpt_train::metrics::{self, Line};
use tinygpt_train::{InitFrom, Outcome, Report, StepRecord, StopFlag, TrainConfig};

use crate::common::World;

fn config(world: &World, name: &str) -> TrainConfig {
    TrainConfig { tensorboard: true, ..world.config(name) }
}

/// The event files; an earlier one is empty, for readers that have it open.
fn event_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    found.sort();
    found
}

/// A number of the file: its tag, its step, its bits.
type Scalar = (String, u64, u32);

/// The scalars of the last event file, the only one that is not empty, in order.
#[track_caller]
fn scalars(dir: &Path) -> Vec<Scalar> {
    let mut files = event_files(dir);
    let bytes = fs::read(files.pop().unwrap()).unwrap();
    assert!(files.len() <= 1 && files.iter().all(|path| fs::read(path).unwrap().is_empty()));
    let (mut rest, mut scalars, mut n_starts) = (&bytes[..], Vec::new(), 0);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = fields(&rest[12..12 + length]);
        rest = &rest[12 + length + 4..];
        let number = |field: &u32| u64::from_le_bytes(event[field][0][..8].try_into().unwrap());
        assert!(f64::from_bits(number(&1)) > 1.6e9, "a time in this century");
        let step = event.get(&2).map_or(0, |_| number(&2));
        n_starts += usize::from(event.contains_key(&7));
        for summary in event.get(&5).into_iter().flatten() {
            for value in &fields(summary)[&1] {
                let value = fields(value);
                let tag = String::from_utf8(value[&1][0].clone()).unwrap();
                scalars.push((
                    tag,
                    step,
                    u32::from_le_bytes(value[&2][0][..4].try_into().unwrap()),
                ));
            }
        }
    }
    assert_eq!(n_starts, 1);
    scalars
}

/// The fields of a protobuf message; numbers as 8 bytes.
fn fields(mut message: &[u8]) -> BTreeMap<u32, Vec<Vec<u8>>> {
    fn varint(message: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
    let mut fields: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let content = match key & 7 {
            0 => varint(&mut message).to_le_bytes().to_vec(),
            wire_type => {
                let length = match wire_type {
                    1 => 8,
                    5 => 4,
                    _ => varint(&mut message) as usize,
                };
                let (content, rest) = message.split_at(length);
                message = rest;
                content.to_vec()
            }
        };
        fields.entry((key >> 3) as u32).or_default().push(content);
    }
    fields
}

/// What the event file has to hold.
fn expected(dir: &Path) -> Vec<Scalar> {
    let mut scalars = Vec::new();
    let mut add = |tag: &str, step: u64, number: f32| {
        scalars.push((tag.to_owned(), step, number.to_bits()));
    };
    for line in metrics::read(&dir.join(metrics::FILE_NAME)).unwrap() {
        match line {
            Line::Step(step) => {
                add("train/loss", step.iter, step.loss);
                add("train/learning_rate", step.iter, step.learning_rate as f32);
                add("train/grad_norm", step.iter, step.grad_norm);
                add("train/tokens_per_second", step.iter, step.tokens_per_second as f32);
            }
            Line::Eval(eval) => {
                add("eval/loss", eval.iter, eval.val_loss);
                add("eval/bits_per_byte", eval.iter, eval.val_bits_per_byte);
            }
            _ => {}
        }
    }
    scalars
}

#[test]
fn the_events_are_the_metrics_also_after_a_resume_that_cut_them_back() {
    let world = World::new();
    let config = config(&world, "out");
    let dir = config.out_dir.clone();
    world.run_until(config.clone(), Some(14)).unwrap();
    assert_eq!(scalars(&dir), expected(&dir));
    // A run that was killed leaves more in its metrics and events than its checkpoint has.
    let killed = TrainConfig { max_iters: 17, ..config.clone() };
    world.run(TrainConfig { init_from: InitFrom::Resume, ..killed }).unwrap();
    fs::remove_dir_all(dir.join("checkpoints/step-00000017")).unwrap();
    fs::remove_file(dir.join("last")).unwrap();
    let of_others = dir.join("events.of.others.tfevents");
    fs::write(&of_others, "theirs").unwrap();
    let resumed = TrainConfig { init_from: InitFrom::Resume, ..config };
    world.run(resumed.clone()).unwrap();
    assert_eq!(fs::read_to_string(&of_others).unwrap(), "theirs");
    fs::remove_file(of_others).unwrap();
    let all = scalars(&dir);
    assert_eq!(all, expected(&dir));
    assert_eq!(all.iter().filter(|(tag, ..)| tag == "train/loss").count(), 20);
    // A run that has ended without it.
    event_files(&dir).into_iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(world.run(resumed).unwrap().0, Outcome::AlreadyFinished);
    assert_eq!(scalars(&dir), all);
}

/// Checks that the earlier run's events are there until the first checkpoint.
struct Watching<'a> {
    dir: &'a Path,
    before: &'a [Scalar],
    n_seen: usize,
}

impl Report for Watching<'_> {
    fn step(&mut self, record: &StepRecord) {
        if record.iter < 4 {
            assert_eq!(scalars(self.dir), self.before);
            self.n_seen += 1;
        }
    }
}

#[test]
fn a_run_that_is_replaced_keeps_its_events_until_then() {
    let world = World::new();
    let config = config(&world, "out");
    let dir = config.out_dir.clone();
    world.run(config.clone()).unwrap();
    let before = scalars(&dir);
    let over = TrainConfig { overwrite: true, seed: 5, ..config.clone() };
    // The first line of the new run, which has no checkpoint yet.
    let mut watching = Watching { dir: &dir, before: &before, n_seen: 0 };
    world.trainer(over.clone()).unwrap().run(&StopFlag::new(), &mut watching).unwrap();
    assert!(watching.n_seen > 0);
    assert_eq!(scalars(&dir), expected(&dir));
    assert_ne!(scalars(&dir), before);
    // Without the flag nothing of the earlier run is left.
    world.run(TrainConfig { tensorboard: false, ..over }).unwrap();
    assert!(event_files(&dir).is_empty());
}
