//! AdamW against PyTorch's; the numbers are from `tests/golden/adamw.py`.

use std::collections::BTreeMap;

use candle_core::Device;
use serde::Deserialize;
use tinygpt_model::{Gpt, Grads, ModelConfig, Params, host, param_specs};
use tinygpt_train::{AdamW, AdamWConfig};

#[derive(Deserialize)]
struct Golden {
    norms: Vec<f64>,
    weights: BTreeMap<String, Vec<f32>>,
}

fn weight(param_idx: usize, i: usize) -> f32 {
    (((i * 37 + param_idx * 11) % 101) as f32 - 50.0) / 128.0
}

fn gradient(step: usize, param_idx: usize, i: usize) -> f32 {
    (((i * 7919 + step * 104_729 + param_idx * 31) % 257) as f32 - 128.0) / 64.0
}

#[test]
fn ten_steps_equal_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("../golden/adamw.json")).unwrap();
    let shape = ModelConfig {
        vocab_size: 3,
        block_size: 2,
        n_layer: 1,
        n_head: 1,
        n_embd: 2,
        ..ModelConfig::default()
    };
    let values = |value: &dyn Fn(usize, usize) -> f32| -> Vec<Vec<f32>> {
        let specs = param_specs(&shape).into_iter().enumerate();
        specs.map(|(p, spec)| (0..spec.len()).map(|i| value(p, i)).collect()).collect()
    };
    let params = Params::from_values(&shape, values(&weight), &Device::Cpu).unwrap();
    let mut gpt = Gpt::from_params(params).unwrap();
    let mut optimizer = AdamW::new(AdamWConfig::default(), &gpt).unwrap();

    for (step, expected_norm) in golden.norms.iter().enumerate() {
        let grads = Grads::Host(values(&|p, i| gradient(step, p, i)));
        let norm = grads.global_norm(gpt.params()).unwrap();
        assert!((norm / expected_norm - 1.0).abs() < 1e-6, "norm {norm}, torch {expected_norm}");
        let clip = (5.0 / norm).min(1.0);
        optimizer.step(&mut gpt, &grads, 0.01 / (step as f64 + 1.0), clip).unwrap();
    }

    assert_eq!(golden.weights.len(), gpt.params().len());
    for (spec, tensor) in gpt.params().iter() {
        let got = host::read(tensor).unwrap();
        let expected = &golden.weights[&spec.name];
        assert_eq!(got.len(), expected.len(), "{}", spec.name);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{}: {got}, torch {expected}", spec.name);
        }
    }
    assert_eq!(optimizer.n_steps(), 10);
}
