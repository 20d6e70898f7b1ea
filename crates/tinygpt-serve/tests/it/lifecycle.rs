//! Parallel requests, clients that disconnect, and shutdown.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tinygpt_serve::{Limits, ServeError, Server};

use crate::common::{Answer, World, post};

/// Longer than the model needs for anything here except a batch of the longest texts.
const LONG: Duration = Duration::from_secs(60);

fn body(seed: u64, max_tokens: usize) -> serde_json::Value {
    json!({"prompt": "the", "max_tokens": max_tokens, "seed": seed})
}

#[test]
fn parallel_requests_get_the_same_texts_as_single_ones() {
    let world = World::new(Limits::default(), None);
    let alone: Vec<String> = (0..24).map(|i| world.complete(&body(i, 30)).body).collect();
    let together: Vec<String> = thread::scope(|scope| {
        let world = &world;
        let asked: Vec<_> =
            (0..24).map(|i| scope.spawn(move || world.complete(&body(i, 30)).body)).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let text =
        |body: &String| serde_json::from_str::<serde_json::Value>(body).unwrap()["choices"].clone();
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(text(alone), text(together));
    }
}

#[test]
fn generation_stops_when_the_client_disconnects() {
    let world = World::new(Limits { waiting: 1, ..Limits::default() }, None);
    // Far more than could be generated in the time of this test, one batch after the other.
    for round in 0..20 {
        let request = json!({"max_tokens": 4096, "n": 16, "stream": round % 2 == 0});
        let mut stream = world.connect();
        stream.write_all(&post(&request.to_string())).unwrap();
        // It is started or queued; the one before it has disconnected.
        thread::sleep(Duration::from_millis(20));
    }
    let since = Instant::now();
    assert_eq!(world.complete(&body(1, 5)).status, 200);
    assert!(since.elapsed() < LONG);
}

#[test]
fn texts_end_when_the_server_stops() {
    let limits = Limits { grace: Duration::from_millis(200), ..Limits::default() };
    let world = World::new(limits, None);
    let mut long = world.connect();
    let request = json!({"max_tokens": 4096, "n": 16, "stream": true, "logprobs": 5});
    long.write_all(&post(&request.to_string())).unwrap();
    let mut short = world.connect();
    short.write_all(&post(&body(1, 3).to_string())).unwrap();
    assert_eq!(Answer::read(&mut short).status, 200);
    // Does not keep the server from stopping.
    let _idle = world.connect();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // However the connection ends, what was received before counts.
        let _ = long.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    world.end().unwrap();
    let answer = reader.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.100}");
    let last = &answer[answer.len().saturating_sub(300)..];
    assert!(last.contains("[DONE]") || last.contains("shutting down"), "{last}");
}

#[test]
fn a_server_that_other_machines_can_reach_needs_a_key() {
    let listen = |address: &str, key: Option<&str>| {
        let key = key.map(str::to_owned);
        Server::listen(address.parse().unwrap(), key, Limits::default()).map(|_| ())
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        assert!(matches!(listen(address, None), Err(ServeError::KeyNeeded { .. })), "{address}");
    }
    assert!(listen("0.0.0.0:0", Some("a-key")).is_ok());
    for key in ["", "with space", "ключ", "line\n"] {
        assert!(matches!(listen("127.0.0.1:0", Some(key)), Err(ServeError::BadKey)), "{key}");
    }
    assert!(matches!(listen("192.0.2.1:0", Some("k")), Err(ServeError::Listen { .. })));
}
