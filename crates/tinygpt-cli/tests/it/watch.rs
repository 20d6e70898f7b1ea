//! `train --serve` as a program.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Stdio};

use crate::program::{SMALL, check_all, command, trained};

/// A run that is served, and the rest of its messages.
fn serving(dir: &std::path::Path, args: &str) -> (Child, BufReader<ChildStderr>, String) {
    let mut train = command("train", dir);
    train.args(args.split_whitespace()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut train = train.spawn().unwrap();
    let mut messages = BufReader::new(train.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watch the run at http://") {
        line.clear();
        assert!(messages.read_line(&mut line).unwrap() > 0, "no address was printed");
    }
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    (train, messages, address)
}

fn ask(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The lines of an event in a stream, which is read to its end.
fn data_of(stream: &str, event: &str) -> Vec<String> {
    // Chunks end anywhere between events, and never inside one.
    let marked = format!("event: {event}\ndata: ");
    stream.split(&marked).skip(1).map(|rest| rest.lines().next().unwrap().to_owned()).collect()
}

fn events() -> String {
    "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned()
}

#[test]
fn a_watched_run_sends_its_metrics_and_generates_from_its_newest_checkpoint() {
    let dir = trained();
    let args = SMALL.replace("--out-dir out", "--out-dir watched --serve 0");
    let args =
        args.replace("--max-iters 20 --eval-interval 10", "--max-iters 1500 --eval-interval 100");
    let (mut train, messages, address) = serving(dir.path(), &args);
    let rest = std::thread::spawn(move || {
        let mut messages = messages;
        let mut text = String::new();
        messages.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let mut stream = ask(&address, &events());
    let card = "GET /card HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut text = String::new();
    ask(&address, card).read_to_string(&mut text).unwrap();
    assert!(text.contains("\"live\":{\"max_iters\":1500}"), "{text}");
    assert!(text.contains("\"name\":\"watched\""), "{text}");
    let body = "{\"prompt\": \"Line\", \"max_tokens\": 5}";
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\r\n\r\n{body}"
    );
    // 503 before the first checkpoint.
    let is_generated = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut text = String::new();
        let Ok(mut stream) = TcpStream::connect(&address) else { return false };
        let asked = stream.write_all(request.as_bytes());
        asked.and_then(|()| stream.read_to_string(&mut text).map(drop)).is_ok()
            && text.starts_with("HTTP/1.1 200")
    });
    assert!(is_generated, "no text was generated");
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    assert_eq!(data_of(&received, "end"), ["\"The run is finished.\""]);
    assert!(train.wait().unwrap().success());
    assert!(rest.join().unwrap().contains("done: 1,500 steps"));
    let metrics = fs::read_to_string(dir.path().join("watched/metrics.jsonl")).unwrap();
    for event in ["step", "eval", "sample"] {
        let start = format!("{{\"event\":\"{event}\"");
        let lines: Vec<&str> = metrics.lines().filter(|line| line.starts_with(&start)).collect();
        assert_eq!(data_of(&received, event), lines, "{event}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_ends_a_watched_run_and_a_resumed_one_shows_what_was_before() {
    let dir = trained();
    let args = SMALL.replace("--out-dir out", "--out-dir watched --serve 0");
    let args = args.replace("--max-iters 20", "--max-iters 1000000");
    let (mut train, _messages, address) = serving(dir.path(), &args);
    let mut stream = ask(&address, &events());
    let mut start = [0; 2000];
    stream.read_exact(&mut start).unwrap();
    let kill = |train: &Child| {
        std::process::Command::new("kill").args(["-INT", &train.id().to_string()]).status().unwrap()
    };
    kill(&train);
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    assert_eq!(
        data_of(&received, "end"),
        ["\"The run was stopped, and all its steps are saved.\""]
    );
    assert_eq!(train.wait().unwrap().code(), Some(130));
    let metrics = fs::read_to_string(dir.path().join("watched/metrics.jsonl")).unwrap();
    let args = "--init-from resume --out-dir watched --serve 0";
    let (mut train, _messages, address) = serving(dir.path(), args);
    let mut stream = BufReader::new(ask(&address, &events()));
    let last = metrics.lines().rfind(|line| line.starts_with("{\"event\":\"eval\"")).unwrap();
    let (mut line, mut n_read) = (String::new(), 0);
    while line.trim_end() != format!("data: {last}") {
        line.clear();
        n_read += stream.read_line(&mut line).unwrap();
        assert!(n_read < 10_000_000 && !line.is_empty(), "{last} is missing");
    }
    kill(&train);
    assert_eq!(train.wait().unwrap().code(), Some(130));
}

#[test]
fn addresses_in_use_and_wrong_ones_are_refused_before_any_work() {
    let dir = trained();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let new = SMALL.replace("--out-dir out", "--out-dir new");
    check_all(
        "train",
        dir.path(),
        &[
            (&format!("{new} --serve {address}"), 4, &[&address, "--serve ADDR", "in use"]),
            (&format!("{new} --serve example.com:80"), 2, &["`serve`", "127.0.0.1:8080"]),
            (&format!("{new} --serve 0.0.0.0:0"), 2, &["other machines", "TINYGPT_API_KEY"]),
            (&format!("{new} --serve 0 --eval-only"), 2, &["--serve", "--eval-only"]),
            (&format!("{new} --serve 0 --verify-resume"), 2, &["--serve", "--verify-resume"]),
            ("--report out --serve 0", 2, &["--serve", "--report"]),
        ],
    );
    assert!(!dir.path().join("new").exists());
}
