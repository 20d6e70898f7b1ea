//! One training step, and the parts of it that a training loop of your own needs.

use tinygpt_data::Batch;
use tinygpt_model::{DropoutKey, Gpt, Store, TokenBatch};

use crate::adamw::AdamW;
use crate::error::TrainError;

/// The global gradient norm that [`train_step`] clips to.
const GRAD_CLIP: f64 = 1.0;

/// One training step, for simple loops: the gradients of `batch`, clipped to a global norm of 1, and
/// one step of `gpt`. Returns the loss before the step, in nats per token.
///
/// Dropout masks depend on the number of the optimizer's step alone. Gradients are allocated at each
/// call; [`crate::Trainer`] keeps them, and `examples/custom_loop.rs` shows how.
///
/// # Errors
/// [`TrainError::Model`] if the batch does not fit the model or a gradient is not finite,
/// [`TrainError::Tensor`] if the device refuses.
pub fn train_step(
    gpt: &mut Gpt,
    optimizer: &mut AdamW,
    batch: &Batch,
    learning_rate: f64,
) -> Result<f32, TrainError> {
    let mut grads = gpt.new_grads()?;
    let dropout = DropoutKey { seed: 0, step: optimizer.n_steps(), micro_batch: 0 };
    let batch = token_batch(batch);
    let loss = gpt.backward(&batch, Some(dropout), 1.0, Store::Overwrite, &mut grads)?;
    let clip = clip_factor(gpt.summary(&grads)?.norm, GRAD_CLIP);
    optimizer.step(gpt, &grads, learning_rate, clip)?;
    Ok(loss)
}

/// A batch of the loader as the model takes it.
pub fn token_batch(batch: &Batch) -> TokenBatch<'_> {
    TokenBatch {
        inputs: &batch.inputs,
        targets: &batch.targets,
        document_starts: batch.document_starts.as_deref(),
        batch_size: batch.batch_size,
        seq_len: batch.block_size,
    }
}

/// The factor of the gradient of a batch's mean loss in that of the mean over a step, by their numbers of learned
/// targets. A step without any is made with gradient 0.
pub(crate) fn share_of_step(n_in_batch: usize, n_in_step: usize) -> f32 {
    (n_in_batch as f64 / n_in_step.max(1) as f64) as f32
}

/// The factor that scales a gradient of norm `norm` down to at most `grad_clip`; 0 never clips.
pub fn clip_factor(norm: f64, grad_clip: f64) -> f64 {
    if grad_clip > 0.0 && norm > grad_clip { grad_clip / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::adamw::AdamWConfig;
    use tinygpt_model::{Device, ModelConfig, mean_loss};

    #[test]
    fn without_masks_the_mean_over_a_step_has_the_bits_of_a_mean_of_means() {
        let losses = [4.158_883_f32, 3.9, 1e-7, 2.718_281_7];
        for n in (1..1_000_usize).chain([1 << 14, 12_345, 1_000_003]) {
            for n_targets in [1, 7, 1_024, 65_536, 524_287] {
                let share = share_of_step(n_targets, n * n_targets);
                assert_eq!(share.to_bits(), (1.0 / n as f32).to_bits(), "{n} batches");
            }
            if n < 1_000 {
                let batches: Vec<_> = (0..n).map(|i| (losses[i % 4], 65_536)).collect();
                let before = batches.iter().map(|(loss, _)| f64::from(*loss) / n as f64);
                assert_eq!(mean_loss(&batches).to_bits(), before.sum::<f64>().to_bits());
            }
        }
        assert_eq!((share_of_step(0, 0), mean_loss(&[(0.0, 0)])), (0.0, 0.0));
    }

    #[test]
    fn models_and_loaders_agree_which_target_is_ignored() {
        assert_eq!(tinygpt_data::IGNORED_TARGET, tinygpt_model::IGNORED_TARGET);
    }

    #[test]
    fn a_simple_loop_learns_its_batch() {
        for dropout in [0.0, 0.1] {
            let shape = ModelConfig {
                vocab_size: 5,
                block_size: 4,
                n_layer: 1,
                n_head: 1,
                n_embd: 8,
                dropout,
                ..ModelConfig::default()
            };
            let mut gpt = Gpt::init(shape, 1, &Device::Cpu).unwrap();
            let mut optimizer = AdamW::new(AdamWConfig::default(), &gpt).unwrap();
            let (inputs, targets) = (vec![1, 2, 3], vec![2, 3, 4]);
            let batch =
                Batch { inputs, targets, document_starts: None, batch_size: 1, block_size: 3 };
            let mut losses =
                (0..60).map(|_| train_step(&mut gpt, &mut optimizer, &batch, 1e-2).unwrap());
            let (first, last) = (losses.next().unwrap(), losses.last().unwrap());
            assert!(last < 0.5 * first, "dropout {dropout}: {first} {last}");
        }
    }
}
