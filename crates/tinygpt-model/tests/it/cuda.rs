//! The CUDA backend against PyTorch's numbers and against the CPU backend, step by step.
//!
//! It runs in the emulator, or on a GPU with `TINYGPT_TEST_CUDA=1`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;

use candle_core::Device;
use tinygpt_cuda::{Gpu, Search, Setup};
use tinygpt_model::{
    ComputeType, DropoutKey, Engine, Event, Gpt, Grads, ModelConfig, Recompute, SamplingParams,
    Store, TokenBatch, host,
};

use crate::fixture::{Golden, Path, golden_gpt, grads_of, ids};

/// A GPU or the emulator; none, with a line, if there is no C++ compiler.
pub(crate) fn gpu() -> Option<Gpu> {
    if env::var_os("TINYGPT_TEST_CUDA").is_some_and(|value| value == "1") {
        return Some(Gpu::open(0).unwrap());
    }
    let search = Search::only(&tinygpt_cuda_emulator::libraries()?);
    Some(Gpu::open_with(0, &Setup { search, ..Setup::default() }).unwrap())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, value| max.max(value.abs()))
}

/// The largest difference as a part of the largest value of `b`, or NaN.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let diff =
        |max: f32, (a, b): (&f32, &f32)| if a.is_nan() { f32::NAN } else { max.max((a - b).abs()) };
    a.iter().zip(b).fold(0.0, diff) / largest(b).max(f32::MIN_POSITIVE)
}

/// Two heads, a vocabulary and a length that divide nothing.
fn config(bias: bool, dropout: f32) -> ModelConfig {
    ModelConfig {
        vocab_size: 97,
        block_size: 40,
        n_layer: 2,
        n_head: 2,
        n_embd: 64,
        dropout,
        bias,
        ..ModelConfig::default()
    }
}

fn gpt(config: &ModelConfig, place: Option<(&Gpu, ComputeType)>) -> Gpt {
    let mut gpt = Gpt::init(config.clone(), 7, &Device::Cpu).unwrap();
    if let Some((gpu, compute)) = place {
        gpt.move_to_gpu(gpu, compute).unwrap();
    }
    gpt
}

/// Two batches of 3 x 37 tokens, the second one with several documents in each sequence.
struct Batches(Vec<[Vec<u32>; 2]>, Vec<u32>);

impl Batches {
    fn new(seed: u32) -> Self {
        let one = |seed| [ids(111, 97, seed), ids(111, 97, seed + 1)];
        let starts =
            (0..111).map(|i| i % 37).map(|at| if at < 20 { 0 } else { 20 + (at - 20) / 9 * 9 });
        Self([seed, seed + 2].map(one).to_vec(), starts.collect())
    }

    fn iter(&self) -> impl Iterator<Item = TokenBatch<'_>> {
        let starts = [None, Some(&self.1[..])];
        self.0.iter().zip(starts).map(|([inputs, targets], document_starts)| TokenBatch {
            inputs,
            targets,
            document_starts,
            batch_size: 3,
            seq_len: 37,
        })
    }
}

/// The gradient of both batches together, and their mean loss and its norm.
fn gradient(gpt: &mut Gpt, batches: &Batches, grads: &mut Grads) -> (f64, f64) {
    for (i, batch) in batches.iter().enumerate() {
        let key = DropoutKey { seed: 5, step: 2, micro_batch: i as u64 };
        let store = if i == 0 { Store::Overwrite } else { Store::Accumulate };
        gpt.accumulate(&batch, Some(key), 0.5, store, grads).unwrap();
    }
    let summary = gpt.summary(grads).unwrap();
    (summary.loss, summary.norm)
}

fn on_host(grads: &Grads) -> Vec<Vec<f32>> {
    grads.to_host().unwrap().into_iter().map(|grad| grad.into_owned()).collect()
}

#[test]
fn logits_loss_and_gradients_are_those_of_pytorch() {
    let Some(gpu) = gpu() else { return };
    for name in ["plain", "no_bias", "masked", "documents"] {
        let golden = Golden::read(name);
        let mut gpt = golden_gpt(name, Path::Cpu);
        gpt.move_to_gpu(&gpu, ComputeType::Float32).unwrap();
        let logits = gpt.logits(&golden.inputs, golden.batch_size, golden.seq_len).unwrap();
        assert!(difference(&logits, &golden.logits) <= 1e-5, "{name}: logits");
        let alone = gpt.loss(&golden.batch()).unwrap();
        let (with_gradients, grads) = grads_of(&mut gpt, &golden.batch());
        for loss in [alone, with_gradients] {
            assert!((loss / golden.loss - 1.0).abs() <= 1e-6, "{name}: {loss} {}", golden.loss);
        }
        for (spec, grad) in gpt.params().specs().iter().zip(on_host(&grads)) {
            let found = difference(&grad, &golden.grads[&spec.name]);
            assert!(found <= 1e-4, "{name} {}: {found:e}", spec.name);
        }
    }
}

#[test]
fn gradients_of_several_batches_with_dropout_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for bias in [true, false] {
        let config = config(bias, 0.2);
        let batches = Batches::new(1);
        let mut on_cpu = gpt(&config, None);
        let mut expected = on_cpu.new_grads().unwrap();
        let (loss, norm) = gradient(&mut on_cpu, &batches, &mut expected);
        let expected = on_host(&expected);
        for (compute, loss_bound, bound) in [
            (ComputeType::Float32, 1e-6, 1e-5),
            (ComputeType::Tf32, 1e-4, 2e-2),
            (ComputeType::Bfloat16, 2e-3, 6e-2),
        ] {
            let mut on_gpu = gpt(&config, Some((&gpu, compute)));
            let mut grads = on_gpu.new_grads().unwrap();
            let (found_loss, found_norm) = gradient(&mut on_gpu, &batches, &mut grads);
            assert!(
                (found_loss / loss - 1.0).abs() < loss_bound,
                "{compute:?}: {found_loss} {loss}"
            );
            assert!(
                (found_norm / norm - 1.0).abs() < bound.into(),
                "{compute:?}: {found_norm} {norm}"
            );
            for ((spec, grad), expected) in
                on_cpu.params().specs().iter().zip(on_host(&grads)).zip(&expected)
            {
                let found = difference(&grad, expected);
                assert!(found <= bound, "{compute:?} bias {bias} {}: {found:e}", spec.name);
            }
        }
    }
}

#[test]
fn a_graph_gives_the_bits_of_single_launches_and_so_does_a_second_run() {
    let Some(gpu) = gpu() else { return };
    let config = config(true, 0.1);
    let run = |graphs: bool| {
        let mut gpt = gpt(&config, Some((&gpu, ComputeType::Bfloat16)));
        gpt.set_cuda_graphs(graphs);
        let mut grads = gpt.new_grads().unwrap();
        // Launched singly, captured, and twice as a graph: other batches each time, or what an earlier
        // step left would be as good.
        [1, 11, 21, 31].map(|seed| {
            let (loss, norm) = gradient(&mut gpt, &Batches::new(seed), &mut grads);
            let grads = on_host(&grads).concat().into_iter().map(f32::to_bits);
            ([loss, norm].map(f64::to_bits), grads.collect::<Vec<_>>())
        })
    };
    let graph = run(true);
    assert!(graph == run(false), "single launches");
    assert!(graph == run(true), "again");
}

#[test]
fn what_is_computed_again_has_the_bits_of_what_is_kept_and_less_is_allocated() {
    let Some(gpu) = gpu() else { return };
    let config = config(true, 0.1);
    for compute in [ComputeType::Float32, ComputeType::Bfloat16] {
        let run = |recompute| {
            let mut gpt = gpt(&config, Some((&gpu, compute)));
            gpt.set_recompute(Some(recompute));
            let mut grads = gpt.new_grads().unwrap();
            let (loss, norm) = gradient(&mut gpt, &Batches::new(1), &mut grads);
            let bytes = gpt.training_memory(3, 37).activations;
            let grads: Vec<u32> = on_host(&grads).concat().into_iter().map(f32::to_bits).collect();
            assert_eq!(gpt.recompute(), Some(recompute));
            (bytes, [loss, norm].map(f64::to_bits), grads)
        };
        let [kept, cheap, block] = Recompute::ALL.map(run);
        assert!(kept.1 == cheap.1 && kept.2 == cheap.2, "{compute:?}: cheap");
        assert!(kept.1 == block.1 && kept.2 == block.2, "{compute:?}: block");
        assert!(kept.0 > cheap.0 && cheap.0 > block.0, "{} {} {}", kept.0, cheap.0, block.0);
    }
}

#[test]
fn a_profile_has_every_launch_of_a_step_and_changes_no_bit() {
    let Some(gpu) = gpu() else { return };
    let config = config(true, 0.1);
    let mut gpt = gpt(&config, Some((&gpu, ComputeType::Bfloat16)));
    let mut grads = gpt.new_grads().unwrap();
    let batches = Batches::new(1);
    let expected = gradient(&mut gpt, &batches, &mut grads);
    gpu.profile(true).unwrap();
    assert_eq!(gradient(&mut gpt, &batches, &mut grads), expected);
    gpu.profile(false).unwrap();
    assert_eq!(gradient(&mut gpt, &batches, &mut grads), expected);
    let times = gpu.kernel_times();
    let launches = |name: &str| times.iter().find(|time| time.name == name).map(|t| t.launches);
    // Two batches through two blocks.
    assert_eq!(launches("attention_forward"), Some(4));
    assert_eq!(launches("attention_backward_keys"), Some(4));
    assert_eq!(launches("product NN 111 x 192 x 64"), Some(4));
    assert_eq!(launches("grad_squares"), Some(1));
    let product = times.iter().find(|time| time.name == "product NN 111 x 192 x 64").unwrap();
    assert_eq!(product.work.flops, 4 * 2 * 111 * 192 * 64);
    assert_eq!(product.work.bytes, 4 * 2 * (111 * 64 + 64 * 192 + 111 * 192));
    assert!(times.iter().all(|time| time.seconds > 0.0), "{times:?}");
}

#[test]
fn an_evaluation_of_another_shape_leaves_training_as_it_was() {
    let Some(gpu) = gpu() else { return };
    let config = config(true, 0.0);
    let batches = Batches::new(1);
    let mut gpt = gpt(&config, Some((&gpu, ComputeType::Float32)));
    let mut cpu = self::gpt(&config, None);
    let mut grads = gpt.new_grads().unwrap();
    let before = gradient(&mut gpt, &batches, &mut grads);
    let (inputs, targets) = (ids(2 * 11, 97, 8), ids(2 * 11, 97, 9));
    let small = TokenBatch {
        inputs: &inputs,
        targets: &targets,
        document_starts: None,
        batch_size: 2,
        seq_len: 11,
    };
    let (found, expected) = (gpt.loss(&small).unwrap(), cpu.loss(&small).unwrap());
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    assert_eq!(gradient(&mut gpt, &batches, &mut grads), before);
}

/// Greedy samples of three prompts, one after the other or together; two of them need a context shift.
fn greedy(gpt: &Gpt, together: bool) -> Vec<Vec<u32>> {
    let prompts = [vec![3], ids(39, 97, 4), ids(70, 97, 5)];
    let params = SamplingParams {
        temperature: 0.0,
        max_new_tokens: 30,
        vocab_size: None,
        ..SamplingParams::unfiltered()
    };
    let mut engine = Engine::new(gpt, 4).unwrap();
    let mut texts = vec![Vec::new(); 3];
    let mut samples = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        samples.extend(engine.add(prompt, &params, 0..1).unwrap());
        while !engine.is_idle() && (!together || i == 2) {
            engine
                .step(&mut |sample, event| {
                    if let Event::Token { id, .. } = event {
                        let at = samples.iter().position(|one| *one == sample).unwrap();
                        texts[at].push(id);
                    }
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
        }
    }
    texts
}

#[test]
fn a_gpu_writes_the_text_of_the_cpu_and_the_same_alone_and_among_others() {
    let Some(gpu) = gpu() else { return };
    let mut config = config(true, 0.0);
    config.n_layer = 1;
    let large = |gpt: &Gpt| {
        // Larger than at the start of training, so that every token depends on those before.
        for (_, tensor) in gpt.params().iter().filter(|(spec, _)| spec.kind.is_decayed()) {
            host::write(tensor, |values| values.iter_mut().for_each(|x| *x *= 8.0)).unwrap();
        }
    };
    let cpu = gpt(&config, None);
    large(&cpu);
    let expected = greedy(&cpu, true);
    assert!(expected.iter().all(|text| text.len() == 30), "{expected:?}");
    for compute in [ComputeType::Float32, ComputeType::Bfloat16] {
        let mut gpt = gpt(&config, None);
        large(&gpt);
        gpt.move_to_gpu(&gpu, compute).unwrap();
        let together = greedy(&gpt, true);
        assert_eq!(together, greedy(&gpt, false), "{compute:?}: alone");
        gpt.set_cuda_graphs(false);
        assert_eq!(together, greedy(&gpt, true), "{compute:?}: without graphs");
        if compute == ComputeType::Float32 {
            assert_eq!(together, expected);
        }
    }
}

#[test]
fn samples_of_one_prompt_share_its_prefill_and_too_many_slots_are_refused() {
    let Some(gpu) = gpu() else { return };
    let config = config(true, 0.0);
    let gpt = gpt(&config, Some((&gpu, ComputeType::Float32)));
    let cpu = self::gpt(&config, None);
    let params = SamplingParams { max_new_tokens: 5, ..SamplingParams::unfiltered() };
    let [found, expected] = [&gpt, &cpu]
        .map(|gpt| tinygpt_model::generate_samples(gpt, &[1, 2, 3], &params, 0..3).unwrap());
    assert_eq!(found, expected);
    assert!(found[0] != found[1], "samples differ: {found:?}");
    let message = gpt.decoder(1 << 40).unwrap_err().to_string();
    assert!(message.contains("at most") && message.contains("GPU memory"), "{message}");
}

#[test]
fn shapes_that_the_kernels_cannot_run_are_refused() {
    let Some(gpu) = gpu() else { return };
    for (n_head, n_embd) in [(3, 36), (1, 4), (2, 40)] {
        let config = ModelConfig { n_head, n_embd, ..config(true, 0.0) };
        let mut gpt = gpt(&config, None);
        let message = gpt.move_to_gpu(&gpu, ComputeType::Float32).unwrap_err().to_string();
        assert!(message.contains("n_head") && message.contains(&n_embd.to_string()), "{message}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_reported_and_a_gradient_is_named() {
    let Some(gpu) = gpu() else { return };
    let mut gpt = gpt(&config(true, 0.0), Some((&gpu, ComputeType::Float32)));
    let specs = gpt.params().specs().to_vec();
    let index = specs.iter().position(|spec| spec.name == "h.1.ln_2.bias").unwrap();
    let batches = Batches::new(1);
    let mut grads = gpt.new_grads().unwrap();
    gradient(&mut gpt, &batches, &mut grads);
    let mut values: Vec<Vec<f32>> = specs.iter().map(|spec| vec![0.0; spec.len()]).collect();
    values[index][3] = f32::INFINITY;
    let bad = gpt.arrays(values).unwrap();
    let message = gpt.summary(&bad).unwrap_err().to_string();
    assert!(message.contains("gradient of `h.1.ln_2.bias`"), "{message}");

    let not_a_number = candle_core::Tensor::full(f32::NAN, 64, &Device::Cpu).unwrap();
    let index = specs.iter().position(|spec| spec.name == "ln_f.bias").unwrap();
    gpt.params().set(index, &not_a_number).unwrap();
    gpt.move_to_gpu(&gpu, ComputeType::Float32).unwrap();
    let mut grads = gpt.new_grads().unwrap();
    let (loss, _) = gradient(&mut gpt, &batches, &mut grads);
    assert!(!loss.is_finite(), "{loss}");
}

#[test]
fn the_positions_of_a_model_on_a_gpu_are_not_cut() {
    let Some(gpu) = gpu() else { return };
    let mut gpt = gpt(&config(true, 0.0), Some((&gpu, ComputeType::Float32)));
    let message = gpt.cut_block_size(8).unwrap_err().to_string();
    assert!(message.contains("on a GPU"), "{message}");
    assert_eq!(gpt.config().block_size, 40);
}
