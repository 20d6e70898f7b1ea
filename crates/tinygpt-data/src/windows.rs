//! Which windows of a token stream are read, in which order.
//!
//! Training draws windows without repetition, epoch after epoch, in an order that is a pure
//! function of (seed, window number): a run is resumed by knowing how many windows it has seen.
//! nanoGPT draws windows at random instead, so that an "epoch" repeats some and misses others.

use rand::RngCore;

use crate::error::DataError;
use crate::random;

/// An endless sequence of windows of `block_size` inputs and as many targets, which begin one
/// token later.
///
/// Every epoch cuts the stream into neighbouring windows, from a new random offset, and visits
/// each once, in a new random order.
///
/// ```
/// let windows = tinygpt_data::Windows::new(1_000, 64, 1337).unwrap();
/// let start = windows.window(12_345); // The 12,346th window of the run.
/// assert!(start + 64 + 1 <= 1_000);
/// ```
#[derive(Debug, Clone)]
pub struct Windows {
    seed: u64,
    block_size: usize,
    per_epoch: usize,
    /// How many offsets leave room for `per_epoch` windows.
    n_offsets: usize,
}

impl Windows {
    /// Windows over a stream of `n_tokens` tokens.
    ///
    /// # Errors
    /// [`DataError::Usage`] if the stream is shorter than one window and the token after it.
    pub fn new(n_tokens: usize, block_size: usize, seed: u64) -> Result<Self, DataError> {
        let n_inputs = check_block_size(n_tokens, block_size)?;
        // One window fewer than fit leaves room for every offset below `block_size`.
        let per_epoch = ((n_inputs + 1) / block_size).saturating_sub(1).max(1);
        let n_offsets = (n_inputs - per_epoch * block_size + 1).min(block_size);
        Ok(Self { seed, block_size, per_epoch, n_offsets })
    }

    /// The number of windows in an epoch.
    pub fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    /// The position of the first token of window `window_idx`, counted from the start of the run.
    pub fn window(&self, window_idx: u64) -> usize {
        let (epoch, place) =
            (window_idx / self.per_epoch as u64, window_idx % self.per_epoch as u64);
        let mut generator = random::generator(self.seed, "windows");
        generator.set_stream(epoch);
        // The modulo's bias is below 2⁻³² for any block size in use.
        let offset = generator.next_u64() % self.n_offsets as u64;
        let keys = std::array::from_fn(|_| generator.next_u64());
        let window = permute(place, self.per_epoch as u64, &keys);
        // Both are below the stream's length, which is a `usize`.
        offset as usize + window as usize * self.block_size
    }
}

/// Fixed windows for evaluation: at most `n`, evenly spread over a stream of `n_tokens`, and
/// never two that overlap. Fewer come back if no more fit: together they are the whole stream.
///
/// # Errors
/// [`DataError::Usage`] if the stream is shorter than one window and the token after it.
pub(crate) fn eval_windows(
    n_tokens: usize,
    block_size: usize,
    n: usize,
) -> Result<Vec<usize>, DataError> {
    let n_inputs = check_block_size(n_tokens, block_size)?;
    let n = n.min(n_inputs / block_size);
    let free = n_inputs - n * block_size;
    // Window i begins after i windows and its share of the free tokens.
    let start = |i: usize| {
        let gap = (free as u128 * i as u128) / (n.max(2) as u128 - 1);
        i * block_size + usize::try_from(gap).unwrap_or(free)
    };
    Ok((0..n).map(start).collect())
}

/// Checks that one window fits and returns how many tokens can be inputs: all but the last.
pub(crate) fn check_block_size(n_tokens: usize, block_size: usize) -> Result<usize, DataError> {
    match n_tokens.checked_sub(1) {
        Some(n_inputs) if block_size > 0 && n_inputs >= block_size => Ok(n_inputs),
        _ => Err(DataError::usage(
            format!("block_size {block_size} does not fit a split of {n_tokens} tokens"),
            "choose a block_size from 1 to one less than the tokens, or prepare more text",
        )),
    }
}

/// Rounds of the network of [`permute`].
pub(crate) const ROUNDS: usize = 6;

/// A permutation of `0..n`: where `value` goes.
///
/// A Feistel network over the next even number of bits, walked until it lands below `n` again
/// (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", §4 cycle walking): constant
/// memory, and less than four steps on average.
pub(crate) fn permute(value: u64, n: u64, keys: &[u64; ROUNDS]) -> u64 {
    let n_bits = u64::BITS - (n - 1).leading_zeros();
    let half = n_bits.div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut walked = value;
    loop {
        let (mut left, mut right) = (walked >> half, walked & mask);
        for key in keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        walked = left << half | right;
        if walked < n {
            return walked;
        }
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014): every bit depends on every bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_epoch_visits_neighbouring_windows_once(
            n_tokens in 2usize..3_000, block_size in 1usize..200, seed: u64, epoch in 0u64..1 << 40,
        ) {
            prop_assume!(n_tokens > block_size);
            let windows = Windows::new(n_tokens, block_size, seed).unwrap();
            let per_epoch = windows.per_epoch() as u64;
            let first = epoch * per_epoch;
            let mut starts: Vec<usize> =
                (first..first + per_epoch).map(|i| windows.window(i)).collect();
            starts.sort_unstable();
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == block_size));
            prop_assert!(starts[0] < block_size.max(n_tokens - block_size));
            prop_assert!(starts[starts.len() - 1] + block_size < n_tokens);
            // All but the windows that the offsets cost are there.
            prop_assert!(starts.len() + 2 > n_tokens / block_size);
        }

        #[test]
        fn eval_windows_are_in_bounds_and_apart(
            n_tokens in 2usize..3_000, block_size in 1usize..200, n in 0usize..300,
        ) {
            prop_assume!(n_tokens > block_size);
            let starts = eval_windows(n_tokens, block_size, n).unwrap();
            prop_assert_eq!(starts.len(), n.min((n_tokens - 1) / block_size));
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= block_size));
            prop_assert!(starts.iter().all(|start| start + block_size < n_tokens));
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_offsets_move() {
        let windows = Windows::new(10_000, 10, 1).unwrap();
        let epoch = |e: u64| (0..998).map(|i| windows.window(e * 998 + i)).collect::<Vec<_>>();
        assert_eq!(windows.per_epoch(), 999);
        assert_ne!(epoch(0), epoch(1));
        assert_ne!(windows.window(0), Windows::new(10_000, 10, 2).unwrap().window(0));
        let mut offsets: Vec<usize> =
            (0..200).map(|epoch| windows.window(epoch * 999) % 10).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets, (0..10).collect::<Vec<_>>());
        // Not the order of the stream, nor nearly so.
        let ascending = epoch(0).windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&ascending), "{ascending}");
    }

    #[test]
    fn a_split_without_room_for_a_window_is_refused() {
        for (n_tokens, block_size) in [(0, 1), (1, 1), (64, 64), (10, 0)] {
            assert!(Windows::new(n_tokens, block_size, 0).is_err());
            assert!(eval_windows(n_tokens, block_size, 5).is_err());
        }
        assert_eq!(Windows::new(65, 64, 0).unwrap().window(7), 0);
    }
}
