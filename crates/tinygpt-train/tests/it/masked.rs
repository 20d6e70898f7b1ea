//! Runs on tokens of which only some are learned.

use std::ops::ControlFlow;
use std::thread;

use tinygpt_data::{IGNORED_TARGET, Loader, Prepared, TokenDataset};
use tinygpt_model::{ComputeDevice, Device, Gpt, ModelConfig};
use tinygpt_train::ranks::Ranks;
use tinygpt_train::{EvalSet, Rows, StopFlag, TrainConfig, Trainer};

use crate::common::{Recording, World, assert_same_end, message_of};
use crate::rank_threads::ThreadRank;

/// Nothing of the first 200 tokens, each third of the next 200, and so on in turns.
fn uneven(position: usize) -> bool {
    position / 200 % 2 == 1 && position.is_multiple_of(3)
}

/// The dataset of `config` with masks by position.
fn masked(config: &TrainConfig, is_learned: fn(usize) -> bool) -> Prepared {
    let data = (&config.data_dir, &config.dataset_name, config.encoding_type);
    let mut prepared = Prepared::open(data.0, data.1, data.2).unwrap();
    for stream in [&mut prepared.train, &mut prepared.val] {
        let mask = (0..stream.len()).map(|i| u32::from(is_learned(i) || i < 20)).collect();
        *stream = stream.clone().with_mask(TokenDataset::from_ids(mask)).unwrap();
    }
    prepared
}

fn run_on(ranks: Ranks, config: TrainConfig, is_learned: fn(usize) -> bool) -> Recording {
    let device = ComputeDevice::open(config.device).unwrap();
    let prepared = masked(&config, is_learned);
    let mut trainer = Trainer::on_ranks(&device, config, prepared, ranks).unwrap();
    let mut recording = Recording::default();
    trainer.run(&StopFlag::new(), &mut recording).unwrap();
    recording
}

fn config(world: &World, out_dir: &str) -> TrainConfig {
    TrainConfig { dropout: 0.0, learning_rate: 1e-3, min_lr: 1e-4, ..world.config(out_dir) }
}

/// Asserts that two runs have the same losses and gradient norms, within `bound` of each.
fn assert_same_steps(left: &Recording, right: &Recording, bound: f32) {
    assert_eq!(left.steps.len(), right.steps.len());
    for (left, right) in left.steps.iter().zip(&right.steps) {
        for (left, right) in [(left.loss, right.loss), (left.grad_norm, right.grad_norm)] {
            assert!((left - right).abs() <= bound * right, "{left} {right}");
        }
    }
}

#[test]
fn accumulated_batches_with_uneven_masks_make_the_steps_of_one_large_batch() {
    let world = World::new();
    let config = |out_dir, batch_size, gradient_accumulation_steps| TrainConfig {
        batch_size,
        gradient_accumulation_steps,
        ..config(&world, out_dir)
    };
    let large = run_on(Ranks::alone(), config("large", 8, 1), uneven);
    let small = run_on(Ranks::alone(), config("small", 2, 4), uneven);
    assert_eq!(large.steps.len(), 20);
    assert_same_steps(&small, &large, 1e-5);
}

#[test]
fn ranks_make_the_masked_run_of_one_process() {
    let world = World::new();
    let config = |out_dir| TrainConfig {
        batch_size: 5,
        gradient_accumulation_steps: 3,
        dropout: 0.2,
        eval_iters: 20,
        check_ranks: 7,
        ..config(&world, out_dir)
    };
    let alone = run_on(Ranks::alone(), config("alone"), uneven);
    let config = &config("ranks");
    let both = thread::scope(|scope| {
        let start =
            |rank| scope.spawn(|| run_on(Ranks::new(Box::new(rank)), config.clone(), uneven));
        let running: Vec<_> = ThreadRank::all(2).into_iter().map(start).collect();
        running.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
    });
    assert_same_steps(&both[0], &alone, 1e-5);
    assert!(!alone.evals.is_empty() && both[0].evals.len() == alone.evals.len());
    for (one, two) in alone.evals.iter().zip(&both[0].evals) {
        let pairs = [
            (one.train_loss, two.train_loss),
            (one.val_loss, two.val_loss),
            (one.val_bits_per_byte, two.val_bits_per_byte),
        ];
        for (one, two) in pairs {
            assert!((one - two).abs() < 1e-5 * one, "{one} {two}");
        }
    }
    assert_eq!(both[0].evals[0], alone.evals[0], "before the first step, to the bit");
}

#[test]
fn a_mask_that_learns_everything_changes_no_bit() {
    let world = World::new();
    let config = |out_dir| world.config(out_dir);
    let (_, plain) = world.run(config("plain")).unwrap();
    let masked = run_on(Ranks::alone(), config("masked"), |_| true);
    assert_same_steps(&masked, &plain, 0.0);
    assert_eq!(masked.evals, plain.evals);
    assert_same_end(&world.out_dir("masked"), &world.out_dir("plain"));
}

/// Such a step is made, with gradient 0.
#[test]
fn steps_without_a_learned_target_have_loss_0() {
    let world = World::new();
    let config = TrainConfig {
        batch_size: 1,
        gradient_accumulation_steps: 1,
        eval_iters: 100,
        ..config(&world, "run")
    };
    let run = run_on(Ranks::alone(), config, |i| i < 100);
    assert_eq!((run.steps.len(), run.skips.len()), (20, 0));
    let empty = run.steps.iter().filter(|step| step.loss == 0.0 && step.grad_norm == 0.0).count();
    let learned = run.steps.iter().filter(|step| step.loss > 1.0 && step.grad_norm > 0.0).count();
    assert!(empty > 10 && learned > 0 && empty + learned == 20, "{empty} {learned}");
}

#[test]
fn an_evaluation_is_the_mean_over_learned_targets() {
    let world = World::new();
    let prepared = masked(&config(&world, "none"), uneven);
    let (stream, tokenizer) = (&prepared.train, &prepared.tokenizer);
    let shape = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: 16,
        n_layer: 1,
        n_head: 1,
        n_embd: 8,
        ..ModelConfig::default()
    };
    let mut gpt = Gpt::init(shape, 1, &Device::Cpu).unwrap();
    let of = (Rows::Stream, tokenizer.eot_id());
    let found = EvalSet::new(of, stream, 100, (3, 16)).unwrap();
    let found =
        found.loss(&mut gpt, tokenizer, &mut || ControlFlow::Continue(())).unwrap().unwrap();

    let (byte_lengths, v) = (tokenizer.byte_lengths(), tokenizer.vocab_size());
    let loader = Loader::evaluation(stream, 3, 16, 100).unwrap();
    let (mut nats, mut n_tokens, mut n_bytes) = (0.0, 0.0, 0.0);
    for batch in (0..loader.n_batches() as u64).map(|i| loader.batch(i).unwrap()) {
        let logits = gpt.logits(&batch.inputs, batch.batch_size, 16).unwrap();
        let rows = logits.chunks(v).zip(batch.targets);
        for (row, target) in rows.filter(|(_, target)| *target != IGNORED_TARGET) {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            nats += sum.ln() - f64::from(row[target as usize]);
            n_tokens += 1.0;
            n_bytes += f64::from(byte_lengths[target as usize]);
        }
    }
    assert!(n_tokens > 50.0 && n_tokens < 0.4 * stream.len() as f64, "{n_tokens}");
    assert!((found.nats_per_token / (nats / n_tokens) - 1.0).abs() < 1e-5, "{found:?}");
    let bits_per_byte = nats / n_bytes / std::f64::consts::LN_2;
    assert!((found.bits_per_byte / bits_per_byte - 1.0).abs() < 1e-5, "{found:?}");
}

#[test]
fn a_mask_without_anything_to_evaluate_is_refused() {
    let world = World::new();
    let mut prepared = masked(&config(&world, "none"), uneven);
    let nothing = TokenDataset::from_ids(vec![0; prepared.val.len()]);
    prepared.val = prepared.val.clone().with_mask(nothing).unwrap();
    let error = Trainer::new(config(&world, "none"), prepared).map(drop).unwrap_err();
    let message = message_of(&error);
    assert!(message.contains("nothing to evaluate") && message.contains("eval_iters"), "{message}");
}
