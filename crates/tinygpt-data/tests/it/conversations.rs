//! Conversations from files to shards: the text, what of it is learned, and files that hold none.

use std::path::Path;

use serde_json::{Value, json};
use tinygpt_data::chat::{ChatTemplate, Message};
use tinygpt_data::{
    Encoding, IGNORED_TARGET, Loader, NoProgress, PrepareRequest, Prepared, SplitMeta, Tokenizer,
    ValSplit, dry_run, prepare,
};

use crate::{explained, ids_of, request, text_of, write};

fn chat(dir: &Path, source: &Path, encoding: Encoding) -> PrepareRequest {
    PrepareRequest {
        chat: true,
        encoding_type: Some(encoding),
        vocab_size: 300,
        ..request(dir, source)
    }
}

/// A conversation of two exchanges; the first answer has the name of a special token in it.
fn turns(i: usize) -> Value {
    json!([
        {"role": "user", "content": format!("What is {i} and 1?")},
        {"role": "assistant", "content": format!("It is {}. <|im_end|>", i + 1)},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You are welcome."},
    ])
}

fn lines(records: impl Iterator<Item = Value>) -> String {
    records.map(|record| format!("{record}\n")).collect()
}

fn open(request: &PrepareRequest) -> Prepared {
    prepare(request, &NoProgress).unwrap();
    Prepared::open(&request.data_dir, &request.dataset_name, None).unwrap()
}

#[test]
fn only_answers_and_the_ends_of_their_turns_are_learned() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        write(dir.path(), "a.jsonl", lines((0..20).map(|i| json!({"messages": turns(i)}))));
    for encoding in Encoding::ALL {
        let prepared = open(&chat(dir.path(), &source, encoding));
        let text = text_of(&prepared, &prepared.train);
        let first = "<|im_start|>user\nWhat is 0 and 1?<|im_end|>\n<|im_start|>assistant\nIt is 1. \
                     <|im_end|><|im_end|>\n<|im_start|>user\nThanks!<|im_end|>\n<|im_start|>assistant\n\
                     You are welcome.<|im_end|>\n<|endoftext|>";
        assert!(text.starts_with(first), "{text}");
        let (ids, mask) = (ids_of(&prepared.train), ids_of(prepared.train.mask().unwrap()));
        let learned: Vec<u32> =
            ids.iter().zip(&mask).filter(|(_, mask)| **mask == 1).map(|(id, _)| *id).collect();
        let learned = prepared.tokenizer.decode(&learned).unwrap();
        let expected = "It is 1. <|im_end|><|im_end|>You are welcome.<|im_end|>It is 2. ";
        assert!(learned.starts_with(expected), "{learned}");
        // The name in the message is several tokens, and only the template's is the special one.
        let end = prepared.tokenizer.encode("<|im_end|>").unwrap();
        assert_eq!(end.len(), 1);
        let n_conversations = prepared.meta.train.n_documents as usize;
        assert_eq!(ids.iter().filter(|id| **id == end[0]).count(), 4 * n_conversations);
        assert_eq!(prepared.meta.val.n_documents, 2);
        // A loader shows it, too.
        let batch = Loader::evaluation(&prepared.train, 1, 200, 1).unwrap().batch(0).unwrap();
        assert_eq!(batch.targets[0], IGNORED_TARGET);
        assert!(batch.n_learned() > 0 && batch.n_learned() < 200);
    }
}

#[test]
fn a_dry_run_estimates_the_tokens_of_the_template() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        write(dir.path(), "a.jsonl", lines((0..90).map(|i| json!({"messages": turns(i)}))));
    // With a tokenizer that has a template of its own.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat");
    for (from, to) in
        [("tokenizer.json", "tokenizer.json"), ("llama3.jinja", "chat_template.jinja")]
    {
        write(&dir.path().join("own"), to, std::fs::read(golden.join(from)).unwrap());
    }
    write(&dir.path().join("own"), "tokenizer_config.json", r#"{"bos_token": "<s>"}"#);
    let reused = PrepareRequest {
        chat: true,
        dataset_name: "own".into(),
        tokenizer: Some(dir.path().join("own").into()),
        ..request(dir.path(), &source)
    };
    // Byte pairs are learned from the training text only, and here from all of it.
    for (request, tolerance) in [
        (chat(dir.path(), &source, Encoding::Simple), 0.0),
        (chat(dir.path(), &source, Encoding::Bpe), 0.02),
        (reused, 0.0),
    ] {
        let estimate = dry_run(&request, &NoProgress).unwrap().estimate.unwrap();
        let meta = open(&request).meta;
        let of_both = |count: fn(&SplitMeta) -> u64| count(&meta.train) + count(&meta.val);
        assert_eq!(estimate.n_documents, of_both(|it| it.n_documents));
        assert_eq!(estimate.n_text_bytes, of_both(|it| it.n_bytes));
        assert_eq!(estimate.n_sample_bytes, estimate.n_text_bytes);
        let n_tokens = of_both(|it| it.n_tokens) as f64;
        let difference = (estimate.n_tokens as f64 - n_tokens).abs();
        assert!(difference <= tolerance * n_tokens, "{estimate:?}, not {n_tokens} tokens");
        // Two bytes for the token, two for whether it is learned.
        assert_eq!(estimate.n_shard_bytes, 4 * estimate.n_tokens);
    }
}

#[test]
fn without_the_mask_of_prompts_every_token_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        write(dir.path(), "a.jsonl", lines((0..20).map(|i| json!({"messages": turns(i)}))));
    let masked = chat(dir.path(), &source, Encoding::Simple);
    let request = PrepareRequest { mask_prompt: false, ..masked.clone() };
    let prepared = open(&request);
    assert!(ids_of(prepared.train.mask().unwrap()).iter().all(|mask| *mask == 1));
    let error = explained(&prepare(&masked, &NoProgress).unwrap_err());
    assert!(error.contains("mask_prompt: false → true"), "{error}");
    let forced = PrepareRequest { force: true, ..masked };
    assert_ne!(open(&forced).meta.fingerprint(), prepared.meta.fingerprint());
}

#[test]
fn an_array_and_json_lines_in_every_shape_are_the_same_tokens() {
    let pair = |i: usize| (format!("What is {i}?"), format!("A number, {i}."));
    let shapes: [fn((String, String)) -> Value; 4] = [
        |(q, a)| json!({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}),
        |(q, a)| json!({"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}),
        |(q, a)| json!({"prompt": q, "completion": a}),
        |(q, a)| json!({"instruction": q, "input": "", "output": a}),
    ];
    let mut fingerprints = Vec::new();
    for shape in shapes {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<Value> = (0..12).map(pair).map(shape).collect();
        let as_lines = write(dir.path(), "a.jsonl", lines(records.iter().cloned()));
        fingerprints.push(open(&chat(dir.path(), &as_lines, Encoding::Bpe)).meta.fingerprint());
        let array = write(dir.path(), "b.json", Value::from(records).to_string());
        let request = PrepareRequest {
            dataset_name: "array".into(),
            ..chat(dir.path(), &array, Encoding::Bpe)
        };
        fingerprints.push(open(&request).meta.fingerprint());
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1);
}

#[test]
fn a_tokenizer_with_a_template_of_its_own_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        write(dir.path(), "a.jsonl", lines((0..20).map(|i| json!({"messages": turns(i)}))));
    let plain = open(&request(dir.path(), &write(dir.path(), "t.txt", "Some text.\n".repeat(90))));
    let names = ["<|user|>", "<|assistant|>", "<|end|>"];
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if \
                    add_generation_prompt %}<|assistant|>{% endif %}";
    let tokenizer = plain.tokenizer.with_special_tokens(&names).unwrap();
    let tokenizer = tokenizer.with_chat_template(ChatTemplate::new(template, None, None));
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    tokenizer.save(&model).unwrap();
    let request = PrepareRequest {
        dataset_name: "own".into(),
        tokenizer: Some(model.into()),
        encoding_type: None,
        ..chat(dir.path(), &source, Encoding::Simple)
    };
    let prepared = open(&request);
    let text = text_of(&prepared, &prepared.train);
    assert!(text.starts_with("<|user|>What is 0 and 1?<|end|><|assistant|>It is 1."), "{text}");
    assert_eq!(prepared.tokenizer.chat_template().map(ChatTemplate::source), Some(template));
    let reopened = Tokenizer::from_dir(&prepared.dir).unwrap();
    assert_eq!(reopened.sha256(), prepared.tokenizer.sha256());
}

#[test]
fn the_built_in_conversations_need_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let request = PrepareRequest {
        dataset_name: "tiny_talks".into(),
        data_dir: dir.path().join("data"),
        data_percentage: 2.0,
        vocab_size: 600,
        ..Default::default()
    };
    let prepared = open(&request);
    // 2% of 20,000, drawn.
    let n_train = prepared.meta.train.n_documents;
    assert!((300..500).contains(&n_train) && prepared.meta.val.n_documents == 1_000, "{n_train}");
    let mask = ids_of(prepared.train.mask().unwrap());
    let n_learned = mask.iter().filter(|mask| **mask == 1).count();
    let share = n_learned as f64 / mask.len() as f64;
    assert!((0.2..0.7).contains(&share), "{share}");
}

#[test]
fn files_without_conversations_say_what_is_expected() {
    let cases = [
        ("a.jsonl", "{\"text\": \"Once\"}\n".repeat(3), "line 1: no conversation: it has `text`"),
        ("b.jsonl", "{\"messages\": []}\n".repeat(3), "line 1: no answer"),
        (
            "c.txt",
            "Once upon a time.\n".repeat(3),
            "conversations are read from .jsonl, .json and .parquet",
        ),
        ("d.csv", "prompt,completion\na,b\n".to_owned(), "conversations are read from .jsonl"),
        (
            "e.jsonl",
            lines([json!({"prompt": "a", "completion": "b"})].into_iter()),
            "fewer than two conversations",
        ),
    ];
    for (name, content, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let source = write(dir.path(), name, content);
        let error = prepare(&chat(dir.path(), &source, Encoding::Simple), &NoProgress).unwrap_err();
        let error = explained(&error);
        assert!(error.contains(expected), "{name}: {error}");
        let is_shape = error.contains("messages: [{role, content}]");
        assert!(is_shape || name == "e.jsonl", "{name}: {error}");
    }
}

#[test]
fn conversations_are_never_cut_between_the_splits() {
    // Five of very different lengths: a tenth of the text would end inside of one.
    let long = |i: usize| Message::new("assistant", "yes ".repeat(1 + i * 40));
    let records = (0..5).map(|i| json!({"messages": [Message::new("user", "Is it?"), long(i)]}));
    for val_split in [ValSplit::End, ValSplit::Random] {
        let dir = tempfile::tempdir().unwrap();
        let source = write(dir.path(), "a.jsonl", lines(records.clone()));
        let request = PrepareRequest {
            val_split: Some(val_split),
            ..chat(dir.path(), &source, Encoding::Simple)
        };
        let prepared = open(&request);
        let (train, val) = (&prepared.meta.train, &prepared.meta.val);
        assert_eq!(train.n_documents + val.n_documents, 5, "{val_split}");
        for stream in [&prepared.train, &prepared.val] {
            assert!(text_of(&prepared, stream).starts_with("<|im_start|>user\nIs it?"));
        }
    }
}

#[test]
fn settings_without_an_effect_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        write(dir.path(), "a.jsonl", lines((0..20).map(|i| json!({"messages": turns(i)}))));
    let chat = chat(dir.path(), &source, Encoding::Simple);
    let cases = [
        (PrepareRequest { text_column: Some("a".into()), ..chat.clone() }, "`text_column`"),
        (PrepareRequest { text_template: Some("{a}".into()), ..chat.clone() }, "`text_template`"),
        (PrepareRequest { parse_special: true, ..chat.clone() }, "`parse_special`"),
        (PrepareRequest { chat: false, mask_prompt: false, ..chat }, "`mask_prompt`"),
    ];
    for (request, key) in cases {
        let error = explained(&prepare(&request, &NoProgress).unwrap_err());
        assert!(error.contains(&format!("leave {key} out")), "{error}");
    }
}
