//! [`Params`]: the tensors of a model's parameters. What they are is in `parts.rs`; files are read
//! and written elsewhere.

use candle_core::{Device, Tensor, Var};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::host::{self, HostSlice};
use crate::parts::{ModelParts, ParamSpec, param_specs};

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
    #[expect(clippy::len_without_is_empty, reason = "every model has parameters")]
    pub fn len(&self) -> usize {
        self.vars.len()
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

    /// Adds rows to the token embedding up to `vocab_size`, each the mean of the rows that are there.
    pub(crate) fn grow_vocab(&mut self, vocab_size: usize) -> Result<()> {
        let rows = self.config.vocab_size;
        let Some(n_new) = vocab_size.checked_sub(rows) else {
            return Err(ModelError::request(format!("cannot grow {rows} tokens to {vocab_size}")));
        };
        let config = ModelConfig { vocab_size, ..self.config.clone() };
        let specs = param_specs(&config);
        for (spec, var) in specs.iter().zip(&mut self.vars) {
            if var.shape().dims() != spec.shape {
                let table = var.as_detached_tensor();
                let new = table.mean_keepdim(0)?.broadcast_as((n_new, config.n_embd))?;
                *var = Var::from_tensor(&Tensor::cat(&[&table, &new.contiguous()?], 0)?)?;
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
        let sizes = ModelConfig { vocab_size: 7, block_size: 5, n_layer: 3, ..ModelConfig::gpt2() };
        ModelConfig { n_head: 2, n_embd: 4, bias, ..sizes }
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
