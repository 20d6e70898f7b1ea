//! Token plus position embedding, with dropout, and the scatter back.
//!
//! `out[n] = dropout(wte[id_n] + wpe[n mod T])`. The backward pass adds each row of the gradient
//! to the two table rows it came from; a dense `[V, C]` temporary never exists. Both passes touch
//! N·C numbers, little compared with any matrix product, and run in the calling thread.

use crate::dropout::Dropout;
use crate::simd::{Vector, dispatch};

dispatch!(fn add_pair(a: &[f32], b: &[f32], row: usize, dropout: Option<Dropout>, out: &mut [f32]) = add_pair_kernel);
dispatch!(fn scatter(dout: &[f32], row: usize, dropout: Option<Dropout>, a: &mut [f32], b: &mut [f32]) = scatter_kernel);

/// `out[n] ← dropout(wte[ids[n]] + wpe[n mod T])`, `out` `[N, C]`, `wte` `[V, C]`, `wpe` `[≥ T, C]`.
///
/// # Panics
/// If an id is outside the table, or `out` has another length than `ids` and `c` say.
pub fn forward(
    ids: &[u32],
    (wte, wpe): (&[f32], &[f32]),
    (t, c): (usize, usize),
    dropout: Option<Dropout>,
    out: &mut [f32],
) {
    assert_eq!(out.len(), ids.len() * c, "an embedding of {} ids over {c} channels", ids.len());
    for (n, (&id, out)) in ids.iter().zip(out.chunks_exact_mut(c)).enumerate() {
        let (id, position) = (id as usize * c, n % t * c);
        add_pair(&wte[id..id + c], &wpe[position..position + c], n, dropout, out);
    }
}

/// Adds `dropout mask · dout[n]` to `dwte[ids[n]]` and to `dwpe[n mod T]`.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    ids: &[u32],
    dout: &[f32],
    (t, c): (usize, usize),
    dropout: Option<Dropout>,
    (dwte, dwpe): (&mut [f32], &mut [f32]),
) {
    assert_eq!(dout.len(), ids.len() * c, "an embedding of {} ids over {c} channels", ids.len());
    for (n, (&id, dout)) in ids.iter().zip(dout.chunks_exact(c)).enumerate() {
        let (id, position) = (id as usize * c, n % t * c);
        scatter(dout, n, dropout, &mut dwte[id..id + c], &mut dwpe[position..position + c]);
    }
}

#[inline(always)]
fn add_pair_kernel<V: Vector>(
    a: &[f32],
    b: &[f32],
    row: usize,
    dropout: Option<Dropout>,
    out: &mut [f32],
) {
    let key = dropout.map(|d| (d, d.row_key(row)));
    let inputs = a.chunks(V::LANES).zip(b.chunks(V::LANES));
    for (i, ((a, b), out)) in inputs.zip(out.chunks_mut(V::LANES)).enumerate() {
        let sum = V::load(a) + V::load(b);
        match key {
            Some((dropout, key)) => dropout.apply(sum, key, i * V::LANES).store(out),
            None => sum.store(out),
        }
    }
}

#[inline(always)]
fn scatter_kernel<V: Vector>(
    dout: &[f32],
    row: usize,
    dropout: Option<Dropout>,
    a: &mut [f32],
    b: &mut [f32],
) {
    let key = dropout.map(|d| (d, d.row_key(row)));
    let outputs = a.chunks_mut(V::LANES).zip(b.chunks_mut(V::LANES));
    for (i, (dout, (a, b))) in dout.chunks(V::LANES).zip(outputs).enumerate() {
        let grad = match key {
            Some((dropout, key)) => dropout.apply(V::load(dout), key, i * V::LANES),
            None => V::load(dout),
        };
        (V::load(a) + grad).store(a);
        (V::load(b) + grad).store(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

    #[test]
    fn forward_and_backward_equal_the_definition() {
        at_every_level(|level| {
            for (b, t, c, v) in [(1, 1, 1, 3), (2, 3, 5, 4), (2, 4, 33, 7)] {
                for dropout in [None, Dropout::new(0.4, 9).map(|d| d.skip_rows(2))] {
                    let what = format!("{level:?} B {b} T {t} C {c} {dropout:?}");
                    let ids: Vec<u32> = (0..b * t).map(|i| (i * i % v) as u32).collect();
                    let (wte, wpe) = (noise(v * c, 1), noise((t + 1) * c, 2));
                    let run = |wte: &[f32], wpe: &[f32]| {
                        let mut out = vec![0.0; b * t * c];
                        forward(&ids, (wte, wpe), (t, c), dropout, &mut out);
                        out
                    };
                    let factor = |n: usize, j: usize| match dropout {
                        Some(d) if d.keeps(n, j as u32) => d.scale(),
                        Some(_) => 0.0,
                        None => 1.0,
                    };
                    let value = |i: usize| {
                        let (n, j) = (i / c, i % c);
                        factor(n, j) * (wte[ids[n] as usize * c + j] + wpe[n % t * c + j])
                    };
                    let expected: Vec<f32> = (0..b * t * c).map(value).collect();
                    assert_close(&run(&wte, &wpe), &expected, 1e-6, &what);

                    let weights = noise(b * t * c, 3);
                    let (mut dwte, mut dwpe) = (vec![0.0; v * c], vec![0.0; (t + 1) * c]);
                    backward(&ids, &weights, (t, c), dropout, (&mut dwte, &mut dwpe));
                    let f = |wte: &[f32], wpe: &[f32]| weighted_sum(&run(wte, wpe), &weights);
                    assert_gradient(&wte, &dwte, 2e-3, &what, |wte| f(wte, &wpe));
                    assert_gradient(&wpe, &dwpe, 2e-3, &what, |wpe| f(&wte, wpe));
                }
            }
        });
    }
}
