//! All randomness of this crate: a counter-based generator that is a pure function
//! of a seed and a purpose. There is no ambient state, so nothing has to be stored for resume.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A generator keyed by `seed` and `purpose`; two purposes never share a stream.
///
/// Callers pick the position inside it with `set_stream` and `set_word_pos`.
pub(crate) fn generator(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"tinygpt-data ");
    hash.update(purpose.as_bytes());
    hash.update(seed.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
