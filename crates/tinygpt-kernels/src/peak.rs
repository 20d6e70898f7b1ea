//! How fast this machine multiplies matrices: what a training step is compared with.
//!
//! It is measured, not taken from a data sheet: the speed of our own product with all operands in
//! the caches, on all threads at once.

use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::gemm::{Matrix, MatrixMut, Store, gemm};

/// How long each thread multiplies.
const DURATION: Duration = Duration::from_millis(60);
/// Rows, depth and columns: operands of less than 2 MiB, with enough rows that packing is nothing.
const SHAPE: (usize, usize, usize) = (480, 384, 256);

/// Floating-point operations per second of `threads` threads multiplying at once, or of as many as
/// the system allows; takes 60 ms.
pub fn gemm_flops_per_second(threads: usize) -> f64 {
    std::thread::scope(|scope| {
        let spawn = |_| Builder::new().spawn_scoped(scope, one_thread).ok();
        let workers: Vec<_> = (1..threads).filter_map(spawn).collect();
        one_thread() + workers.into_iter().map(|it| it.join().unwrap_or(0.0)).sum::<f64>()
    })
}

/// The best of many products: what else the machine does would only make it look slower.
fn one_thread() -> f64 {
    let (m, k, n) = SHAPE;
    let (a, b, mut out) = (vec![0.5; m * k], vec![0.25; k * n], vec![0.0; m * n]);
    let (start, mut fastest) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < DURATION {
        let product = Instant::now();
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        gemm(MatrixMut::new(&mut out, m, n), a, b, Store::Overwrite, 1);
        fastest = fastest.min(product.elapsed().as_secs_f64());
    }
    (2 * m * k * n) as f64 / fastest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_speed_that_a_processor_can_have() {
        let speed = gemm_flops_per_second(1);
        assert!(speed > 1e8 && speed < 1e13, "{speed}");
    }
}
