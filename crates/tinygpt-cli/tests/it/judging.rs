//! `sample --grade`, `--score` and `--novelty`: what a model's text is worth.

use std::path::Path;

use serde_json::Value;

use crate::program::{Bad, check_all, run, trained};

#[test]
fn stories_are_graded_the_same_way_each_time() {
    let dir = trained();
    let args = "--out-dir out --grade tiny_tales --num-samples 7 --max-new-tokens 30 --json";
    let ran = run("sample", dir.path(), args).ok();
    let object: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&object["n_samples"], &object["n_coherent"]), (&7.into(), &0.into()));
    assert_eq!((object["coherent"].as_f64(), object["seed"].as_u64()), (Some(0.0), Some(1337)));
    let faults = object["faults"].as_object().unwrap();
    assert_eq!(faults.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), 7, "{faults:?}");
    assert_eq!(run("sample", dir.path(), args).ok().stdout, ran.stdout);
    let plain = run("sample", dir.path(), args.trim_end_matches(" --json")).ok().stdout;
    assert!(plain.starts_with("coherent: 0 of 7 samples, 0.0% ± 0.0%\n"), "{plain}");
    assert!(plain.contains("sample 0: "), "{plain}");
}

#[test]
fn the_prompt_is_part_of_a_story() {
    // A whole story, which this model does not end.
    let dir = trained();
    let story = tinygpt_data::tales::Tales::new(3).train(1).next().unwrap();
    std::fs::write(dir.path().join("story.txt"), story).unwrap();
    let args = "--out-dir out --grade tiny_tales --start FILE:story.txt --num-samples 2 \
                --max-new-tokens 1";
    let ran = run("sample", dir.path(), args).ok();
    assert!(ran.stdout.contains("\nending         2  sample 0: "), "{}", ran.stdout);
}

#[test]
fn judging_is_all_that_a_call_does() {
    let dir = trained();
    let table: &[Bad<'_>] = &[
        ("--out-dir out --grade moby_dick", 2, &["--grade", "tiny_tales"]),
        (
            "--out-dir out --grade tiny_tales --serve :0",
            2,
            &["--grade cannot be combined with --serve"],
        ),
        (
            "--out-dir out --grade tiny_tales --stop .",
            2,
            &["--grade cannot be combined with --stop"],
        ),
    ];
    check_all("sample", dir.path(), table);
}

/// The lines of an output as JSON.
fn objects_of(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key} of {object}"))
}

#[test]
fn texts_are_scored_by_document() {
    let dir = trained();
    // Documents shorter and longer than the context of 16, of one token each character.
    let texts = ["Line 3: the café", "mat.", "Line 9: the café cat number 4 sat on mat 2."];
    std::fs::write(dir.path().join("plain.txt"), texts.join("\n<|endoftext|>\n") + "\n").unwrap();
    let lines: String =
        texts.iter().map(|text| serde_json::json!({"text": text}).to_string() + "\n").collect();
    std::fs::write(dir.path().join("lines.jsonl"), lines).unwrap();
    let args = "--out-dir out --json --score";
    let ran = run("sample", dir.path(), &format!("{args} plain.txt")).ok();
    assert!(
        ran.stderr.contains("1 of 3 documents are longer than the context of 16"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stdout, run("sample", dir.path(), &format!("{args} lines.jsonl")).ok().stdout);
    let objects = objects_of(&ran.stdout);
    let (all, documents) = objects.split_last().unwrap();
    assert_eq!(documents.len(), 3);
    for (text, document) in texts.iter().zip(documents) {
        assert_eq!(document["n_tokens"], text.chars().count());
        assert_eq!(document["n_bytes"], text.len());
        let nats = number(document, "nats");
        assert!(
            (nats / text.chars().count() as f64 - number(document, "nats_per_token")).abs() < 1e-9
        );
        let bits = nats / std::f64::consts::LN_2 / text.len() as f64;
        assert!((bits - number(document, "bits_per_byte")).abs() < 1e-9);
    }
    let sum: f64 = documents.iter().map(|it| number(it, "nats")).sum();
    assert!((sum - number(all, "nats")).abs() < 1e-9);
    assert!((number(all, "nats_per_token").exp() - number(all, "perplexity")).abs() < 1e-9);
    assert!(number(all, "bits_per_byte_standard_error") > 0.0 && all["n_documents"] == 3);
    let plain = run("sample", dir.path(), "--out-dir out --score plain.txt").ok().stdout;
    assert!(
        plain.contains(&format!("{:.4} nats per token", number(all, "nats_per_token"))),
        "{plain}"
    );
    assert!(plain.contains("3 documents\n") && plain.contains(" ± "), "{plain}");
    // More context for each token: other numbers, and only for the long document.
    let fine = run("sample", dir.path(), &format!("{args} plain.txt --stride 1")).ok();
    let fine = objects_of(&fine.stdout);
    assert_eq!(fine[..2], objects[..2]);
    assert_ne!(fine[2], objects[2]);
    let rounded = run("sample", dir.path(), &format!("{args} plain.txt --quantize q8_0")).ok();
    let rounded = objects_of(&rounded.stdout);
    assert!((number(&rounded[3], "nats") / number(&objects[3], "nats") - 1.0).abs() < 0.05);
}

#[test]
fn pairs_have_an_accuracy() {
    let dir = trained();
    let pair = |good: &str, bad: &str| {
        serde_json::json!({"sentence_good": good, "sentence_bad": bad}).to_string() + "\n"
    };
    let (good, bad) = ("the cat sat", "xq zv kj wx");
    let pairs = pair(good, bad).repeat(3) + &pair(bad, good) + &pair(good, good);
    std::fs::write(dir.path().join("pairs.jsonl"), pairs).unwrap();
    let ran = run("sample", dir.path(), "--out-dir out --score pairs.jsonl").ok();
    assert_eq!(ran.stdout, "accuracy: 3 of 5 pairs, 60.0% ± 21.9%\n");
    let ran = run("sample", dir.path(), "--out-dir out --score pairs.jsonl --json").ok();
    let objects = objects_of(&ran.stdout);
    let correct: Vec<_> = objects[..5].iter().map(|it| it["correct"].as_bool().unwrap()).collect();
    assert_eq!(correct, [true, true, true, false, false]);
    assert_eq!(number(&objects[5], "accuracy"), 0.6);
}

#[test]
fn inputs_that_cannot_be_scored_are_refused() {
    let dir = trained();
    let write =
        |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
    write("latin.txt", b"caf\xe9");
    write("empty.txt", b"\n\n");
    write("text.jsonl", b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");
    let long = "a".repeat(17);
    let pair = format!("{{\"sentence_good\": \"a\", \"sentence_bad\": \"{long}\"}}\n");
    write("long.jsonl", pair.as_bytes());
    write("none.jsonl", b"{\"sentence_good\": \"\", \"sentence_bad\": \"b\"}\n");
    let table: &[Bad<'_>] = &[
        ("--out-dir out --score no.txt", 4, &["cannot read no.txt"]),
        ("--out-dir out --score latin.txt", 2, &["latin.txt is not UTF-8 text (byte 3)", "iconv"]),
        ("--out-dir out --score empty.txt", 2, &["empty.txt has no text", "sentence_good"]),
        ("--out-dir out --score text.jsonl", 2, &["text.jsonl line 2", "`text`"]),
        (
            "--out-dir out --score long.jsonl",
            2,
            &["`sentence_bad` of pair 1 has 17 tokens", "the context of 16"],
        ),
        ("--out-dir out --score none.jsonl", 2, &["`sentence_good` of pair 1 has 0 tokens"]),
        ("--out-dir out --score text.txt --stride 0", 2, &["`stride` is 0", "1 or more"]),
        ("--out-dir out --score text.txt --stride 17", 2, &["`stride` is 17", "context of 16"]),
        ("--out-dir out --stride 4", 2, &["--stride needs --score FILE"]),
        ("--out-dir out --score text.txt --grade tiny_tales", 2, &["--score", "--grade"]),
        ("--out-dir out --score text.txt --novelty 3", 2, &["--novelty", "--score"]),
        ("--out-dir out --novelty 0", 2, &["`novelty` is 0", "1 or more"]),
    ];
    check_all("sample", dir.path(), table);
}

/// The `n` tokens of the training shard, which are all after its header.
fn train_tokens(dir: &Path, n: u64) -> Vec<u64> {
    let bytes = std::fs::read(dir.join("data/text/simple/train-00000.bin")).unwrap();
    let tokens = &bytes[bytes.len() - 2 * n as usize..];
    tokens.chunks(2).map(|id| u64::from(u16::from_le_bytes([id[0], id[1]]))).collect()
}

#[test]
fn novelty_finds_the_longest_run_of_training_text() {
    let dir = trained();
    let args = "--out-dir out --novelty 4 --max-new-tokens 80 --json";
    let ran = run("sample", dir.path(), args).ok();
    let objects = objects_of(&ran.stdout);
    let (all, samples) = objects.split_last().unwrap();
    assert_eq!((samples.len(), &all["n_samples"], &all["n_tokens"]), (4, &4.into(), &320.into()));
    assert_eq!((&all["n_ended"], all["distinct"].as_array().unwrap().len()), (&0.into(), 4));
    let train = train_tokens(dir.path(), all["n_train_tokens"].as_u64().unwrap());
    // The samples of the same seed.
    let made =
        run("sample", dir.path(), "--out-dir out --num-samples 4 --max-new-tokens 80 --json");
    for (sample, made) in samples.iter().zip(objects_of(&made.ok().stdout)) {
        let tokens = made["tokens"].as_array().unwrap();
        let tokens: Vec<u64> = tokens.iter().map(|id| id.as_u64().unwrap()).collect();
        let run = &sample["longest_run"];
        let of = |key: &str| run[key].as_u64().unwrap() as usize;
        let (n, start, offset) = (of("n_tokens"), of("start"), of("offset"));
        assert_eq!(tokens[start..start + n], train[offset..offset + n]);
        assert_eq!(run["shard"], "train-00000.bin");
        let is_there = |run: &[u64]| train.windows(n + 1).any(|there| there == run);
        assert!(n >= 1 && !tokens.windows(n + 1).any(is_there), "{n}");
    }
    let plain = run("sample", dir.path(), args.trim_end_matches(" --json")).ok().stdout;
    assert!(plain.contains("endings     0 by the model, 4 by length"), "{plain}");
    assert!(plain.contains("sample 3: "), "{plain}");
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let ran = run("sample", dir.path(), args).ok();
    assert!(ran.stderr.contains("training data of this model was not found"), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"longest_run_mean\":null"), "{}", ran.stdout);
}
