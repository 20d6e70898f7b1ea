//! Sequences that come and go, and what each of them sees.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeMap;

use super::*;
use crate::decode::generate::tests::{gpt, unfiltered};
use crate::gpt::Gpt;

#[derive(Default)]
struct Heard {
    tokens: BTreeMap<SequenceId, Vec<u32>>,
    ends: BTreeMap<SequenceId, String>,
}

impl Heard {
    fn hear(&mut self, sequence: SequenceId, event: Event) -> ControlFlow<()> {
        assert!(!self.ends.contains_key(&sequence), "{sequence:?} has events after its end");
        match event {
            Event::Token { id, .. } => self.tokens.entry(sequence).or_default().push(id),
            Event::End(reason) => _ = self.ends.insert(sequence, format!("{reason:?}")),
            Event::Failed(error) => _ = self.ends.insert(sequence, error.to_string()),
        }
        ControlFlow::Continue(())
    }
}

/// Prompt, parameters and sample number of request `i`: all differ, some need a context shift, some end early.
fn request(i: u64) -> (Vec<u32>, SamplingParams, u64) {
    let params = SamplingParams {
        temperature: 0.5 + 0.1 * i as f64,
        top_k: 5 + i as usize,
        seed: i / 2,
        eos: Some(3).filter(|_| i.is_multiple_of(2)),
        ..unfiltered(10 + 7 * i as usize)
    };
    ((0..1 + 2 * i as u32).map(|j| j * 5 % 13).collect(), params, i % 3)
}

fn alone(gpt: &Gpt, i: u64) -> Vec<u32> {
    let (prompt, params, sample_idx) = request(i);
    let mut engine = Engine::new(gpt, 1).unwrap();
    let mut heard = Heard::default();
    engine.add(&prompt, &params, sample_idx..sample_idx + 1).unwrap();
    while !engine.is_idle() {
        engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
    }
    heard.tokens.into_values().next().unwrap_or_default()
}

#[test]
fn a_sample_is_the_same_alone_and_next_to_other_requests() {
    for autograd in [false, true] {
        let mut gpt = gpt(8);
        gpt.set_decode_threads(2);
        if autograd {
            gpt.use_autograd();
        }
        let mut engine = Engine::new(&gpt, 3).unwrap();
        let mut heard = Heard::default();
        let mut ids = Vec::new();
        let mut n_steps = 0;
        while ids.len() < 9 || !engine.is_idle() {
            // One new sequence every other step, if there is room.
            if ids.len() < 9 && engine.room() > 0 && n_steps % 2 == 1 {
                let (prompt, params, sample_idx) = request(ids.len() as u64);
                ids.extend(engine.add(&prompt, &params, sample_idx..sample_idx + 1).unwrap());
            }
            engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
            n_steps += 1;
        }
        let mut n_long = 0;
        for (i, sequence) in (0..).zip(&ids) {
            let tokens = heard.tokens.remove(sequence).unwrap_or_default();
            assert_eq!(tokens, alone(&gpt, i), "request {i}, autograd: {autograd}");
            n_long += usize::from(tokens.len() > 16);
        }
        assert!(n_long > 1 && heard.ends.values().any(|end| end == "Eos"));
    }
}

#[test]
fn a_released_sample_is_heard_no_more_and_leaves_room() {
    let gpt = gpt(8);
    let mut engine = Engine::new(&gpt, 2).unwrap();
    let ids = engine.add(&[1], &unfiltered(50), 0..2).unwrap();
    let mut heard = Heard::default();
    engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
    engine.remove(ids[0]).unwrap();
    engine.remove(ids[0]).unwrap();
    assert_eq!(engine.room(), 1);
    engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
    assert_eq!((heard.tokens[&ids[0]].len(), heard.tokens[&ids[1]].len()), (1, 2));
    assert!(heard.ends.is_empty());
}

#[test]
fn a_turn_uses_the_cache_of_the_conversation_and_gives_the_same_tokens() {
    let gpt = gpt(16);
    let params = unfiltered(3);
    let run = |engine: &mut Engine<'_>, ids: Vec<SequenceId>| {
        let mut heard = Heard::default();
        while !engine.is_idle() {
            engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
        }
        ids.iter().map(|id| heard.tokens[id].clone()).collect::<Vec<_>>()
    };
    let mut engine = Engine::new(&gpt, 2).unwrap();
    let ids = engine.add_turn(&[1, 2, 3, 4], &params, 0..2).unwrap();
    let answers = run(&mut engine, ids);
    // The last token of an answer was never decoded.
    assert_eq!(engine.cached[1].tokens, [&[1, 2, 3, 4][..], &answers[1][..2]].concat());
    for answer in &answers {
        let prompt = [&[1, 2, 3, 4], answer.as_slice(), &[5, 6]].concat();
        let ids = engine.add_turn(&prompt, &params, 4..6).unwrap();
        let second = run(&mut engine, ids);
        let mut fresh = Engine::new(&gpt, 2).unwrap();
        let ids = fresh.add(&prompt, &params, 4..6).unwrap();
        assert_eq!(second, run(&mut fresh, ids));
    }
    // After a context shift, nothing is kept.
    let ids = engine.add_turn(&[1, 2], &unfiltered(40), 0..2).unwrap();
    run(&mut engine, ids);
    assert!(engine.cached.iter().all(|it| it.tokens.is_empty()));
}

#[test]
fn a_conversation_keeps_its_slot_while_another_is_free() {
    let gpt = gpt(16);
    let params = unfiltered(2);
    let mut engine = Engine::new(&gpt, 3).unwrap();
    let end = |engine: &mut Engine<'_>| {
        while !engine.is_idle() {
            engine.step(&mut |_, _| ControlFlow::Continue(())).unwrap();
        }
    };
    let held = |engine: &Engine<'_>, prompt: &[u32]| {
        engine.cached.iter().filter(|it| it.tokens.starts_with(prompt)).count()
    };
    let (first, second, third) = ([1, 2, 3, 4, 5], [1, 2, 8, 9, 10, 11], [1, 2, 7]);
    engine.add_turn(&first, &params, 0..1).unwrap();
    end(&mut engine);
    // Neither text that starts in the same way nor a conversation that does takes its slot.
    engine.add(&[1, 2, 3], &params, 0..2).unwrap();
    end(&mut engine);
    assert_eq!((held(&engine, &first), held(&engine, &[1, 2, 3])), (1, 1));
    engine.add_turn(&second, &params, 0..1).unwrap();
    end(&mut engine);
    engine.add_turn(&third, &params, 0..1).unwrap();
    end(&mut engine);
    let all = [&first[..], &second, &third].map(|prompt| held(&engine, prompt));
    assert_eq!(all, [1, 1, 1]);
    // With no other slot, the oldest conversation goes.
    engine.add(&[5], &params, 0..1).unwrap();
    end(&mut engine);
    let all = [&first[..], &second, &third].map(|prompt| held(&engine, prompt));
    assert_eq!(all, [0, 1, 1]);
}

#[test]
fn broken_logits_end_only_their_own_sample() {
    let gpt = gpt(8);
    // Token 7's embedding is broken: a sequence that reads it has no finite logits.
    let mut params = unfiltered(20);
    let (_, wte) = gpt.params().iter().next().unwrap();
    crate::host::write(wte, |wte| wte[7 * 8] = f32::NAN).unwrap();
    params.vocab_size = Some(7);
    let mut engine = Engine::new(&gpt, 2).unwrap();
    let broken = engine.add(&[7], &params, 0..1).unwrap()[0];
    let whole = engine.add(&[2], &params, 0..1).unwrap()[0];
    let mut heard = Heard::default();
    while !engine.is_idle() {
        engine.step(&mut |sequence, event| heard.hear(sequence, event)).unwrap();
    }
    assert!(heard.ends[&broken].contains("not finite"), "{:?}", heard.ends);
    assert_eq!((heard.ends[&whole].as_str(), heard.tokens[&whole].len()), ("Length", 20));
}

#[test]
fn what_cannot_be_admitted_is_refused() {
    let gpt = gpt(8);
    assert!(Engine::new(&gpt, 0).is_err());
    let mut engine = Engine::new(&gpt, 2).unwrap();
    let params = unfiltered(5);
    for (prompt, samples) in [(&[][..], 0..1), (&[13], 0..1), (&[1], 0..3), (&[1], 4..4)] {
        assert!(engine.add(prompt, &params, samples).is_err(), "{prompt:?}");
    }
    assert!(engine.is_idle() && engine.room() == 2);
    engine.add(&[1], &params, 0..1).unwrap();
    let message = engine.add(&[1], &params, 0..2).unwrap_err().to_string();
    assert!(message.contains("2 samples") && message.contains("1 to 1"), "{message}");
}

#[test]
fn logprobs_come_with_each_token_when_asked_for() {
    let gpt = gpt(8);
    let mut engine = Engine::new(&gpt, 1).unwrap();
    let params = SamplingParams { temperature: 0.0, logprobs: Some(2), ..unfiltered(20) };
    engine.add(&[1], &params, 0..1).unwrap();
    let mut n = 0;
    while !engine.is_idle() {
        engine
            .step(&mut |_, event| {
                if let Event::Token { id, logprobs } = event {
                    let logprobs = logprobs.unwrap();
                    assert_eq!((logprobs.top[0], logprobs.top.len()), ((id, logprobs.chosen), 2));
                    n += 1;
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(n, 20);
}
