//! A run that was stopped and resumed is the run that was never stopped.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tinygpt_data::Encoding;
use tinygpt_train::metrics::{self, Line};
use tinygpt_train::{
    InitFrom, Outcome, Report, Silent, StepRecord, StopFlag, TrainConfig, recorded,
};

use crate::common::{World, assert_same_end, checkpoints, state};

pub(crate) fn resumed(config: &TrainConfig) -> TrainConfig {
    TrainConfig { init_from: InitFrom::Resume, ..config.clone() }
}

/// Iterations of all steps and of all evaluations, in the order of the file.
fn iters(config: &TrainConfig) -> (Vec<u64>, Vec<u64>) {
    let (mut steps, mut evals) = (Vec::new(), Vec::new());
    for line in metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap() {
        match line {
            Line::Step(record) => steps.push(record.iter),
            Line::Skip(_) | Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => {}
            Line::Eval(record) => evals.push(record.iter),
        }
    }
    (steps, evals)
}

/// Dropout is on, each step accumulates two micro-batches, and 20 steps cross the end of an epoch.
#[test]
fn any_chain_of_stops_ends_bit_for_bit_where_the_straight_run_ends() {
    let world = World::new();
    let straight = world.config("straight");
    let (outcome, recording) = world.run(straight.clone()).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let summary = recording.summary.unwrap();
    let windows_per_step = straight.gradient_accumulation_steps * straight.batch_size;
    assert!(20 * windows_per_step > summary.windows_per_epoch, "no epoch boundary in this test");

    for stops in [vec![10], vec![8], vec![1, 7, 8, 19]] {
        let config = world.config(&format!("stopped-{stops:?}"));
        for (i, stop) in stops.iter().enumerate() {
            let config = if i == 0 { config.clone() } else { resumed(&config) };
            let (outcome, recording) = world.run_until(config, Some(*stop)).unwrap();
            assert_eq!(outcome, Outcome::Stopped(2));
            assert_eq!(recording.saved.last().unwrap().iter, *stop);
        }
        let (outcome, recording) = world.run(resumed(&config)).unwrap();
        assert_eq!(outcome, Outcome::Finished);
        assert_eq!(recording.notices, [] as [&str; 0]);
        assert_eq!(recording.steps.len() as u64, 20 - stops.last().unwrap());
        assert_same_end(&straight.out_dir, &config.out_dir);
        assert_eq!(iters(&config), iters(&straight));
    }
    assert_eq!(iters(&straight), ((0..20).collect(), vec![0, 4, 8, 12, 16, 20]));
}

/// The order of additions depends on the number of threads, and on nothing else.
#[test]
fn with_two_threads_a_resumed_run_is_exact_too() {
    let world = World::new();
    let straight = TrainConfig { threads: Some(2), ..world.config("straight") };
    world.run(straight.clone()).unwrap();
    let config = TrainConfig { threads: Some(2), ..world.config("stopped") };
    world.run_until(config.clone(), Some(9)).unwrap();
    world.run(resumed(&config)).unwrap();
    assert_same_end(&straight.out_dir, &config.out_dir);
}

#[test]
fn evaluating_more_often_leaves_the_training_bits_alone() {
    let world = World::new();
    let often = TrainConfig {
        eval_interval: 1,
        sample_at_eval: true,
        always_save_checkpoint: true,
        ..world.config("often")
    };
    let never = TrainConfig { eval_interval: 1000, ..world.config("never") };
    let (_, recording) = world.run(often.clone()).unwrap();
    assert_eq!(recording.evals.len(), 21);
    assert_eq!(recording.samples.len(), 21);
    world.run(never.clone()).unwrap();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |config: &TrainConfig| crate::common::bytes(&config.out_dir, "last", file);
        assert!(read(&often) == read(&never), "{file} differs");
    }
}

#[test]
fn a_longer_run_and_another_learning_rate_are_applied_and_reported() {
    let world = World::new();
    let config = world.config("out");
    world.run(config.clone()).unwrap();
    let longer = TrainConfig { max_iters: 23, min_lr: 5e-4, ..resumed(&config) };
    let (outcome, recording) = world.run(longer).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let notice = recording.notices.concat();
    assert!(notice.contains("max_iters 20 → 23"), "{notice}");
    assert!(notice.contains("min_lr 0.001 → 0.0005"), "{notice}");
    assert_eq!(recording.steps.iter().map(|s| s.iter).collect::<Vec<_>>(), [20, 21, 22]);
    assert_eq!(recording.steps[0].learning_rate, 5e-4);
    assert_eq!(state(&config.out_dir, "last").step, 23);
    let lines = metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap();
    let logged = lines.iter().find_map(|line| match line {
        Line::Resume(record) => Some((record.iter, record.changed["max_iters"].clone())),
        _ => None,
    });
    assert_eq!(logged, Some((20, [20.into(), 23.into()])));
}

/// The notice about the learning rate of a run that is resumed with another schedule.
#[test]
fn a_decayed_run_stays_decayed_unless_requested_and_a_jump_is_reported() {
    let world = World::new();
    let config = world.config("out");
    world.run(config.clone()).unwrap();
    let longer = TrainConfig { max_iters: 22, ..resumed(&config) };
    let (_, recording) = world.run(longer).unwrap();
    assert_eq!(recording.steps.iter().map(|s| s.learning_rate).collect::<Vec<_>>(), [1e-3, 1e-3]);
    let notice = recording.notices.concat();
    for part in ["stays at min_lr (1.0e-3)", "`lr_decay_iters` 22", "raises the rate to"] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    let again = TrainConfig { max_iters: 44, lr_decay_iters: 44, ..resumed(&config) };
    let (_, recording) = world.run_until(again, Some(23)).unwrap();
    assert!(recording.steps[0].learning_rate > 5e-3, "{:?}", recording.steps[0]);
    let notice = recording.notices.concat();
    assert!(notice.contains("the learning rate jumps from 1.0e-3 to 6."), "{notice}");
    assert!(!notice.contains("stays at min_lr"), "{notice}");
    // The same run again, with the same settings, prints nothing.
    let (_, recording) = world
        .run_until(TrainConfig { max_iters: 44, lr_decay_iters: 44, ..resumed(&config) }, Some(24))
        .unwrap();
    assert_eq!(recording.notices, [] as [&str; 0]);
}

/// Stops in the evaluation after the last update.
struct StopAtTheEnd {
    stop: StopFlag,
    n_steps: u64,
}

impl Report for StopAtTheEnd {
    fn step(&mut self, _record: &StepRecord) {
        self.n_steps += 1;
    }

    fn evaluating(&mut self, done: usize, _total: usize) {
        if self.n_steps == 20 && done == 1 {
            self.stop.raise(2);
        }
    }
}

#[test]
fn an_evaluation_that_was_stopped_is_repeated() {
    let world = World::new();
    let straight = world.config("straight");
    world.run(straight.clone()).unwrap();
    let config = world.config("out");
    let mut report = StopAtTheEnd { stop: StopFlag::new(), n_steps: 0 };
    let stop = report.stop.clone();
    let outcome = world.trainer(config.clone()).unwrap().run(&stop, &mut report).unwrap();
    assert_eq!(outcome, Outcome::Stopped(2));
    assert_eq!(state(&config.out_dir, "last").last_eval_iter, Some(16));
    let (outcome, recording) = world.run(resumed(&config)).unwrap();
    assert_eq!((outcome, recording.evals.len()), (Outcome::Finished, 1));
    assert_same_end(&straight.out_dir, &config.out_dir);
    assert_eq!(iters(&config), iters(&straight));
    assert_eq!(world.run(resumed(&config)).unwrap().0, Outcome::AlreadyFinished);
}

/// A stop does not wait for a step of thousands of micro-batches; the step is repeated.
/// Whenever the stop comes, the end is the same.
#[test]
fn a_stop_in_the_middle_of_an_update_leaves_no_trace_of_it() {
    let world = World::new();
    let long = |name: &str| TrainConfig {
        gradient_accumulation_steps: 1500,
        max_iters: 2,
        lr_decay_iters: 20,
        eval_interval: 1000,
        ..world.config(name)
    };
    let (straight, config) = (long("straight"), long("out"));
    world.run(straight.clone()).unwrap();
    let stop = StopFlag::new();
    let later = stop.clone();
    let raiser = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        later.raise(15);
    });
    world.trainer(config.clone()).unwrap().run(&stop, &mut Silent).unwrap();
    raiser.join().unwrap();
    let saved = state(&config.out_dir, "last");
    assert_eq!(saved.window_cursor, saved.step * 1500 * 2);
    world.run(resumed(&config)).unwrap();
    assert_same_end(&straight.out_dir, &config.out_dir);
}

#[test]
fn a_checkpoint_knows_the_configuration_of_its_run() {
    let world = World::new();
    assert!(recorded(&world.out_dir("out")).unwrap().is_none());
    let config = TrainConfig { dropout: 0.15, ..world.config("out") };
    world.run_until(config.clone(), Some(3)).unwrap();
    let run = recorded(&config.out_dir).unwrap().unwrap();
    assert_eq!(run.step, 3);
    assert!(run.dir.ends_with("checkpoints/step-00000003"));
    let vocab_size = Some(world.trainer(world.config("x")).unwrap().gpt().config().vocab_size);
    let encoding_type = Some(Encoding::Simple);
    assert_eq!(run.config, TrainConfig { vocab_size, encoding_type, ..config.clone() });
    // Resuming changes nothing about what the run started from.
    world.run_until(TrainConfig { init_from: InitFrom::Resume, ..run.config }, Some(4)).unwrap();
    let run = recorded(&config.out_dir).unwrap().unwrap();
    assert_eq!((run.step, run.config.init_from), (4, InitFrom::Scratch));
}

/// A checkpoint of an older program: without the encoding, and with a shape other than the model's.
#[test]
fn what_an_older_checkpoint_lacks_is_found_elsewhere() {
    let world = World::new();
    let config = world.config("out");
    world.run_until(config.clone(), Some(3)).unwrap();
    let path = config.out_dir.join("checkpoints/step-00000003/state.json");
    let mut saved = state(&config.out_dir, "last");
    saved.config.train = TrainConfig { n_layer: 7, encoding_type: None, ..saved.config.train };
    std::fs::write(&path, serde_json::to_vec_pretty(&saved).unwrap()).unwrap();
    update_manifest(&path);
    let run = recorded(&config.out_dir).unwrap().unwrap();
    assert_eq!((run.config.n_layer, run.config.encoding_type), (2, Some(Encoding::Simple)));
    world.run(TrainConfig { init_from: InitFrom::Resume, ..run.config }).unwrap();
}

/// Updates the entry of a changed file in the manifest.
fn update_manifest(path: &Path) {
    let manifest = path.with_file_name("manifest.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = json["files"].as_array_mut().unwrap();
    let entry = files.iter_mut().find(|entry| entry["name"] == name).unwrap();
    entry["bytes"] = bytes.len().into();
    let hash = Sha256::digest(&bytes);
    entry["sha256"] = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    std::fs::write(&manifest, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

#[test]
fn auto_starts_then_resumes_then_reports_that_it_is_finished() {
    let world = World::new();
    let config = TrainConfig { init_from: InitFrom::Auto, ..world.config("out") };
    let (outcome, recording) = world.run_until(config.clone(), Some(5)).unwrap();
    assert_eq!((outcome, recording.summary.unwrap().start_iter), (Outcome::Stopped(2), 0));
    let (outcome, recording) = world.run(config.clone()).unwrap();
    assert_eq!((outcome, recording.summary.unwrap().start_iter), (Outcome::Finished, 5));
    let before = checkpoints(&config.out_dir);
    let (outcome, recording) = world.run(config.clone()).unwrap();
    assert_eq!(outcome, Outcome::AlreadyFinished);
    assert!(recording.steps.is_empty() && recording.evals.is_empty() && recording.saved.is_empty());
    assert_eq!(checkpoints(&config.out_dir), before);
}

#[test]
fn other_threads_are_reported() {
    let world = World::new();
    let config = world.config("out");
    world.run_until(config.clone(), Some(3)).unwrap();
    let (_, recording) = world.run(TrainConfig { threads: Some(2), ..resumed(&config) }).unwrap();
    let notice = recording.notices.concat();
    assert!(notice.contains("1 threads") && notice.contains("2 threads"), "{notice}");
}

#[test]
fn a_stop_before_the_first_step_saves_and_resumes() {
    let world = World::new();
    let config = world.config("out");
    let stop = StopFlag::new();
    stop.raise(15);
    let outcome =
        world.trainer(config.clone()).unwrap().run(&stop, &mut tinygpt_train::Silent).unwrap();
    assert_eq!(outcome, Outcome::Stopped(15));
    assert_eq!(state(&config.out_dir, "last").step, 0);
    let straight = world.config("straight");
    world.run(straight.clone()).unwrap();
    world.run(resumed(&config)).unwrap();
    assert_same_end(&straight.out_dir, &config.out_dir);
    assert_eq!(iters(&config), iters(&straight));
}
