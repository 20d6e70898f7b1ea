//! Whether every weight and every moment is a finite number.
//!
//! AdamW can overflow on gradients that are finite: a large learning rate takes a weight beyond
//! f32, a large gradient the second moment, whose parameter then never moves again. This is checked
//! before each save, in one pass over memory, so that every checkpoint can be resumed.

use tinygpt_model::Params;

use crate::adamw::Moments;
use crate::error::TrainError;

/// What is not finite, named by parameter; `None` if everything is finite.
///
/// # Errors
/// [`TrainError::Model`] or [`TrainError::Tensor`] if a tensor cannot be read.
pub(crate) fn first_non_finite(
    params: &Params,
    moments: &Moments,
) -> Result<Option<String>, TrainError> {
    for (param_idx, spec) in params.specs().iter().enumerate() {
        for (what, is_finite) in [
            ("a weight", params.is_finite(param_idx)?),
            ("the first moment", moments.m.is_finite(param_idx)?),
            ("the second moment", moments.v.is_finite(param_idx)?),
        ] {
            if !is_finite {
                return Ok(Some(format!("{what} of `{}` is not finite", spec.name)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use candle_core::Device;
    use tinygpt_model::{ModelConfig, ParamArrays, param_specs};

    #[test]
    fn the_one_number_that_is_not_finite_is_found_and_named() {
        let shape = ModelConfig {
            vocab_size: 600,
            block_size: 3,
            n_layer: 1,
            n_head: 1,
            n_embd: 8,
            ..ModelConfig::default()
        };
        let ones = || -> Vec<Vec<f32>> {
            param_specs(&shape).iter().map(|spec| vec![1.0; spec.len()]).collect()
        };
        let names: Vec<String> = param_specs(&shape).into_iter().map(|spec| spec.name).collect();
        let moments = |m, v| Moments { m: ParamArrays::Host(m), v: ParamArrays::Host(v) };
        let params = |values| Params::from_values(&shape, values, &Device::Cpu).unwrap();
        let good = moments(ones(), ones());
        assert_eq!(first_non_finite(&params(ones()), &good).unwrap(), None);
        for (place, what) in
            ["a weight", "the first moment", "the second moment"].iter().enumerate()
        {
            for (param_idx, value) in [(0, f32::NAN), (5, f32::INFINITY)] {
                let mut all = [ones(), ones(), ones()];
                *all[place][param_idx].last_mut().unwrap() = value;
                let [w, m, v] = all;
                let found = first_non_finite(&params(w), &moments(m, v)).unwrap();
                let expected = format!("{what} of `{}` is not finite", names[param_idx]);
                assert_eq!(found, Some(expected));
            }
        }
    }
}
