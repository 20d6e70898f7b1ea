//! When a run saves, which checkpoints it keeps, and that none of it changes the run.

use tinygpt_train::{Outcome, TrainConfig};

use crate::common::{World, assert_same_end, checkpoints, state};
use crate::resume::resumed;

#[test]
fn the_newest_and_the_best_are_kept() {
    let world = World::new();
    for (n, kept) in [(1, vec![20]), (2, vec![18, 20]), (4, vec![15, 16, 18, 20])] {
        let config = TrainConfig {
            eval_interval: 1000,
            checkpoint_interval: Some(3),
            keep_checkpoints: n,
            ..world.config(&format!("keep-{n}"))
        };
        // A second process continues with the checkpoints that the first has kept.
        world.run_until(config.clone(), Some(16)).unwrap();
        let (_, recording) = world.run(resumed(&config)).unwrap();
        let names: Vec<_> = kept.iter().map(|step| format!("step-{step:08}")).collect();
        assert_eq!(checkpoints(&config.out_dir), names);
        assert_eq!(recording.notices, [] as [&str; 0]);
    }
    // The best is older than all others that are kept: this learning rate makes the model worse.
    let config = TrainConfig { keep_checkpoints: 1, ..world.config("best") };
    world.run_until(config.clone(), Some(8)).unwrap();
    let worse = TrainConfig {
        learning_rate: 1.0,
        min_lr: 1.0,
        grad_clip: 0.0,
        always_save_checkpoint: true,
        ..resumed(&config)
    };
    world.run(worse).unwrap();
    assert_eq!(checkpoints(&config.out_dir), ["step-00000008", "step-00000020"]);
}

#[test]
fn saving_by_steps_and_by_time_leaves_the_run_as_it_was() {
    let world = World::new();
    let straight = world.config("straight");
    let (_, recording) = world.run(straight.clone()).unwrap();
    let at_evals: Vec<u64> = recording.saved.iter().map(|saved| saved.iter).collect();
    for (name, interval, minutes) in [("steps", Some(3), 0.0), ("time", None, 1e-9)] {
        let config = TrainConfig {
            checkpoint_interval: interval,
            checkpoint_minutes: minutes,
            ..world.config(name)
        };
        let (_, recording) = world.run(config.clone()).unwrap();
        let saved: Vec<u64> = recording.saved.iter().map(|saved| saved.iter).collect();
        let is_due =
            |step: &u64| at_evals.contains(step) || interval.is_none_or(|n| step.is_multiple_of(n));
        let mut due: Vec<u64> = (1..=20).filter(is_due).collect();
        // A run that saves as often as possible saves its first weights, too.
        due.splice(0..0, (minutes > 0.0).then_some(0));
        assert_eq!(saved, due, "{name}");
        assert_same_end(&straight.out_dir, &config.out_dir);
    }
}

#[test]
fn a_run_whose_time_is_up_saves_and_resumes_exactly() {
    let world = World::new();
    let straight = world.config("straight");
    world.run(straight.clone()).unwrap();
    let config = world.config("stopped");
    let none = TrainConfig { max_seconds: Some(1e-9), ..config.clone() };
    let (outcome, recording) = world.run(none).unwrap();
    assert_eq!(outcome, Outcome::TimeUp(0));
    assert!(recording.evals.is_empty(), "an evaluation must fit the time, like a step");
    assert_eq!(state(&config.out_dir, "last").step, 0);
    world.run_until(resumed(&config), Some(6)).unwrap();
    let none = TrainConfig { max_seconds: Some(1e-9), ..resumed(&config) };
    assert_eq!(world.run(none).unwrap().0, Outcome::TimeUp(6));
    let plenty = TrainConfig { max_seconds: Some(1e9), ..resumed(&config) };
    let (outcome, recording) = world.run(plenty).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(recording.notices, [] as [&str; 0]);
    assert_same_end(&straight.out_dir, &config.out_dir);
}
