//! What `sample` refuses: each message names the key or file and has a hint.

use std::fs;

use crate::program::{Bad, check_all, run, trained};

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let dir = trained();
    fs::write(dir.path().join("latin.txt"), b"caf\xe9").unwrap();
    fs::create_dir(dir.path().join("nothing")).unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/mine.json"), "{\"out_dir\": \"out-mine\"}").unwrap();
    let table: &[Bad<'_>] = &[
        ("--out-dir nowhere", 2, &["nowhere", "cargo run --bin train -- --out-dir nowhere"]),
        ("--out-dir out-mine", 2, &["out-mine", "--config-file config/mine.json"]),
        ("--out-dir nothing", 2, &["nothing", "no checkpoint", "train it first"]),
        ("--out-dir out --checkpoint step-9", 2, &["`checkpoint` is step-9", "best, last"]),
        ("--out-dir out --checkpoint=", 2, &["`checkpoint` is empty", "best, last"]),
        ("--checkpoint out", 2, &["run", "--out-dir out"]),
        ("--out-dir data", 2, &["data holds no checkpoint", "train it first"]),
        ("--out-dir out --checkpoint nothing", 2, &["nothing", "best, last"]),
        ("--out-dir out --start FILE:no.txt", 4, &["FILE:no.txt", "cannot read", "its spelling"]),
        ("--out-dir out --start FILE:latin.txt", 2, &["FILE:latin.txt", "byte 3", "iconv"]),
        ("--out-dir out --temperature -1", 2, &["`temperature` is -1", "greedy"]),
        ("--out-dir out --temperature inf", 2, &["--temperature", "finite"]),
        ("--out-dir out --temperature 1e9", 2, &["`temperature` is 1000000000", "to 100"]),
        ("--out-dir out --num-samples 0", 2, &["`num_samples` is 0", "1 or more"]),
        ("--out-dir out --max-new-tokens 0", 2, &["`max_new_tokens` is 0", "1 or more"]),
        ("--out-dir out --top-k -5", 2, &["-5", "--top-k", "an integer"]),
        ("--out-dir out --top-p 1.5", 2, &["`top_p` is 1.5", "0 to 1"]),
        ("--out-dir out --min-p -0.1", 2, &["`min_p` is -0.1", "0 to 1"]),
        ("--out-dir out --repetition-penalty 0", 2, &["`repetition_penalty` is 0", "1 is off"]),
        (
            "--out-dir out --stop a --stop=",
            2,
            &["`stop` is [\"a\",\"\"]", "a text that is not empty"],
        ),
        ("--out-dir out --show-probs 0", 2, &["`show_probs` is 0", "1 to 20"]),
        (
            "--out-dir out --serve :0 --export hf x",
            2,
            &["--serve cannot be combined with --export"],
        ),
        (
            "--out-dir out --interactive --serve",
            2,
            &["--interactive cannot be combined", "--serve"],
        ),
        (
            "--out-dir out --interactive --export hf x",
            2,
            &["--interactive cannot be combined", "--export"],
        ),
        ("--out-dir out --threads 0", 2, &["`threads` is 0", "one per physical core"]),
        ("--out-dir out --presence-penalty 3", 2, &["`presence_penalty` is 3", "-2 to 2"]),
        ("--out-dir out --frequency-penalty -9", 2, &["`frequency_penalty` is -9", "-2 to 2"]),
        (
            "--out-dir out --start - --interactive",
            2,
            &["--start cannot be combined with --interactive"],
        ),
        ("--out-dir out/best --checkpoint last", 2, &["is a checkpoint itself"]),
        ("--out-dir out-typo", 2, &["out-typo", "use --out-dir out"]),
        ("", 2, &["out-tiny-stories", "there is a run here: use --out-dir out;"]),
        ("--out-dir out --device tpu", 2, &["`device`", "cpu, auto, cuda"]),
        ("--out-dir out --num-samples 0 --threads 0", 2, &["2 errors", "num_samples", "threads"]),
        ("--outdir out", 2, &["--outdir", "--out-dir"]),
    ];
    check_all("sample", dir.path(), table);
}

#[test]
fn any_prompt_is_answered() {
    let dir = trained();
    let path = dir.path();
    fs::write(path.join("prompt.txt"), "mat\u{0}\u{1b}[2J é 漢 🦀 ".repeat(200)).unwrap();
    for start in ["--start=", "--start=漢字🦀", "--start=<|endoftext|>", "--start FILE:prompt.txt"]
    {
        let args = format!("--out-dir out --num-samples 1 --max-new-tokens 20 {start}");
        let ran = run("sample", path, &args).ok();
        if let Some(text) = start.strip_prefix("--start=") {
            assert!(ran.stdout.starts_with(text), "{}", ran.stdout);
        }
    }
    let args = "--out-dir out --num-samples 1 --max-new-tokens 5 --start FILE:prompt.txt";
    let ran = run("sample", path, args).ok();
    assert!(ran.stderr.contains("the model sees the last 16"), "{}", ran.stderr);
}
