//! From window positions to the arrays that a training step reads. No tensors here.

use crate::error::DataError;
use crate::shard::TokenStream;

/// Reads one window for each of `starts`: `block_size` inputs from there, and as many targets
/// from one token later. Both vectors are cleared first and end as `[B, T]`, row by row.
///
/// ```
/// # use tinygpt_data::{TokenStream, fill_batch};
/// let stream = TokenStream::from_ids((0..10).collect());
/// let (mut inputs, mut targets) = (Vec::new(), Vec::new());
/// fill_batch(&stream, [0, 6], 3, &mut inputs, &mut targets).unwrap();
/// assert_eq!(inputs, [0, 1, 2, 6, 7, 8]);
/// assert_eq!(targets, [1, 2, 3, 7, 8, 9]);
/// ```
///
/// # Errors
/// [`DataError::OutOfRange`] for a window that the stream does not hold.
pub fn fill_batch(
    stream: &TokenStream,
    starts: impl IntoIterator<Item = usize>,
    block_size: usize,
    inputs: &mut Vec<u32>,
    targets: &mut Vec<u32>,
) -> Result<(), DataError> {
    inputs.clear();
    targets.clear();
    let mut window = vec![0; block_size + 1];
    for start in starts {
        stream.read(start, &mut window)?;
        inputs.extend_from_slice(&window[..block_size]);
        targets.extend_from_slice(&window[1..]);
    }
    Ok(())
}

/// How many bytes of text the `targets` of some windows stand for, by `byte_lengths` of the
/// tokenizer. Bits per byte are then nats × targets ÷ bytes ÷ ln 2.
pub fn target_bytes(targets: &[u32], byte_lengths: &[u32]) -> u64 {
    let length = |&id: &u32| byte_lengths.get(id as usize).copied().unwrap_or(0);
    targets.iter().map(|id| u64::from(length(id))).sum()
}
