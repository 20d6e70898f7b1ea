//! Token plus position embedding, `x[b, t] = wte[id[b, t]] + wpe[t]`: the bottom of the model.
//! The same `wte` is the head at the top.

use candle_core::{Result, Tensor};
use candle_nn::{Embedding, Module as _};

/// Looks up `ids` at positions `start..start + T`.
///
/// # Shapes
/// `ids` `[B, T]` (u32), `wte` `[V, C]`, `wpe` `[block_size, C]` → `[B, T, C]`.
pub(crate) fn autograd(ids: &Tensor, wte: &Tensor, wpe: &Tensor, start: usize) -> Result<Tensor> {
    let (_, t) = ids.dims2()?;
    let tokens = Embedding::new(wte.clone(), wte.dim(1)?).forward(ids)?; // [B, T, C]
    tokens.broadcast_add(&wpe.narrow(0, start, t)?)
}
