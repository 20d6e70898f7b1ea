//! Initial weights as in GPT-2: normal with the standard deviation `init_std`, both residual
//! projections scaled by 1/√(2L), biases 0, layer norms the identity. The token table may have a larger
//! deviation, `embedding_std`; the gain of the last layer norm is then smaller by as much.
//!
//! Each parameter draws from its own generator, keyed by seed and name: the values of one never
//! depend on the others, on their order or on the device.

use candle_core::Device;
use rand_distr::{Distribution, StandardNormal};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::params::Params;
use crate::parts::{Init, ParamSpec, param_specs};
use crate::rng;

/// Draws all parameters.
///
/// # Errors
/// [`ModelError::Config`] for an invalid configuration or one that does not fit into memory,
/// [`ModelError::Tensor`] if the device refuses.
pub fn init_params(config: &ModelConfig, seed: u64, device: &Device) -> Result<Params> {
    config.validate()?;
    let values = param_specs(config).iter().map(|spec| draw(spec, seed)).collect::<Result<_>>()?;
    Params::from_values(config, values, device)
}

fn draw(spec: &ParamSpec, seed: u64) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    // An absurd shape shall be an error, not the end of the process.
    values.try_reserve_exact(spec.len()).map_err(|_| ModelError::Config {
        faults: vec![format!(
            "parameter `{}` of shape {:?} does not fit into memory: make the model smaller",
            spec.name, spec.shape
        )],
    })?;
    match spec.init {
        Init::Zeros => values.resize(spec.len(), 0.0),
        Init::Constant(value) => values.resize(spec.len(), value),
        Init::Normal(std) => {
            let mut rng = rng::keyed(seed, &format!("init {}", spec.name));
            let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
            values.extend((0..spec.len()).map(|_| std * normal()));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config(n_layer: usize) -> ModelConfig {
        ModelConfig {
            vocab_size: 65,
            block_size: 16,
            n_layer,
            n_head: 2,
            n_embd: 64,
            ..ModelConfig::default()
        }
    }

    fn values(params: &Params, name: &str) -> Vec<f32> {
        params.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn spread_follows_gpt2() {
        let params = init_params(&config(8), 1, &Device::Cpu).unwrap();
        for (name, std) in [
            ("wte.weight", 0.02),
            ("h.0.attn.c_attn.weight", 0.02),
            ("h.3.attn.c_proj.weight", 0.005),
            ("h.7.mlp.c_proj.weight", 0.005),
        ] {
            let values = values(&params, name);
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let var = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
            assert!(mean.abs() < 4.0 * std / n.sqrt(), "{name}: mean {mean}");
            assert!((var.sqrt() / std - 1.0).abs() < 0.05, "{name}: std {}", var.sqrt());
        }
        assert!(values(&params, "h.0.mlp.c_fc.bias").iter().all(|x| *x == 0.0));
        assert!(values(&params, "ln_f.weight").iter().all(|x| *x == 1.0));
    }

    #[test]
    fn a_narrow_model_has_larger_initial_weights() {
        for (n_embd, std) in [(1600, 0.02), (768, 0.02), (192, 0.04), (48, 0.08)] {
            assert_eq!(ModelConfig::init_std_of_width(n_embd), std);
        }
        let wide = ModelConfig { init_std: 0.04, ..config(2) };
        let [twice, once] = [wide, config(2)].map(|it| init_params(&it, 1, &Device::Cpu).unwrap());
        for name in ["wpe.weight", "h.1.mlp.c_proj.weight"] {
            let doubled: Vec<f32> = values(&once, name).iter().map(|x| 2.0 * x).collect();
            assert_eq!(values(&twice, name), doubled, "{name}");
        }
    }

    #[test]
    fn larger_embeddings_leave_the_first_logits_as_they_are() {
        let large = ModelConfig { embedding_std: 0.64, ..config(2) };
        let [large, plain] =
            [large, config(2)].map(|it| init_params(&it, 1, &Device::Cpu).unwrap());
        let scaled: Vec<f32> = values(&plain, "wte.weight").iter().map(|x| 32.0 * x).collect();
        assert_eq!(values(&large, "wte.weight"), scaled);
        assert!(values(&large, "ln_f.weight").iter().all(|x| *x == 1.0 / 32.0));
        for name in ["wpe.weight", "h.1.ln_2.weight", "h.0.mlp.c_proj.weight"] {
            assert_eq!(values(&large, name), values(&plain, name), "{name}");
        }
    }

    #[test]
    fn a_model_larger_than_memory_is_refused() {
        let config = ModelConfig { vocab_size: 1 << 31, n_embd: 1 << 20, n_head: 1, ..config(1) };
        let error = init_params(&config, 0, &Device::Cpu).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("wte.weight"), "{error}");
    }

    #[test]
    fn a_parameter_depends_on_seed_and_name_only() {
        let name = "h.0.attn.c_attn.weight";
        let shallow = values(&init_params(&config(1), 7, &Device::Cpu).unwrap(), name);
        let deep = values(&init_params(&config(2), 7, &Device::Cpu).unwrap(), name);
        assert_eq!(shallow, deep);
        let other = values(&init_params(&config(1), 8, &Device::Cpu).unwrap(), name);
        assert_ne!(shallow, other);
    }
}
