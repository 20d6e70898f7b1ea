//! `sample --interactive` with lines from a pipe: texts on standard output, everything else on standard
//! error.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::program::{Ran, command, run, trained};

const ARGS: &str = "--out-dir out --max-new-tokens 20 --threads 1 --interactive";

fn interact(dir: &Path, args: &str, lines: &str) -> Ran {
    let mut command = command("sample", dir);
    command.args(ARGS.split_whitespace()).args(args.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }.ok()
}

#[test]
fn a_text_is_started_continued_and_retried() {
    let dir = trained();
    let single = "--out-dir out --max-new-tokens 20 --threads 1 --num-samples 1 --start Line";
    let first = run("sample", dir.path(), single).ok().stdout;
    let ran = interact(dir.path(), "", "Line\n\n/retry\n");
    assert!(ran.stdout.starts_with(&first), "{}", ran.stdout);
    let rest = &ran.stdout[first.len()..];
    let rest: Vec<char> = rest.chars().collect();
    assert!(!rest.starts_with(&['L', 'i', 'n', 'e']) && rest.len() == 42, "two more: {rest:?}");
    let (continued, retried) = rest.split_at(21);
    assert_ne!(continued, retried, "another try is another text");
    assert_eq!(interact(dir.path(), "", "Line\n\n/retry\n").stdout, ran.stdout, "same seed");
    assert_eq!(interact(dir.path(), "--start Line", "").stdout, first);
    assert!(ran.stderr.is_empty(), "nobody is greeted: {}", ran.stderr);
}

#[test]
fn a_continuation_starts_from_the_text_that_was_printed() {
    let dir = trained();
    // The most likely tokens, none of them twice, and no more than the model sees: in one piece or two,
    // they are the same.
    let greedy = "--temperature 0 --repetition-penalty 100 --max-new-tokens";
    let whole = interact(dir.path(), &format!("{greedy} 10"), "Line\n").stdout;
    let parts = interact(dir.path(), &format!("{greedy} 5"), "Line\n\n").stdout;
    let joined: String = parts.split('\n').collect();
    assert_eq!(joined, whole.split('\n').collect::<String>());
}

#[test]
fn settings_change_between_two_texts() {
    let dir = trained();
    let lines = "/temperature 0\nLine\n/retry\n/max-new-tokens 3\n/retry\n/stop x\n/settings\n";
    let ran = interact(dir.path(), "", lines);
    let texts: Vec<&str> = ran.stdout.split("Line").collect();
    assert_eq!((texts.len(), texts[1]), (4, texts[2]), "greedy: {}", ran.stdout);
    let short: String = texts[1].chars().take(3).collect();
    assert_eq!(texts[3].trim_end_matches('\n'), short);
    for part in ["temperature is 0", "max_new_tokens is 3", "stop is [\"x\"]", "top_k"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn wrong_commands_are_reported_and_change_nothing() {
    let dir = trained();
    let lines = "/temperature 1000\n/temperature warm\n/nonsense\n/help\n/quit\nnever\n";
    let ran = interact(dir.path(), "", lines);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    for part in ["`temperature` is 1000", "temperature cannot be warm", "/nonsense", "/retry"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let refused = run("sample", dir.path(), "--out-dir out --interactive --json");
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("--interactive cannot be combined with --json"),
        "{}",
        refused.stderr
    );
}

#[test]
fn prompts_have_their_notes_and_lines_that_are_not_text_are_skipped() {
    let dir = trained();
    let lines = "Gr\u{fc}\u{df}e\nLine\n/show-probs 2\nLine one two three four five\n";
    let ran = interact(dir.path(), "", lines);
    for part in ["\"ü\", \"ß\"", "at temperature 1", "the model sees the last 16"] {
        assert_eq!(ran.stderr.matches(part).count(), 1, "{part}: {}", ran.stderr);
    }
    let mut command = command("sample", dir.path());
    command.args(ARGS.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"caf\xe9\nLine\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"Line"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not UTF-8"), "{output:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_text_and_not_the_program() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let dir = trained();
    let mut command = command("sample", dir.path());
    command.args(ARGS.split_whitespace()).args(["--max-new-tokens", "100000000"]);
    // Nothing that would end the text by itself.
    command.args(["--temperature", "0"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    let mut written = child.stdout.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    lines.write_all(b"Line\n").unwrap();
    written.read_exact(&mut [0; 200]).unwrap();
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    // What is asked next is answered: the text is over, the program is not.
    lines.write_all(b"/max-new-tokens 3\n/new\n").unwrap();
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "max_new_tokens is 3\n");
    drop(lines);
    let mut rest = String::new();
    written.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with('\n'), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
