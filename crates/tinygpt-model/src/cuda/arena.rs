//! Parameters, gradients and moments on the GPU: one allocation each, with equal offsets.
//!
//! So AdamW and the global norm are one launch over everything, and a bf16 copy of the parameters has the
//! same offsets again. Each tensor starts at a multiple of [`ALIGNMENT`] elements. The token table has V
//! rounded up to a multiple of 128 rows, so that every matrix of a product is aligned. What is between
//! tensors and in those rows is zero and stays zero: its gradient is.

use std::sync::Arc;

use tinygpt_cuda::{Buffer, Gpu, View};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::parts::{ModelParts, ParamKind, ParamSpec, param_specs};

/// Elements.
const ALIGNMENT: usize = 64;

/// Rows of the token table are a multiple of this.
const TABLE_ROWS: usize = 128;

/// Where one parameter lies, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) start: usize,
    /// Without padding.
    pub(crate) len: usize,
    /// What kernels see: with the rows that only pad the token table.
    pub(crate) padded_len: usize,
}

/// Where each parameter of a model lies in its arenas, in canonical order.
#[derive(Clone, Debug)]
pub(crate) struct ArenaLayout {
    config: ModelConfig,
    pub(crate) places: Vec<Place>,
    /// Elements of an arena.
    pub(crate) len: usize,
}

impl ArenaLayout {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let mut len = 0;
        let place = |spec: &ParamSpec| {
            let padded_len = match spec.kind {
                ParamKind::Table => config.vocab_size.next_multiple_of(TABLE_ROWS) * config.n_embd,
                _ => spec.len(),
            };
            let place = Place { start: len, len: spec.len(), padded_len };
            len += padded_len.next_multiple_of(ALIGNMENT);
            place
        };
        let places = param_specs(config).iter().map(place).collect();
        Self { config: config.clone(), places, len }
    }

    /// The parameters of an arena with elements of `bytes` bytes, in their places.
    pub(crate) fn parts(&self, arena: View, bytes: usize) -> Result<ModelParts<View>> {
        let view = |place: &Place| {
            arena.slice(place.start * bytes..(place.start + place.padded_len) * bytes)
        };
        ModelParts::from_ordered(&self.config, self.places.iter().map(view))
    }
}

/// One f32 value for each value of each parameter, in GPU memory.
#[derive(Debug)]
pub struct Arena {
    layout: Arc<ArenaLayout>,
    gpu: Gpu,
    buffer: Buffer,
}

impl Arena {
    /// All zeros.
    pub(crate) fn zeros(gpu: &Gpu, layout: &Arc<ArenaLayout>) -> Result<Self> {
        let buffer = gpu.alloc(size_of::<f32>() * layout.len)?;
        gpu.zero(buffer.view())?;
        Ok(Self { layout: Arc::clone(layout), gpu: gpu.clone(), buffer })
    }

    /// All of it.
    pub(crate) fn view(&self) -> View {
        self.buffer.view()
    }

    /// Each parameter in its place.
    pub(crate) fn parts(&self) -> Result<ModelParts<View>> {
        self.layout.parts(self.view(), size_of::<f32>())
    }

    /// Sets all values to zero.
    pub(crate) fn clear(&self) -> Result<()> {
        Ok(self.gpu.zero(self.view())?)
    }

    /// Replaces the values of the parameter at `param_idx`.
    pub(crate) fn upload(&self, param_idx: usize, values: &[f32]) -> Result<()> {
        Ok(self.gpu.upload(self.values(param_idx), values)?)
    }

    /// Copies the values of the parameter at `param_idx` to the host, after all that was launched before.
    pub(crate) fn download(&self, param_idx: usize, values: &mut [f32]) -> Result<()> {
        Ok(self.gpu.download(self.values(param_idx), values)?)
    }

    /// The same as a vector.
    pub(crate) fn to_host(&self, param_idx: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.layout.places[param_idx].len];
        self.download(param_idx, &mut values)?;
        Ok(values)
    }

    /// How many parameters.
    pub(crate) fn n_params(&self) -> usize {
        self.layout.places.len()
    }

    fn values(&self, param_idx: usize) -> View {
        let place = self.layout.places[param_idx];
        self.view().slice_of::<f32>(place.start..place.start + place.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_aligned_and_do_not_overlap() {
        for (vocab_size, bias) in [(65, true), (128, false), (30_000, true)] {
            let sizes = ModelConfig { vocab_size, bias, n_layer: 2, ..ModelConfig::gpt2() };
            let config = ModelConfig { n_head: 3, n_embd: 24, block_size: 5, ..sizes };
            let layout = ArenaLayout::new(&config);
            let mut end = 0;
            for (place, spec) in layout.places.iter().zip(param_specs(&config)) {
                assert_eq!(place.len, spec.len());
                assert!(place.start >= end && place.start.is_multiple_of(ALIGNMENT));
                assert!(place.padded_len >= place.len && place.start - end < ALIGNMENT);
                end = place.start + place.padded_len;
            }
            assert!(layout.len >= end && layout.len.is_multiple_of(ALIGNMENT));
            assert!(layout.places[0].padded_len.is_multiple_of(TABLE_ROWS * config.n_embd));
        }
    }
}
