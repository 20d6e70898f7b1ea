//! What the number of threads changes, and what it does not.

use tinygpt_train::{StepRecord, TrainConfig};

use crate::common::World;

fn losses(world: &World, threads: usize, out_dir: &str) -> Vec<f32> {
    let config = TrainConfig {
        threads: Some(threads),
        batch_size: 5,
        max_iters: 50,
        lr_decay_iters: 50,
        eval_interval: 1000,
        ..world.config(out_dir)
    };
    let loss = |record: &StepRecord| record.loss;
    world.run(config).unwrap().1.steps.iter().map(loss).collect()
}

/// With several threads the gradients of the workers are added in a fixed order, which differs from
/// the order of a single thread.
#[test]
fn the_same_threads_give_the_same_bits_and_others_the_same_run() {
    let world = World::new();
    let one = losses(&world, 1, "one");
    assert_eq!(one.len(), 50);
    assert!(one[49] < 0.8 * one[0], "nothing was learned: {} to {}", one[0], one[49]);
    for threads in [1, 2, 3, 5] {
        let many = losses(&world, threads, &format!("{threads}"));
        let again = losses(&world, threads, &format!("{threads}-again"));
        assert_eq!(many, again, "{threads} threads, twice");
        for (step, (one, many)) in one.iter().zip(&many).enumerate() {
            let difference = (one - many).abs() / one;
            assert!(
                difference < 1e-4,
                "step {step}: {many} with {threads} threads, {one} with one"
            );
        }
    }
}
