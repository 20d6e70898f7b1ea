//! A fingerprint of the bits of weights, to compare them between ranks.

/// Odd, with its bits spread evenly: that of the Fx hash.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
/// Independent chains, so that the multiplications of a core overlap.
const LANES: usize = 8;

/// Continues the hash `seed` with the bits of `values`. It is fast, and no defence against an attack.
pub(crate) fn hash_of(seed: u64, values: &[f32]) -> u64 {
    let step = |hash: u64, bits: u64| (hash.rotate_left(5) ^ bits).wrapping_mul(FACTOR);
    let mut lanes = [seed; LANES];
    let mut blocks = values.chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = step(*lane, u64::from(value.to_bits()));
        }
    }
    let rest = blocks.remainder().iter().map(|value| u64::from(value.to_bits()));
    lanes.into_iter().chain(rest).fold(values.len() as u64, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_every_value_counts() {
        let values: Vec<f32> = (0..21).map(|i| i as f32 * 0.1).collect();
        let hash = hash_of(0, &values);
        assert_eq!(hash, hash_of(0, &values));
        assert_ne!(hash, hash_of(1, &values));
        for i in 0..values.len() {
            for bit in [0, 17, 31] {
                let mut changed = values.clone();
                changed[i] = f32::from_bits(changed[i].to_bits() ^ 1 << bit);
                assert_ne!(hash, hash_of(0, &changed), "bit {bit} of value {i}");
            }
        }
        assert_ne!(hash_of(0, &[0.0]), hash_of(0, &[0.0, 0.0]));
    }
}
