//! Token plus position embedding, `x[b, t] = wte[id[b, t]] + wpe[t]`: the bottom of the model.
//! The same `wte` is the head at the top.

use candle_core::{Result, Tensor};

/// Looks up `ids` at positions `start..start + T`.
///
/// # Shapes
/// `ids` `[B, T]` (u32), `wte` `[V, C]`, `wpe` `[block_size, C]` → `[B, T, C]`.
pub(crate) fn composed(ids: &Tensor, wte: &Tensor, wpe: &Tensor, start: usize) -> Result<Tensor> {
    let (b, t) = ids.dims2()?;
    let tokens = wte.index_select(&ids.flatten_all()?, 0)?.reshape((b, t, ()))?; // [B, T, C]
    tokens.broadcast_add(&wpe.narrow(0, start, t)?)
}
