//! Damaged checkpoints are found, named and skipped; NaN and infinity are never saved.

use std::fs;
use std::path::Path;

use tinygpt_train::checkpoint::{Which, locate};
use tinygpt_train::{ErrorKind, InitFrom, TrainConfig, TrainError};

use sha2::{Digest, Sha256};

use crate::common::{World, assert_same_end, bytes, checkpoints, state};

const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Flips a bit in the middle of a file, or cuts it there.
fn damage(path: &Path, cut: bool) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    if cut {
        bytes.truncate(middle);
    } else {
        bytes[middle] ^= 1;
    }
    fs::write(path, bytes).unwrap();
}

fn resumed(config: &TrainConfig) -> TrainConfig {
    TrainConfig { init_from: InitFrom::Resume, ..config.clone() }
}

/// Stopped after 14 steps, with the checkpoints of 14 and of an evaluation before it.
fn stopped(world: &World, name: &str) -> TrainConfig {
    let config = TrainConfig { always_save_checkpoint: true, ..world.config(name) };
    world.run_until(config.clone(), Some(14)).unwrap();
    config
}

#[test]
fn every_file_is_checked_and_an_older_checkpoint_is_used() {
    let world = World::new();
    let straight = TrainConfig { always_save_checkpoint: true, ..world.config("straight") };
    world.run(straight.clone()).unwrap();
    let mut found = fs::read_dir(straight.out_dir.join("last"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    found.sort();
    assert_eq!(found, FILES, "a checkpoint holds these files and no others");

    for (i, file) in FILES.into_iter().enumerate() {
        let config = stopped(&world, &format!("damaged-{file}"));
        damage(&config.out_dir.join("checkpoints/step-00000014").join(file), i % 2 == 0);
        let error = locate(&config.out_dir, &Which::Last).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);

        let (_, recording) = world.run(resumed(&config)).unwrap();
        let notice = recording.notices.concat();
        assert!(notice.contains("DAMAGED") && notice.contains(file), "{notice}");
        assert!(notice.contains("step 12") && notice.contains("2 steps are lost"), "{notice}");
        assert_same_end(&straight.out_dir, &config.out_dir);
    }
}

#[test]
fn when_none_is_good_each_is_listed_and_nothing_is_lost() {
    let world = World::new();
    let config = stopped(&world, "out");
    let before = checkpoints(&config.out_dir);
    for name in &before {
        damage(&config.out_dir.join("checkpoints").join(name).join("model.safetensors"), false);
    }
    for init_from in [InitFrom::Resume, InitFrom::Auto] {
        let error = world.run(TrainConfig { init_from, ..config.clone() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let message = error.to_string();
        assert!(before.iter().all(|name| message.contains(name)), "{message}");
    }
    assert_eq!(checkpoints(&config.out_dir), before);
}

/// Changes the format of the checkpoint of step 14, with a manifest that matches.
fn set_format(config: &TrainConfig, version: u32) {
    let dir = config.out_dir.join("checkpoints/step-00000014");
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
    };
    let (mut state, mut manifest) = (read("state.json"), read("manifest.json"));
    state["format_version"] = version.into();
    if version == 1 {
        state.as_object_mut().unwrap().remove("skipped").unwrap();
    }
    let bytes = serde_json::to_vec(&state).unwrap();
    let entries = manifest["files"].as_array_mut().unwrap();
    let entry = entries.iter_mut().find(|entry| entry["name"] == "state.json").unwrap();
    entry["bytes"] = bytes.len().into();
    let sha256 = Sha256::digest(&bytes);
    entry["sha256"] = sha256.iter().map(|b| format!("{b:02x}")).collect::<String>().into();
    manifest["format_version"] = version.into();
    fs::write(dir.join("state.json"), bytes).unwrap();
    fs::write(dir.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn an_older_format_is_read_and_a_newer_one_is_not_damage() {
    let world = World::new();
    let straight = TrainConfig { always_save_checkpoint: true, ..world.config("straight") };
    world.run(straight.clone()).unwrap();
    let older = stopped(&world, "older");
    set_format(&older, 1);
    let (_, recording) = world.run(resumed(&older)).unwrap();
    assert_eq!(recording.notices, [] as [&str; 0]);
    assert_same_end(&straight.out_dir, &older.out_dir);

    let newer = stopped(&world, "newer");
    set_format(&newer, 9);
    let before = checkpoints(&newer.out_dir);
    let error = world.run(resumed(&newer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains("step-00000014") && text.contains("format 9"), "{text}");
    assert!(!text.contains("damaged"), "{text}");
    assert_eq!(checkpoints(&newer.out_dir), before);
}

#[test]
fn a_damaged_best_is_reported_and_replaced() {
    let world = World::new();
    let config = stopped(&world, "out");
    let best = state(&config.out_dir, "best").step;
    assert_ne!(best, 14);
    damage(&config.out_dir.join("best/model.safetensors"), true);
    let (_, recording) = world.run(resumed(&config)).unwrap();
    assert!(recording.notices.concat().contains("the best one"), "{:?}", recording.notices);
    assert!(recording.saved.iter().any(|saved| saved.is_best));
    locate(&config.out_dir, &Which::Best).unwrap();
}

#[test]
fn links_lost_in_a_crash_are_made_again_and_leftovers_cleaned() {
    let world = World::new();
    let config = stopped(&world, "out");
    let leftover = config.out_dir.join("checkpoints/.tmp-step-00000016");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("model.safetensors"), "half").unwrap();
    fs::remove_file(config.out_dir.join("last")).unwrap();
    fs::remove_file(config.out_dir.join("best")).unwrap();
    let (_, recording) = world.run_until(resumed(&config), Some(15)).unwrap();
    assert_eq!(recording.notices, [] as [&str; 0]);
    assert!(!leftover.exists());
    assert_eq!(state(&config.out_dir, "last").step, 15);
    locate(&config.out_dir, &Which::Best).unwrap();
}

#[test]
fn nan_and_infinity_stop_the_run_before_they_are_saved() {
    let world = World::new();
    let config = world.config("out");
    world.run_until(config.clone(), Some(5)).unwrap();
    let before = bytes(&config.out_dir, "last", "model.safetensors");
    let wild = TrainConfig {
        learning_rate: 1e30,
        min_lr: 1e30,
        grad_clip: 0.0,
        always_save_checkpoint: true,
        eval_interval: 1000,
        ..resumed(&config)
    };
    let error = world.run(wild).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let TrainError::NonFinite { iter, last_good, .. } = &error else { panic!("{error}") };
    assert!(*iter > 5);
    assert!(last_good.as_ref().unwrap().ends_with("checkpoints/step-00000005"));
    assert!(error.to_string().contains("1e30"), "{error}");
    assert_eq!(bytes(&config.out_dir, "last", "model.safetensors"), before);
}
