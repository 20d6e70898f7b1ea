//! A disk that refuses to write: what was saved stays, the run continues, and the third failure in
//! a row ends it.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use tinygpt_train::checkpoint::{Which, locate};
use tinygpt_train::{
    ErrorKind, Outcome, Report, SaveRecord, StepRecord, StopFlag, TrainConfig, TrainError,
};

use crate::common::{World, assert_same_end, state};
use crate::resume::resumed;

/// Puts a file where the checkpoints belong while the run makes the steps `broken`.
struct BrokenDisk {
    out_dir: PathBuf,
    broken: Range<u64>,
    stop: StopFlag,
    stop_after: Option<u64>,
    repaired_by_notice: bool,
    saved: Vec<u64>,
    notices: Vec<String>,
}

impl BrokenDisk {
    fn of(config: &TrainConfig, broken: Range<u64>) -> Self {
        let out_dir = config.out_dir.clone();
        let (saved, notices) = (Vec::new(), Vec::new());
        let (stop, stop_after, repaired_by_notice) = (StopFlag::new(), None, false);
        Self { out_dir, broken, stop, stop_after, repaired_by_notice, saved, notices }
    }

    fn run(&mut self, world: &World, config: &TrainConfig) -> Result<Outcome, TrainError> {
        world.trainer(config.clone()).unwrap().run(&self.stop.clone(), self)
    }

    fn set_broken(&self, is_broken: bool) {
        let (place, away) = (self.out_dir.join("checkpoints"), self.out_dir.join("away"));
        if is_broken {
            fs::rename(&place, away).unwrap();
            fs::write(place, "not a directory").unwrap();
        } else {
            fs::remove_file(&place).unwrap();
            fs::rename(away, place).unwrap();
        }
    }
}

impl Report for BrokenDisk {
    fn step(&mut self, record: &StepRecord) {
        let n_made = record.iter + 1;
        if n_made == self.broken.start || n_made == self.broken.end {
            self.set_broken(n_made == self.broken.start);
        }
        if Some(n_made) == self.stop_after {
            self.stop.raise(15);
        }
    }

    fn saved(&mut self, saved: &SaveRecord) {
        self.saved.push(saved.iter);
    }

    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_string());
        if self.repaired_by_notice {
            self.set_broken(false);
        }
    }
}

/// Saves every three steps and evaluates at the end only.
fn config(world: &World, name: &str) -> TrainConfig {
    TrainConfig { eval_interval: 1000, checkpoint_interval: Some(3), ..world.config(name) }
}

#[test]
fn failed_saves_are_reported_and_repeated_at_the_next_interval() {
    let world = World::new();
    let straight = config(&world, "straight");
    world.run(straight.clone()).unwrap();
    let config = config(&world, "out");
    let mut disk = BrokenDisk::of(&config, 4..10);
    assert_eq!(disk.run(&world, &config).unwrap(), Outcome::Finished);
    assert_eq!(disk.saved, [3, 12, 15, 18, 20]);
    assert_eq!(disk.notices.len(), 2);
    for (notice, nth) in disk.notices.iter().zip(["1 of", "2 of"]) {
        assert!(notice.contains("SAVE FAILED") && notice.contains(nth), "{notice}");
        assert!(notice.contains("step-00000003"), "{notice}");
    }
    assert_same_end(&straight.out_dir, &config.out_dir);
}

#[test]
fn the_third_failure_in_a_row_ends_the_run() {
    let world = World::new();
    let straight = config(&world, "straight");
    world.run(straight.clone()).unwrap();
    let config = config(&world, "out");
    let mut disk = BrokenDisk::of(&config, 4..1000);
    let error = disk.run(&world, &config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let TrainError::Unsaved { step, n_failed, .. } = &error else { panic!("{error}") };
    assert_eq!((*step, *n_failed), (12, 3));
    assert!(error.to_string().contains("step-00000003"), "{error}");
    disk.set_broken(false);
    world.run(resumed(&config)).unwrap();
    assert_same_end(&straight.out_dir, &config.out_dir);
}

#[test]
fn at_the_end_and_at_a_stop_the_first_failure_is_an_error() {
    let world = World::new();
    for stop_after in [Some(5), None] {
        let config = config(&world, &format!("out-{stop_after:?}"));
        let mut disk = BrokenDisk { stop_after, ..BrokenDisk::of(&config, 5..1000) };
        if stop_after.is_none() {
            disk.broken = 19..1000;
        }
        let error = disk.run(&world, &config).unwrap_err();
        let TrainError::Unsaved { step, .. } = &error else { panic!("{error}") };
        assert_eq!(*step, stop_after.unwrap_or(20));
        let last = if stop_after.is_some() { "step-00000003" } else { "step-00000018" };
        assert!(error.to_string().contains(last), "{error}");
    }
}

#[test]
fn the_best_loss_has_a_checkpoint() {
    let world = World::new();
    let config = world.config("out");
    let mut disk = BrokenDisk { stop_after: Some(9), ..BrokenDisk::of(&config, 6..9) };
    disk.run(&world, &config).unwrap();
    assert_eq!(disk.saved, [4, 9]);
    assert_eq!(state(&config.out_dir, "last").best.unwrap().step, 4);
    let best = locate(&config.out_dir, &Which::Best).unwrap();
    assert!(best.ends_with("checkpoints/step-00000004"), "{best:?}");

    // The disk works again between the evaluation at the end and the save at the end.
    let config = world.config("repaired");
    let mut disk = BrokenDisk { repaired_by_notice: true, ..BrokenDisk::of(&config, 18..1000) };
    disk.run(&world, &config).unwrap();
    assert_eq!(disk.saved.last(), Some(&20));
    let straight = world.config("straight");
    world.run(straight.clone()).unwrap();
    assert_same_end(&straight.out_dir, &config.out_dir);
}
