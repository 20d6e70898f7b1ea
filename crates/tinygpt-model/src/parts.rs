//! What a GPT-2 consists of: the names, shapes and kinds of its parameters, and their order.
//!
//! The canonical order is `wte, wpe, h.0.ln_1.weight, …, ln_f.bias`; gradients, optimizer state and
//! checkpoints all follow it. Names and layouts are those of GPT-2 on the Hugging Face hub:
//! matrices are `[in, out]`, and the head is the embedding table itself.

use std::convert::Infallible;

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::host::HostSlice;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normally distributed around 0 with this standard deviation.
    Normal(f32),
    /// All zeros.
    Zeros,
    /// All the same.
    Constant(f32),
}

/// What a parameter is; its treatment follows from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// The token table `[V, C]`, which is also the head.
    Table,
    /// The position table `[block_size, C]`.
    Position,
    /// A matrix `[in, out]`.
    Matrix,
    /// The gain of a layer norm, `[C]`.
    Gain,
    /// A bias, `[out]`.
    Bias,
}

impl ParamKind {
    /// Whether a matrix product reads it: its gradient is one product too, and 8-bit models round it.
    pub fn is_multiplied(self) -> bool {
        matches!(self, Self::Table | Self::Matrix)
    }

    /// Whether weight decay applies: to everything with two dimensions, as in nanoGPT.
    pub fn is_decayed(self) -> bool {
        matches!(self, Self::Table | Self::Position | Self::Matrix)
    }
}

/// Name, shape and treatment of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// GPT-2's name, such as `h.0.attn.c_attn.weight`.
    pub name: String,
    /// Its shape; matrices are `[in, out]`, tables `[rows, C]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: ParamKind,
    /// How it starts.
    pub init: Init,
}

impl ParamSpec {
    /// Number of values.
    #[expect(clippy::len_without_is_empty, reason = "no parameter is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of values, `None` if it overflows.
    pub(crate) fn checked_len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |len, n| len.checked_mul(*n))
    }
}

/// A weight with its bias; `None` if the model has no biases.
#[derive(Clone, Debug)]
pub struct Affine<T> {
    /// Matrix or gain.
    pub weight: T,
    /// Added afterwards.
    pub bias: Option<T>,
}

/// One value for each parameter of a block, in canonical order.
#[derive(Clone, Debug)]
pub struct BlockParts<T> {
    /// Layer norm before attention, `[C]`.
    pub ln_1: Affine<T>,
    /// Packed query, key and value projection, `[C, 3C]`.
    pub c_attn: Affine<T>,
    /// Attention's output projection, `[C, C]`.
    pub attn_c_proj: Affine<T>,
    /// Layer norm before the MLP, `[C]`.
    pub ln_2: Affine<T>,
    /// The MLP's first matrix, `[C, 4C]`.
    pub c_fc: Affine<T>,
    /// The MLP's second matrix, `[4C, C]`.
    pub mlp_c_proj: Affine<T>,
}

/// One value for each parameter of a model: tensors, slices, gradients, whatever `T` is.
#[derive(Clone, Debug)]
pub struct ModelParts<T> {
    /// Token table `[V, C]`, also the head.
    pub wte: T,
    /// Position table `[block_size, C]`.
    pub wpe: T,
    /// L blocks.
    pub blocks: Vec<BlockParts<T>>,
    /// Last layer norm, `[C]`.
    pub ln_f: Affine<T>,
}

impl<T> Affine<T> {
    fn try_map<'a, U, E>(
        &'a self,
        f: &mut dyn FnMut(&'a T) -> Result<U, E>,
    ) -> Result<Affine<U>, E> {
        Ok(Affine { weight: f(&self.weight)?, bias: self.bias.as_ref().map(f).transpose()? })
    }

    /// Weight, then bias.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    /// Weight, then bias.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
    }
}

impl Affine<Vec<f32>> {
    /// The same values as slices.
    pub(crate) fn slices(&mut self) -> Affine<&mut [f32]> {
        Affine { weight: &mut self.weight, bias: self.bias.as_deref_mut() }
    }
}

impl<T> BlockParts<T> {
    fn try_map<'a, U, E>(
        &'a self,
        f: &mut dyn FnMut(&'a T) -> Result<U, E>,
    ) -> Result<BlockParts<U>, E> {
        Ok(BlockParts {
            ln_1: self.ln_1.try_map(f)?,
            c_attn: self.c_attn.try_map(f)?,
            attn_c_proj: self.attn_c_proj.try_map(f)?,
            ln_2: self.ln_2.try_map(f)?,
            c_fc: self.c_fc.try_map(f)?,
            mlp_c_proj: self.mlp_c_proj.try_map(f)?,
        })
    }

    /// All values in canonical order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let Self { ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj } = self;
        [ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj].into_iter().flat_map(Affine::iter)
    }

    /// All values in canonical order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self { ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj } = self;
        [ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj].into_iter().flat_map(Affine::iter_mut)
    }
}

impl BlockParts<Vec<f32>> {
    /// The same values as slices.
    pub(crate) fn slices(&mut self) -> BlockParts<&mut [f32]> {
        let Self { ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj } = self;
        BlockParts {
            ln_1: ln_1.slices(),
            c_attn: c_attn.slices(),
            attn_c_proj: attn_c_proj.slices(),
            ln_2: ln_2.slices(),
            c_fc: c_fc.slices(),
            mlp_c_proj: mlp_c_proj.slices(),
        }
    }
}

impl<T> ModelParts<T> {
    /// The parts with `f` of each value, which is called in canonical order.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map<'a, U, E>(
        &'a self,
        f: &mut dyn FnMut(&'a T) -> Result<U, E>,
    ) -> Result<ModelParts<U>, E> {
        let (wte, wpe) = (f(&self.wte)?, f(&self.wpe)?);
        let blocks = self.blocks.iter().map(|block| block.try_map(f)).collect::<Result<_, E>>()?;
        Ok(ModelParts { wte, wpe, blocks, ln_f: self.ln_f.try_map(f)? })
    }

    /// The parts with `f` of each value, which is called in canonical order.
    pub fn map<'a, U>(&'a self, mut f: impl FnMut(&'a T) -> U) -> ModelParts<U> {
        let Ok(parts) = self.try_map(&mut |value| Ok::<_, Infallible>(f(value)));
        parts
    }

    /// All values in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let blocks = self.blocks.iter().flat_map(BlockParts::iter);
        [&self.wte, &self.wpe].into_iter().chain(blocks).chain(self.ln_f.iter())
    }

    /// Sorts values given in canonical order into their places.
    ///
    /// # Errors
    /// [`ModelError::MissingParameter`] if there are too few values.
    pub fn from_ordered(config: &ModelConfig, items: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut items = items.into_iter();
        layout(config).try_map(&mut |spec| {
            let missing = || ModelError::MissingParameter {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
            };
            items.next().ok_or_else(missing)
        })
    }
}

impl ModelParts<usize> {
    /// The index of each parameter in the canonical order.
    pub(crate) fn indices(config: &ModelConfig) -> Result<Self> {
        Self::from_ordered(config, 0..)
    }
}

impl ModelParts<HostSlice<'_>> {
    /// The same values as plain slices, which threads can share.
    pub(crate) fn slices(&self) -> ModelParts<&[f32]> {
        self.map(|slice| &**slice)
    }
}

/// The parameters of a model in their places: the one definition of what a GPT-2 consists of.
/// Their canonical order is that of the fields.
fn layout(config: &ModelConfig) -> ModelParts<ParamSpec> {
    let c = config.n_embd;
    // Saturating, since a shape may be asked for before it is checked.
    let [c3, c4] = [3, 4].map(|n| c.saturating_mul(n));
    let plain = Init::Normal(config.init_std);
    // Each block adds two residuals; scaling them keeps the stream's variance at init
    // independent of depth (GPT-2 paper, section 2.3).
    let residual = Init::Normal(config.init_std / (2.0 * config.n_layer as f32).sqrt());
    let spec = |name: String, shape: &[usize], kind, init| ParamSpec {
        name,
        shape: shape.to_vec(),
        kind,
        init,
    };
    let bias = |name: &str, n: usize| {
        config.bias.then(|| spec(format!("{name}.bias"), &[n], ParamKind::Bias, Init::Zeros))
    };
    let norm = |name: String| Affine {
        weight: spec(format!("{name}.weight"), &[c], ParamKind::Gain, Init::Constant(1.0)),
        bias: bias(&name, c),
    };
    let embedding = Init::Normal(config.embedding_std);
    // The first logits are as small as they are with embeddings of `init_std`.
    let mut ln_f = norm("ln_f".to_owned());
    ln_f.weight.init = Init::Constant(config.init_std / config.embedding_std);
    let linear = |name: String, n_in: usize, n_out: usize, init: Init| Affine {
        weight: spec(format!("{name}.weight"), &[n_in, n_out], ParamKind::Matrix, init),
        bias: bias(&name, n_out),
    };
    let block = |i: usize| BlockParts {
        ln_1: norm(format!("h.{i}.ln_1")),
        c_attn: linear(format!("h.{i}.attn.c_attn"), c, c3, plain),
        attn_c_proj: linear(format!("h.{i}.attn.c_proj"), c, c, residual),
        ln_2: norm(format!("h.{i}.ln_2")),
        c_fc: linear(format!("h.{i}.mlp.c_fc"), c, c4, plain),
        mlp_c_proj: linear(format!("h.{i}.mlp.c_proj"), c4, c, residual),
    };
    ModelParts {
        wte: spec("wte.weight".to_owned(), &[config.vocab_size, c], ParamKind::Table, embedding),
        wpe: spec("wpe.weight".to_owned(), &[config.block_size, c], ParamKind::Position, plain),
        blocks: (0..config.n_layer).map(block).collect(),
        ln_f,
    }
}

/// The parameters of a model in canonical order.
pub fn param_specs(config: &ModelConfig) -> Vec<ParamSpec> {
    layout(config).iter().cloned().collect()
}

/// Number of parameters of the given kinds, the tied table counted once; `None` if it overflows.
fn count(config: &ModelConfig, is_counted: impl Fn(ParamKind) -> bool) -> Option<usize> {
    // All blocks are alike, and an unchecked `n_layer` may be any number.
    let one = layout(&ModelConfig { n_layer: 1, ..config.clone() });
    let sum = |specs: &mut dyn Iterator<Item = &ParamSpec>| {
        let mut counted = specs.filter(|spec| is_counted(spec.kind));
        counted.try_fold(0usize, |sum, spec| sum.checked_add(spec.checked_len()?))
    };
    let block = sum(&mut one.blocks.iter().flat_map(BlockParts::iter))?;
    let outside = sum(&mut [&one.wte, &one.wpe].into_iter().chain(one.ln_f.iter()))?;
    config.n_layer.checked_mul(block)?.checked_add(outside)
}

/// Counts, which follow from the parameters.
impl ModelConfig {
    /// Number of parameters, the tied table counted once; `usize::MAX` where it would overflow.
    pub fn num_params(&self) -> usize {
        self.checked_num_params().unwrap_or(usize::MAX)
    }

    /// Number of parameters that decoding one token reads: all but the table of positions.
    pub fn num_decoded(&self) -> usize {
        count(self, |kind| kind != ParamKind::Position).unwrap_or(usize::MAX)
    }

    pub(crate) fn checked_num_params(&self) -> Option<usize> {
        let total = count(self, |_| true)?;
        // Four bytes each have to be addressable too.
        total.checked_mul(4).map(|_| total)
    }

    /// Floating-point operations of the matrix products that training on one token takes.
    ///
    /// Six for each weight of a matrix (multiply and add, forward and twice backward), the head once
    /// and no lookup; and for attention `6 L (T + 1) C`, what lies on or below the diagonal. What a
    /// pass computes again instead of keeping it does not count (Chowdhery et al. 2022, appendix B).
    pub fn flops_per_token(&self) -> f64 {
        let [l, c, t] = [self.n_layer, self.n_embd, self.block_size].map(|n| n as f64);
        let n_weights = count(self, ParamKind::is_multiplied).unwrap_or(usize::MAX);
        6.0 * n_weights as f64 + 6.0 * l * (t + 1.0) * c
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config(bias: bool) -> ModelConfig {
        let sizes = ModelConfig { vocab_size: 7, block_size: 5, n_layer: 3, ..ModelConfig::gpt2() };
        ModelConfig { n_head: 2, n_embd: 4, bias, ..sizes }
    }

    #[test]
    fn order_ranges_and_counts_agree() {
        for bias in [true, false] {
            let config = config(bias);
            let specs = param_specs(&config);
            assert_eq!(specs.iter().map(ParamSpec::len).sum::<usize>(), config.num_params());
            assert_eq!(specs[0].name, "wte.weight");
            let indices = ModelParts::indices(&config).unwrap();
            for (layer, block) in indices.blocks.iter().enumerate() {
                let names: Vec<&str> = block.iter().map(|i| specs[*i].name.as_str()).collect();
                assert_eq!(names[0], format!("h.{layer}.ln_1.weight"));
                let last = names[names.len() - 1];
                assert!(last.starts_with(&format!("h.{layer}.mlp.c_proj.")));
            }
            assert!(indices.iter().copied().eq(0..specs.len()));
            for spec in &specs {
                assert_eq!(spec.kind.is_decayed(), spec.shape.len() >= 2, "{}", spec.name);
            }
            let last = if bias { "ln_f.bias" } else { "ln_f.weight" };
            assert_eq!(specs.last().unwrap().name, last);
            let names = specs.iter().map(|spec| spec.name.clone());
            let parts = ModelParts::from_ordered(&config, names).unwrap();
            assert_eq!(parts.blocks[1].c_fc.weight, "h.1.mlp.c_fc.weight");
            assert_eq!(parts.ln_f.weight, "ln_f.weight");
        }
    }
}
