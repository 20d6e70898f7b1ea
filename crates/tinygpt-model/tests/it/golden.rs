//! Against PyTorch: logits, loss, each gradient by name, and ten optimizer steps, on both backends.
//! The numbers come from `tests/golden/make.py`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use crate::fixture::{GOLDEN, Golden, Optimizer, Path, golden_gpt, grads_of, host};

fn on_each(check: impl Fn(&str, Path)) {
    for name in GOLDEN {
        for path in Path::BOTH {
            check(name, path);
        }
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, value| max.max(value.abs()))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn logits_agree_to_1e_5() {
    on_each(|name, path| {
        let golden = Golden::read(name);
        let mut gpt = golden_gpt(name, path);
        let logits = gpt.logits(&golden.inputs, golden.batch_size, golden.seq_len).unwrap();
        let difference = largest_difference(&logits, &golden.logits);
        assert!(difference <= 1e-5, "{name} {path:?}: {difference:e}");
    });
}

#[test]
fn loss_agrees_to_1e_6() {
    on_each(|name, path| {
        let golden = Golden::read(name);
        let mut gpt = golden_gpt(name, path);
        let alone = gpt.loss(&golden.batch()).unwrap();
        let (with_gradients, _) = grads_of(&mut gpt, &golden.batch());
        for loss in [alone, with_gradients] {
            let difference = (loss / golden.loss - 1.0).abs();
            assert!(difference <= 1e-6, "{name} {path:?}: {loss} {}", golden.loss);
        }
    });
}

#[test]
fn every_gradient_agrees_to_1e_4_of_its_largest() {
    on_each(|name, path| {
        let golden = Golden::read(name);
        let mut gpt = golden_gpt(name, path);
        let (_, grads) = grads_of(&mut gpt, &golden.batch());
        let specs = gpt.params().specs();
        let ours: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let theirs: BTreeSet<&str> = golden.grads.keys().map(String::as_str).collect();
        assert_eq!(ours, theirs, "{name}");
        for (spec, grad) in specs.iter().zip(host(&grads)) {
            let expected = &golden.grads[&spec.name];
            let difference = largest_difference(grad, expected) / largest(expected);
            assert!(difference <= 1e-4, "{name} {path:?} {}: {difference:e}", spec.name);
        }
    });
}

#[test]
fn ten_adamw_steps_agree_to_1e_5() {
    on_each(|name, path| {
        let golden = Golden::read(name);
        let mut gpt = golden_gpt(name, path);
        let mut optimizer = Optimizer::new(&gpt, 3e-3, 0.1, 1.0);
        for (step, expected) in golden.adamw_losses.iter().enumerate() {
            let loss = optimizer.step(&mut gpt, &golden.batch());
            let difference = (loss / expected - 1.0).abs();
            assert!(difference <= 1e-5, "{name} {path:?} step {step}: {loss} {expected}");
        }
    });
}
