//! The end of the output of `prepare`: the validation part, and a training command that works.

use std::fs;
use std::path::Path;

use crate::fake_hub::{FakeHub, parquet_file};
use crate::program::{Ran, command, copy_tree, run, run_command, small_text, trained};

/// A directory with the configurations of this repository.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("config");
    fs::create_dir(dir.path().join("config")).unwrap();
    copy_tree(&config, &dir.path().join("config"));
    dir
}

fn prepare(dir: &Path, args: &[&str]) -> Ran {
    run_command(command("prepare", dir).args(args)).ok()
}

/// The arguments of the command that was printed, without quotes.
#[track_caller]
fn next_args(ran: &Ran) -> Vec<String> {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("next: "));
    let line = line.unwrap_or_else(|| panic!("no command in {}", ran.stderr));
    let args = line.strip_prefix("cargo run --bin train -- ").expect("a command of train");
    let mut words = Vec::new();
    for (idx, part) in args.split('\'').enumerate() {
        if idx % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Trains as printed, for two updates only.
fn follow(dir: &Path, args: &[String]) -> Ran {
    let mut train = command("train", dir);
    train.args(args).args(["--threads", "1", "--max-iters", "2", "--warmup-iters", "1"]);
    run_command(train.args(["--eval-iters", "1"])).ok()
}

#[test]
fn the_printed_command_trains_on_texts_of_many_kinds() {
    let line = "A line of many words, which is quite long.\n";
    let separator = "<|endoftext|>\n";
    for (name, text, says) in [
        ("short.txt", line.repeat(12), "an epoch has"),
        ("long.txt", line.repeat(3000), "training tokens"),
        ("My book (2nd).txt", line.repeat(200), "My_book_2nd"),
        ("日记.txt", "今天天气很好。我们去了公园。\n".repeat(300), "日记"),
        ("preface.txt", format!("One.\n{separator}{}", line.repeat(300)), "cut inside document 2"),
    ] {
        let dir = repository();
        fs::write(dir.path().join(name), text).unwrap();
        for encoding in ["simple", "bpe"] {
            let ran = prepare(dir.path(), &["--source", name, "--encoding-type", encoding]);
            let (out, err) = (&ran.stdout, &ran.stderr);
            assert!(out.contains(says) || err.contains(says), "{says}: {out}{err}");
            let mut args = next_args(&ran);
            assert_eq!(&args[..2], ["--config-file", "config/own_text.json"]);
            assert!(args.iter().any(|arg| arg.starts_with("out-")), "{args:?}");
            args.extend(["--out-dir".to_owned(), format!("out-{encoding}")]);
            let trained = follow(dir.path(), &args);
            assert!(trained.stderr.contains("done: 2 steps"), "{}", trained.stderr);
        }
    }
}

#[test]
fn away_from_the_configurations_the_command_has_all_flags() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    let ran = prepare(dir.path(), &["--source", "text.txt", "--data-dir", "my data"]);
    let args = next_args(&ran);
    assert_eq!(
        &args[..6],
        ["--dataset-name", "text", "--data-dir", "my data", "--out-dir", "out-text"]
    );
    assert!(args.join(" ").contains("--n-layer 3 --n-head 5 --n-embd 160"), "{args:?}");
    follow(dir.path(), &args);
}

#[test]
fn a_text_too_short_to_train_on_is_reported() {
    let dir = repository();
    fs::write(dir.path().join("text.txt"), "Hello, world.").unwrap();
    let ran = prepare(dir.path(), &["--source", "text.txt"]);
    assert!(ran.stderr.contains("too few to train on: add text"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("next: "), "{}", ran.stderr);
}

#[test]
fn datasets_with_a_configuration_of_their_own_name_it() {
    let dir = repository();
    let text = small_text();
    let file = |part: &str| parquet_file(&[part]);
    let (train, rest) = text.split_at(text.len() / 2);
    let files = [
        ("default/train/0000.parquet", file(train)),
        ("default/validation/0000.parquet", file(rest)),
        ("default/test/0000.parquet", file(rest)),
    ];
    let hub = FakeHub::start("karpathy/tiny_shakespeare", &files);
    let mut shakespeare = command("prepare", dir.path());
    shakespeare.env("HF_ENDPOINT", hub.url()).args(["--dataset-name", "shakespeare_char"]);
    let ran = run_command(&mut shakespeare).ok();
    assert_eq!(next_args(&ran), ["--config-file", "config/shakespeare_char_cpu.json"]);
    assert!(ran.stdout.contains("train       1 document, "), "{}", ran.stdout);

    fs::create_dir_all(dir.path().join("data/tiny_tales")).unwrap();
    let recipe = r#"{"source": {"built_in": {"generator": "tiny_tales",
        "train_documents": 200, "validation_documents": 20}}}"#;
    fs::write(dir.path().join("data/tiny_tales/dataset.json"), recipe).unwrap();
    let bpe = ["--dataset-name", "tiny_tales", "--encoding-type", "bpe", "--vocab-size", "3072"];
    let args = next_args(&prepare(dir.path(), &bpe));
    assert_eq!(args, ["--config-file", "config/quickstart.json"]);
    follow(dir.path(), &args);
    let args = next_args(&prepare(dir.path(), &["--dataset-name", "tiny_tales"]));
    assert_eq!(&args[2..5], ["--encoding-type", "simple", "--vocab-size"]);
}

#[test]
fn a_text_in_the_tokens_of_a_model_is_for_fine_tuning_it() {
    let dir = trained();
    let other = small_text().replace("cat", "dog");
    fs::write(dir.path().join("dogs.txt"), other).unwrap();
    for tokenizer in ["out/best", "out/best/tokenizer.json"] {
        let flags = ["--source", "dogs.txt", "--tokenizer", tokenizer];
        let ran = prepare(dir.path(), &flags);
        let args = next_args(&ran);
        let start = args.iter().position(|arg| arg == "--init-from").expect("--init-from");
        assert_eq!(&args[start + 1..start + 4], ["out/best", "--out-dir", "out-dogs-finetuned"]);
        assert!(!ran.stderr.contains("prepare again"), "{}", ran.stderr);
    }
    let args =
        next_args(&prepare(dir.path(), &["--source", "dogs.txt", "--tokenizer", "out/best"]));
    let trained = follow(dir.path(), &args);
    assert!(trained.stderr.contains("out/best"), "{}", trained.stderr);

    // Rows of conversations start with one, whatever model they are for.
    let talk = r#"{"prompt": "the cat sat on the mat", "completion": "the dog ran to the cat"}"#;
    fs::write(dir.path().join("talks.jsonl"), [talk, "\n"].concat().repeat(200)).unwrap();
    let flags = ["--chat", "--source", "talks.jsonl", "--tokenizer", "out/best"];
    let args = next_args(&prepare(dir.path(), &flags));
    assert!(args.windows(2).any(|pair| pair == ["--rows", "documents"]), "{args:?}");
    assert!(args.contains(&"--init-from".to_owned()), "{args:?}");

    // A tokenizer without a model next to it is for a new model.
    let ran = prepare(dir.path(), &["--source", "dogs.txt", "--tokenizer", "data/text/simple"]);
    assert!(!next_args(&ran).contains(&"--init-from".to_owned()), "{}", ran.stderr);
}

#[test]
fn little_text_is_advised_to_start_from_the_quickstart() {
    let dir = repository();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    let ran = prepare(dir.path(), &["--source", "text.txt"]);
    let advice = "train config/quickstart.json, then prepare again with --tokenizer \
                  out-quickstart/best\n";
    assert!(ran.stderr.contains(advice), "{}", ran.stderr);
    assert!(ran.stderr.contains("with --encoding-type bpe"), "{}", ran.stderr);
    fs::create_dir_all(dir.path().join("out-quickstart/best")).unwrap();
    let bpe = ["--source", "text.txt", "--encoding-type", "bpe", "--vocab-size", "300"];
    let ran = prepare(dir.path(), &bpe);
    let advice = "model: prepare again with --tokenizer out-quickstart/best --force\n";
    assert!(ran.stderr.contains(advice), "{}", ran.stderr);
    assert!(!ran.stderr.contains("with --encoding-type bpe"), "{}", ran.stderr);
}

#[test]
fn the_summary_says_what_was_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let stories: Vec<String> = (0..100).map(|i| format!("Story {i:02} has an end.")).collect();
    fs::write(dir.path().join("many.txt"), stories.join("\n<|endoftext|>\n")).unwrap();
    fs::write(dir.path().join("one.txt"), small_text()).unwrap();
    for (args, says) in [
        ("--source many.txt", "held out    the last 10.0% of the text\n"),
        (
            "--source one.txt",
            "held out    the last 10.0% of the text, cut inside the only document\n",
        ),
        (
            "--source many.txt --val-fraction 0.25 --force",
            "held out    the last 25.0% of the text\n",
        ),
        (
            "--source many.txt --val-split random --seed 7 --force",
            "of the text, documents chosen with seed 7\n",
        ),
        // Once more, kept as it is.
        ("--source many.txt --val-split random --seed 7", "documents chosen with seed 7\n"),
    ] {
        let ran = run("prepare", dir.path(), args).ok();
        assert!(ran.stdout.contains(says), "{args}: {}", ran.stdout);
    }
    let ran = run("prepare", dir.path(), "--source many.txt --val-split sideways");
    assert!(ran.code == 2 && ran.stderr.contains("`end` or `random`"), "{}", ran.stderr);
}

#[test]
fn a_vocabulary_smaller_than_asked_for_says_why() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    let ran = run("prepare", dir.path(), "--source text.txt --encoding-type bpe").ok();
    let says = "tokens, not 30,000: no other pair of tokens occurs twice";
    assert!(ran.stdout.contains(says), "{}", ran.stdout);
    let bpe = "--source text.txt --encoding-type bpe --vocab-size 300 --force";
    let ran = run("prepare", dir.path(), bpe).ok();
    assert!(ran.stdout.contains("bpe, 300 tokens\n"), "{}", ran.stdout);
}

#[test]
fn a_folder_without_a_name_gives_its_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("My diary");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("text.txt"), small_text()).unwrap();
    for source in [".", "./", "../My diary/."] {
        let ran = prepare(&folder, &["--source", source, "--data-dir", "../data", "--force"]);
        assert!(ran.stdout.contains("My_diary: ../data/My_diary/simple"), "{}", ran.stdout);
        assert!(ran.stderr.contains("the dataset is named My_diary"), "{}", ran.stderr);
    }
    assert!(!dir.path().join("data/tiny_stories").exists());
}
