//! Makes up logits and settings: the choice is a token that may be drawn, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tinygpt_model::{Sampler, SamplingParams};

/// Temperature, top-k, top-p, min-p, repetition penalty, n-gram size, presence and frequency penalty.
type Settings = (f64, u16, f64, f64, f64, u8, f64, f64);

fuzz_target!(|input: (Vec<f32>, Settings, Vec<u8>, u64)| {
    let (logits, settings, text, seed) = input;
    let (temperature, top_k, top_p, min_p, repetition_penalty, n, presence, frequency) = settings;
    let params = SamplingParams {
        temperature,
        top_k: usize::from(top_k),
        top_p,
        min_p,
        repetition_penalty,
        no_repeat_ngram_size: usize::from(n),
        presence_penalty: presence,
        frequency_penalty: frequency,
        seed,
        vocab_size: Some(logits.len()),
        ..SamplingParams::unfiltered()
    };
    if params.validate(logits.len()).is_err() {
        return;
    }
    let mut sampler = Sampler::new(&params, 0);
    let text: Vec<u32> = text.into_iter().map(u32::from).collect();
    let (prompt, made) = text.split_at(text.len() / 2);
    sampler.observe_prompt(prompt);
    made.iter().for_each(|id| sampler.observe(*id));
    let (Ok(id), Ok(shares)) = (sampler.choose(&logits, 0), sampler.probabilities(&logits)) else {
        let are_changed = repetition_penalty != 1.0 || presence != 0.0 || frequency != 0.0;
        assert!(logits.iter().any(|z| !z.is_finite()) || are_changed);
        return;
    };
    let Some(id) = id else {
        assert!(shares.is_empty() && n > 0);
        return;
    };
    assert!(logits.iter().all(|z| z.is_finite()));
    assert!(shares.iter().any(|(drawable, _)| *drawable == id), "{id} of {shares:?}");
    let total: f32 = shares.iter().map(|(_, share)| share).sum();
    assert!((total - 1.0).abs() < 1e-3 && shares.iter().all(|(_, share)| *share >= 0.0), "{shares:?}");
});
