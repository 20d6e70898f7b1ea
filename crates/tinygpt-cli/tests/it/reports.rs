//! `prepare --report` and `prepare --dry-run`.

use std::fs;

use crate::fake_hub::{FakeHub, parquet_file};
use crate::program::{command, run, run_command, small_text, snapshot};

/// A hundred stories: a long one, and short ones, ten of which come twice.
fn stories() -> String {
    let short: Vec<String> = (0..89).map(|i| format!("Story {i}: the cat sat.")).collect();
    let again = short.clone().into_iter().take(10);
    let mut stories = vec!["A long story. ".repeat(40)];
    stories.extend(short);
    stories.extend(again);
    stories.join("\n<|endoftext|>\n")
}

#[test]
fn a_report_counts_stories_lengths_and_duplicates() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), stories()).unwrap();
    let made = run("prepare", dir.path(), "--source text.txt --report --val-fraction 0.0077").ok();
    for part in ["99 documents", "document length", "duplicates", "9.09% of the documents"] {
        assert!(made.stdout.contains(part), "{part}: {}", made.stdout);
    }
    // Twenty-odd characters each: two buckets of lengths, nearly all in the second.
    let bar = made.stdout.lines().find(|line| line.contains("16-23")).unwrap();
    assert!(bar.contains("########") && bar.contains("98"), "{bar}");
    assert!(made.stdout.contains("\" \""), "the most frequent token: {}", made.stdout);

    // Without the text, and without doing it again.
    fs::remove_file(dir.path().join("text.txt")).unwrap();
    let before = snapshot(dir.path());
    let again = run("prepare", dir.path(), "--dataset-name text --report").ok();
    assert!(again.stdout.contains("9.09% of the documents"), "{}", again.stdout);
    assert!(snapshot(dir.path()) == before);
}

#[test]
fn a_report_shows_what_fell_back_to_bytes() {
    let dir = tempfile::tempdir().unwrap();
    // The last story validates; its 7 characters outside the vocabulary are 14 bytes.
    let text = format!("{}\n<|endoftext|>\nöäüßéàè to the cats.", stories());
    fs::write(dir.path().join("text.txt"), text).unwrap();
    let ran = run("prepare", dir.path(), "--source text.txt --report --val-fraction 0.0072").ok();
    let rates: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("fallback")).collect();
    assert!(rates[0].contains("0.00%"), "{rates:?}");
    // 14 of 14 + 13 characters + the end.
    assert!(rates[1].contains("50.00%"), "{rates:?}");
}

#[test]
fn a_dry_run_shows_sizes_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    let before = snapshot(dir.path());
    let ran = run("prepare", dir.path(), "--source text.txt --dry-run").ok();
    assert!(snapshot(dir.path()) == before);
    assert!(!dir.path().join("data").exists());
    let n_characters = small_text().chars().count();
    // A text of one document has no end to mark; the estimate does not know that yet.
    let expected = format!("{},{:03} tokens", n_characters / 1000, n_characters % 1000 + 1);
    for part in
        ["read        text.txt", "data/text/simple", "about", &expected, "nothing is written"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stderr.contains("next:"), "{}", ran.stderr);
    run("prepare", dir.path(), "--source text.txt").ok();
    let before = snapshot(dir.path());
    let same = run("prepare", dir.path(), "--source text.txt --dry-run").ok();
    assert!(same.stdout.contains("would be kept"), "{}", same.stdout);
    let other = run("prepare", dir.path(), "--source text.txt --val-fraction 0.2 --dry-run").ok();
    assert!(other.stdout.contains("val_fraction: 0.1 → 0.2"), "{}", other.stdout);
    assert!(snapshot(dir.path()) == before);
    let bpe = "--source text.txt --encoding-type bpe --vocab-size 300 --dry-run";
    assert!(run("prepare", dir.path(), bpe).ok().stdout.contains("data/text/bpe"));
}

#[test]
fn a_dry_run_shows_what_would_be_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = (parquet_file(&["Once.", "Twice."]), parquet_file(&["Thrice."]));
    let size = train.len() + test.len();
    let hub = FakeHub::start("o/n", &[("train.parquet", train), ("test.parquet", test)]);
    let prepare = |args: &str| {
        let mut prepare = command("prepare", dir.path());
        prepare.env("HF_ENDPOINT", hub.url());
        run_command(prepare.args(args.split_whitespace())).ok().stdout
    };
    let look = prepare("--source hub:o/n --dry-run");
    let in_all = format!("total       {size} B to download");
    for part in ["download    train.parquet", "test.parquet", &in_all, "data/n/simple"] {
        assert!(look.contains(part), "{part}: {look}");
    }
    assert!(hub.transfers().is_empty());
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    prepare("--source hub:o/n");
    let look = prepare("--source hub:o/n --dry-run");
    assert!(look.contains("would be kept") && !look.contains("download"), "{look}");
    let built_in = run("prepare", dir.path(), "--dataset-name tiny_tales --dry-run").ok().stdout;
    assert!(
        built_in.contains("built-in stories") && built_in.contains("21,000 documents"),
        "{built_in}"
    );
}
