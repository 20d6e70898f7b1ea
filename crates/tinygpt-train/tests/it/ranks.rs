//! Several ranks make the run of one process.

use std::thread;

use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::ranks::{Collective, Lost, Ranks, RanksError};
use tinygpt_train::{
    ErrorKind, InitFrom, OnNonFinite, Outcome, Report, StepRecord, StopFlag, TrainConfig,
    TrainError, Trainer,
};

use crate::common::{Recording, World, assert_same_end, bytes, state};
use crate::rank_threads::ThreadRank;

type Ran = Result<(Outcome, Recording), TrainError>;

fn prepared(config: &TrainConfig) -> Prepared {
    Prepared::open(&config.data_dir, &config.dataset_name, config.encoding_type).unwrap()
}

fn run_rank(config: TrainConfig, rank: impl Collective + 'static, stop_after: Option<u64>) -> Ran {
    let (device, prepared) = (ComputeDevice::open(config.device).unwrap(), prepared(&config));
    let mut trainer = Trainer::on_ranks(&device, config, prepared, Ranks::new(Box::new(rank)))?;
    let stop = StopFlag::new();
    let mut recording = Recording::stopping(&stop, stop_after);
    let outcome = trainer.run(&stop, &mut recording)?;
    Ok((outcome, recording))
}

/// Runs each of `configs` as a rank, and stops rank 0 by a signal after `stop_after` steps.
fn run_each(configs: Vec<TrainConfig>, stop_after: Option<u64>) -> Vec<Ran> {
    let ranks = ThreadRank::all(configs.len());
    thread::scope(|scope| {
        let start = |(config, rank): (TrainConfig, ThreadRank)| {
            let stop_after = stop_after.filter(|_| rank.rank() == 0);
            scope.spawn(move || run_rank(config, rank, stop_after))
        };
        let running: Vec<_> = configs.into_iter().zip(ranks).map(start).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs `config` on `n_ranks` and returns what rank 0 has recorded.
fn run(config: &TrainConfig, n_ranks: usize, stop_after: Option<u64>) -> (Outcome, Recording) {
    let mut all = run_each(vec![config.clone(); n_ranks], stop_after);
    let first = all.remove(0).unwrap();
    for other in all {
        let (outcome, recording) = other.unwrap();
        assert!(recording.steps.is_empty() && recording.saved.is_empty(), "only rank 0 reports");
        let stopped = |outcome| matches!(outcome, Outcome::Stopped(_));
        assert_eq!(stopped(outcome), stopped(first.0));
    }
    first
}

fn losses(recording: &Recording) -> Vec<f32> {
    recording.steps.iter().map(|step| step.loss).collect()
}

/// 50 steps with dropout, 3 micro-batches of 5 windows, and evaluations whose last batch is smaller.
fn config(world: &World, out_dir: &str) -> TrainConfig {
    TrainConfig {
        batch_size: 5,
        gradient_accumulation_steps: 3,
        max_iters: 50,
        lr_decay_iters: 50,
        eval_interval: 10,
        eval_iters: 20,
        learning_rate: 1e-3,
        min_lr: 1e-4,
        sample_at_eval: true,
        check_ranks: 7,
        ..world.config(out_dir)
    }
}

#[test]
fn ranks_make_the_run_of_one_process() {
    let world = World::new();
    let (_, alone) = world.run(config(&world, "alone")).unwrap();
    for n_ranks in [2, 3, 4] {
        let name = format!("{n_ranks}");
        let (outcome, ranks) = run(&config(&world, &name), n_ranks, None);
        assert_eq!(outcome, Outcome::Finished);
        let (one, many) = (losses(&alone), losses(&ranks));
        let difference = |(one, many): (&f32, &f32)| ((one - many) / one).abs();
        let worst = one.iter().zip(&many).map(difference).fold(0.0, f32::max);
        assert!(many.len() == 50 && worst < 1e-6, "{n_ranks} ranks: {worst}");
        for (one, many) in alone.evals.iter().zip(&ranks.evals) {
            assert!((one.val_loss - many.val_loss).abs() < 1e-6 * one.val_loss);
            assert!((one.train_loss - many.train_loss).abs() < 1e-6 * one.train_loss);
        }
        assert_eq!(ranks.samples.len(), alone.samples.len());

        let again = format!("{n_ranks}-again");
        let (_, again_ranks) = run(&config(&world, &again), n_ranks, None);
        assert_eq!(losses(&again_ranks), many, "twice on {n_ranks} ranks");
        assert_same_end(&world.out_dir(&name), &world.out_dir(&again));
        assert_eq!(state(&world.out_dir(&name), "last").ranks, n_ranks);
    }
}

/// Weights that were not trained are the same everywhere, so the losses must be equal to the bit.
#[test]
fn a_divided_evaluation_has_the_result_of_one_process() {
    let world = World::new();
    let config = |out_dir| TrainConfig { eval_only: true, ..config(&world, out_dir) };
    let (_, alone) = world.run(config("alone")).unwrap();
    for n_ranks in [2, 3, 7] {
        assert_eq!(run(&config("ranks"), n_ranks, None).1.evals, alone.evals);
    }
    assert!(!world.out_dir("ranks").exists(), "nothing is written");
}

/// The gradients of two ranks are added as those of two worker threads.
#[test]
fn two_ranks_of_one_thread_are_two_threads_to_the_bit() {
    let world = World::new();
    let config = |out_dir, threads| TrainConfig {
        gradient_accumulation_steps: 1,
        threads: Some(threads),
        max_iters: 20,
        ..config(&world, out_dir)
    };
    let (_, threads) = world.run(config("threads", 2)).unwrap();
    let (_, ranks) = run(&config("ranks", 1), 2, None);
    assert_eq!(losses(&ranks), losses(&threads));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let of = |name| bytes(&world.out_dir(name), "last", file);
        assert!(of("threads") == of("ranks"), "{file}");
    }
}

#[test]
fn a_run_resumes_on_another_number_of_ranks() {
    let world = World::new();
    let (_, alone) = world.run(config(&world, "alone")).unwrap();
    let resumed = TrainConfig { init_from: InitFrom::Resume, ..config(&world, "moved") };
    let (outcome, first) = run(&config(&world, "moved"), 2, Some(13));
    assert_eq!(outcome, Outcome::Stopped(2));
    let (_, second) = world.run_until(resumed.clone(), Some(31)).unwrap();
    let is_reported = |text: &String| text.contains("ranks 2 → 1");
    assert!(second.notices.iter().any(is_reported), "{:?}", second.notices);
    let (_, third) = run(&resumed, 2, None);
    let all: Vec<f32> = [&first, &second, &third].into_iter().flat_map(losses).collect();
    assert_eq!(all.len(), 50);
    for (step, (one, many)) in losses(&alone).iter().zip(&all).enumerate() {
        assert!(((one - many) / one).abs() < 1e-6, "step {step}: {one} {many}");
    }
    let metrics = String::from_utf8(bytes(&world.out_dir("moved"), "", "metrics.jsonl")).unwrap();
    let n_changes = metrics.lines().filter(|line| line.contains(r#""ranks":["#)).count();
    assert_eq!(n_changes, 2, "both changes are logged");
}

/// Raises a stop flag on one rank only.
struct StopAt(StopFlag);

impl Report for StopAt {
    fn step(&mut self, record: &StepRecord) {
        if record.iter == 4 {
            self.0.raise(15);
        }
    }
}

#[test]
fn a_signal_that_reaches_one_rank_stops_all() {
    let world = World::new();
    let config = TrainConfig { gradient_accumulation_steps: 8, ..config(&world, "out") };
    let raised = StopFlag::new();
    let ends: Vec<_> = thread::scope(|scope| {
        let start = |rank: ThreadRank| {
            let (config, raised) = (config.clone(), raised.clone());
            scope.spawn(move || {
                let is_first = rank.rank() == 0;
                let device = ComputeDevice::open(config.device).unwrap();
                let data = prepared(&config);
                let ranks = Ranks::new(Box::new(rank));
                let mut trainer = Trainer::on_ranks(&device, config, data, ranks).unwrap();
                // Rank 1 has the flag that the report of rank 0 raises.
                let own = if is_first { StopFlag::new() } else { raised.clone() };
                trainer.run(&own, &mut StopAt(raised)).unwrap()
            })
        };
        let running: Vec<_> = ThreadRank::all(2).into_iter().map(start).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ends, [Outcome::Stopped(15), Outcome::Stopped(15)]);
    assert_eq!(state(&world.out_dir("out"), "last").step, 5);
}

/// A rank that computes with another gradient than it was given, or disappears.
#[derive(Debug)]
struct Faulty {
    rank: ThreadRank,
    n_sums: u32,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// One value of a sum is another after this many sums.
    Value(u32),
    /// It ends after this many sums.
    Death(u32),
    /// A sum is NaN on every rank.
    NaN(u32),
}

impl Collective for Faulty {
    fn rank(&self) -> usize {
        self.rank.rank()
    }

    fn n_ranks(&self) -> usize {
        self.rank.n_ranks()
    }

    fn start_sum(&mut self, mut values: Vec<f32>) -> Result<(), Lost> {
        self.n_sums += 1;
        if self.fault == Fault::Death(self.n_sums) {
            return Err(Lost { ranks: Vec::new(), reason: "this rank is gone".to_owned() });
        }
        if self.fault == Fault::NaN(self.n_sums) {
            values[0] = f32::NAN;
        }
        self.rank.start_sum(values)
    }

    fn finish_sums(&mut self, timeout: std::time::Duration) -> Result<Vec<Vec<f32>>, Lost> {
        let mut sums = self.rank.finish_sums(timeout)?;
        if self.fault == Fault::Value(self.n_sums) {
            sums[0][3] += 0.01;
        }
        Ok(sums)
    }

    fn broadcast(&mut self, values: &mut [f32], timeout: std::time::Duration) -> Result<(), Lost> {
        self.rank.broadcast(values, timeout)
    }

    fn gather(
        &mut self,
        record: &[u8],
        timeout: std::time::Duration,
    ) -> Result<Vec<Vec<u8>>, Lost> {
        self.rank.gather(record, timeout)
    }
}

/// Two ranks, the second with a fault.
fn run_with(config: &TrainConfig, fault: Fault) -> Vec<Ran> {
    thread::scope(|scope| {
        let mut ranks = ThreadRank::all(2);
        let second = Faulty { rank: ranks.remove(1), n_sums: 0, fault };
        let (config_0, first) = (config.clone(), ranks.remove(0));
        let first = scope.spawn(move || run_rank(config_0, first, None));
        let second = scope.spawn(move || run_rank(config.clone(), second, None));
        [first, second].map(|thread| thread.join().unwrap()).into()
    })
}

#[test]
fn weights_that_differ_end_the_run_before_they_are_saved() {
    let world = World::new();
    let config = TrainConfig { check_ranks: 1000, ..config(&world, "out") };
    let ends = run_with(&config, Fault::Value(3));
    let error = ends[0].as_ref().unwrap_err();
    assert!(matches!(error, TrainError::Ranks(RanksError::WeightsDiffer { rank: 1, step: 10 })));
    assert_eq!(error.kind(), ErrorKind::Ranks);
    assert!(!world.out_dir("out").join("last").exists());
    assert!(matches!(ends[1], Err(TrainError::Ranks(RanksError::Failed { rank: 0, .. }))));
    let often = TrainConfig { check_ranks: 4, overwrite: true, ..config };
    let error = run_with(&often, Fault::Value(3)).remove(0).unwrap_err();
    assert!(matches!(error, TrainError::Ranks(RanksError::WeightsDiffer { rank: 1, step: 4 })));
}

#[test]
fn a_rank_that_disappears_is_named_in_time_and_the_last_checkpoint_is_good() {
    let world = World::new();
    let config = TrainConfig { rank_timeout: 0.5, ..config(&world, "out") };
    let begin = std::time::Instant::now();
    let error = run_with(&config, Fault::Death(25)).remove(0).unwrap_err();
    let TrainError::Ranks(RanksError::Lost { lost, step: 24 }) = &error else { panic!("{error}") };
    assert_eq!((lost.ranks.as_slice(), error.kind()), (&[1][..], ErrorKind::Ranks));
    assert!(begin.elapsed().as_secs() < 20 && error.hint().unwrap().contains("resume"));
    let resumed = TrainConfig { init_from: InitFrom::Resume, ..config };
    assert_eq!(run(&resumed, 2, None).0, Outcome::Finished);
}

#[test]
fn a_step_that_is_not_finite_is_skipped_by_all_or_ends_all() {
    let world = World::new();
    let skips = TrainConfig { on_non_finite: OnNonFinite::Skip, ..config(&world, "skips") };
    let ends = run_with(&skips, Fault::NaN(4));
    let (outcome, recording) = ends[0].as_ref().unwrap();
    assert_eq!(
        (*outcome, recording.skips.len(), recording.steps.len()),
        (Outcome::Finished, 1, 49)
    );
    let stops = config(&world, "stops");
    let mut ends = run_with(&stops, Fault::NaN(4));
    let error = ends.remove(0).unwrap_err();
    assert!(matches!(error, TrainError::NonFinite { iter: 3, .. }), "{error}");
    let other = ends.remove(0).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NonFinite, "{other}");
}

#[test]
fn ranks_that_would_train_another_run_are_refused_by_key() {
    let world = World::new();
    world.prepare("other", "the cow stood on a hill and the pig came to eat it. ");
    let base = config(&world, "out");
    let others: [(&str, TrainConfig); 7] = [
        ("learning_rate", TrainConfig { learning_rate: 2e-3, ..base.clone() }),
        ("batch_size", TrainConfig { batch_size: 4, ..base.clone() }),
        ("seed", TrainConfig { seed: 1, ..base.clone() }),
        ("dropout", TrainConfig { dropout: 0.0, ..base.clone() }),
        ("n_layer", TrainConfig { n_layer: 1, ..base.clone() }),
        ("threads", TrainConfig { threads: Some(2), ..base.clone() }),
        ("dataset_name", TrainConfig { dataset_name: "other".to_owned(), ..base.clone() }),
    ];
    for (expected, other) in others {
        for end in run_each(vec![base.clone(), base.clone(), other], None) {
            let error = end.unwrap_err();
            let TrainError::Ranks(RanksError::Differs { rank, key, .. }) = &error else {
                panic!("{expected}: {error}")
            };
            assert_eq!((*rank, key.as_str(), error.kind()), (2, expected, ErrorKind::Usage));
        }
        assert!(!world.out_dir("out").exists(), "nothing is written");
    }
    let elsewhere = TrainConfig { out_dir: world.out_dir("elsewhere"), ..base.clone() };
    let ends = run_each(vec![base, elsewhere], None);
    assert!(ends.into_iter().all(|end| end.is_ok()), "only rank 0 uses its `out_dir`");
    assert!(!world.out_dir("elsewhere").exists());
}

#[test]
fn an_error_of_rank_0_ends_all_with_its_kind() {
    let world = World::new();
    let config = config(&world, "out");
    run(&config, 2, None);
    let ends = run_each(vec![config.clone(); 2], None);
    assert!(matches!(ends[0], Err(TrainError::UsedOutDir { .. })));
    let error = ends[1].as_ref().unwrap_err();
    assert!(matches!(error, TrainError::Ranks(RanksError::Failed { rank: 0, .. })), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);

    let small = TrainConfig { batch_size: 1, gradient_accumulation_steps: 2, ..config };
    let small = TrainConfig { overwrite: true, ..small };
    for end in run_each(vec![small; 3], None) {
        let error = end.unwrap_err();
        assert!(matches!(error, TrainError::Ranks(RanksError::TooMany { .. })), "{error}");
    }
}
