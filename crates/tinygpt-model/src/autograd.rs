//! The autograd backend: a whole step of differentiable candle operations, on any device. CUDA and
//! Metal train with it, and on the CPU it is the reference for the CPU backend.
//!
//! candle's autograd runs block by block: each block's input is a variable of its own, and the
//! gradient that arrives at a block's output enters through `Σ y · dy`. So a block's activations
//! are freed as soon as its backward is done, and the graphs stay small. Weights and everything
//! between two products are f32; with bf16 only the products' operands are rounded.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Tensor, Var};
use tinygpt_kernels::IGNORED_TARGET;

use crate::backend::Grads;
use crate::batch::{TokenBatch, check_ids, ids_tensor};
use crate::error::{ModelError, Result};
use crate::layers::dropout::{self, Dropout, DropoutKey, Site};
use crate::layers::{attention, block, embedding, head, layer_norm};
use crate::params::Params;
use crate::parts::ModelParts;

/// Rows of logits that exist at one time.
const HEAD_ROWS: usize = 1024;

/// One piece of the graph: where it starts and where it ends.
struct Segment {
    input: Var,
    output: Tensor,
}

/// Adds `scale` times the gradients of the mean loss to `grads` and returns the loss. Without a target that is
/// learned there is nothing to add.
pub(crate) fn accumulate_gradients(
    params: &Params,
    compute: DType,
    batch: &TokenBatch<'_>,
    dropout: Option<DropoutKey>,
    scale: f32,
    grads: &mut Grads,
) -> Result<f32> {
    let config = params.config();
    batch.validate(config)?;
    if batch.n_learned() == 0 {
        return Ok(0.0);
    }
    let device = params.device();
    let dropout_key = dropout;
    let dropout = Dropout::new(config.dropout, dropout_key);
    if let (Some(key), Some(_), false) = (dropout_key, &dropout, device.is_cpu()) {
        device.set_seed(key.mix())?;
    }
    let dropout = dropout.as_ref();
    let parts = params.tracked()?;
    let indices = &ModelParts::indices(config)?;

    let mask = attention::mask(batch, device)?;
    let ids = ids_tensor(batch.inputs, batch.batch_size, batch.seq_len, device)?;
    let x = embedding::autograd(&ids, &parts.wte, &parts.wpe, 0)?;
    let embedded = dropout::autograd(x, dropout, Site::Embedding)?; // [B, T, C]

    let mut segments = Vec::with_capacity(config.n_layer);
    let mut x = embedded.detach();
    for (layer, weights) in parts.blocks.iter().enumerate() {
        let input = Var::from_tensor(&x)?;
        let attention = block::attention(weights, config.n_head, layer);
        let output = block::autograd(&input, weights, (&attention, &mask), dropout, compute)?;
        x = output.detach();
        segments.push(Segment { input, output });
    }

    let (loss, mut dx) =
        head_gradients(params, (&parts, indices), compute, &x, batch, scale, grads)?;
    for (layer, segment) in segments.into_iter().enumerate().rev() {
        let mut store = (&segment.output * &dx)?.sum_all()?.backward()?;
        for param_idx in indices.blocks[layer].iter() {
            take(&mut store, params, *param_idx, grads)?;
        }
        dx = store.remove(&segment.input).ok_or_else(|| cut("the residual stream"))?.detach();
    }
    let mut store = (embedded * dx)?.sum_all()?.backward()?;
    take(&mut store, params, indices.wte, grads)?;
    take(&mut store, params, indices.wpe, grads)?;
    Ok(loss)
}

/// Last layer norm, head and loss: returns the mean loss and the gradient at the last block's
/// output, scaled, `[B, T, C]`.
fn head_gradients(
    params: &Params,
    (parts, indices): (&ModelParts<Tensor>, &ModelParts<usize>),
    compute: DType,
    x: &Tensor,
    batch: &TokenBatch<'_>,
    scale: f32,
    grads: &mut Grads,
) -> Result<(f32, Tensor)> {
    let input = Var::from_tensor(x)?;
    let normed =
        layer_norm::autograd(&input, &parts.ln_f)?.reshape(((), params.config().n_embd))?;
    let (normed, targets) = learned_rows(&normed, batch)?;
    let n_rows = targets.elem_count();

    let mut loss_sum = Tensor::zeros((), DType::F32, params.device())?;
    let mut dnormed = Vec::new();
    for start in (0..n_rows).step_by(HEAD_ROWS) {
        let rows = HEAD_ROWS.min(n_rows - start);
        let chunk = Var::from_tensor(&normed.detach().narrow(0, start, rows)?)?;
        let logits = head::autograd_logits(&chunk, &parts.wte, compute)?; // [rows, V]
        let loss = head::autograd_loss(&logits, &targets.narrow(0, start, rows)?)?;
        let mut store = (&loss * (f64::from(scale) / n_rows as f64))?.backward()?;
        take(&mut store, params, indices.wte, grads)?;
        dnormed.push(store.remove(&chunk).ok_or_else(|| cut("the head"))?.detach());
        loss_sum = (loss_sum + loss.detach())?;
    }
    let dnormed = Tensor::cat(&dnormed, 0)?; // [n_rows, C]
    let mut store = (normed * dnormed)?.sum_all()?.backward()?;
    for param_idx in indices.ln_f.iter() {
        take(&mut store, params, *param_idx, grads)?;
    }
    let dx = store.remove(&input).ok_or_else(|| cut("ln_f"))?.detach();
    let loss = loss_sum.to_scalar::<f32>()? / n_rows as f32;
    Ok((loss, dx))
}

/// The rows `[rows, C]` of `h` `[B T, C]` whose targets are learned, and these targets `[rows]`.
fn learned_rows(h: &Tensor, batch: &TokenBatch<'_>) -> Result<(Tensor, Tensor)> {
    let all = 0..batch.targets.len() as u32;
    let rows: Vec<u32> = all.filter(|row| batch.targets[*row as usize] != IGNORED_TARGET).collect();
    let learned: Vec<u32> = rows.iter().map(|row| batch.targets[*row as usize]).collect();
    let n_rows = rows.len();
    let targets = Tensor::from_vec(learned, n_rows, h.device())?;
    if n_rows == batch.targets.len() {
        return Ok((h.clone(), targets));
    }
    Ok((h.index_select(&Tensor::from_vec(rows, n_rows, h.device())?, 0)?, targets))
}

/// The mean loss without dropout; keeps no graph.
pub(crate) fn loss(params: &Params, compute: DType, batch: &TokenBatch<'_>) -> Result<f32> {
    batch.validate(params.config())?;
    if batch.n_learned() == 0 {
        return Ok(0.0);
    }
    let parts = params.detached()?;
    let mask = attention::mask(batch, params.device())?;
    let shape = (batch.batch_size, batch.seq_len);
    let h = hidden(params, &parts, compute, (batch.inputs, shape), &mask)?;
    let (h, targets) = learned_rows(&h, batch)?;
    let n_rows = targets.elem_count();
    let mut loss_sum = Tensor::zeros((), DType::F32, params.device())?;
    for start in (0..n_rows).step_by(HEAD_ROWS) {
        let rows = HEAD_ROWS.min(n_rows - start);
        let logits = head::autograd_logits(&h.narrow(0, start, rows)?, &parts.wte, compute)?;
        let loss = head::autograd_loss(&logits, &targets.narrow(0, start, rows)?)?;
        loss_sum = (loss_sum + loss)?;
    }
    Ok(loss_sum.to_scalar::<f32>()? / n_rows as f32)
}

/// All logits, `[B, T, V]`.
pub(crate) fn logits(
    params: &Params,
    compute: DType,
    ids: &[u32],
    batch_size: usize,
    seq_len: usize,
) -> Result<Vec<f32>> {
    check_ids(params.config(), ids, batch_size, seq_len)?;
    let parts = params.detached()?;
    let mask = attention::causal_mask(seq_len, seq_len, params.device())?;
    let h = hidden(params, &parts, compute, (ids, (batch_size, seq_len)), &mask)?;
    let logits = head::autograd_logits(&h, &parts.wte, compute)?;
    Ok(logits.flatten_all()?.to_vec1()?)
}

/// The rows that the head sees, `[B T, C]`.
fn hidden(
    params: &Params,
    parts: &ModelParts<Tensor>,
    compute: DType,
    (ids, (batch_size, seq_len)): (&[u32], (usize, usize)),
    mask: &Tensor,
) -> Result<Tensor> {
    let config = params.config();
    let ids = ids_tensor(ids, batch_size, seq_len, params.device())?;
    let mut x = embedding::autograd(&ids, &parts.wte, &parts.wpe, 0)?; // [B, T, C]
    for (layer, weights) in parts.blocks.iter().enumerate() {
        let attention = block::attention(weights, config.n_head, layer);
        x = block::autograd(&x, weights, (&attention, mask), None, compute)?;
    }
    Ok(layer_norm::autograd(&x, &parts.ln_f)?.flatten_to(D::Minus2)?)
}

/// Moves one parameter's gradient from candle's store to ours.
fn take(store: &mut GradStore, params: &Params, param_idx: usize, grads: &mut Grads) -> Result<()> {
    let grad = params.at(param_idx).and_then(|tensor| store.remove(tensor));
    let grad = grad.ok_or_else(|| cut(&params.specs()[param_idx].name))?;
    grads.add(param_idx, &grad)
}

fn cut(name: &str) -> ModelError {
    ModelError::MissingGradient { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::ModelConfig;
    use crate::init::init_params;
    use candle_core::Device;

    const N: usize = 4 * 8;

    fn params() -> Params {
        let config = ModelConfig {
            vocab_size: 17,
            block_size: 8,
            n_layer: 2,
            n_head: 2,
            n_embd: 16,
            ..ModelConfig::default()
        };
        init_params(&config, 5, &Device::Cpu).unwrap()
    }

    fn host_grads(params: &Params, compute: DType) -> (f32, Vec<Vec<f32>>) {
        let inputs: Vec<u32> = (0..N as u32).map(|i| i * 7 % 17).collect();
        let targets: Vec<u32> = (0..N as u32).map(|i| i * 5 % 13).collect();
        let batch = TokenBatch {
            inputs: &inputs,
            targets: &targets,
            document_starts: None,
            batch_size: 4,
            seq_len: 8,
        };
        let mut grads = Grads::zeros(params).unwrap();
        let loss = accumulate_gradients(params, compute, &batch, None, 1.0, &mut grads).unwrap();
        // The way of CUDA and Metal: gradients that stay tensors.
        let zeros = params.iter().map(|(_, tensor)| tensor.zeros_like().unwrap().detach());
        let mut on_device = Grads::Device(zeros.collect());
        for _ in 0..2 {
            accumulate_gradients(params, compute, &batch, None, 0.5, &mut on_device).unwrap();
        }
        let norms = [&grads, &on_device].map(|grads| grads.global_norm(params).unwrap());
        assert!((norms[0] / norms[1] - 1.0).abs() < 1e-5, "{norms:?}");
        let (Grads::Host(grads), Grads::Device(on_device)) = (grads, on_device) else {
            panic!("expected one of each kind");
        };
        for (host, device) in grads.iter().zip(&on_device) {
            let device = device.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_close(&device, host, 1e-5);
        }
        (loss, grads)
    }

    fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
        let largest = b.iter().fold(0f32, |max, x| max.max(x.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * largest, "{a} {b} of {largest}");
        }
    }

    #[test]
    fn bf16_rounds_products_and_nothing_else() {
        let params = params();
        let (exact_loss, exact) = host_grads(&params, DType::F32);
        let (loss, grads) = host_grads(&params, DType::BF16);
        assert_ne!(loss, exact_loss);
        assert!((loss / exact_loss - 1.0).abs() < 1e-3, "{loss} {exact_loss}");
        for ((spec, grads), exact) in params.specs().iter().zip(&grads).zip(&exact) {
            assert!(exact.iter().any(|x| *x != 0.0), "{}", spec.name);
            assert_close(grads, exact, 0.05);
        }
    }
}
