//! Runs with other schedules than a cosine, and runs that stop early.

use std::fs;

use tinygpt_train::metrics::{self, Line};
use tinygpt_train::schedule::LrSchedule;
use tinygpt_train::{ErrorKind, InitFrom, Outcome, TrainConfig, recorded_plateau};

use crate::common::{World, assert_same_end, checkpoints, message_of, state};
use crate::resume::resumed;

/// 20 steps, the last 4 of which decay.
fn wsd(world: &World, out_dir: &str) -> TrainConfig {
    TrainConfig { lr_schedule: LrSchedule::Wsd, ..world.config(out_dir) }
}

/// Learning rate and loss of every step.
fn steps(config: &TrainConfig) -> Vec<(u64, f64, f32)> {
    let lines = metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap();
    let step = |line| match line {
        Line::Step(record) => Some((record.iter, record.learning_rate, record.loss)),
        _ => None,
    };
    lines.into_iter().filter_map(step).collect()
}

#[test]
fn a_run_continued_from_its_plateau_is_the_longer_run() {
    let world = World::new();
    let short = TrainConfig { keep_checkpoints: 1, ..wsd(&world, "short") };
    world.run(short.clone()).unwrap();
    assert!((steps(&short)[19].1 - (1e-3 + 9e-3 / 4.0)).abs() < 1e-12);
    assert!(checkpoints(&short.out_dir).contains(&"step-00000016".to_string()));
    assert_eq!(recorded_plateau(&short.out_dir).unwrap().step, 16);
    let before = fs::read(short.out_dir.join("metrics.jsonl")).unwrap();

    let straight = TrainConfig { max_iters: 40, lr_decay_iters: 40, ..wsd(&world, "straight") };
    world.run(straight.clone()).unwrap();
    let init_from = InitFrom::Plateau(short.out_dir.clone());
    let out_dir = world.out_dir("continued");
    let continued = TrainConfig { init_from, out_dir, ..straight.clone() };
    // A stop and a resume on the way change nothing.
    world.run_until(continued.clone(), Some(21)).unwrap();
    world.run(resumed(&continued)).unwrap();

    assert_same_end(&straight.out_dir, &continued.out_dir);
    assert_eq!(steps(&straight), steps(&continued));
    assert_eq!(recorded_plateau(&continued.out_dir).unwrap().step, 32);
    assert_eq!(state(&continued.out_dir, "last").config.init_from, InitFrom::Scratch);
    assert_eq!(fs::read(short.out_dir.join("metrics.jsonl")).unwrap(), before);
    assert_eq!(state(&short.out_dir, "last").step, 20);
}

#[test]
fn without_a_plateau_or_into_another_run_nothing_is_continued() {
    let world = World::new();
    let cosine = world.config("cosine");
    world.run(cosine.clone()).unwrap();
    let init_from = InitFrom::Plateau(cosine.out_dir.clone());
    let config = TrainConfig { init_from, ..wsd(&world, "new") };
    let error = world.run(config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("no checkpoint named plateau"), "{error}");
    assert!(!config.out_dir.exists());
    let used = TrainConfig { out_dir: cosine.out_dir.clone(), ..config.clone() };
    let error = world.run(used).unwrap_err();
    assert!(message_of(&error).contains("already holds a run"), "{error}");
    let over = TrainConfig { overwrite: true, ..config };
    let error = world.run(over).unwrap_err();
    assert!(error.to_string().contains("`overwrite`"), "{error}");
}

/// Losses fall in every evaluation here, but never by 10 nats.
#[test]
fn evaluations_that_do_not_improve_end_the_run() {
    let world = World::new();
    let patient = |patience, out_dir: &str| TrainConfig {
        early_stopping_patience: Some(patience),
        early_stopping_threshold: 10.0,
        ..world.config(out_dir)
    };
    let config = patient(2, "out");
    let (outcome, _) = world.run(config.clone()).unwrap();
    assert_eq!(outcome, Outcome::StoppedEarly(12));
    let saved = state(&config.out_dir, "last");
    assert_eq!((saved.step, saved.evals_without_improvement), (12, 2));
    let (outcome, recording) = world.run(resumed(&config)).unwrap();
    assert_eq!((outcome, recording.steps.len()), (Outcome::StoppedEarly(12), 0));
    let more = TrainConfig { early_stopping_patience: Some(3), ..resumed(&config) };
    assert_eq!(world.run(more).unwrap().0, Outcome::StoppedEarly(16));

    // The count is in the checkpoint.
    let stopped = patient(2, "stopped");
    world.run_until(stopped.clone(), Some(9)).unwrap();
    assert_eq!(world.run(resumed(&stopped)).unwrap().0, Outcome::StoppedEarly(12));

    let falling = TrainConfig { early_stopping_threshold: 0.0, ..patient(1, "falling") };
    assert_eq!(world.run(falling).unwrap().0, Outcome::Finished);
}
