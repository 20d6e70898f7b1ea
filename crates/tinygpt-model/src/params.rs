//! Parameters: their names, shapes and canonical order, and the tensors that hold them.
//!
//! The order is `wte, wpe, h.0.ln_1.weight, …, ln_f.bias`; gradients, optimiser state and
//! checkpoints all follow it. Names and layouts are those of GPT-2 on the Hugging Face hub:
//! matrices are `[in, out]`, and the head is the embedding table itself. Nothing here knows files.

use std::ops::Range;

use candle_core::{Device, Tensor, Var};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::host::{self, HostSlice};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normally distributed around 0 with this standard deviation.
    Normal(f32),
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
}

/// Name, shape and treatment of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// GPT-2's name, such as `h.0.attn.c_attn.weight`.
    pub name: String,
    /// Its shape; matrices are `[in, out]`, tables `[rows, C]`.
    pub shape: Vec<usize>,
    /// Whether weight decay applies: true for matrices and tables.
    pub decay: bool,
    /// How it starts.
    pub init: Init,
}

impl ParamSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never true for a valid configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A weight with its bias; `None` where the model has no biases.
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

impl<T> ModelParts<T> {
    /// Sorts values given in canonical order into their places.
    ///
    /// # Errors
    /// [`ModelError::MissingParameter`] if there are too few values.
    pub fn from_ordered(config: &ModelConfig, items: impl IntoIterator<Item = T>) -> Result<Self> {
        let specs = param_specs(config);
        let mut specs = specs.iter();
        let mut items = items.into_iter();
        let mut next = || match (items.next(), specs.next()) {
            (Some(item), _) => Ok(item),
            (None, Some(spec)) => Err(ModelError::MissingParameter {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
            }),
            (None, None) => Err(ModelError::request("more places than parameters")),
        };
        let (wte, wpe) = (next()?, next()?);
        let mut affine = || -> Result<Affine<T>> {
            Ok(Affine { weight: next()?, bias: if config.bias { Some(next()?) } else { None } })
        };
        let mut blocks = Vec::with_capacity(config.n_layer);
        for _ in 0..config.n_layer {
            blocks.push(BlockParts {
                ln_1: affine()?,
                c_attn: affine()?,
                attn_c_proj: affine()?,
                ln_2: affine()?,
                c_fc: affine()?,
                mlp_c_proj: affine()?,
            });
        }
        Ok(Self { wte, wpe, blocks, ln_f: affine()? })
    }
}

impl<T> ModelParts<T> {
    /// All values in canonical order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        fn affine<T>(it: &Affine<T>) -> impl Iterator<Item = &T> {
            std::iter::once(&it.weight).chain(&it.bias)
        }
        let blocks = self.blocks.iter().flat_map(|block| {
            let BlockParts { ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj } = block;
            [ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj].into_iter().flat_map(affine)
        });
        [&self.wte, &self.wpe].into_iter().chain(blocks).chain(affine(&self.ln_f))
    }
}

impl ModelParts<HostSlice<'_>> {
    /// The same values as plain slices, which threads can share.
    pub(crate) fn slices(&self) -> ModelParts<&[f32]> {
        fn affine<'a>(from: &'a Affine<HostSlice<'_>>) -> Affine<&'a [f32]> {
            Affine { weight: &from.weight, bias: from.bias.as_deref() }
        }
        fn block<'a>(from: &'a BlockParts<HostSlice<'_>>) -> BlockParts<&'a [f32]> {
            let BlockParts { ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj } = from;
            BlockParts {
                ln_1: affine(ln_1),
                c_attn: affine(c_attn),
                attn_c_proj: affine(attn_c_proj),
                ln_2: affine(ln_2),
                c_fc: affine(c_fc),
                mlp_c_proj: affine(mlp_c_proj),
            }
        }
        ModelParts {
            wte: &self.wte,
            wpe: &self.wpe,
            blocks: self.blocks.iter().map(block).collect(),
            ln_f: affine(&self.ln_f),
        }
    }
}

/// The parameters of a model in canonical order.
pub fn param_specs(config: &ModelConfig) -> Vec<ParamSpec> {
    let c = config.n_embd;
    let plain = Init::Normal(0.02);
    // Each block adds two residuals; scaling them keeps the stream's variance at init
    // independent of depth (GPT-2 paper, section 2.3).
    let residual = Init::Normal(0.02 / (2.0 * config.n_layer as f32).sqrt());
    let mut specs = Vec::new();
    let mut push = |name: String, shape: &[usize], init: Init| {
        specs.push(ParamSpec { name, shape: shape.to_vec(), decay: shape.len() >= 2, init });
    };
    let affine = |name: &str, shape: &[usize], init: Init, push: &mut dyn FnMut(_, &[_], _)| {
        push(format!("{name}.weight"), shape, init);
        if config.bias {
            push(format!("{name}.bias"), &shape[shape.len() - 1..], Init::Zeros);
        }
    };
    push("wte.weight".to_owned(), &[config.vocab_size, c], plain);
    push("wpe.weight".to_owned(), &[config.block_size, c], plain);
    for i in 0..config.n_layer {
        affine(&format!("h.{i}.ln_1"), &[c], Init::Ones, &mut push);
        affine(&format!("h.{i}.attn.c_attn"), &[c, 3 * c], plain, &mut push);
        affine(&format!("h.{i}.attn.c_proj"), &[c, c], residual, &mut push);
        affine(&format!("h.{i}.ln_2"), &[c], Init::Ones, &mut push);
        affine(&format!("h.{i}.mlp.c_fc"), &[c, 4 * c], plain, &mut push);
        affine(&format!("h.{i}.mlp.c_proj"), &[4 * c, c], residual, &mut push);
    }
    affine("ln_f", &[c], Init::Ones, &mut push);
    specs
}

/// Where the parameters of block `layer` stand in the canonical order.
pub fn block_range(config: &ModelConfig, layer: usize) -> Range<usize> {
    let per_block = if config.bias { 12 } else { 6 };
    2 + layer * per_block..2 + (layer + 1) * per_block
}

/// All parameters of one model: f32, contiguous, on one device, no two sharing memory.
#[derive(Debug)]
pub struct Params {
    config: ModelConfig,
    specs: Vec<ParamSpec>,
    vars: Vec<Var>,
    device: Device,
}

impl Params {
    /// Takes values in canonical order and puts them on `device`.
    ///
    /// # Errors
    /// [`ModelError::Config`] for an invalid configuration, [`ModelError::MissingParameter`] and
    /// [`ModelError::ParameterSize`] if the values do not fit it, [`ModelError::Tensor`] if the
    /// device refuses.
    pub fn from_values(
        config: &ModelConfig,
        values: Vec<Vec<f32>>,
        device: &Device,
    ) -> Result<Self> {
        config.validate()?;
        let specs = param_specs(config);
        if let Some(spec) = specs.get(values.len()) {
            let (name, shape) = (spec.name.clone(), spec.shape.clone());
            return Err(ModelError::MissingParameter { name, shape });
        }
        if values.len() > specs.len() {
            let message = format!("{} parameters given, expected {}", values.len(), specs.len());
            return Err(ModelError::request(message));
        }
        let mut vars = Vec::with_capacity(specs.len());
        for (spec, value) in specs.iter().zip(values) {
            if value.len() != spec.len() {
                return Err(ModelError::ParameterSize {
                    name: spec.name.clone(),
                    shape: spec.shape.clone(),
                    expected: spec.len(),
                    got: value.len(),
                });
            }
            vars.push(Var::from_vec(value, spec.shape.as_slice(), device)?);
        }
        Ok(Self { config: config.clone(), specs, vars, device: device.clone() })
    }

    /// Specs and tensors in canonical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ParamSpec, &Tensor)> {
        self.specs.iter().zip(self.vars.iter().map(Var::as_tensor))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(spec, _)| spec.name == name).map(|(_, tensor)| tensor)
    }

    /// The tensor at `param_idx` of the canonical order.
    pub fn at(&self, param_idx: usize) -> Option<&Tensor> {
        self.vars.get(param_idx).map(Var::as_tensor)
    }

    /// Replaces the values of the parameter at `param_idx`, on any device.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if shape or dtype differ, [`ModelError::Request`] if there is no
    /// such parameter.
    pub fn set(&self, param_idx: usize, values: &Tensor) -> Result<()> {
        let var = self
            .vars
            .get(param_idx)
            .ok_or_else(|| ModelError::request(format!("there is no parameter {param_idx}")))?;
        Ok(var.set(&values.detach())?)
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.vars.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }

    /// Names, shapes and treatment, in canonical order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The shape they belong to.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where they live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Changes the one key of the shape that no parameter depends on.
    pub(crate) fn set_dropout(&mut self, dropout: f32) -> Result<()> {
        let config = ModelConfig { dropout, ..self.config.clone() };
        config.validate()?;
        self.config = config;
        Ok(())
    }

    /// Drops the rows of the position table from `block_size` on.
    pub(crate) fn cut_block_size(&mut self, block_size: usize) -> Result<()> {
        let rows = self.config.block_size;
        if block_size == 0 || block_size > rows {
            let message = format!("cannot cut {rows} positions to {block_size}");
            return Err(ModelError::request(message));
        }
        let config = ModelConfig { block_size, ..self.config.clone() };
        let specs = param_specs(&config);
        for (spec, var) in specs.iter().zip(&mut self.vars) {
            if var.shape().dims() != spec.shape {
                // A copy: no two parameters share memory, and the rest of the table is let go.
                let kept = var.as_detached_tensor().narrow(0, 0, block_size)?;
                *var = Var::from_tensor(&kept.force_contiguous()?)?;
            }
        }
        (self.config, self.specs) = (config, specs);
        Ok(())
    }

    /// The values of all parameters, on the CPU; none can be written while this lives.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the model is on another device.
    pub(crate) fn read(&self) -> Result<ModelParts<HostSlice<'_>>> {
        let values: Result<Vec<_>> = self.iter().map(|(_, tensor)| host::read(tensor)).collect();
        ModelParts::from_ordered(&self.config, values?)
    }

    /// The tensors in their places, seen by candle's autograd.
    pub(crate) fn tracked(&self) -> Result<ModelParts<Tensor>> {
        ModelParts::from_ordered(&self.config, self.vars.iter().map(|var| var.as_tensor().clone()))
    }

    /// The tensors in their places, unseen by autograd: nothing computed from them keeps a graph.
    pub(crate) fn detached(&self) -> Result<ModelParts<Tensor>> {
        ModelParts::from_ordered(&self.config, self.vars.iter().map(Var::as_detached_tensor))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config(bias: bool) -> ModelConfig {
        ModelConfig {
            vocab_size: 7,
            block_size: 5,
            n_layer: 3,
            n_head: 2,
            n_embd: 4,
            dropout: 0.0,
            bias,
        }
    }

    #[test]
    fn order_ranges_and_counts_agree() {
        for bias in [true, false] {
            let config = config(bias);
            let specs = param_specs(&config);
            assert_eq!(specs.iter().map(ParamSpec::len).sum::<usize>(), config.num_params());
            assert_eq!(specs[0].name, "wte.weight");
            for layer in 0..config.n_layer {
                let range = block_range(&config, layer);
                assert_eq!(specs[range.start].name, format!("h.{layer}.ln_1.weight"));
                assert!(specs[range.end - 1].name.starts_with(&format!("h.{layer}.mlp.c_proj.")));
            }
            let last = if bias { "ln_f.bias" } else { "ln_f.weight" };
            assert_eq!(specs.last().unwrap().name, last);
            let names = specs.iter().map(|spec| spec.name.clone());
            let parts = ModelParts::from_ordered(&config, names).unwrap();
            assert_eq!(parts.blocks[1].c_fc.weight, "h.1.mlp.c_fc.weight");
            assert_eq!(parts.ln_f.weight, "ln_f.weight");
        }
    }

    #[test]
    fn missing_and_misshapen_values_are_named() {
        let config = config(true);
        let mut values: Vec<Vec<f32>> =
            param_specs(&config).iter().map(|spec| vec![0.0; spec.len()]).collect();
        values[3].push(1.0);
        let error = Params::from_values(&config, values.clone(), &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("h.0.ln_1.bias"), "{error}");
        values[3].pop();
        values.pop();
        let error = Params::from_values(&config, values, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("ln_f.bias"), "{error}");
    }
}
