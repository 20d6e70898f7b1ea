//! Where a run may start, and what it refuses.

use std::fs;

use candle_core::Device;
use tinygpt_data::{NoProgress, PrepareRequest, prepare};
use tinygpt_model::hf;
use tinygpt_train::checkpoint::{Which, locate};
use tinygpt_train::{ErrorKind, InitFrom, Outcome, TrainConfig, TrainError};

use crate::world::{World, bytes, checkpoints, state};

#[test]
fn a_used_directory_is_refused_and_named_ways_on_work() {
    let world = World::new();
    let config = world.config("out");
    world.run(config.clone()).unwrap();
    let before = bytes(&config.out_dir, "last", "model.safetensors");

    let error = world.run(config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains("--init-from resume") && message.contains("--overwrite"), "{message}");
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
    assert!(locate(&config.out_dir, &Which::Best).is_err());
}

#[test]
fn a_word_that_is_no_model_is_refused_with_the_words_there_are() {
    let world = World::new();
    let run_dir = world.config("out");
    world.run(run_dir.clone()).unwrap();
    for (dir, expected) in [
        (world.out_dir("resum"), "scratch, resume, auto, hub:owner/name, or a directory"),
        (run_dir.out_dir.clone(), "out/best"),
    ] {
        let init_from = InitFrom::Dir(dir);
        let error = world.run(TrainConfig { init_from, ..world.config("new") }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
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
fn two_trainers_in_one_directory_are_one_too_many() {
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
        (TrainConfig { n_layer: 3, ..resumed.clone() }, "`n_layer` was 2"),
        (TrainConfig { n_embd: 32, ..resumed.clone() }, "`n_embd` was 16"),
        (TrainConfig { block_size: 8, ..resumed.clone() }, "`block_size` was 16"),
        (TrainConfig { bias: false, ..resumed.clone() }, "`bias` was true"),
        (TrainConfig { vocab_size: Some(500), ..resumed.clone() }, "`vocab_size` was null"),
        (TrainConfig { seed: 7, ..resumed.clone() }, "`seed` was 1337"),
        (TrainConfig { dataset_name: "other".into(), ..resumed.clone() }, "prepare"),
    ] {
        let error = world.run(changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
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
    let error = world.run(resumed).unwrap_err().to_string();
    assert!(error.contains("fingerprint of the data"), "{error}");
}

#[test]
fn any_gpt2_directory_can_be_tuned_and_its_tokenizer_rules() {
    let world = World::new();
    world.prepare("other", "a fox and a cat sat in the sun and ate a plum tart! ");
    let first = world.config("first");
    world.run(first.clone()).unwrap();
    let best = locate(&first.out_dir, &Which::Best).unwrap();

    let tuned = TrainConfig {
        init_from: InitFrom::Dir(best.clone()),
        n_layer: 5,
        max_iters: 2,
        ..world.config("tuned")
    };
    let (_, heard) = world.run(tuned.clone()).unwrap();
    assert!(heard.notices.concat().contains("n_layer 2"), "{:?}", heard.notices);
    let saved = hf::read_dir(&locate(&tuned.out_dir, &Which::Last).unwrap(), &Device::Cpu).unwrap();
    assert_eq!(saved.config().n_layer, 2);
    // It starts with the very weights of the other one.
    let best_loss = state(&first.out_dir, "best").best.unwrap().val_loss;
    assert_eq!(heard.evals[0].val_loss, best_loss);
    // And it can be resumed with the keys it was started with.
    let on = TrainConfig { init_from: InitFrom::Resume, max_iters: 4, ..tuned.clone() };
    assert_eq!(world.run(on).unwrap().0, Outcome::Finished);

    let other = TrainConfig { dataset_name: "other".into(), ..tuned };
    let other = TrainConfig { out_dir: world.out_dir("elsewhere"), ..other };
    let error = world.run(other).unwrap_err().to_string();
    let command = format!("prepare --dataset-name other --tokenizer {}", best.display());
    assert!(error.contains(&command), "{error}");
}

#[test]
fn what_does_not_fit_the_data_is_refused() {
    let world = World::new();
    for (config, key) in [
        (TrainConfig { block_size: 4096, ..world.config("a") }, "block_size"),
        (TrainConfig { vocab_size: Some(10), ..world.config("b") }, "vocab_size"),
    ] {
        let error = world.trainer(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn eval_only_writes_nothing() {
    let world = World::new();
    let config = TrainConfig { eval_only: true, ..world.config("out") };
    let (outcome, heard) = world.run(config.clone()).unwrap();
    assert_eq!((outcome, heard.evals.len()), (Outcome::Evaluated, 1));
    assert!(!config.out_dir.exists());
}

#[test]
fn a_run_leaves_its_curves_and_a_summary_of_what_it_was() {
    let world = World::new();
    let config = TrainConfig { vocab_size: Some(300), sample_at_eval: true, ..world.config("out") };
    let (_, heard) = world.run(config.clone()).unwrap();
    let svg = fs::read_to_string(config.out_dir.join("loss.svg")).unwrap();
    assert!(svg.contains("nats per token"));
    let summary = heard.summary.unwrap();
    assert_eq!(summary.tokens_per_step, 2 * 2 * 16);
    assert_eq!(summary.n_params, 300 * 16 + 16 * 16 + 2 * (12 * 256 + 13 * 16) + 2 * 16);
    let last = heard.evals.last().unwrap();
    assert!((last.perplexity - last.val_loss.exp()).abs() < 1e-3);
    // Every character of this text is one byte.
    let bits = last.val_loss / std::f32::consts::LN_2;
    assert!((last.val_bits_per_byte / bits - 1.0).abs() < 0.05);
    assert_eq!(state(&config.out_dir, "last").config, config);
}
