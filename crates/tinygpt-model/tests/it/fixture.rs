//! Models that the tests share: the directories under `tests/golden` and what PyTorch made of
//! them, and an optimizer step.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use candle_core::Device;
use safetensors::SafeTensors;
use serde::Deserialize;
use tinygpt_kernels::adamw::{self, AdamWStep};
use tinygpt_model::{Gpt, Grads, IGNORED_TARGET, ModelConfig, Store, TokenBatch, hf, host};

/// Names of the golden directories.
pub(crate) const GOLDEN: [&str; 5] = ["plain", "no_bias", "odd", "masked", "documents"];

/// The two backends that can compute a model on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path {
    Cpu,
    Autograd,
}

impl Path {
    pub(crate) const BOTH: [Self; 2] = [Self::Cpu, Self::Autograd];

    pub(crate) fn set(self, mut gpt: Gpt) -> Gpt {
        if matches!(self, Self::Autograd) {
            gpt.use_autograd();
        }
        gpt.set_threads(2);
        gpt.set_decode_threads(2);
        gpt
    }
}

#[derive(Deserialize)]
struct Scalars {
    loss: f32,
    adamw_losses: Vec<f32>,
}

/// One golden directory.
pub(crate) struct Golden {
    pub(crate) inputs: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) document_starts: Option<Vec<u32>>,
    pub(crate) batch_size: usize,
    pub(crate) seq_len: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) loss: f32,
    pub(crate) adamw_losses: Vec<f32>,
    /// By parameter name.
    pub(crate) grads: BTreeMap<String, Vec<f32>>,
}

pub(crate) fn golden_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn golden_gpt(name: &str, path: Path) -> Gpt {
    path.set(hf::read_dir(&golden_dir(name), &Device::Cpu).unwrap())
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let dir = golden_dir(name);
        let scalars = fs::read(dir.join("expected.json")).unwrap();
        let scalars: Scalars = serde_json::from_slice(&scalars).unwrap();
        let bytes = fs::read(dir.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ids = |name: &str| -> Vec<u32> {
            let words = file.tensor(name).unwrap().data().chunks_exact(8);
            let id = |id: i64| if id == -100 { IGNORED_TARGET } else { id.try_into().unwrap() };
            words.map(|b| id(i64::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        let floats = |name: &str| -> Vec<f32> {
            let words = file.tensor(name).unwrap().data().chunks_exact(4);
            words.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let grad_names = file.names().into_iter().filter_map(|name| name.strip_prefix("grad."));
        let shape = file.tensor("inputs").unwrap().shape().to_vec();
        Self {
            inputs: ids("inputs"),
            targets: ids("targets"),
            document_starts: file
                .names()
                .contains(&"document_starts")
                .then(|| ids("document_starts")),
            batch_size: shape[0],
            seq_len: shape[1],
            logits: floats("logits"),
            loss: scalars.loss,
            adamw_losses: scalars.adamw_losses,
            grads: grad_names.map(|n| (n.to_owned(), floats(&format!("grad.{n}")))).collect(),
        }
    }

    pub(crate) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            inputs: &self.inputs,
            targets: &self.targets,
            document_starts: self.document_starts.as_deref(),
            batch_size: self.batch_size,
            seq_len: self.seq_len,
        }
    }
}

/// A small model's shape with GPT-2's initial weights.
pub(crate) fn small(bias: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 65,
        block_size: 16,
        n_layer: 2,
        n_head: 2,
        n_embd: 32,
        bias,
        ..ModelConfig::default()
    }
}

/// `n` ids below `vocab`, all over the place but always the same for one `seed`.
pub(crate) fn ids(n: u32, vocab: u32, seed: u32) -> Vec<u32> {
    let mixed = |x: u32| (x ^ (x >> 15)).wrapping_mul(0x85eb_ca6b);
    (0..n).map(|i| (mixed(mixed(i + seed * 1_000_003)) >> 8) % vocab).collect()
}

/// Gradients of one batch, from zero.
pub(crate) fn grads_of(gpt: &mut Gpt, batch: &TokenBatch<'_>) -> (f32, Grads) {
    let mut grads = gpt.new_grads().unwrap();
    let loss = gpt.backward(batch, None, 1.0, Store::Accumulate, &mut grads).unwrap();
    (loss, grads)
}

/// The vectors behind gradients on the CPU.
pub(crate) fn host(grads: &Grads) -> &[Vec<f32>] {
    match grads {
        Grads::Host(grads) => grads,
        _ => panic!("expected gradients on the host"),
    }
}

/// AdamW with PyTorch's defaults for what is not named.
pub(crate) struct Optimizer {
    pub(crate) lr: f32,
    pub(crate) weight_decay: f32,
    pub(crate) grad_clip: f64,
    n_steps: i32,
    moments: Vec<[Vec<f32>; 2]>,
}

impl Optimizer {
    pub(crate) fn new(gpt: &Gpt, lr: f32, weight_decay: f32, grad_clip: f64) -> Self {
        let moments = gpt.params().specs().iter().map(|s| [vec![0.0; s.len()], vec![0.0; s.len()]]);
        Self { lr, weight_decay, grad_clip, n_steps: 0, moments: moments.collect() }
    }

    /// One step on `batch`; returns the loss before it.
    pub(crate) fn step(&mut self, gpt: &mut Gpt, batch: &TokenBatch<'_>) -> f32 {
        let (loss, grads) = grads_of(gpt, batch);
        let norm = grads.global_norm(gpt.params()).unwrap();
        self.n_steps += 1;
        let grads = host(&grads).iter();
        for (((spec, w), g), [m, v]) in gpt.params().iter().zip(grads).zip(&mut self.moments) {
            let (beta1, beta2) = (0.9f32, 0.99f32);
            let step = AdamWStep {
                lr: self.lr,
                beta1,
                beta2,
                eps: 1e-8,
                weight_decay: if spec.kind.is_decayed() { self.weight_decay } else { 0.0 },
                bias_correction1: 1.0 - beta1.powi(self.n_steps),
                bias_correction2: 1.0 - beta2.powi(self.n_steps),
                grad_scale: (self.grad_clip / (norm + 1e-6)).min(1.0) as f32,
            };
            host::write(w, |w| adamw::step(w, g, m, v, &step, 1)).unwrap();
        }
        loss
    }
}
