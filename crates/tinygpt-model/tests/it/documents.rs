//! Several documents in one sequence. `golden.rs` has PyTorch's numbers for a batch of them.

#![allow(clippy::unwrap_used, reason = "tests")]

use tinygpt_model::{DropoutKey, Gpt, ModelConfig, Store, TokenBatch};

use crate::fixture::{Golden, Path, golden_gpt, grads_of, host, ids, small};

#[test]
fn dropout_is_the_same_on_both_paths() {
    let config = ModelConfig { dropout: 0.3, ..small(true) };
    let (inputs, targets) = (ids(48, 65, 1), ids(48, 65, 2));
    let starts: Vec<u32> = (0..48).map(|i| if i % 16 < 6 { 0 } else { 6 }).collect();
    let batch = TokenBatch {
        inputs: &inputs,
        targets: &targets,
        document_starts: Some(&starts),
        batch_size: 3,
        seq_len: 16,
    };
    let key = Some(DropoutKey { seed: 3, step: 7, micro_batch: 1 });
    let [fused, autograd] = Path::BOTH.map(|path| {
        let mut gpt = path.set(Gpt::init(config.clone(), 5, &candle_core::Device::Cpu).unwrap());
        let mut grads = gpt.new_grads().unwrap();
        let loss = gpt.backward(&batch, key, 1.0, Store::Overwrite, &mut grads).unwrap();
        (loss, host(&grads).to_vec())
    });
    assert!((fused.0 / autograd.0 - 1.0).abs() < 1e-6, "{} {}", fused.0, autograd.0);
    for (fused, autograd) in fused.1.iter().zip(&autograd.1) {
        let largest = autograd.iter().fold(0f32, |max, x| max.max(x.abs()));
        assert!(fused.iter().zip(autograd).all(|(a, b)| (a - b).abs() <= 2e-5 * largest));
    }
}

#[test]
fn what_a_document_says_changes_nothing_in_another() {
    let golden = Golden::read("documents");
    for path in Path::BOTH {
        let mut gpt = golden_gpt("documents", path);
        // Of the first sequence, whose documents start at 0, 5 and 6, only the last one is learned.
        let mut targets = [tinygpt_model::IGNORED_TARGET; 16];
        targets[6..].copy_from_slice(&golden.targets[6..16]);
        let mut loss = |inputs: &[u32], starts: Option<&[u32]>| {
            let (targets, document_starts) = (&targets[..], starts);
            let batch = TokenBatch { inputs, targets, document_starts, batch_size: 1, seq_len: 16 };
            let (loss, grads) = grads_of(&mut gpt, &batch);
            (loss, host(&grads)[2].clone())
        };
        let starts = &golden.document_starts.as_ref().unwrap()[..16];
        let before = golden.inputs[..16].to_vec();
        let mut after = before.clone();
        after[..6].iter_mut().for_each(|id| *id = 64 - *id);
        assert_eq!(loss(&before, Some(starts)), loss(&after, Some(starts)), "{path:?}");
        assert_ne!(loss(&before, None), loss(&after, None), "{path:?}");
    }
}

#[test]
fn starts_that_do_not_fit_are_refused() {
    for path in Path::BOTH {
        let mut gpt = golden_gpt("plain", path);
        let mut loss = |starts: &[u32]| {
            let (inputs, targets, document_starts) = (&[1; 8], &[2; 8], Some(starts));
            gpt.loss(&TokenBatch { inputs, targets, document_starts, batch_size: 2, seq_len: 4 })
        };
        assert!(loss(&[0, 0, 2, 2, 0, 1, 1, 1]).is_ok());
        for starts in [
            &[0, 0, 2, 2, 0, 1, 1][..],
            &[0, 0, 2, 2, 1, 1, 1, 1],
            &[0, 2, 2, 2, 0, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 0, 2, 2, 4, 4, 4, 4],
        ] {
            let message = loss(starts).unwrap_err().to_string();
            assert!(message.contains("document_starts"), "{starts:?}: {message}");
        }
    }
}
