//! `sample --serve` as a program: where it listens, what it keeps secret, and how it ends.

use std::fs;

use crate::program::{check_all, run, trained};

#[test]
fn addresses_and_keys_that_cannot_be_are_refused() {
    let dir = trained();
    check_all(
        "sample",
        dir.path(),
        &[
            ("--out-dir out --serve example.com:80", 2, &["serve", "127.0.0.1:8080"]),
            ("--out-dir out --serve 0.0.0.0:0", 2, &["other machines", "TINYGPT_API_KEY"]),
            ("--out-dir out --serve 0 --api-key ключ", 2, &["API key", "visible ASCII"]),
            ("--out-dir out --serve 192.0.2.1:80 --api-key k", 4, &["192.0.2.1:80", "--serve"]),
        ],
    );
}

#[test]
fn the_key_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.json"), "{\"api_key\": \"sesame\"}").unwrap();
    for args in ["--api-key sesame", "--config-file c.json"] {
        let shown = run("sample", dir.path(), &format!("{args} --show-config")).ok().stdout;
        assert!(!shown.contains("sesame") && shown.contains("(hidden)"), "{shown}");
    }
}

#[cfg(unix)]
#[test]
fn a_served_model_answers_until_a_signal() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::process::{Command, Stdio};

    let dir = trained();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut server = crate::program::command("sample", dir.path());
        server.args(["--out-dir", "out", "--serve", "0", "--start", "Line 1"]);
        let mut server = server.stderr(Stdio::piped()).spawn().unwrap();
        let mut printed = String::new();
        BufReader::new(server.stderr.take().unwrap()).read_line(&mut printed).unwrap();
        let address =
            printed.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let end = "Host: localhost\r\nConnection: close\r\n";
        let card = ask(&format!("GET /card HTTP/1.1\r\n{end}\r\n"));
        for part in ["\"name\":\"out\"", "\"dataset\":\"text\"", "\"val\":[[0,", "Line 1"] {
            assert!(card.contains(part), "{part}: {card}");
        }
        let body = "{\"prompt\": \"Line\", \"max_tokens\": 20}";
        let kind = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        let text = ask(&format!("POST /v1/completions HTTP/1.1\r\n{end}{kind}\r\n\r\n{body}"));
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"choices\""), "{text}");
        Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(code));
    }
}
