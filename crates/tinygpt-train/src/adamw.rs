//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).
//!
//! Two groups, by dimension: matrices and embeddings are decayed, biases and layer norms are not.
//! On the CPU the moments are plain vectors and each update is one pass over the parameter's
//! storage (`tinygpt_kernels::adamw`); on CUDA a step is one kernel over all parameters; on Metal
//! they are tensors. The state is named by
//! parameter, so it is saved and restored exactly (see [`crate::checkpoint`]).
//!
//! The caller passes the learning rate and the clipping factor with each step: scaling the gradient
//! inside the update saves a pass over it.

use candle_core::Tensor;
use tinygpt_kernels::adamw::AdamWStep;
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_model::{AdamWNumbers, AdamWStepNumbers, Gpt, Grads, ParamArrays, Params, host};

use crate::error::TrainError;

/// The constants of AdamW. The defaults are those of [`crate::TrainConfig`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of the parameters with two dimensions or more.
    pub weight_decay: f64,
}

impl AdamWConfig {
    /// PyTorch's and the paper's default.
    pub const EPS: f64 = 1e-8;
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, eps: Self::EPS, weight_decay: 0.1 }
    }
}

/// Both moments of every parameter, where the parameters are.
#[derive(Debug)]
pub(crate) struct Moments {
    /// First moments.
    pub(crate) m: ParamArrays,
    /// Second moments.
    pub(crate) v: ParamArrays,
}

/// The optimiser: its constants, its moments and how many steps it has made.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    n_steps: u64,
    moments: Moments,
}

impl AdamW {
    /// A new optimiser for the parameters of `gpt`.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] if the device has not enough memory for the moments.
    pub fn new(config: AdamWConfig, gpt: &Gpt) -> Result<Self, TrainError> {
        let moments = Moments { m: gpt.zeros()?, v: gpt.zeros()? };
        Ok(Self { config, n_steps: 0, moments })
    }

    /// An optimiser restored from the moments it had after `n_steps` steps.
    pub(crate) fn restore(config: AdamWConfig, n_steps: u64, moments: Moments) -> Self {
        Self { config, n_steps, moments }
    }

    /// Steps so far; the bias correction depends on it.
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The moments, for saving.
    pub(crate) fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The moments, for the start of another rank.
    pub(crate) fn moments_mut(&mut self) -> &mut Moments {
        &mut self.moments
    }

    /// Updates the parameters of `gpt` from `grads`, with the threads of `gpt` on the CPU.
    ///
    /// With `g = grad_scale · gradient` and `t` the number of this step, from 1:
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²
    /// w ← w − lr · λ · w − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
    /// ```
    ///
    /// where `λ` is the weight decay for parameters of two dimensions or more and else 0. The
    /// caller has checked that the gradient is finite.
    ///
    /// # Errors
    /// [`TrainError::Model`] or [`TrainError::Tensor`] if the tensors cannot be read or written.
    pub fn step(
        &mut self,
        gpt: &mut Gpt,
        grads: &Grads,
        learning_rate: f64,
        grad_scale: f64,
    ) -> Result<(), TrainError> {
        self.n_steps += 1;
        let n_steps = self.n_steps as f64;
        let rates = Rates {
            config: self.config,
            threads: gpt.threads(),
            learning_rate,
            grad_scale,
            correction1: 1.0 - self.config.beta1.powf(n_steps),
            correction2: 1.0 - self.config.beta2.powf(n_steps),
        };
        use ParamArrays::{Cuda, Device, Host};
        let Moments { m, v } = &mut self.moments;
        match (m, v, grads) {
            (Host(m), Host(v), Host(grads)) => rates.on_host(gpt.params(), grads, m, v),
            (Cuda(m), Cuda(v), Cuda(grads)) => {
                Ok(gpt.adamw_on_gpu(grads, [m, v], rates.numbers())?)
            }
            (Device(m), Device(v), Device(grads)) => rates.on_device(gpt.params(), grads, m, v),
            _ => Err(candle_core::Error::Msg(
                "the gradients and the optimiser's moments are on different devices".to_string(),
            )
            .into()),
        }
    }
}

/// The numbers of one step.
struct Rates {
    config: AdamWConfig,
    threads: usize,
    learning_rate: f64,
    grad_scale: f64,
    correction1: f64,
    correction2: f64,
}

impl Rates {
    fn decay(&self, applies: bool) -> f64 {
        if applies { self.config.weight_decay } else { 0.0 }
    }

    /// As the kernel on the GPU takes them.
    fn numbers(&self) -> AdamWStepNumbers {
        let numbers = AdamWNumbers {
            learning_rate: self.learning_rate as f32,
            beta1: self.config.beta1 as f32,
            beta2: self.config.beta2 as f32,
            eps: self.config.eps as f32,
            bias_correction1: self.correction1 as f32,
            bias_correction2: self.correction2 as f32,
            grad_scale: self.grad_scale as f32,
        };
        AdamWStepNumbers { numbers, weight_decay: self.config.weight_decay as f32 }
    }

    /// One pass over each parameter's storage.
    fn on_host(
        &self,
        params: &Params,
        grads: &[Vec<f32>],
        m: &mut [Vec<f32>],
        v: &mut [Vec<f32>],
    ) -> Result<(), TrainError> {
        for ((((spec, weights), grad), m), v) in params.iter().zip(grads).zip(m).zip(v) {
            let step = AdamWStep {
                lr: self.learning_rate as f32,
                beta1: self.config.beta1 as f32,
                beta2: self.config.beta2 as f32,
                eps: self.config.eps as f32,
                weight_decay: self.decay(spec.kind.is_decayed()) as f32,
                bias_correction1: self.correction1 as f32,
                bias_correction2: self.correction2 as f32,
                grad_scale: self.grad_scale as f32,
            };
            host::write(weights, |w| {
                timed(Op::AdamW, self.threads, 0, || {
                    tinygpt_kernels::adamw::step(w, grad, m, v, &step, self.threads);
                });
            })?;
        }
        Ok(())
    }

    /// The same formula as tensor operations.
    fn on_device(
        &self,
        params: &Params,
        grads: &[Tensor],
        m: &mut [Tensor],
        v: &mut [Tensor],
    ) -> Result<(), TrainError> {
        let AdamWConfig { beta1, beta2, eps, .. } = self.config;
        let each = params.iter().zip(grads).zip(m).zip(v).enumerate();
        for (param_idx, ((((spec, tensor), grad), m), v)) in each {
            let weights = tensor.detach();
            let grad = (grad.detach() * self.grad_scale)?;
            *m = ((&*m * beta1)? + (&grad * (1.0 - beta1))?)?;
            *v = ((&*v * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let denominator = ((&*v / self.correction2)?.sqrt()? + eps)?;
            let direction = (&*m / self.correction1)?.div(&denominator)?;
            let kept = (weights * (1.0 - self.learning_rate * self.decay(spec.kind.is_decayed())))?;
            params.set(param_idx, &(kept - (direction * self.learning_rate)?)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::Device;
    use tinygpt_model::{ModelConfig, param_specs};

    /// The code for CUDA and Metal, on CPU tensors, against the CPU kernel, which is tested against
    /// PyTorch.
    #[test]
    fn tensors_take_the_same_steps_as_slices() {
        let shape = ModelConfig {
            vocab_size: 5,
            block_size: 3,
            n_layer: 1,
            n_head: 1,
            n_embd: 4,
            ..ModelConfig::default()
        };
        let values = |seed: usize| -> Vec<Vec<f32>> {
            let value = |i: usize| ((i * 7919 + seed * 31) % 101) as f32 / 64.0 - 0.75;
            param_specs(&shape).iter().map(|s| (0..s.len()).map(value).collect()).collect()
        };
        let config = AdamWConfig::default();
        let params = || Params::from_values(&shape, values(0), &Device::Cpu).unwrap();
        let [mut on_host, mut on_device] = [(); 2].map(|()| Gpt::from_params(params()).unwrap());
        let zeros = || on_device.params().iter().map(|(_, w)| w.zeros_like().unwrap()).collect();
        let [m, v] = [zeros(), zeros()].map(ParamArrays::Device);
        let mut slices = AdamW::new(config, &on_host).unwrap();
        let mut tensors = AdamW::restore(config, 0, Moments { m, v });
        for step in 1..6 {
            let grads = values(step);
            let shaped = grads.iter().zip(on_device.params().specs()).map(|(grad, spec)| {
                Tensor::from_slice(grad, spec.shape.as_slice(), &Device::Cpu).unwrap()
            });
            let shaped = Grads::Device(shaped.collect());
            tensors.step(&mut on_device, &shaped, 1e-2, 0.5).unwrap();
            slices.step(&mut on_host, &Grads::Host(grads), 1e-2, 0.5).unwrap();
        }
        for ((spec, host), (_, device)) in on_host.params().iter().zip(on_device.params().iter()) {
            for (host, device) in
                host::read(host).unwrap().iter().zip(&*host::read(device).unwrap())
            {
                assert!((host - device).abs() < 1e-6, "{}: {host}, {device}", spec.name);
            }
        }
    }
}
