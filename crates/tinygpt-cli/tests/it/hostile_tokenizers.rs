//! A `tokenizer.json` from other programs or from an attacker: it is harmless, or refused at once.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{SMALL, check_all, command, run, small_text};

/// Longer than any refusal takes on a busy machine, much shorter than obeying would.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A directory with `text.txt` and the byte-pair tokenizer of it, `own.json`.
fn with_tokenizer() -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    run("prepare", dir.path(), "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let json = fs::read(dir.path().join("data/text/bpe/tokenizer.json")).unwrap();
    (dir, serde_json::from_slice(&json).unwrap())
}

/// Writes a tokenizer that differs from `json` by these keys.
fn altered(dir: &Path, name: &str, json: &Value, keys: Value) {
    let mut json = json.clone();
    for (key, value) in keys.as_object().unwrap() {
        json[key] = value.clone();
    }
    fs::write(dir.join(name), json.to_string()).unwrap();
}

fn truncation(stride: u32) -> Value {
    json!({"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": stride})
}

fn padding(to: u64) -> Value {
    json!({"strategy": {"Fixed": to}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"})
}

#[test]
fn truncation_and_padding_of_a_tokenizer_change_no_token() {
    let (dir, json) = with_tokenizer();
    let shard = |name: &str| fs::read(dir.path().join(format!("data/{name}/bpe/train-00000.bin")));
    // One more token, so that the `tokenizers` library encodes.
    let mut more = json.clone();
    let mut token = json["added_tokens"][0].clone();
    (token["content"], token["id"]) = (json!("<|pad|>"), json!(300));
    more["added_tokens"].as_array_mut().unwrap().push(token);
    altered(dir.path(), "plain.json", &more, json!({}));
    altered(dir.path(), "cut.json", &more, json!({"truncation": truncation(0)}));
    altered(dir.path(), "panics.json", &more, json!({"truncation": truncation(99)}));
    altered(dir.path(), "padded.json", &more, json!({"padding": padding(512)}));
    altered(dir.path(), "bomb.json", &more, json!({"padding": padding(1_000_000_000)}));
    let begin = Instant::now();
    for name in ["plain", "cut", "panics", "padded", "bomb"] {
        let args = format!("--source text.txt --dataset-name {name} --tokenizer {name}.json");
        run("prepare", dir.path(), &args).ok();
        // The header holds the tokenizer's hash.
        assert!(shard(name).unwrap()[128..] == shard("plain").unwrap()[128..], "{name}");
    }
    assert!(begin.elapsed() < 5 * AT_ONCE, "{:?}", begin.elapsed());
}

#[test]
fn a_server_with_such_a_tokenizer_answers_and_stays() {
    let (dir, json) = with_tokenizer();
    let keys = json!({"truncation": truncation(99), "padding": padding(1_000_000_000)});
    altered(dir.path(), "evil.json", &json, keys);
    run("prepare", dir.path(), "--source text.txt --dataset-name evil --tokenizer evil.json").ok();
    run("train", dir.path(), &SMALL.replace("name text", "name evil")).ok();
    let mut server = command("sample", dir.path());
    server.args(["--out-dir", "out", "--serve", "0"]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = printed
        .find_map(|line| Some(line.split_once("http://")?.1.split('/').next()?.trim().to_owned()))
        .expect("an address");
    for prompt in ["The café cat number 7 sat on mat 3. ".repeat(9), "a".to_owned()] {
        let body = json!({"prompt": prompt, "max_tokens": 2}).to_string();
        let answer = post(&address, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

fn post(address: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(AT_ONCE)).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_tokenizer_that_asks_for_too_much_is_refused_at_once() {
    let (dir, json) = with_tokenizer();
    let token = |i: usize| {
        let mut token = json["added_tokens"][0].clone();
        (token["content"], token["id"]) = (json!(format!("<|{i}|>")), json!(1_000 + i));
        token
    };
    let mut tokens = json["added_tokens"].as_array().unwrap().clone();
    tokens.extend((0..100_000).map(token));
    altered(dir.path(), "tokens.json", &json, json!({"added_tokens": tokens}));
    let byte_level = json["pre_tokenizer"].clone();
    let steps =
        |n: usize| json!({"type": "Sequence", "pretokenizers": vec![byte_level.clone(); n]});
    altered(dir.path(), "steps.json", &json, json!({"pre_tokenizer": steps(1_000)}));
    altered(dir.path(), "doubling.json", &json, json!({"pre_tokenizer": steps(25)}));
    let longer = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "e".repeat(999)});
    altered(dir.path(), "longer.json", &json, json!({"normalizer": longer}));
    let begin = Instant::now();
    let with = |name: &str| format!("--source text.txt --dataset-name new --tokenizer {name}.json");
    check_all(
        "prepare",
        dir.path(),
        &[
            (&with("tokens"), 3, &["tokens.json", "100001 added tokens", "10000"]),
            (&with("steps"), 3, &["steps.json", "steps, more than the 32"]),
            (&with("doubling"), 3, &["doubling.json", "makes texts longer"]),
            (&with("longer"), 3, &["longer.json", "makes texts longer"]),
        ],
    );
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}
