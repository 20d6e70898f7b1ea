//! Where a run may start, and what it refuses.

use std::fs;

use candle_core::Device;
use tinygpt_data::{NoProgress, PrepareRequest, prepare};
use tinygpt_model::hf;
use tinygpt_train::checkpoint::{Which, locate};
use tinygpt_train::{ErrorKind, InitFrom, Outcome, TrainConfig, TrainError, model_shape, recorded};

use crate::common::{World, assert_same_end, bytes, checkpoints, message_of, state};

#[test]
fn a_used_directory_is_refused_and_the_hints_work() {
    let world = World::new();
    let config = world.config("out");
    world.run(config.clone()).unwrap();
    let before = bytes(&config.out_dir, "last", "model.safetensors");

    let error = world.run(config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let message = message_of(&error);
    assert!(message.contains("`init_from` resume") && message.contains("`overwrite`"), "{message}");
    assert_eq!(bytes(&config.out_dir, "last", "model.safetensors"), before);

    fs::write(config.out_dir.join("notes.txt"), "mine").unwrap();
    let over = TrainConfig { overwrite: true, max_iters: 3, ..config.clone() };
    assert_eq!(world.run(over).unwrap().0, Outcome::Finished);
    assert_eq!(checkpoints(&config.out_dir), ["step-00000003"]);
    assert_eq!(state(&config.out_dir, "best").step, 3);
    assert_eq!(fs::read_to_string(config.out_dir.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn resuming_nothing_is_refused() {
    let world = World::new();
    let config = TrainConfig { init_from: InitFrom::Resume, ..world.config("out") };
    let error = world.run(config.clone()).unwrap_err();
    assert!(matches!(error, TrainError::NothingToResume(_)), "{error}");
    assert!(message_of(&error).contains("`out_dir`"), "{}", message_of(&error));
    assert!(locate(&config.out_dir, &Which::Best).is_err());
    // A checkpoint is named instead of the run that it belongs to.
    world.run_until(world.config("run"), Some(1)).unwrap();
    for checkpoint in ["run/last", "run/checkpoints/step-00000001"] {
        let error = world.run(TrainConfig { out_dir: world.out_dir(checkpoint), ..config.clone() });
        let (message, run) = (message_of(&error.unwrap_err()), world.out_dir("run"));
        assert!(message.ends_with(&format!("`out_dir` {}", run.display())), "{message}");
    }
}

#[test]
fn a_word_that_is_not_a_model_is_refused_with_the_accepted_words() {
    let world = World::new();
    let run_dir = world.config("out");
    world.run(run_dir.clone()).unwrap();
    for (dir, expected) in [
        (world.out_dir("resum"), "scratch, resume, auto, hub:owner/name, or a directory"),
        (run_dir.out_dir.clone(), "out/best"),
    ] {
        let init_from = InitFrom::Dir(dir);
        let error = world.run(TrainConfig { init_from, ..world.config("new") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn only_text_in_documents_teaches_where_they_end() {
    let world = World::new();
    world.prepare("stories", "the cat sat on a mat and the dog ran to see it.\n<|endoftext|>\n");
    let one = world.trainer(world.config("one")).unwrap().special_tokens();
    let config = TrainConfig { dataset_name: "stories".into(), ..world.config("many") };
    let trainer = world.trainer(config).unwrap();
    let (many, eot) = (trainer.special_tokens(), trainer.prepared().tokenizer.eot_id());
    assert_eq!((many.bos, many.eos), (eot, Some(eot)));
    assert_eq!((one.bos == eot, one.eos), (false, None));
}

#[test]
fn a_second_trainer_in_one_directory_is_refused() {
    let world = World::new();
    let config = world.config("out");
    let first = world.trainer(config.clone()).unwrap();
    let error = world.trainer(config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    drop(first);
    world.trainer(config).unwrap();
}

#[test]
fn a_resume_that_would_be_another_run_names_both_values() {
    let world = World::new();
    world.prepare("other", "a fox and a cat sat in the sun and ate a plum tart! ");
    let config = world.config("out");
    world.run_until(config.clone(), Some(3)).unwrap();
    let resumed = TrainConfig { init_from: InitFrom::Resume, ..config };
    for (changed, expected) in [
        (TrainConfig { n_layer: 3, ..resumed.clone() }, "`n_layer` is 2 there and 3 here"),
        (TrainConfig { n_embd: 32, ..resumed.clone() }, "`n_embd` is 16 there"),
        (TrainConfig { block_size: 8, ..resumed.clone() }, "`block_size` is 16 there"),
        (TrainConfig { bias: false, ..resumed.clone() }, "`bias` is true there"),
        (
            TrainConfig { vocab_size: Some(500), ..resumed.clone() },
            "`vocab_size` is 275 there and 500 here",
        ),
        (TrainConfig { seed: 7, ..resumed.clone() }, "`seed` is 1337 there"),
        (
            TrainConfig { dataset_name: "other".into(), ..resumed.clone() },
            "that run trains on `text`, and this one is to train on `other`\nchoose another \
             `out_dir`",
        ),
    ] {
        let error = world.run(changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(message_of(&error).contains(expected), "{}", message_of(&error));
    }
    // The same words with the same tokenizer, but more of them: other windows, another run.
    let tokenizer = Some(resumed.data_dir.join("text/simple/tokenizer.json"));
    let source = Some(resumed.data_dir.join("../text.txt").into());
    prepare(
        &PrepareRequest {
            dataset_name: "text".into(),
            data_dir: resumed.data_dir.clone(),
            source,
            tokenizer: tokenizer.map(Into::into),
            val_fraction: Some(0.1),
            force: true,
            ..PrepareRequest::default()
        },
        &NoProgress,
    )
    .unwrap();
    let message = message_of(&world.run(resumed.clone()).unwrap_err());
    assert!(message.contains("`text` was prepared again since"), "{message}");
    let anew =
        TrainConfig { init_from: InitFrom::Scratch, dataset_name: "other".into(), ..resumed };
    let message = message_of(&world.run(anew).unwrap_err());
    assert!(message.contains("holds a run on dataset `text`"), "{message}");
    assert!(message.contains("another `out_dir` for `other`"), "{message}");
}

#[test]
fn any_gpt2_directory_can_be_tuned_with_its_own_tokenizer() {
    let world = World::new();
    world.prepare("other", "a fox and a cat sat in the sun and ate a plum tart! ");
    let first = world.config("first");
    world.run(first.clone()).unwrap();
    let best = locate(&first.out_dir, &Which::Best).unwrap();

    let init_from = InitFrom::Dir(best.clone());
    let tuned = TrainConfig { init_from, max_iters: 2, ..world.config("tuned") };
    let (_, recording) = world.run(tuned.clone()).unwrap();
    assert_eq!(recording.notices, [] as [&str; 0]);
    let saved = hf::read_dir(&locate(&tuned.out_dir, &Which::Last).unwrap(), &Device::Cpu).unwrap();
    assert_eq!(saved.config().n_layer, 2);
    // It starts from exactly the weights of the other one.
    let best_loss = state(&first.out_dir, "best").best.unwrap().val_loss;
    assert_eq!(recording.evals[0].val_loss, best_loss);
    // And it can be resumed with the keys it was started with.
    let on = TrainConfig { init_from: InitFrom::Resume, max_iters: 4, ..tuned.clone() };
    assert_eq!(world.run(on).unwrap().0, Outcome::Finished);

    let other = TrainConfig { dataset_name: "other".into(), ..tuned };
    let other = TrainConfig { out_dir: world.out_dir("elsewhere"), ..other };
    let message = message_of(&world.run(other).unwrap_err());
    assert!(message.contains("`other` was prepared with another tokenizer"), "{message}");
    let command = format!("prepare `dataset_name` other `tokenizer` {}", best.display());
    assert!(message.contains(&command), "{message}");
}

#[test]
fn a_model_keeps_its_shape_and_other_values_are_refused_by_name() {
    let world = World::new();
    let first = world.config("first");
    world.run_until(first.clone(), Some(1)).unwrap();
    let init_from = InitFrom::Dir(locate(&first.out_dir, &Which::Last).unwrap());
    let shape = model_shape(&init_from).unwrap().unwrap();
    assert_eq!((shape.n_layer, shape.block_size), (2, 16));
    let tuned = TrainConfig { init_from, ..world.config("tuned") };
    for (key, changed) in [
        ("n_layer", TrainConfig { n_layer: 5, ..tuned.clone() }),
        ("n_head", TrainConfig { n_head: 3, ..tuned.clone() }),
        ("n_embd", TrainConfig { n_embd: 32, ..tuned.clone() }),
        ("bias", TrainConfig { bias: false, ..tuned.clone() }),
        ("vocab_size", TrainConfig { vocab_size: Some(1000), ..tuned.clone() }),
        ("block_size", TrainConfig { block_size: 17, ..tuned.clone() }),
    ] {
        let TrainError::Config(faults) = world.run(changed).unwrap_err() else { panic!("{key}") };
        assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), [key]);
        assert!(faults[0].expected.contains("the model in "), "{}", faults[0]);
        assert!(!tuned.out_dir.exists(), "{key}");
    }
    let all = TrainConfig { n_layer: 5, n_embd: 32, block_size: 99, ..tuned.clone() };
    let TrainError::Config(faults) = world.run(all).unwrap_err() else { panic!("three faults") };
    assert_eq!(faults.len(), 3);
    let mut adopted = TrainConfig { n_layer: 5, n_embd: 32, block_size: 99, ..tuned };
    adopted.take_shape(&shape);
    world.run_until(adopted, Some(1)).unwrap();
}

#[test]
fn a_smaller_block_size_cuts_the_position_table_and_resumes_exactly() {
    let world = World::new();
    let first = world.config("first");
    world.run_until(first.clone(), Some(2)).unwrap();
    let from = locate(&first.out_dir, &Which::Last).unwrap();
    let cut = |name: &str| TrainConfig {
        init_from: InitFrom::Dir(from.clone()),
        block_size: 8,
        ..world.config(name)
    };
    let straight = cut("straight");
    let (_, recording) = world.run(straight.clone()).unwrap();
    assert!(
        recording.notices.concat().contains("8: the model keeps this many of its 16 positions")
    );
    assert_eq!(recording.summary.unwrap().tokens_per_step, 2 * 2 * 8);
    let json = String::from_utf8(bytes(&straight.out_dir, "last", "config.json")).unwrap();
    assert!(json.contains("\"n_positions\": 8") && json.contains("\"n_ctx\": 8"), "{json}");
    let stopped = cut("stopped");
    world.run_until(stopped.clone(), Some(7)).unwrap();
    world.run(TrainConfig { init_from: InitFrom::Resume, ..stopped.clone() }).unwrap();
    assert_same_end(&straight.out_dir, &stopped.out_dir);
    let run = recorded(&stopped.out_dir).unwrap().unwrap();
    assert_eq!((run.config.block_size, run.config.init_from), (8, stopped.init_from));
}

/// Neither the directory nor those above it stay if a run cannot start there.
#[test]
fn a_start_that_is_refused_leaves_nothing_behind() {
    let world = World::new();
    world.prepare("other", "a fox and a cat sat in the sun and ate a plum tart! ");
    let first = world.config("first");
    world.run_until(first.clone(), Some(1)).unwrap();
    let model = InitFrom::Dir(locate(&first.out_dir, &Which::Last).unwrap());
    let new = || world.config("deep/new/run");
    for config in [
        TrainConfig { block_size: 4096, ..new() },
        TrainConfig { vocab_size: Some(10), ..new() },
        TrainConfig { init_from: InitFrom::Resume, ..new() },
        TrainConfig { init_from: InitFrom::Dir(world.out_dir("none")), ..new() },
        TrainConfig { init_from: model.clone(), n_layer: 3, ..new() },
        TrainConfig { init_from: model, dataset_name: "other".into(), ..new() },
    ] {
        assert_eq!(world.run(config).unwrap_err().kind(), ErrorKind::Usage);
        assert!(!world.out_dir("deep").exists());
    }
    world.run_until(new(), Some(1)).unwrap();
    assert!(world.out_dir("deep/new/run/.lock").exists());
}

#[test]
fn a_block_too_large_for_a_split_is_refused_with_the_largest_that_fits() {
    let world = World::new();
    let trainer = world.trainer(world.config("a")).unwrap();
    let (train, val) = (trainer.prepared().train.len(), trainer.prepared().val.len());
    assert!(val < train);
    // Too large for one of them, and for both.
    for block_size in [val, train] {
        let error = world.trainer(TrainConfig { block_size, ..world.config("b") }).unwrap_err();
        let message = message_of(&error);
        let expected = format!(
            "`block_size` is {block_size}, expected at most {}: the training split holds {train} \
             tokens and the validation split {val}",
            val - 1
        );
        assert!(message.contains(&expected), "{message}");
    }
    world.trainer(TrainConfig { block_size: val - 1, ..world.config("b") }).unwrap();
}

#[test]
fn what_does_not_fit_the_data_is_refused() {
    let world = World::new();
    for (config, key) in [
        (TrainConfig { block_size: 4096, ..world.config("a") }, "block_size"),
        (TrainConfig { vocab_size: Some(10), ..world.config("b") }, "vocab_size"),
    ] {
        let error = world.trainer(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn eval_only_writes_nothing() {
    let world = World::new();
    let config = TrainConfig { eval_only: true, ..world.config("out") };
    let (outcome, recording) = world.run(config.clone()).unwrap();
    assert_eq!((outcome, recording.evals.len()), (Outcome::Evaluated, 1));
    assert!(!config.out_dir.exists());
}

#[test]
fn a_run_leaves_its_curves_and_a_summary() {
    let world = World::new();
    let config = TrainConfig { vocab_size: Some(300), sample_at_eval: true, ..world.config("out") };
    let (_, recording) = world.run(config.clone()).unwrap();
    let svg = fs::read_to_string(config.out_dir.join("loss.svg")).unwrap();
    assert!(svg.contains("nats per token"));
    let summary = recording.summary.unwrap();
    assert_eq!(summary.tokens_per_step, 2 * 2 * 16);
    assert_eq!(summary.n_params, 300 * 16 + 16 * 16 + 2 * (12 * 256 + 13 * 16) + 2 * 16);
    let last = recording.evals.last().unwrap();
    assert!((last.perplexity - last.val_loss.exp()).abs() < 1e-3);
    // Every character of this text is one byte.
    let bits = last.val_loss / std::f32::consts::LN_2;
    assert!((last.val_bits_per_byte / bits - 1.0).abs() < 0.05);
    let encoding_type = Some(tinygpt_data::Encoding::Simple);
    assert_eq!(
        state(&config.out_dir, "last").config.train,
        TrainConfig { encoding_type, ..config }
    );
}
