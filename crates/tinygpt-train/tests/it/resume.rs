//! A run that was stopped and resumed is the run that was never stopped.

use tinygpt_train::metrics::{self, Line};
use tinygpt_train::{InitFrom, Outcome, TrainConfig};

use crate::world::{World, assert_same_end, checkpoints, state};

pub(crate) fn resumed(config: &TrainConfig) -> TrainConfig {
    TrainConfig { init_from: InitFrom::Resume, ..config.clone() }
}

/// Iterations of all steps and of all evaluations, in the order of the file.
fn iters(config: &TrainConfig) -> (Vec<u64>, Vec<u64>) {
    let (mut steps, mut evals) = (Vec::new(), Vec::new());
    for line in metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap() {
        match line {
            Line::Step(record) => steps.push(record.iter),
            Line::Skip(_) => {}
            Line::Eval(record) => evals.push(record.iter),
        }
    }
    (steps, evals)
}

/// Dropout is on, each step accumulates two micro-batches, and 20 steps cross an epoch's edge.
#[test]
fn any_chain_of_stops_ends_bit_for_bit_where_the_straight_run_ends() {
    let world = World::new();
    let straight = world.config("straight");
    let (outcome, heard) = world.run(straight.clone()).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let summary = heard.summary.unwrap();
    let windows_per_step = straight.gradient_accumulation_steps * straight.batch_size;
    assert!(20 * windows_per_step > summary.windows_per_epoch, "no epoch edge in this test");

    for stops in [vec![10], vec![8], vec![1, 7, 8, 19]] {
        let config = world.config(&format!("stopped-{stops:?}"));
        for (i, stop) in stops.iter().enumerate() {
            let config = if i == 0 { config.clone() } else { resumed(&config) };
            let (outcome, heard) = world.run_until(config, Some(*stop)).unwrap();
            assert_eq!(outcome, Outcome::Stopped(2));
            assert_eq!(heard.saved.last().unwrap().iter, *stop);
        }
        let (outcome, heard) = world.run(resumed(&config)).unwrap();
        assert_eq!(outcome, Outcome::Finished);
        assert_eq!(heard.notices, [] as [&str; 0]);
        assert_eq!(heard.steps.len() as u64, 20 - stops.last().unwrap());
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
    let (_, heard) = world.run(often.clone()).unwrap();
    assert_eq!(heard.evals.len(), 21);
    assert_eq!(heard.samples.len(), 21);
    world.run(never.clone()).unwrap();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |config: &TrainConfig| crate::world::bytes(&config.out_dir, "last", file);
        assert!(read(&often) == read(&never), "{file} differs");
    }
}

#[test]
fn a_longer_run_and_another_learning_rate_are_taken_and_said() {
    let world = World::new();
    let config = world.config("out");
    world.run(config.clone()).unwrap();
    let longer = TrainConfig { max_iters: 23, min_lr: 5e-4, ..resumed(&config) };
    let (outcome, heard) = world.run(longer).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let notice = heard.notices.concat();
    assert!(notice.contains("max_iters 20 → 23"), "{notice}");
    assert!(notice.contains("min_lr 0.001 → 0.0005"), "{notice}");
    assert_eq!(heard.steps.iter().map(|s| s.iter).collect::<Vec<_>>(), [20, 21, 22]);
    assert_eq!(heard.steps[0].learning_rate, 5e-4);
    assert_eq!(state(&config.out_dir, "last").step, 23);
}

#[test]
fn auto_starts_then_goes_on_then_says_that_it_is_finished() {
    let world = World::new();
    let config = TrainConfig { init_from: InitFrom::Auto, ..world.config("out") };
    let (outcome, heard) = world.run_until(config.clone(), Some(5)).unwrap();
    assert_eq!((outcome, heard.summary.unwrap().start_iter), (Outcome::Stopped(2), 0));
    let (outcome, heard) = world.run(config.clone()).unwrap();
    assert_eq!((outcome, heard.summary.unwrap().start_iter), (Outcome::Finished, 5));
    let before = checkpoints(&config.out_dir);
    let (outcome, heard) = world.run(config.clone()).unwrap();
    assert_eq!(outcome, Outcome::AlreadyFinished);
    assert!(heard.steps.is_empty() && heard.evals.is_empty() && heard.saved.is_empty());
    assert_eq!(checkpoints(&config.out_dir), before);
}

#[test]
fn other_threads_are_said() {
    let world = World::new();
    let config = world.config("out");
    world.run_until(config.clone(), Some(3)).unwrap();
    let (_, heard) = world.run(TrainConfig { threads: Some(2), ..resumed(&config) }).unwrap();
    let notice = heard.notices.concat();
    assert!(notice.contains("1 threads") && notice.contains("2 threads"), "{notice}");
}

#[test]
fn a_stop_before_the_first_step_saves_and_resumes() {
    let world = World::new();
    let config = world.config("out");
    let stop = tinygpt_train::StopFlag::new();
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
