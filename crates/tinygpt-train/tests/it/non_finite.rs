//! NaN and infinity: the run ends or skips the step, and never saves them.

use std::path::PathBuf;

use candle_core::Device;
use tinygpt_model::{hf, host};
use tinygpt_train::metrics::{self, Line};
use tinygpt_train::{ErrorKind, InitFrom, OnNonFinite, TrainConfig, TrainError};

use crate::common::{Recording, World, assert_same_end, bytes, message_of, state};
use crate::resume::resumed;

/// A trained model whose last layer-norm weight is multiplied by `gain`.
fn scaled_model(world: &World, gain: f32) -> PathBuf {
    let config = world.config("unscaled");
    if !config.out_dir.exists() {
        world.run(config.clone()).unwrap();
    }
    let unscaled = config.out_dir.join("last");
    let gpt = hf::read_dir(&unscaled, &Device::Cpu).unwrap();
    let weights = gpt.params().get("ln_f.weight").unwrap();
    host::write(weights, |w| w.iter_mut().for_each(|w| *w *= gain)).unwrap();
    let dir = world.out_dir(&format!("scaled-{gain:e}"));
    std::fs::create_dir(&dir).unwrap();
    hf::write_dir(&gpt, &dir, &hf::read_special_tokens(&unscaled).unwrap().unwrap()).unwrap();
    dir
}

/// A run whose model is scaled so that the gradients of some of its batches overflow and those of
/// others do not, found by bisection, and what it reported.
fn on_the_edge(world: &World) -> (TrainConfig, Recording) {
    let (mut low, mut high) = (10.0f32, 37.0f32);
    for _ in 0..24 {
        let exponent = f32::midpoint(low, high);
        let config = TrainConfig {
            init_from: InitFrom::Dir(scaled_model(world, 10f32.powf(exponent))),
            learning_rate: 1e-3,
            warmup_iters: 0,
            eval_interval: 1000,
            on_non_finite: OnNonFinite::Skip,
            ..world.config(&format!("edge-{exponent}"))
        };
        match world.run(config.clone()) {
            Ok((_, recording)) if recording.skips.iter().any(|skip| skip.iter > 0) => {
                return (config, recording);
            }
            Ok(_) => low = exponent,
            Err(_) => high = exponent,
        }
    }
    panic!("all batches overflow at the same gain");
}

#[test]
fn batches_that_overflow_are_skipped_and_a_resumed_run_skips_the_same() {
    let world = World::new();
    let (straight, recording) = on_the_edge(&world);
    let n_skips = recording.skips.len() as u64;
    let end = state(&straight.out_dir, "last");
    assert_eq!((end.step, end.skipped.total), (20, n_skips));
    assert_eq!((end.optimizer_steps, end.window_cursor), (20 - n_skips, 80));
    let first = recording.skips.iter().find(|skip| skip.iter > 0).unwrap();
    assert_eq!((first.first_window, first.last_window), (4 * first.iter, 4 * first.iter + 3));

    let stopped = |name: &str| TrainConfig { out_dir: world.out_dir(name), ..straight.clone() };
    // Before the skipped step and after it: the same weights, other batches.
    let (before, after) = (stopped("before"), stopped("after"));
    world.run_until(before.clone(), Some(first.iter)).unwrap();
    world.run_until(after.clone(), Some(first.iter + 1)).unwrap();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |config: &TrainConfig| bytes(&config.out_dir, "last", file);
        assert!(read(&before) == read(&after), "{file} has changed");
    }
    assert_eq!(state(&after.out_dir, "last").window_cursor, 4 * first.iter + 4);
    for config in [before, after] {
        world.run(resumed(&config)).unwrap();
        assert_same_end(&straight.out_dir, &config.out_dir);
        let lines = |config: &TrainConfig| -> Vec<Line> {
            let lines = metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap();
            lines.into_iter().filter(|line| matches!(line, Line::Skip(_))).collect()
        };
        assert_eq!(
            lines(&config),
            recording.skips.iter().cloned().map(Line::Skip).collect::<Vec<_>>()
        );
    }
}

/// With this learning rate and no clipping the loss of the second step is not finite.
fn diverging(world: &World, on_non_finite: OnNonFinite) -> TrainConfig {
    let wild = TrainConfig { learning_rate: 1e3, min_lr: 1e3, ..world.config("diverging") };
    TrainConfig { grad_clip: 0.0, eval_interval: 1000, on_non_finite, ..wild }
}

#[test]
fn a_run_stops_before_the_update_and_reports_the_circumstances() {
    let world = World::new();
    let error = world.run(diverging(&world, OnNonFinite::Stop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let TrainError::NonFinite { iter, learning_rate, windows: Some(windows), .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*windows, 4 * iter..4 * iter + 4);
    let text = message_of(&error);
    for word in [
        format!("at iter {iter}"),
        format!("learning rate {learning_rate}"),
        "gradient norm of the step before".to_string(),
        format!("windows {} to {}", 4 * iter, 4 * iter + 3),
        "`on_non_finite` skip".to_string(),
        "`learning_rate`".to_string(),
    ] {
        assert!(text.contains(&word), "{word}: {text}");
    }
}

#[test]
fn ten_skips_in_a_row_end_the_run() {
    let world = World::new();
    let error = world.run(diverging(&world, OnNonFinite::Skip)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let text = message_of(&error);
    assert!(text.contains("10 skipped before, 10 in a row"), "{text}");
    assert!(!text.contains("on_non_finite"), "{text}");
    let config = diverging(&world, OnNonFinite::Skip);
    let lines = metrics::read(&config.out_dir.join(metrics::FILE_NAME)).unwrap();
    let n_skips = lines.iter().filter(|line| matches!(line, Line::Skip(_))).count();
    assert_eq!(n_skips, 10, "what led to the end is in the metrics");
}

#[test]
fn weights_that_have_overflowed_are_never_saved() {
    let world = World::new();
    let config = world.config("out");
    world.run_until(config.clone(), Some(5)).unwrap();
    let before = bytes(&config.out_dir, "last", "model.safetensors");
    // The step of finite gradients takes the weights beyond f32; no loss is computed after it.
    let wild = TrainConfig {
        learning_rate: 1e39,
        min_lr: 1e39,
        eval_interval: 1000,
        on_non_finite: OnNonFinite::Skip,
        ..resumed(&config)
    };
    let error = world.run_until(wild, Some(6)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    let text = message_of(&error);
    for word in ["a weight of `wte.weight` is not finite", "iter 6", "step-00000005", "1e39"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(bytes(&config.out_dir, "last", "model.safetensors"), before);
}
