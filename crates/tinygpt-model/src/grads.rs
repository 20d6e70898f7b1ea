//! Gradients, one for each parameter, in canonical order.
//!
//! On the CPU they are plain vectors that the backward pass adds to; on other devices, tensors.
//! The optimiser is elsewhere; here they are made, cleared, added to and measured.

use candle_core::{DType, Tensor};
use tinygpt_kernels::norm::sum_of_squares;
use tinygpt_kernels::profile::{Op, timed};

use crate::error::{ModelError, Result};
use crate::host;
use crate::params::Params;

/// Gradients in the order of [`Params`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Grads {
    /// In host memory, for a model on the CPU.
    Host(Vec<Vec<f32>>),
    /// On the model's device.
    Device(Vec<Tensor>),
}

impl Grads {
    /// Zeros for each of `params`, on their device.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn zeros(params: &Params) -> Result<Self> {
        if params.device().is_cpu() {
            return Ok(Self::Host(params.specs().iter().map(|s| vec![0.0; s.len()]).collect()));
        }
        let zeros = params
            .specs()
            .iter()
            .map(|spec| Tensor::zeros(spec.shape.as_slice(), DType::F32, params.device()))
            .collect::<candle_core::Result<_>>()?;
        Ok(Self::Device(zeros))
    }

    /// Sets all of them to zero again.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub(crate) fn zero(&mut self) -> Result<()> {
        match self {
            Self::Host(grads) => grads.iter_mut().for_each(|grad| grad.fill(0.0)),
            Self::Device(grads) => {
                for grad in grads {
                    *grad = grad.zeros_like()?;
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

    /// Adds `grad` to the gradient at `param_idx`.
    pub(crate) fn add(&mut self, param_idx: usize, grad: &Tensor) -> Result<()> {
        match self {
            Self::Host(grads) => {
                let grad = grad.contiguous()?;
                let grad = host::read(&grad)?;
                for (sum, value) in grads[param_idx].iter_mut().zip(grad.iter()) {
                    *sum += value;
                }
            }
            // Detached, or the sum would keep the graphs of all its terms.
            Self::Device(grads) => grads[param_idx] = (&grads[param_idx] + grad.detach())?,
        }
        Ok(())
    }
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
            dropout: 0.0,
            bias: false,
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
