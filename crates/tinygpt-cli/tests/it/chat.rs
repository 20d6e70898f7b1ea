//! `sample --chat` with lines from a pipe, and what an export keeps for chatting.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use tempfile::TempDir;
use tinygpt_data::Tokenizer;
use tinygpt_data::chat::{ChatTemplate, Message};

use crate::program::{Ran, command, copy_tree, run, small_text, trained};

/// A tokenizer with the special tokens of ChatML.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tinygpt-data/tests/golden/chat").join(name)
}

/// A hardly trained model in `out`, with the template ChatML.
pub(crate) fn chat_model() -> &'static Path {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("text.txt"), small_text()).unwrap();
        let tokenizer = golden("tokenizer.json");
        run(
            "prepare",
            dir.path(),
            &format!("--source text.txt --tokenizer {}", tokenizer.display()),
        )
        .ok();
        let shape = "--n-layer 1 --n-head 1 --n-embd 16 --block-size 96 --batch-size 2 --threads 1";
        run(
            "train",
            dir.path(),
            &format!("--dataset-name text --out-dir out --max-iters 2 {shape}"),
        )
        .ok();
        fs::copy(golden("chatml.jinja"), dir.path().join("out/best/chat_template.jinja")).unwrap();
        dir
    });
    dir.path()
}

fn chat(args: &str, lines: &str) -> Ran {
    chat_in(chat_model(), &format!("--out-dir out --max-new-tokens 8 {args}"), lines)
}

/// Sends lines to a model in `dir`.
fn chat_in(dir: &Path, args: &str, lines: &str) -> Ran {
    let mut command = command("sample", dir);
    command.args("--threads 1 --chat".split(' ')).args(args.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }.ok()
}

#[test]
fn answers_depend_on_the_conversation_and_can_be_made_again() {
    let first = chat("", "Hello\n").stdout;
    assert!(!first.contains("Hello") && !first.trim().is_empty(), "{first:?}");
    let two = chat("", "Hello\nHello\n").stdout;
    assert!(two.starts_with(&first));
    let second = &two[first.len()..];
    // Without the first exchange, the same message has the first answer again.
    assert_eq!(chat("", "Hello\n/undo\nHello\n").stdout, first.repeat(2));
    assert_eq!(chat("", "Hello\n/clear\nHello\n").stdout, first.repeat(2));
    let retried = chat("", "Hello\n/retry\n").stdout;
    assert!(retried.starts_with(&first) && retried != first.repeat(2), "{retried:?}");
    assert_ne!(retried[first.len()..], *second);
    let system = chat("--system Owl", "Hello\n").stdout;
    assert_ne!(system, first);
    assert_eq!(chat("", "/system Owl\nHello\n").stdout, system);
    assert_eq!(chat("--system Owl", "/system\nHello\n").stdout, first);
}

#[test]
fn the_oldest_exchanges_are_dropped_and_the_system_message_is_not() {
    let lines = "the owl and the fox\n".repeat(9);
    let ran = chat("--system Owl", &lines);
    assert!(
        ran.stderr.contains("oldest 2 messages were dropped: the model sees 96"),
        "{}",
        ran.stderr
    );
    // What was dropped once is not dropped again with the next message.
    assert!(!ran.stderr.contains("oldest 6 messages"), "{}", ran.stderr);
    let long = chat("--system Owl", &format!("{}\nHello\n", "owl ".repeat(200)));
    assert!(
        long.stderr.contains("tokens with its system message, expected at most"),
        "{}",
        long.stderr
    );
    assert_eq!(long.stdout, chat("--system Owl", "Hello\n").stdout);
}

#[test]
fn the_system_message_is_first_whenever_it_is_set() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(chat_model(), dir.path());
    let chatml = fs::read_to_string(golden("chatml.jinja")).unwrap();
    let strict = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}\
                  {{ raise_exception('a late system message') }}{% endif %}{% endfor %}";
    fs::write(dir.path().join("out/best/chat_template.jinja"), format!("{strict}{chatml}"))
        .unwrap();
    let lines = "Hello\n/system Owl\nHello\nHello\n";
    let ran = chat_in(dir.path(), "--out-dir out --max-new-tokens 8", lines);
    assert!(!ran.stderr.contains("late"), "{}", ran.stderr);
    assert_eq!(ran.stdout, chat("", lines).stdout);
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let tokenizer = Tokenizer::from_dir(chat_model().join("out/best")).unwrap();
    let messages = [Message::new("user", "Hello")];
    let room = 96 - ChatTemplate::chatml().prompt_ids(&tokenizer, &messages).unwrap().len();
    let answer = |n: usize| {
        let args = format!("--out-dir out --seed 3 --max-new-tokens {n}");
        chat_in(chat_model(), &args, "Hello\n").stdout
    };
    assert_ne!(answer(room - 1), answer(room), "the answer is longer than the context");
    assert_eq!(answer(500), answer(room));
}

/// Makes a model print one token, whatever it has read.
fn always_print(model: &Path, id: usize) {
    let file = model.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let mut set = |name: &str, change: &dyn Fn(&Tensor) -> Tensor| {
        let key = tensors.keys().find(|key| key.ends_with(name)).unwrap().clone();
        let changed = change(&tensors[&key]);
        tensors.insert(key, changed);
    };
    set("ln_f.weight", &|it| it.zeros_like().unwrap());
    set("ln_f.bias", &|it| it.ones_like().unwrap());
    // The logit of a token is the sum of its embedding.
    set("wte.weight", &|it| {
        let mut rows = it.to_vec2::<f32>().unwrap();
        rows[id].fill(100.0);
        Tensor::new(rows, &Device::Cpu).unwrap()
    });
    candle_core::safetensors::save(&tensors, &file).unwrap();
}

#[test]
fn the_end_of_a_document_ends_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let hf = dir.path().join("hf");
    run("sample", chat_model(), &format!("--out-dir out --export hf {}", hf.display())).ok();
    let eot = Tokenizer::from_dir(&hf).unwrap().eot_id();
    always_print(&hf, eot as usize);
    // The text of an answer has no special tokens, its probabilities do.
    let n_printed = || {
        let args = "--checkpoint hf --max-new-tokens 3 --show-probs";
        chat_in(dir.path(), args, "Hello\n").stdout.matches("100.0 %  \"<|endoftext|>\"").count()
    };
    assert_eq!(n_printed(), 3, "documents of this model do not end");
    let config = fs::read_to_string(hf.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["eos_token_id"] = eot.into();
    fs::write(hf.join("config.json"), config.to_string()).unwrap();
    assert_eq!(n_printed(), 0);
}

#[test]
fn a_model_without_a_template_and_unknown_commands_say_so() {
    let dir = trained();
    let ran = run("sample", dir.path(), "--out-dir out --chat");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("no chat template") && ran.stderr.contains("--interactive"));
    let ran = chat("", "/temprature 1\n/help\n/undo\n/retry\n");
    for expected in ["unknown command /temprature", "/system TEXT", "no message", "no answer"] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    for (args, expected) in [("--chat --json", "--json"), ("--system x", "--chat")] {
        let ran = run("sample", dir.path(), &format!("--out-dir out {args}"));
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    }
}

#[test]
fn exports_carry_the_template_and_the_end_of_a_turn() {
    let dir = tempfile::tempdir().unwrap();
    let hf = dir.path().join("hf");
    run("sample", chat_model(), &format!("--out-dir out --export hf {}", hf.display())).ok();
    let config = fs::read_to_string(hf.join("tokenizer_config.json")).unwrap();
    assert!(config.contains("add_generation_prompt"), "{config}");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(hf.join(name)).unwrap()).unwrap()
    };
    // `<|im_end|>`; the text is one document, so `<|endoftext|>` ends nothing.
    assert_eq!(json("generation_config.json")["eos_token_id"], serde_json::json!([2]));
    // The exported model chats as the one that it was made from.
    let again = chat_in(dir.path(), "--checkpoint hf --max-new-tokens 8", "Hello\n");
    assert_eq!(again.stdout, chat("", "Hello\n").stdout);
}

#[test]
fn the_hint_of_a_gguf_file_is_a_chat() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(chat_model(), dir.path());
    let hint = |file: &str| {
        run("sample", dir.path(), &format!("--out-dir out --export gguf {file}")).ok().stderr
    };
    let stderr = hint("talks.gguf");
    for program in ["llama-cli", "llama-server"] {
        let command = format!("{program} -m talks.gguf -c 96 --jinja");
        assert!(stderr.contains(&command), "{command}: {stderr}");
    }
    assert!(!stderr.contains("llama-completion"), "{stderr}");
    // With a template whose turns do not end with a special token, the model does not chat.
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    fs::write(dir.path().join("out/best/chat_template.jinja"), template).unwrap();
    let stderr = hint("plain.gguf");
    assert!(stderr.contains("llama-completion -m plain.gguf -c 96 -no-cnv"), "{stderr}");
    assert!(!stderr.contains("--jinja"), "{stderr}");
}

#[test]
fn a_template_that_does_not_work_stops_no_run_on_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::copy(golden("tokenizer.json"), own.join("tokenizer.json")).unwrap();
    fs::write(own.join("chat_template.jinja"), "{{ raise_exception('no') }}").unwrap();
    run("prepare", dir.path(), "--source text.txt --tokenizer own").ok();
    let shape = "--n-layer 1 --n-head 1 --n-embd 16 --block-size 32 --batch-size 2 --threads 1";
    run("train", dir.path(), &format!("--dataset-name text --out-dir out --max-iters 2 {shape}"))
        .ok();
    run("sample", dir.path(), "--out-dir out --export hf hf").ok();
    let ran = run("sample", dir.path(), "--out-dir out --chat");
    assert!(ran.code == 2 && ran.stderr.contains("refuses the conversation: "), "{ran:?}");
}
