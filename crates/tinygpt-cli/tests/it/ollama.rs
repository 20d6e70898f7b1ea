//! `sample --export ollama`: the Modelfile of models with and without a chat template.

use std::fs;
use std::path::Path;

use crate::chat::chat_model;
use crate::program::{Bad, check_all, command, copy_tree, run, run_command, snapshot, trained};

fn modelfile(dir: &Path) -> String {
    fs::read_to_string(dir.join("Modelfile")).unwrap()
}

#[test]
fn a_chat_model_has_its_template_its_stops_and_our_settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    copy_tree(chat_model(), path);
    let mut export = command("sample", path);
    export.args("--out-dir out --top-p 0.9 --stop END --export ollama new/talks".split(' '));
    export.args(["--system", "You are an owl.\nBe \"brief\""]);
    let ran = run_command(&mut export).ok();
    for part in
        ["written: new/talks", "ollama create text -f new/talks/Modelfile", "ollama run text"]
    {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
    let names: Vec<_> = snapshot(&path.join("new")).into_keys().collect();
    let expected = ["Modelfile", "model.gguf"].map(|name| path.join("new/talks").join(name));
    assert_eq!(names, expected);
    let expected = r#"FROM ./model.gguf
TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
SYSTEM """You are an owl.
Be "brief""""
PARAMETER stop "<|im_end|>"
PARAMETER stop "<|endoftext|>"
PARAMETER stop "END"
PARAMETER num_ctx 96
PARAMETER num_predict 500
PARAMETER temperature 0.8
PARAMETER top_k 200
PARAMETER top_p 0.9
PARAMETER min_p 0
PARAMETER repeat_penalty 1
PARAMETER presence_penalty 0
PARAMETER frequency_penalty 0
PARAMETER repeat_last_n -1
"#;
    assert_eq!(modelfile(&path.join("new/talks")), expected);
    // The weights are those of the other export, and `--type` applies to both.
    for (kind, dir) in [("f32", "new/talks"), ("q8_0", "small")] {
        run("sample", path, &format!("--out-dir out --export gguf {kind}.gguf --type {kind}")).ok();
        let args = format!("--out-dir out --export ollama {dir} --type {kind} --overwrite");
        run("sample", path, &args).ok();
        let read = |file: &Path| fs::read(path.join(file)).unwrap();
        let file = format!("{kind}.gguf");
        assert!(read(&Path::new(dir).join("model.gguf")) == read(Path::new(&file)), "{kind}");
    }
    assert!(!modelfile(&path.join("new/talks")).contains("SYSTEM"), "it is replaced");
}

#[test]
fn other_templates_stay_in_the_gguf_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    copy_tree(chat_model(), path);
    let template =
        "{% for m in messages %}[{{ m.role }}] {{ m.content + '<|im_end|>' }}{% endfor %}";
    fs::write(path.join("out/best/chat_template.jinja"), template).unwrap();
    let ran = run("sample", path, "--out-dir out --system Owl --export ollama other").ok();
    for text in [ran.stderr, modelfile(&path.join("other"))] {
        assert!(text.contains("there is no TEMPLATE") && text.contains("Ollama 0.30"), "{text}");
    }
    let text = modelfile(&path.join("other"));
    assert!(!text.contains("TEMPLATE \"") && text.contains("SYSTEM \"\"\"Owl\"\"\""), "{text}");
    assert!(text.contains("stop \"<|im_end|>\"") && text.contains("# there"), "{text}");
    let gguf = fs::read(path.join("other/model.gguf")).unwrap();
    assert!(gguf.windows(template.len()).any(|it| it == template.as_bytes()));
}

#[test]
fn a_model_without_a_template_continues_the_prompt() {
    let dir = trained();
    let path = dir.path();
    run("sample", path, "--out-dir out --export ollama plain").ok();
    let text = modelfile(&path.join("plain"));
    let start =
        "FROM ./model.gguf\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"\nPARAMETER stop \"<|endoftext|>\"\n";
    assert!(text.starts_with(&format!("{start}PARAMETER num_ctx 16\n")), "{text}");
    run("sample", path, "--out-dir out --export hf copy").ok();
    fs::write(path.join("plain/notes.txt"), "mine").unwrap();
    let before = snapshot(path);
    let table: &[Bad<'_>] = &[
        ("--out-dir out --export ollama copy", 2, &["copy already exists", "--overwrite"]),
        (
            "--out-dir out --export ollama copy --overwrite",
            2,
            &["not from such an export", "another directory"],
        ),
        (
            "--out-dir out --export ollama plain --overwrite",
            2,
            &["holds notes.txt", "another directory"],
        ),
        ("--out-dir out --export ollama text.txt", 2, &["text.txt is a file", "a directory"]),
        ("--out-dir out --system Owl --export ollama x", 2, &["--system", "chat template"]),
        ("--out-dir out --system Owl --export gguf x", 2, &["--system needs", "ollama DIR"]),
        (
            "--out-dir out --no-repeat-ngram-size 2 --export ollama x",
            2,
            &["--no-repeat-ngram-size"],
        ),
    ];
    check_all("sample", path, table);
    let quotes = ["--out-dir", "out", "--export", "ollama", "x", "--system", "a \"\"\" b"];
    let ran = run_command(command("sample", chat_model()).args(quotes));
    assert!(ran.code == 2 && ran.stderr.contains("\"\"\""), "{ran:?}");
    assert_eq!(snapshot(path), before, "nothing is written");
    assert!(!chat_model().join("x").exists());
}
