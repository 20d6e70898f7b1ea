//! Adding one vector to another: how the gradients of several workers come together.

use crate::bias::sum_rows;
use rayon::prelude::*;

/// `sum += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add(sum: &mut [f32], x: &[f32], threads: usize) {
    assert_eq!(sum.len(), x.len(), "adding vectors of different lengths");
    if threads <= 1 || sum.len() < 4096 {
        return sum_rows(x, sum);
    }
    let each = sum.len().div_ceil(threads);
    sum.par_chunks_mut(each).zip(x.par_chunks(each)).for_each(|(sum, x)| sum_rows(x, sum));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_every_level, noise};

    #[test]
    fn adds_every_element_once() {
        at_every_level(|level| {
            for len in [1, 17, 4096, 10_001] {
                let (a, b) = (noise(len, 1), noise(len, 2));
                let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
                for threads in [1, 2, 3] {
                    let mut sum = a.clone();
                    add(&mut sum, &b, threads);
                    assert!(sum == expected, "{level:?} length {len}, {threads} threads");
                }
            }
        });
    }
}
