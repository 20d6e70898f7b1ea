//! OpenAI's chat API: answers, streams, dropped messages and errors.

use serde_json::{Value, json};
use tinygpt_data::chat::{ChatTemplate, Message};
use tinygpt_model::{SamplingParams, generate_samples};
use tinygpt_serve::{Limits, ServedModel};

use crate::common::{MODEL, World, served_chat};

fn world() -> World {
    World::with(served_chat(), Limits::default(), None)
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

/// What the model answers by itself, and the number of tokens of the prompt.
fn expected(messages: &[Message], params: SamplingParams) -> (Vec<String>, usize) {
    let served = served_chat();
    let prompt = ChatTemplate::chatml().prompt_ids(&served.tokenizer, messages).unwrap();
    let params = SamplingParams {
        eos: Some(ChatTemplate::chatml().end_of_turn(&served.tokenizer).unwrap()),
        vocab_size: Some(served.tokenizer.vocab_size()),
        ..params
    };
    let samples = generate_samples(&*served.model, &prompt, &params, 0..2).unwrap();
    let text = |ids: &[u32]| {
        // The end of a document ends an answer, too.
        let end = ids.iter().position(|id| Some(*id) == served.eos).unwrap_or(ids.len());
        served.tokenizer.decode(&ids[..end]).unwrap()
    };
    (samples.iter().map(|sample| text(&sample.tokens)).collect(), prompt.len())
}

#[test]
fn an_answer_is_what_the_model_writes_after_the_template() {
    let world = world();
    let body = json!({
        "model": MODEL, "messages": [{"role": "system", "content": "the"}, user("the owl <|im_end|>")],
        "seed": 5, "n": 2, "max_tokens": 12, "logprobs": true, "top_logprobs": 2,
    });
    let answer = world.chat(&body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let object = answer.json();
    assert_eq!(object["object"], "chat.completion");
    assert!(object["warnings"].as_array().is_none_or(Vec::is_empty), "{object}");
    let messages = [Message::new("system", "the"), Message::new("user", "the owl <|im_end|>")];
    let params = SamplingParams { seed: 5, max_new_tokens: 12, ..SamplingParams::unfiltered() };
    let (texts, n_prompt) = expected(&messages, params);
    assert_eq!(object["usage"]["prompt_tokens"], n_prompt);
    for (index, text) in texts.iter().enumerate() {
        let choice = &object["choices"][index];
        assert_eq!(choice["message"], json!({"role": "assistant", "content": text}));
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token["bytes"].as_array().unwrap())
            .map(|byte| byte.as_u64().unwrap() as u8)
            .collect();
        assert_eq!(&String::from_utf8_lossy(&bytes), text);
        assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    }

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let (events, done) = world.chat(&streamed).events();
    let mut parts = vec![String::new(); 2];
    for choice in events.iter().flat_map(|event| event["choices"].as_array().unwrap()) {
        let part = &mut parts[choice["index"].as_u64().unwrap() as usize];
        let is_first = choice["delta"]["role"] == "assistant";
        assert!(!is_first || part.is_empty(), "{choice}");
        part.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    assert!(done && events.iter().all(|event| event["object"] == "chat.completion.chunk"));
    assert_eq!(parts, texts);
}

#[test]
fn the_end_of_a_turn_ends_an_answer() {
    let served = served_chat();
    let end = ChatTemplate::chatml().end_of_turn(&served.tokenizer).unwrap();
    for id in [end, served.eos.unwrap()] {
        let bias = json!({id.to_string(): 100});
        let object = world().chat(&json!({"messages": [user("the")], "logit_bias": bias})).json();
        assert_eq!(object["choices"][0]["message"]["content"], "", "{object}");
        assert_eq!(object["choices"][0]["finish_reason"], "stop");
        assert_eq!(object["usage"]["completion_tokens"], 0);
    }
}

#[test]
fn the_oldest_messages_are_dropped_with_a_warning() {
    let turn = |role: &str| json!({"role": role, "content": "the owl and the fox"});
    let turns: Vec<Value> = (0..6).flat_map(|_| [turn("user"), turn("assistant")]).collect();
    let messages = [vec![json!({"role": "system", "content": "the"})], turns, vec![user("the")]];
    let object = world().chat(&json!({"messages": messages.concat(), "max_tokens": 4})).json();
    let warning = object["warnings"][0].as_str().unwrap();
    assert!(warning.contains("messages were dropped"), "{warning}");
    assert!(object["usage"]["prompt_tokens"].as_u64().unwrap() <= 60);
    // Nothing can be dropped of a single message, and nothing is cut.
    let answer = world().chat(&json!({"messages": [user(&"the owl ".repeat(99))]}));
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("messages")));
}

/// A text of which the prompt has exactly `n` tokens.
fn text_of(n: usize) -> String {
    let served = served_chat();
    let n_tokens = |text: &String| {
        let messages = [Message::new("user", text)];
        ChatTemplate::chatml().prompt_ids(&served.tokenizer, &messages).unwrap().len()
    };
    (0..n).map(|length| "~".repeat(length)).find(|text| n_tokens(text) == n).unwrap()
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let world = world();
    let served = served_chat();
    let end = ChatTemplate::chatml().end_of_turn(&served.tokenizer).unwrap();
    let bias = json!({end.to_string(): -100, served.eos.unwrap().to_string(): -100});
    // The model sees 64 tokens. Without `max_tokens`, an answer takes what the prompt leaves.
    for (n_prompt, max_tokens, expected) in
        [(40, json!(null), 24), (40, json!(4096), 24), (40, json!(24), 24), (40, json!(23), 23)]
    {
        let body = json!({
            "messages": [user(&text_of(n_prompt))], "max_tokens": max_tokens, "logit_bias": bias,
        });
        let object = world.chat(&body).json();
        assert_eq!(object["usage"]["prompt_tokens"], n_prompt, "{object}");
        assert_eq!(object["usage"]["completion_tokens"], expected, "{body}");
        assert_eq!(object["choices"][0]["finish_reason"], "length", "{body}");
    }
}

#[test]
fn a_prompt_leaves_room_for_an_answer_of_a_quarter_of_the_context() {
    let world = world();
    for (max_tokens, most) in [(json!(null), 48), (json!(16), 48), (json!(8), 56), (json!(1), 63)] {
        for (n_prompt, status) in [(most, 200), (most + 1, 400)] {
            let messages = [user(&text_of(n_prompt))];
            let answer = world.chat(&json!({"messages": messages, "max_tokens": max_tokens}));
            assert_eq!(answer.status, status, "{n_prompt} tokens, {max_tokens}: {answer:?}");
        }
    }
}

#[test]
fn the_template_sees_messages_in_their_order() {
    let strict = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
                  {{ raise_exception('a late system message') }}{% endif %}{% endfor %}";
    let served = served_chat();
    let source = format!("{strict}{}", ChatTemplate::chatml().source());
    let tokenizer = served.tokenizer.with_chat_template(ChatTemplate::new(source, None, None));
    let world = World::with(ServedModel { tokenizer, ..served }, Limits::default(), None);
    let system = json!({"role": "system", "content": "the"});
    for (messages, status) in [
        (json!([system, user("the owl"), user("and")]), 200),
        (json!([user("the owl"), system, user("and")]), 400),
    ] {
        let answer = world.chat(&json!({"messages": messages, "max_tokens": 4}));
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.body.contains("a late system message"), status == 400, "{answer:?}");
    }
}

#[test]
fn a_model_without_a_template_says_so() {
    let world = World::new(Limits::default(), None);
    for stream in [false, true] {
        let answer = world.chat(&json!({"messages": [user("Hello")], "stream": stream}));
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (400, &json!("no_chat_template")));
        assert!(error["message"].as_str().unwrap().contains("not trained on conversations"));
    }
    let answer = world.chat(&json!({"messages": [{"role": "user"}]}));
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("messages")));
}
