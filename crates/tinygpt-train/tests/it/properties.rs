//! Properties of the training loop that hold for every model.

use tinygpt_train::{Outcome, TrainConfig};

use crate::common::{World, bytes};

#[test]
fn micro_batches_give_the_step_of_one_large_batch() {
    let world = World::new();
    let large = TrainConfig {
        dropout: 0.0,
        batch_size: 4,
        gradient_accumulation_steps: 1,
        ..world.config("large")
    };
    let small = TrainConfig {
        batch_size: 1,
        gradient_accumulation_steps: 4,
        out_dir: world.out_dir("small"),
        ..large.clone()
    };
    let (_, large) = world.run(large).unwrap();
    let (_, small) = world.run(small).unwrap();
    for (large, small) in large.steps.iter().zip(&small.steps) {
        assert!((large.loss / small.loss - 1.0).abs() < 1e-4, "{large:?} {small:?}");
        assert!((large.grad_norm / small.grad_norm - 1.0).abs() < 1e-3, "{large:?} {small:?}");
    }
    let (large, small) = (&large.steps[0], &small.steps[0]);
    assert!((large.grad_norm / small.grad_norm - 1.0).abs() < 1e-5, "{large:?} {small:?}");
}

#[test]
fn exactly_max_iters_updates_and_the_loss_falls() {
    let world = World::new();
    let config = TrainConfig {
        max_iters: 60,
        lr_decay_iters: 60,
        dropout: 0.0,
        eval_interval: 25,
        ..world.config("out")
    };
    let (outcome, recording) = world.run(config).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(
        recording.steps.iter().map(|s| s.iter).collect::<Vec<_>>(),
        (0..60).collect::<Vec<_>>()
    );
    assert_eq!(recording.evals.iter().map(|e| e.iter).collect::<Vec<_>>(), [0, 25, 50, 60]);
    let (first, last) = (&recording.evals[0], &recording.evals[3]);
    assert!(last.val_loss < first.val_loss - 1.0, "{first:?} {last:?}");
    assert_eq!(recording.saved.last().unwrap().iter, 60);
}

#[test]
fn clipping_bounds_the_update_and_zero_switches_it_off() {
    let world = World::new();
    let run = |name: &str, grad_clip: f64| {
        let config = TrainConfig { grad_clip, max_iters: 5, ..world.config(name) };
        let (_, recording) = world.run(config.clone()).unwrap();
        (recording.steps[0].grad_norm, bytes(&config.out_dir, "last", "optimizer.safetensors"))
    };
    let (norm, off) = run("off", 0.0);
    let (norm_far, far) = run("far", 1e9);
    let (norm_tight, tight) = run("tight", f64::from(norm) / 2.0);
    assert!(off == far, "a limit that is never reached changes nothing");
    assert!(off != tight, "a limit below the norm changes the moments");
    assert_eq!((norm, norm), (norm_far, norm_tight), "the norm is reported before clipping");
}

#[test]
fn the_seed_decides_and_nothing_else_does() {
    let world = World::new();
    let run = |name: &str, seed: u64| {
        let config = TrainConfig { seed, max_iters: 4, ..world.config(name) };
        world.run(config.clone()).unwrap();
        bytes(&config.out_dir, "last", "model.safetensors")
    };
    let first = run("first", 1);
    assert!(first == run("again", 1));
    assert!(first != run("other", 2));
}
