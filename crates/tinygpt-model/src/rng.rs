//! Randomness as a function of (seed, purpose, stream, position): nothing ambient, so there is
//! nothing to store for a resumed run.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// A generator that depends on `seed` and `purpose` alone; `set_stream` and `set_word_pos` pick
/// the place in it.
pub(crate) fn keyed(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(purpose.as_bytes()).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a, 64 bits: a fixed name for each purpose (Fowler, Noll, Vo; RFC 9923).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
