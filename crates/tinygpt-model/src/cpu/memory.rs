//! An estimate of the memory that training on the CPU needs, before any of it is allocated.
//!
//! It counts the model's arrays and, roughly, the program with its tokenizer; the page cache and the evaluation's
//! samples come on top. On Metal, autograd keeps several times these activations; on CUDA,
//! [`Gpt::training_memory`](crate::Gpt::training_memory) knows the sizes of all buffers.

use tinygpt_kernels::head;

use crate::config::ModelConfig;
use crate::cpu::data_parallel;

/// Bytes by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights.
    pub weights: u64,
    /// Gradients, with those of each additional worker.
    pub gradients: u64,
    /// AdamW's two moments.
    pub optimizer: u64,
    /// Everything between the embedding and the loss, for one micro-batch.
    pub activations: u64,
    /// The program and its tokenizer; 0 on a GPU.
    pub program: u64,
}

/// The memory of a program that trains a small model, without the model: 18 MiB for the program, and for each
/// token of the vocabulary the tokenizer's tables. Measured on Linux with 1,699 and 50,260 tokens.
const PROGRAM: u64 = 18 << 20;
const PROGRAM_PER_TOKEN: u64 = 1_100;

impl MemoryEstimate {
    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        [self.weights, self.gradients, self.optimizer, self.activations, self.program]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Estimates training with AdamW on `threads` threads and micro-batches of B sequences of T tokens.
///
/// Each block keeps 12 C floats of a token (its input, both normalised inputs, queries, keys and
/// values, the attention's output, the residual between its halves, the MLP's hidden layer) and one
/// for each head; all blocks share scratch of 9 C. Each worker has a set of gradients, where
/// there are several. The first worker also evaluates, with all sequences at once, but in one block. Rows whose target
/// is not learned add at most C floats of a token; they are not counted. Saturates instead of overflowing.
///
/// ```
/// use tinygpt_model::{ModelConfig, memory};
/// let config = ModelConfig { vocab_size: 259, block_size: 256, n_layer: 6, n_head: 6,
///     n_embd: 384, dropout: 0.2, ..ModelConfig::default() };
/// let estimate = memory::training_bytes(&config, 64, 256, 2);
/// assert_eq!(estimate.weights, 4 * 10_845_312);
/// ```
pub fn training_bytes(
    config: &ModelConfig,
    batch_size: usize,
    seq_len: usize,
    threads: usize,
) -> MemoryEstimate {
    let wide = |n: usize| n as u64;
    let weights = wide(config.num_params()).saturating_mul(4);
    let tokens = wide(batch_size).saturating_mul(wide(seq_len));
    let (c, h) = (wide(config.n_embd), wide(config.n_head));
    let per_block = c.saturating_mul(12).saturating_add(h + 4);
    let per_token = per_block.saturating_mul(wide(config.n_layer)).saturating_add(9 * c);
    let n_workers = data_parallel::count(config.num_params(), batch_size, threads.max(1));
    let rows = batch_size.div_ceil(n_workers.max(1)).saturating_mul(seq_len);
    let all_rows = batch_size.saturating_mul(seq_len);
    // An evaluation keeps one block, two copies of the residual stream, and scratch of 6 C.
    let of_evaluation = wide(all_rows - rows.min(all_rows)).saturating_mul(19 * c + h + 6);
    let logits = match all_rows.checked_mul(config.vocab_size) {
        Some(_) => {
            let scratch = |rows| wide(head::scratch_len(rows, config.vocab_size));
            let others = scratch(rows).saturating_mul(wide(n_workers) - 1);
            scratch(all_rows).max(scratch(rows)).saturating_add(others)
        }
        None => u64::MAX,
    };
    let activations = tokens.saturating_mul(per_token).saturating_add(of_evaluation);
    MemoryEstimate {
        weights,
        gradients: weights.saturating_mul(wide(n_workers)),
        optimizer: weights.saturating_mul(2),
        activations: activations.saturating_add(logits).saturating_mul(4),
        program: PROGRAM.saturating_add(PROGRAM_PER_TOKEN.saturating_mul(wide(config.vocab_size))),
    }
}

/// The largest batch below `end` that `fits`, if all smaller ones fit too; none if not even one sequence does.
pub fn largest_batch_size(end: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, end);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_what_it_is_given_and_never_overflows() {
        let config = ModelConfig::gpt2();
        let small = training_bytes(&config, 1, 64, 1);
        let more_tokens = training_bytes(&config, 4, 64, 1);
        // Two workers have a set of gradients each; this model is too large for more than one.
        let tiny = ModelConfig { vocab_size: 65, n_layer: 2, n_embd: 48, ..config.clone() };
        let [one, two] = [1, 2].map(|threads| training_bytes(&tiny, 4, 64, threads));
        assert!(more_tokens.activations > 3 * small.activations);
        assert_eq!(two.gradients, 2 * one.gradients);
        assert_eq!(training_bytes(&config, 4, 64, 2).gradients, more_tokens.gradients);
        // With two, the first one also evaluates sequences that the second one trains on.
        assert!(two.activations > one.activations + one.activations / 8);
        assert_eq!(small.total(), small.activations + 4 * small.weights + small.program);
        let huge = training_bytes(&config, usize::MAX, usize::MAX, usize::MAX);
        assert_eq!(huge.total(), u64::MAX);
    }
}
