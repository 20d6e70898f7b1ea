//! Batches of which only some targets are learned. `golden.rs` has PyTorch's numbers for one.

#![allow(clippy::unwrap_used, reason = "tests")]

use tinygpt_model::{Gpt, IGNORED_TARGET, Store, TokenBatch};

use crate::cuda::gpu;
use crate::fixture::{Golden, Path, golden_gpt, host, ids};

/// `name` on each path, with the CUDA backend if it can run here.
fn each_path(name: &str) -> Vec<(String, Gpt)> {
    let mut all: Vec<_> =
        Path::BOTH.iter().map(|path| (format!("{path:?}"), golden_gpt(name, *path))).collect();
    if let Some(gpu) = gpu() {
        let mut gpt = golden_gpt(name, Path::Cpu);
        gpt.move_to_gpu(&gpu, tinygpt_model::ComputeType::Float32).unwrap();
        all.push(("Cuda".to_owned(), gpt));
    }
    all
}

#[test]
fn a_batch_without_learned_targets_has_loss_and_gradient_0() {
    let golden = Golden::read("plain");
    let targets = vec![IGNORED_TARGET; golden.targets.len()];
    let nothing = TokenBatch { targets: &targets, ..golden.batch() };
    for (path, mut gpt) in each_path("plain") {
        assert_eq!(gpt.loss(&nothing).unwrap().to_bits(), 0, "{path}");
        let mut grads = gpt.new_grads().unwrap();
        gpt.backward(&golden.batch(), None, 1.0, Store::Overwrite, &mut grads).unwrap();
        let before = gpt.summary(&grads).unwrap();
        gpt.accumulate(&nothing, None, 1.0, Store::Accumulate, &mut grads).unwrap();
        assert_eq!(gpt.summary(&grads).unwrap(), before, "{path}");
        // Overwriting with nothing leaves zeros, whatever was there.
        let loss = gpt.backward(&nothing, None, 1.0, Store::Overwrite, &mut grads).unwrap();
        assert_eq!((loss.to_bits(), gpt.summary(&grads).unwrap().norm), (0, 0.0), "{path}");
        assert_eq!(gpt.summary(&grads).unwrap().loss.to_bits(), 0, "{path}");
    }
}

#[test]
fn the_loss_of_several_batches_is_the_mean_over_their_learned_targets() {
    let golden = Golden::read("masked");
    let n = [golden.targets.len(), golden.batch().n_learned()];
    let all = ids(n[0] as u32, 65, 3);
    for (path, mut gpt) in each_path("masked") {
        let mut grads = gpt.new_grads().unwrap();
        let whole = TokenBatch { targets: &all, ..golden.batch() };
        let whole_loss = gpt.backward(&whole, None, 1.0, Store::Overwrite, &mut grads).unwrap();
        gpt.accumulate(&golden.batch(), None, 1.0, Store::Accumulate, &mut grads).unwrap();
        let expected =
            (whole_loss * n[0] as f32 + golden.loss * n[1] as f32) / (n[0] + n[1]) as f32;
        let found = gpt.summary(&grads).unwrap().loss as f32;
        assert!((found / expected - 1.0).abs() < 1e-6, "{path}: {found} {expected}");
    }
}

#[test]
fn more_rows_than_the_head_takes_at_once_have_the_gradients_of_their_learned_rows() {
    // The autograd path computes 1,024 rows at a time, the CPU path divides the sequences.
    let inputs = ids(96 * 16, 65, 7);
    let mut targets = ids(96 * 16, 65, 8);
    targets
        .iter_mut()
        .enumerate()
        .filter(|(i, _)| i % 5 < 2)
        .for_each(|(_, id)| *id = IGNORED_TARGET);
    let batch = TokenBatch {
        inputs: &inputs,
        targets: &targets,
        document_starts: None,
        batch_size: 96,
        seq_len: 16,
    };
    let [fused, autograd] = Path::BOTH.map(|path| {
        let mut gpt = golden_gpt("plain", path);
        let mut grads = gpt.new_grads().unwrap();
        let loss = gpt.backward(&batch, None, 1.0, Store::Overwrite, &mut grads).unwrap();
        (loss, host(&grads).to_vec())
    });
    assert!((fused.0 / autograd.0 - 1.0).abs() < 1e-6, "{} {}", fused.0, autograd.0);
    for (fused, autograd) in fused.1.iter().zip(&autograd.1) {
        let largest = autograd.iter().fold(0f32, |max, x| max.max(x.abs()));
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-5 * largest;
        assert!(fused.iter().zip(autograd).all(close));
    }
}

#[test]
fn only_targets_may_be_ignored_and_no_other_id_is() {
    for (path, mut gpt) in each_path("plain") {
        let (ids, ignored, outside) =
            ([1; 4], [1, 2, IGNORED_TARGET, 3], [1, IGNORED_TARGET - 1, 2, 3]);
        let mut loss = |inputs: &[u32], targets: &[u32]| {
            gpt.loss(&TokenBatch {
                inputs,
                targets,
                document_starts: None,
                batch_size: 1,
                seq_len: 4,
            })
        };
        assert!(loss(&ids, &ignored).unwrap() > 0.0, "{path}");
        for refused in [loss(&ids, &outside), loss(&ignored, &ids)] {
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("outside the vocabulary"), "{path}: {message}");
        }
        assert!(loss(&ids, &ignored[..3]).unwrap_err().to_string().contains("3 token ids"));
    }
}
