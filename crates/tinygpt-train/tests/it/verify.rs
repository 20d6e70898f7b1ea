//! `verify_resume`: it passes for exact runs, and it can fail.

use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_model::host;
use tinygpt_train::{
    Compared, InitFrom, OnNonFinite, Silent, StopFlag, TrainConfig, compare_runs, verify_resume,
};

use crate::common::World;

/// The check with 5 + 5 steps; `None` if `stop` is raised.
fn verify(config: &TrainConfig, stop: &StopFlag) -> Option<Vec<Compared>> {
    let data = (&config.data_dir, &config.dataset_name, config.encoding_type);
    let prepared = Prepared::open(data.0, data.1, data.2).unwrap();
    verify_resume(&ComputeDevice::open(config.device).unwrap(), config, 5, prepared, stop).unwrap()
}

fn differing(compared: &[Compared]) -> Vec<&str> {
    compared.iter().filter(|one| one.difference.is_some()).map(|one| one.what).collect()
}

#[test]
fn two_halves_equal_the_whole_run_and_out_dir_is_left_alone() {
    let world = World::new();
    for config in [
        world.config("fresh"),
        TrainConfig {
            init_from: InitFrom::Resume,
            checkpoint_interval: Some(2),
            ..world.config("a")
        },
        TrainConfig { on_non_finite: OnNonFinite::Skip, eval_interval: 1, ..world.config("b") },
    ] {
        let compared = verify(&config, &StopFlag::new()).unwrap();
        assert_eq!(differing(&compared), [] as [&str; 0], "{compared:?}");
        let extents: Vec<_> = compared.iter().map(|one| (one.what, &*one.extent)).collect();
        assert_eq!(extents[0].0, "weights");
        assert_eq!(extents[2], ("counters", "step 10, 40 windows"));
        assert!(extents[3].1.starts_with("losses of 10 steps and "), "{extents:?}");
        assert!(!config.out_dir.exists());
    }
}

#[test]
fn a_resume_that_loses_a_bit_is_detected() {
    let world = World::new();
    let whole = TrainConfig { max_iters: 10, ..world.config("whole") };
    world.run(whole.clone()).unwrap();
    let halves = TrainConfig { checkpoint_interval: Some(5), ..world.config("halves") };
    world.run(TrainConfig { max_iters: 5, ..halves.clone() }).unwrap();
    // The resumed run starts with another weight than was saved.
    let resumed = TrainConfig { init_from: InitFrom::Resume, max_iters: 10, ..halves };
    let mut trainer = world.trainer(resumed.clone()).unwrap();
    let weights = trainer.gpt().params().get("wpe.weight").unwrap();
    host::write(weights, |w| w[0] = f32::from_bits(w[0].to_bits() ^ 1 << 12)).unwrap();
    trainer.run(&StopFlag::new(), &mut Silent).unwrap();
    let compared = compare_runs(&whole.out_dir, &resumed.out_dir, 10).unwrap();
    assert!(differing(&compared).starts_with(&["weights", "moments"]), "{compared:?}");
    let first = compared[0].difference.as_ref().unwrap();
    assert!(first.contains("of them, first `"), "{first}");
}

#[test]
fn a_signal_ends_the_check() {
    let world = World::new();
    let config = world.config("out");
    let stop = StopFlag::new();
    stop.raise(15);
    assert_eq!(verify(&config, &stop), None);
}
