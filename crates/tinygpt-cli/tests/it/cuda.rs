//! `train --device cuda` from the plain build: the run of the CPU, its faults, and machines without a GPU.
//!
//! The GPU is the emulator's, whose libraries stand in for those of the driver and the toolkit.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::program::{Ran, SMALL, command, run, run_command, trained};

/// Runs `train` on an emulated GPU with further environment variables; `None` without a C++ compiler.
fn train_on_gpu(dir: &Path, args: &str, environment: &[(&str, &str)]) -> Option<Ran> {
    let libraries = tinygpt_cuda_emulator::libraries()?;
    let mut command = command("train", dir);
    command.args(args.split_whitespace()).args(["--device", "cuda"]);
    // Text takes the emulator longer than the steps: no sample, and no story at the end.
    command.args(["--sample-at-eval", "false", "--json"]);
    command.env("TINYGPT_CUDA_LIBS", libraries).envs(environment.iter().copied());
    Some(run_command(&mut command))
}

/// The values of `key` in a run's metrics.
fn metrics(dir: &Path, out: &str, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(dir.join(out).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line[key].as_f64()).collect()
}

/// `SMALL` into another directory.
fn into(out: &str) -> String {
    SMALL.replace("--out-dir out", &format!("--out-dir {out}"))
}

#[test]
fn a_run_on_cuda_is_the_run_on_the_cpu_and_each_continues_the_other() {
    let dir = trained();
    let Some(ran) = train_on_gpu(dir.path(), &into("gpu"), &[]) else { return };
    ran.ok();
    for key in ["loss", "grad_norm", "val_loss"] {
        let (cpu, gpu) = (metrics(dir.path(), "out", key), metrics(dir.path(), "gpu", key));
        assert!(cpu.len() == gpu.len() && !cpu.is_empty(), "{key}: {cpu:?} {gpu:?}");
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert!((gpu / cpu - 1.0).abs() < 1e-6, "{key}: {cpu} on the CPU, {gpu} on the GPU");
        }
    }
    train_on_gpu(dir.path(), &into("again"), &[]).unwrap().ok();
    for key in ["loss", "grad_norm", "val_loss"] {
        assert_eq!(metrics(dir.path(), "gpu", key), metrics(dir.path(), "again", key), "{key}");
    }
    let weights =
        |out: &str| fs::read(dir.path().join(out).join("last/model.safetensors")).unwrap();
    assert!(weights("gpu") == weights("again"), "two runs give the same bits");

    let more = "--init-from resume --max-iters 25";
    let ran = train_on_gpu(dir.path(), &format!("--out-dir out {more}"), &[]).unwrap().ok();
    assert!(ran.stderr.contains("saved on cpu"), "{}", ran.stderr);
    let ran = run("train", dir.path(), &format!("--out-dir gpu {more} --device cpu")).ok();
    assert!(ran.stderr.contains("saved on cuda"), "{}", ran.stderr);
    let (cpu, gpu) = (metrics(dir.path(), "out", "loss"), metrics(dir.path(), "gpu", "loss"));
    assert_eq!(cpu.len(), 25);
    for (there, here) in cpu.iter().zip(&gpu) {
        assert!((there / here - 1.0).abs() < 1e-6, "{there} {here}");
    }
}

#[test]
fn tf32_and_bfloat16_learn_on_cuda() {
    let dir = trained();
    let expected = *metrics(dir.path(), "out", "val_loss").last().unwrap();
    for dtype in ["tf32", "bfloat16"] {
        let args = into(dtype).replace("--dtype float32", &format!("--dtype {dtype}"));
        let Some(ran) = train_on_gpu(dir.path(), &args, &[]) else { return };
        ran.ok();
        let found = *metrics(dir.path(), dtype, "val_loss").last().unwrap();
        assert!((found - expected).abs() < 0.02, "{dtype}: {found}, in f32 {expected}");
    }
}

#[test]
fn a_gpu_that_fails_or_is_full_ends_the_run_and_leaves_the_last_checkpoint_good() {
    let dir = trained();
    let resume = "--out-dir out --init-from resume --max-iters 40 --checkpoint-interval 5";
    let lost = [("TINYGPT_EMULATOR_FAIL", "cuMemcpyDtoHAsync_v2:200:719:lost")];
    let Some(ran) = train_on_gpu(dir.path(), resume, &lost) else { return };
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("error: ") && ran.stderr.contains("GPU"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    run("train", dir.path(), &format!("{resume} --device cpu")).ok();

    // Enough for the workspace of cublasLt, 32 MiB, and the weights, not for the activations.
    let full = [("TINYGPT_EMULATOR_MEMORY", "37000000")];
    let large = into("full").replace("--batch-size 4", "--batch-size 400");
    let ran = train_on_gpu(dir.path(), &large, &full).unwrap();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for word in ["GPU memory", "--gradient-accumulation-steps"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!dir.path().join("full").exists());
    // The batch that it names fits, with as much computed again as is needed for it.
    let (_, named) = ran.stderr.split_once("--batch-size to ").unwrap();
    let most: usize = named.split(' ').next().unwrap().parse().unwrap();
    assert!(most > 4, "{}", ran.stderr);
    let named = into("full").replace("--batch-size 4", &format!("--batch-size {most}"));
    let ran = train_on_gpu(dir.path(), &format!("{named} --max-iters 5"), &full).unwrap().ok();
    assert!(ran.stderr.contains("--recompute is block"), "{}", ran.stderr);
}

#[test]
fn auto_takes_a_gpu_if_there_is_one_and_a_profile_shows_its_kernels() {
    let Some(libraries) = tinygpt_cuda_emulator::libraries() else { return };
    let dir = trained();
    let start = |out: &str, more: &str| {
        let mut command = command("train", dir.path());
        command.args(into(out).split_whitespace()).args(more.split_whitespace());
        command.args(["--sample-at-eval", "false", "--json"]);
        command
    };
    let on_gpu = &mut start("gpu", "--device auto --profile --max-iters 5");
    let ran = run_command(on_gpu.env("TINYGPT_CUDA_LIBS", &libraries)).ok();
    for word in
        ["machine  cuda, ", "of GPU memory", "% MFU", "attention_backward_keys", "product NN "]
    {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    if !Path::new("/dev/nvidiactl").exists() {
        let ran = run_command(&mut start("cpu", "--device auto --max-iters 5")).ok();
        assert!(ran.stderr.contains("machine  cpu, "), "{}", ran.stderr);
        assert!(!ran.stderr.contains("note: computing on"), "{}", ran.stderr);
    }
    // A driver without the other libraries.
    let half = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(libraries).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_owned();
        if name.to_string_lossy().starts_with("libcuda.") {
            fs::copy(&entry, half.path().join(name)).unwrap();
        }
    }
    let without = &mut start("half", "--device auto --max-iters 5");
    let ran = run_command(without.env("TINYGPT_CUDA_LIBS", half.path())).ok();
    for word in ["machine  cpu, ", "note: computing on cpu", "NVRTC", "hint: "] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

#[test]
fn without_a_gpu_the_missing_library_is_named_at_once() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let dir = trained();
    let begin = Instant::now();
    let ran = run("train", dir.path(), &format!("{SMALL} --out-dir new --device cuda"));
    assert!(begin.elapsed().as_secs() < 5, "it does no work before");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for word in ["`device` cuda", "driver", "--device cpu"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!dir.path().join("new").exists());
}

#[test]
fn sample_on_cuda_writes_the_text_of_the_cpu_in_every_mode() {
    let Some(libraries) = tinygpt_cuda_emulator::libraries() else { return };
    let dir = trained();
    let sample = |args: &str| {
        let mut command = command("sample", dir.path());
        command.args("--out-dir out --start Line --max-new-tokens 24 --num-samples 2".split(' '));
        command.args(args.split_whitespace()).env("TINYGPT_CUDA_LIBS", &libraries);
        run_command(&mut command).ok()
    };
    let greedy = "--temperature 0";
    let cpu = sample(greedy);
    assert_eq!(sample(&format!("{greedy} --device cuda --dtype float32")).stdout, cpu.stdout);
    let auto = sample("--device auto --dtype float32 --seed 4");
    assert_eq!(auto.stdout, sample("--seed 4").stdout);
    assert!(auto.stderr.contains("tokens/s"), "{}", auto.stderr);
    let once = sample("--device cuda --show-probs 2");
    assert_eq!(once.stdout, sample("--device cuda --show-probs 2").stdout);
    let quantized = &mut command("sample", dir.path());
    quantized.args("--out-dir out --quantize q8_0 --device cuda".split(' '));
    let ran = run_command(quantized);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("--device cpu"), "{}", ran.stderr);
}
