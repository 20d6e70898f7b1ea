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
        batch_size: batch.batch_size,
        seq_len: batch.block_size,
    }
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
    use tinygpt_model::{Device, ModelConfig};

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
            let batch = Batch { inputs, targets, batch_size: 1, block_size: 3 };
            let mut losses =
                (0..60).map(|_| train_step(&mut gpt, &mut optimizer, &batch, 1e-2).unwrap());
            let (first, last) = (losses.next().unwrap(), losses.last().unwrap());
            assert!(last < 0.5 * first, "dropout {dropout}: {first} {last}");
        }
    }
}
