//! OpenAI's API: completions, streams, models and the page.

use serde_json::{Value, json};
use tinygpt_data::END_OF_TEXT;
use tinygpt_model::{SamplingParams, generate_samples};
use tinygpt_serve::Limits;

use crate::common::{Answer, MODEL, World, served};

fn world() -> World {
    World::new(Limits::default(), None)
}

fn text(answer: &Answer, choice: usize) -> String {
    let object = answer.json();
    object["choices"][choice]["text"].as_str().unwrap_or_else(|| panic!("{object}")).to_owned()
}

/// A stream's text, choice by choice.
fn streamed(answer: &Answer, n: usize) -> Vec<String> {
    let mut texts = vec![String::new(); n];
    for event in answer.events().0 {
        for choice in event["choices"].as_array().unwrap() {
            texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
        }
    }
    texts
}

#[test]
fn a_completion_is_the_text_of_the_model() {
    let answer = world().complete(&json!({
        "model": MODEL, "prompt": "the owl", "max_tokens": 40, "seed": 5, "temperature": 0.7,
        "top_k": 20, "n": 3,
    }));
    assert_eq!(answer.status, 200);
    let object = answer.json();
    assert_eq!((&object["object"], &object["model"]), (&json!("text_completion"), &json!(MODEL)));
    let served = served();
    let prompt = served.tokenizer.encode("the owl").unwrap();
    let used = served.tokenizer.vocab_size();
    let params = SamplingParams {
        temperature: 0.7,
        top_k: 20,
        seed: 5,
        max_new_tokens: 40,
        vocab_size: Some(used),
        ..SamplingParams::unfiltered()
    };
    let made = generate_samples(&*served.model, &prompt, &params, 0..3).unwrap();
    for (choice, made) in made.iter().enumerate() {
        let mut tokens = made.tokens.clone();
        tokens.retain(|id| *id != served.tokenizer.eot_id());
        assert_eq!(text(&answer, choice), served.tokenizer.decode(&tokens).unwrap());
        assert_eq!(object["choices"][choice]["finish_reason"], "length");
    }
    let counts = [prompt.len(), 120, prompt.len() + 120];
    let usage = ["prompt_tokens", "completion_tokens", "total_tokens"];
    assert_eq!(usage.map(|name| object["usage"][name].clone()), counts.map(|n| json!(n)));
}

#[test]
fn a_stream_is_the_completion_in_deltas() {
    let world = world();
    let mut body = json!({
        "prompt": ["the", "an owl"], "max_tokens": 60, "seed": 3, "n": 2, "logprobs": 2,
    });
    let whole = world.complete(&body);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let stream = world.complete(&body);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let texts = streamed(&stream, 4);
    let mut ends = 0;
    for (choice, streamed) in texts.iter().enumerate() {
        assert_eq!(*streamed, text(&whole, choice));
        assert!(!streamed.contains('\u{fffd}') || text(&whole, choice).contains('\u{fffd}'));
    }
    let (events, done) = stream.events();
    assert!(done && events.len() > 100, "{} events", events.len());
    for event in &events {
        ends += event["choices"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|choice| !choice["finish_reason"].is_null())
            .count();
    }
    assert_eq!(ends, 4);
    let last = &events[events.len() - 1];
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole.json()["usage"]);
    assert_eq!(events[0]["usage"], Value::Null);
}

#[test]
fn probabilities_come_with_their_tokens() {
    let world = world();
    let body = json!({"prompt": "the é", "max_tokens": 50, "seed": 1, "logprobs": 5});
    let object = world.complete(&body).json();
    let choice = &object["choices"][0];
    let column = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let tokens = column("tokens");
    assert_eq!(tokens.len(), 50);
    for (place, token) in tokens.iter().enumerate() {
        let chosen = column("token_logprobs")[place].as_f64().unwrap();
        let top = column("top_logprobs")[place].as_object().unwrap().clone();
        assert!(chosen <= 0.0 && (5..=6).contains(&top.len()), "{top:?}");
        assert_eq!(top[token.as_str().unwrap()].as_f64(), Some(chosen));
        let all: Vec<f64> = top.values().map(|value| value.as_f64().unwrap()).collect();
        assert!(all.is_sorted_by(|a, b| a >= b), "best first: {all:?}");
    }
    // Sliced at the offsets, which count from the start of the prompt, the text is its tokens.
    let all: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    let at = |place: usize| column("text_offset")[place].as_u64().unwrap() as usize - 5;
    assert_eq!(at(0), 0);
    for (place, token) in tokens.iter().enumerate().take(49) {
        let token = token.as_str().unwrap();
        let slice: String = all[at(place)..at(place + 1)].iter().collect();
        // The bytes of an incomplete character before it are shown with it.
        let slice = slice.trim_start_matches('\u{fffd}');
        if !token.starts_with("bytes:") {
            assert_eq!(slice, if token == END_OF_TEXT { "" } else { token });
        }
    }
    let plain = world.complete(&json!({"prompt": "the é", "max_tokens": 5}));
    assert_eq!(plain.json()["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn a_stop_text_ends_a_text_before_it() {
    let world = world();
    let mut body = json!({"prompt": "the", "max_tokens": 200, "seed": 11});
    let free = text(&world.complete(&body), 0);
    let middle: Vec<char> = free.chars().skip(40).take(5).collect();
    let stop: String = middle.iter().collect();
    body["stop"] = json!(["never to be seen", stop]);
    let expected = &free[..free.find(&stop).unwrap()];
    let stopped = world.complete(&body);
    assert_eq!(text(&stopped, 0), expected);
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");
    body["stream"] = json!(true);
    assert_eq!(streamed(&world.complete(&body), 1), [expected]);
}

#[test]
fn a_seed_gives_the_same_text_and_none_gives_another() {
    let world = world();
    let mut body = json!({"prompt": "the", "max_tokens": 30, "seed": -3});
    let again = [0, 1].map(|_| text(&world.complete(&body), 0));
    assert_eq!(again[0], again[1]);
    body["seed"] = Value::Null;
    let others = [0, 1].map(|_| text(&world.complete(&body), 0));
    assert_ne!(others[0], others[1]);
}

#[test]
fn warnings_about_a_prompt_are_sent_once_with_the_text() {
    let world = world();
    let long = "the owl ".repeat(40);
    let mut body = json!({"prompt": long, "max_tokens": 5, "seed": 1});
    let whole = world.complete(&body).json();
    let warnings = whole["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{whole}");
    assert!(warnings[0].as_str().unwrap().ends_with("the model sees the last 32"), "{whole}");
    assert!(warnings[1].as_str().unwrap().contains("ends in a space"), "{whole}");
    body["stream"] = json!(true);
    let (events, _) = world.complete(&body).events();
    let sent: Vec<&Value> = events.iter().filter_map(|event| event.get("warnings")).collect();
    assert_eq!(sent, [&whole["warnings"]]);
    let plain = world.complete(&json!({"prompt": "the owl", "max_tokens": 1})).json();
    assert!(plain.get("warnings").is_none(), "{plain}");
}

#[test]
fn biases_and_penalties_reach_the_text() {
    let world = world();
    let ids = served().tokenizer.encode("the").unwrap();
    let body = |more: Value| {
        let mut body = json!({"prompt": "the owl", "max_completion_tokens": 12, "seed": 1,
            "temperature": 0, "logprobs": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let tokens = |more: Value| -> Vec<String> {
        let object = world.complete(&body(more)).json();
        let tokens = &object["choices"][0]["logprobs"]["tokens"];
        serde_json::from_value(tokens.clone()).unwrap_or_else(|_| panic!("{object}"))
    };
    let forced = tokens(json!({"logit_bias": {ids[0].to_string(): 100}}));
    assert!(forced.len() == 12 && forced.iter().all(|token| *token == forced[0]), "{forced:?}");
    let bias = json!({ids[0].to_string(): 1.5});
    for more in [
        json!({"logit_bias": bias, "frequency_penalty": 2}),
        json!({"logit_bias": bias, "presence_penalty": 2}),
        json!({"logit_bias": bias, "no_repeat_ngram_size": 2}),
    ] {
        let changed = tokens(more.clone());
        assert!(changed.iter().any(|token| *token != changed[0]), "{more}: {changed:?}");
    }
}

#[test]
fn the_prompt_may_be_token_ids_or_nothing() {
    let world = world();
    let ids = served().tokenizer.encode("the owl").unwrap();
    let with =
        |prompt: Value| world.complete(&json!({"prompt": prompt, "max_tokens": 20, "seed": 1}));
    assert_eq!(text(&with(json!(ids)), 0), text(&with(json!("the owl")), 0));
    let nothing = text(&with(Value::Null), 0);
    assert_eq!([text(&with(json!("")), 0), text(&with(json!([[]])), 0)], [&*nothing, &*nothing]);
    assert_eq!(with(Value::Null).json()["usage"]["prompt_tokens"], 0);
    assert_eq!(text(&world.complete(&json!({"max_tokens": 0})), 0), "");
    // Longer than the context.
    let long = "the owl and the fox ".repeat(50);
    assert_eq!(with(json!(long)).status, 200);
}

#[test]
fn models_are_listed_and_the_page_is_there() {
    let world = world();
    let models = world.get("/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(world.get("/v1/models/tiny").json()["id"], MODEL);
    assert_eq!(world.get("/v1/models/other").json()["error"]["code"], "model_not_found");
    // The response quotes only the start of a long name.
    let name = "long".repeat(5_000);
    for answer in [
        world.get(&format!("/v1/models/{name}")),
        world.get(&format!("/{name}")),
        world.complete(&json!({"model": name})),
        world.complete(&json!({name.as_str(): 1})),
    ] {
        assert!(answer.status >= 400 && answer.body.len() < 400, "{}", answer.body.len());
    }
    assert_eq!(world.get("/health").json(), json!({"status": "ok"}));
    assert_eq!(world.get("/card").json()["name"], MODEL);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = world.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        for (name, value) in [
            ("content-security-policy", "default-src 'none'; script-src 'self'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            let found = answer.header(name).is_some_and(|found| found.starts_with(value));
            assert!(found, "{path} {name}: {}", answer.head);
        }
        // No addresses of other hosts, except the namespaces of SVG and HTML.
        let foreign = answer.body.replace("http://www.w3.org/", "");
        assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{path}");
    }
}
