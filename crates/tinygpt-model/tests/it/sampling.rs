//! Against `transformers`: which tokens survive its logits processors and with what probabilities,
//! and greedy texts with a repetition penalty and without repeated n-grams. The numbers come from `tests/golden/sampling.py`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::ops::ControlFlow;

use serde::Deserialize;
use serde_json::{Map, Value};
use tinygpt_model::{Engine, Event, Sampler, SamplingParams, generate_samples};

use crate::fixture::{Path, golden_dir, golden_gpt};

#[derive(Deserialize)]
struct Expected {
    sets: Vec<LogitSet>,
    cases: Vec<Case>,
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct LogitSet {
    name: String,
    logits: Vec<f32>,
    text: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    logits: String,
    settings: Map<String, Value>,
    ids: Vec<u32>,
    probabilities: Vec<f32>,
    ties: bool,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: Vec<u32>,
    repetition_penalty: f64,
    no_repeat_ngram_size: usize,
    tokens: Vec<u32>,
}

fn expected() -> Expected {
    let text = fs::read(golden_dir("sampling.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn params(settings: &Map<String, Value>, vocab_size: usize) -> SamplingParams {
    let mut settings = settings.clone();
    let biases = settings.remove("logit_bias").unwrap_or_default();
    let bias = |(id, bias): (&String, &Value)| (id.parse().unwrap(), bias.as_f64().unwrap() as f32);
    let unfiltered = serde_json::to_value(SamplingParams::unfiltered()).unwrap();
    let mut all = unfiltered.as_object().unwrap().clone();
    for (key, value) in settings {
        assert!(all.insert(key.clone(), value).is_some(), "what is {key}?");
    }
    SamplingParams {
        logit_bias: biases.as_object().into_iter().flatten().map(bias).collect(),
        vocab_size: Some(vocab_size),
        ..serde_json::from_value(Value::Object(all)).unwrap()
    }
}

#[test]
fn processed_logits_are_those_of_transformers() {
    let expected = expected();
    assert!(expected.cases.len() > 100);
    for case in &expected.cases {
        let set = expected.sets.iter().find(|set| set.name == case.logits).unwrap();
        let mut sampler = Sampler::new(&params(&case.settings, set.logits.len()), 0);
        sampler.observe_prompt(&set.text);
        let what = format!("{} {:?}", case.logits, case.settings);
        let (ids, mut got): (Vec<u32>, Vec<f32>) =
            sampler.probabilities(&set.logits).unwrap().into_iter().unzip();
        let mut wanted = case.probabilities.clone();
        if case.ties {
            got.sort_by(f32::total_cmp);
            wanted.sort_by(f32::total_cmp);
        } else {
            assert_eq!(ids, case.ids, "{what}");
        }
        assert_eq!(got.len(), wanted.len(), "{what}");
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got - wanted).abs() <= 2e-6 * wanted + 1e-8, "{what}: {got} {wanted}");
        }
    }
}

#[test]
fn greedy_texts_are_those_of_transformers() {
    for path in Path::BOTH {
        let gpt = golden_gpt("plain", path);
        for Greedy { prompt, repetition_penalty, no_repeat_ngram_size, tokens } in expected().greedy
        {
            let params = SamplingParams {
                temperature: 0.0,
                repetition_penalty,
                no_repeat_ngram_size,
                max_new_tokens: tokens.len(),
                ..SamplingParams::unfiltered()
            };
            let made = generate_samples(&gpt, &prompt, &params, 0..1).unwrap().remove(0);
            let what = format!("{prompt:?} {repetition_penalty} {no_repeat_ngram_size}");
            assert_eq!(made.tokens, tokens, "{path:?} {what}");
        }
    }
}

#[test]
fn logprobs_are_the_log_softmax_of_what_the_model_says() {
    let mut gpt = golden_gpt("plain", Path::Cpu);
    let logits = gpt.logits(&[1, 2, 3], 1, 3).unwrap()[2 * 65..].to_vec();
    let log_sum = logits.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln();
    let params = SamplingParams {
        temperature: 0.3,
        top_k: 3,
        repetition_penalty: 2.0,
        logprobs: Some(5),
        max_new_tokens: 1,
        ..SamplingParams::unfiltered()
    };
    let mut engine = Engine::new(&gpt, 1).unwrap();
    engine.add(&[1, 2, 3], &params, 0..1).unwrap();
    engine
        .step(&mut |_, event| {
            if let Event::Token { id, logprobs } = event {
                let logprobs = logprobs.unwrap();
                let of = |id: u32| f64::from(logits[id as usize]) - log_sum;
                assert!((f64::from(logprobs.chosen) - of(id)).abs() < 1e-5);
                for (id, logprob) in &logprobs.top {
                    assert!((f64::from(*logprob) - of(*id)).abs() < 1e-5);
                }
                assert_eq!(logprobs.top.len(), 5);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
}
