//! Which implementation computes, and where its numbers live: decided here and nowhere else.
//!
//! A model asks its [`Backend`]; [`ParamArrays`] holds what accompanies its parameters: gradients
//! and the optimizer's moments. A further implementation is a variant of each, and the compiler
//! lists the places that have to know it.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use tinygpt_kernels::grad_norm::sum_of_squares;
use tinygpt_kernels::profile::{Op, timed};

use crate::cuda::arena::Arena;
use crate::error::{ModelError, Result};
use crate::host;
use crate::params::Params;

/// What computes a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Forward and backward written by hand over `tinygpt-kernels`, in host memory.
    Cpu,
    /// Forward and backward written by hand over `tinygpt-cuda`, in the memory of an NVIDIA GPU.
    Cuda,
    /// candle's operations and its autograd, on the device of the parameters: how Metal trains, and
    /// the reference for the others.
    Autograd,
}

impl Backend {
    /// Whether tensors on `device` can be multiplied rounded to `dtype`: bf16 is slower than f32 on the
    /// CPU.
    pub(crate) fn computes_in(dtype: DType, device: &Device) -> bool {
        dtype == DType::F32 || (dtype == DType::BF16 && !device.is_cpu())
    }
}

/// An array for each parameter, in the order of [`Params`] and where the model computes.
/// [`Gpt::zeros`](crate::Gpt::zeros) and [`Gpt::arrays`](crate::Gpt::arrays) make them.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParamArrays {
    /// In host memory, row-major, for [`Backend::Cpu`].
    Host(Vec<Vec<f32>>),
    /// On the GPU, for [`Backend::Cuda`].
    Cuda(Arena),
    /// On the model's device, shaped as the parameters, for [`Backend::Autograd`].
    Device(Vec<Tensor>),
}

/// Gradients of all parameters.
pub type Grads = ParamArrays;

impl ParamArrays {
    /// Zeros for each of `params`.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub(crate) fn zeros(params: &Params) -> Result<Self> {
        if params.device().is_cpu() {
            let zeros = params.specs().iter().map(|spec| vec![0.0; spec.len()]);
            return Ok(Self::Host(zeros.collect()));
        }
        let zeros = params.iter().map(|(_, tensor)| tensor.detach().zeros_like());
        Ok(Self::Device(zeros.collect::<candle_core::Result<_>>()?))
    }

    /// Moves `values`, one array for each of `params`, to where the parameters are.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if a size is not the parameter's, or the device refuses.
    pub(crate) fn from_host(values: Vec<Vec<f32>>, params: &Params) -> Result<Self> {
        if params.device().is_cpu() {
            return Ok(Self::Host(values));
        }
        let pairs = values.into_iter().zip(params.specs());
        let tensors = pairs
            .map(|(values, spec)| Tensor::from_vec(values, spec.shape.as_slice(), params.device()));
        Ok(Self::Device(tensors.collect::<candle_core::Result<_>>()?))
    }

    /// All values in host memory.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn to_host(&self) -> Result<Vec<Cow<'_, [f32]>>> {
        match self {
            Self::Host(arrays) => {
                Ok(arrays.iter().map(|array| Cow::Borrowed(&array[..])).collect())
            }
            Self::Cuda(arena) => {
                (0..arena.n_params()).map(|i| arena.to_host(i).map(Cow::Owned)).collect()
            }
            Self::Device(arrays) => {
                let download = |array: &Tensor| array.flatten_all()?.to_vec1().map(Cow::Owned);
                Ok(arrays.iter().map(download).collect::<candle_core::Result<_>>()?)
            }
        }
    }

    /// Whether all values of the array at `param_idx` are finite.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn is_finite(&self, param_idx: usize) -> Result<bool> {
        match self {
            Self::Host(arrays) => Ok(values_are_finite(&arrays[param_idx])),
            Self::Cuda(arena) => Ok(values_are_finite(&arena.to_host(param_idx)?)),
            Self::Device(arrays) => tensor_is_finite(&arrays[param_idx]),
        }
    }

    /// Sets all of them to zero again.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub(crate) fn zero(&mut self) -> Result<()> {
        match self {
            Self::Host(arrays) => arrays.iter_mut().for_each(|array| array.fill(0.0)),
            Self::Cuda(arena) => arena.clear()?,
            Self::Device(arrays) => {
                for array in arrays {
                    *array = array.zeros_like()?;
                }
            }
        }
        Ok(())
    }

    /// The Euclidean norm over all gradients together; `params` give the names for the error.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] naming the first parameter whose gradient is not finite.
    pub fn global_norm(&self, params: &Params) -> Result<f64> {
        let squares = match self {
            Self::Host(grads) => timed(Op::GradientNorm, 1, 0, || {
                grads.iter().map(|grad| sum_of_squares(grad, 1)).collect()
            }),
            Self::Cuda(_) => self.to_host()?.iter().map(|grad| sum_of_squares(grad, 1)).collect(),
            Self::Device(grads) => squares_on_device(grads)?,
        };
        for (spec, square) in params.specs().iter().zip(&squares) {
            if !square.is_finite() {
                let what = format!("the gradient of `{}`", spec.name);
                return Err(ModelError::NonFinite { what });
            }
        }
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Adds `grad` to the array at `param_idx`.
    pub(crate) fn add(&mut self, param_idx: usize, grad: &Tensor) -> Result<()> {
        match self {
            Self::Host(arrays) => {
                let grad = grad.contiguous()?;
                let grad = host::read(&grad)?;
                for (sum, value) in arrays[param_idx].iter_mut().zip(grad.iter()) {
                    *sum += value;
                }
            }
            Self::Cuda(_) => {
                return Err(ModelError::request("a tensor cannot be added to arrays on a GPU"));
            }
            // Detached, or the sum would keep the graphs of all its terms.
            Self::Device(arrays) => arrays[param_idx] = (&arrays[param_idx] + grad.detach())?,
        }
        Ok(())
    }
}

impl Params {
    /// Whether all values of the parameter at `param_idx` are finite.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn is_finite(&self, param_idx: usize) -> Result<bool> {
        self.at(param_idx).map_or(Ok(true), tensor_is_finite)
    }
}

/// Whether all values of a tensor are finite, on any device.
fn tensor_is_finite(tensor: &Tensor) -> Result<bool> {
    if tensor.device().is_cpu() {
        return Ok(values_are_finite(&host::read(tensor)?));
    }
    // Zero times anything is zero, except for NaN and infinities.
    Ok((tensor.detach() * 0.0)?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// In blocks, so that the inner loop has no exit and runs on whole vectors.
fn values_are_finite(values: &[f32]) -> bool {
    let is_finite = |block: &[f32]| !block.iter().fold(false, |bad, v| bad | !v.is_finite());
    values.chunks(4096).all(is_finite)
}

/// One transfer for all of them.
fn squares_on_device(grads: &[Tensor]) -> Result<Vec<f64>> {
    let squares =
        grads.iter().map(|grad| grad.sqr()?.sum_all()).collect::<candle_core::Result<Vec<_>>>()?;
    let squares = Tensor::stack(&squares, 0)?.to_vec1::<f32>()?;
    Ok(squares.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ModelConfig;
    use crate::init::init_params;
    use candle_core::Device;

    fn params() -> Params {
        let config = ModelConfig {
            vocab_size: 5,
            block_size: 3,
            n_layer: 1,
            n_head: 1,
            n_embd: 2,
            bias: false,
            ..ModelConfig::default()
        };
        init_params(&config, 0, &Device::Cpu).unwrap()
    }

    #[test]
    fn norm_is_over_all_parameters_together() {
        let params = params();
        let mut grads = Grads::zeros(&params).unwrap();
        let Grads::Host(host) = &mut grads else { panic!("expected host gradients") };
        host[0][0] = 3.0;
        host[4][1] = 4.0;
        assert_eq!(grads.global_norm(&params).unwrap(), 5.0);
        grads.zero().unwrap();
        assert_eq!(grads.global_norm(&params).unwrap(), 0.0);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named() {
        let params = params();
        let mut grads = Grads::zeros(&params).unwrap();
        let Grads::Host(host) = &mut grads else { panic!("expected host gradients") };
        host[2][0] = f32::NAN;
        let error = grads.global_norm(&params).unwrap_err().to_string();
        assert!(error.contains("h.0.ln_1.weight"), "{error}");
    }
}
