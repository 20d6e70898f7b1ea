//! `echo`: a text starts with its prompt, whose tokens have log-probabilities.

use serde_json::{Value, json};
use tinygpt_data::END_OF_TEXT;
use tinygpt_model::{ScoreParams, score};
use tinygpt_serve::Limits;

use crate::common::{World, served};

fn column(choice: &Value, name: &str) -> Vec<Value> {
    choice["logprobs"][name].as_array().unwrap().clone()
}

#[test]
fn the_tokens_of_a_prompt_have_the_log_probabilities_of_the_model() {
    let world = World::new(Limits::default(), None);
    let served = served();
    let prompts = ["the owl and the café", "an oak"];
    let body = json!({
        "prompt": prompts, "echo": true, "logprobs": 2, "max_tokens": 1, "temperature": 0,
    });
    let object = world.complete(&body).json();
    for (index, prompt) in prompts.iter().enumerate() {
        let choice = &object["choices"][index];
        let ids = served.tokenizer.encode(prompt).unwrap();
        let mut expected = Vec::new();
        let params = ScoreParams { vocab_size: Some(served.tokenizer.vocab_size()), n_top: 2 };
        score(&*served.model, &[&ids], params, &mut |_, scores| expected = scores).unwrap();
        let logprobs = column(choice, "token_logprobs");
        assert_eq!((logprobs.len(), &logprobs[0]), (ids.len() + 1, &Value::Null));
        assert_eq!(column(choice, "top_logprobs")[0], Value::Null);
        for (place, score) in expected.iter().enumerate() {
            let logprob = logprobs[place + 1].as_f64().unwrap();
            assert!((logprob - f64::from(score.chosen)).abs() < 1e-6);
            let top = column(choice, "top_logprobs")[place + 1].as_object().unwrap().clone();
            assert!((2..=3).contains(&top.len()), "{top:?}");
        }
        let text = choice["text"].as_str().unwrap();
        assert!(text.starts_with(prompt) && text.len() > prompt.len(), "{text}");
        let tokens = column(choice, "tokens");
        let offsets = column(choice, "text_offset");
        let characters: Vec<char> = text.chars().collect();
        for (token, offset) in tokens.iter().zip(&offsets) {
            let (token, offset) = (token.as_str().unwrap(), offset.as_u64().unwrap() as usize);
            let rest: String = characters[offset..].iter().collect();
            assert!(rest.starts_with(token) || token.starts_with("bytes:"), "{token} at {offset}");
        }
    }
}

#[test]
fn a_prompt_alone_can_be_asked_for() {
    let world = World::new(Limits::default(), None);
    let ids = served().tokenizer.encode("the fox").unwrap();
    let mut body = json!({"prompt": ids, "echo": true, "logprobs": 0, "max_tokens": 0, "n": 2});
    let object = world.complete(&body).json();
    for index in 0..2 {
        let choice = &object["choices"][index];
        assert_eq!(choice["text"], "the fox");
        assert_eq!(column(choice, "token_logprobs").len(), ids.len());
    }
    assert_eq!(object["usage"]["completion_tokens"], 0);
    // The same as a stream, and without log-probabilities.
    body["stream"] = json!(true);
    let (events, done) = world.complete(&body).events();
    assert!(done && events[0]["choices"][0]["text"] == "the fox");
    assert_eq!(column(&events[0]["choices"][0], "tokens").len(), ids.len());
    let plain = json!({"prompt": "the fox", "echo": true, "max_tokens": 3});
    let choice = world.complete(&plain).json()["choices"][0].clone();
    assert!(choice["text"].as_str().unwrap().starts_with("the fox"));
    assert_eq!(choice["logprobs"], Value::Null);
    let empty = json!({"prompt": "", "echo": true, "logprobs": 1, "max_tokens": 0});
    let choice = world.complete(&empty).json()["choices"][0].clone();
    assert_eq!((&choice["text"], column(&choice, "tokens").len()), (&json!(""), 0));
    let special = json!({
        "prompt": format!("{END_OF_TEXT}the"), "echo": true, "logprobs": 1, "max_tokens": 0,
    });
    let choice = world.complete(&special).json()["choices"][0].clone();
    assert_eq!(column(&choice, "tokens")[0], END_OF_TEXT);
}

#[test]
fn a_prompt_longer_than_the_context_has_no_log_probabilities() {
    let world = World::new(Limits::default(), None);
    let long = vec![1; 33];
    let body = |echo: bool| json!({"prompt": long, "echo": echo, "logprobs": 1, "max_tokens": 1});
    assert_eq!(world.complete(&body(false)).status, 200);
    let answer = world.complete(&body(true));
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("prompt")));
    assert!(answer.body.contains("at most 32 tokens, this one has 33"), "{}", answer.body);
}
