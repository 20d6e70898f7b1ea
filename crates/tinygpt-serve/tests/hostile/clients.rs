//! Clients that misbehave over time: too many, too slow, or disconnecting.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::assert_is_error;
use crate::common::{Answer, World, get, post, post_with};

/// Runs them all; returns the number of kinds.
pub(crate) fn run(world: &World, other: &World) -> usize {
    // Not while `/health` must be answered all the time.
    more_connections_than_allowed(other);
    let slow: [fn(&World); 4] =
        [idle_connections, dripped_headers, a_dripped_body, clients_that_read_nothing];
    let quick: [fn(&World); 5] = [
        fifty_posts_at_once,
        clients_that_leave_in_mid_stream,
        clients_that_leave_before_the_answer,
        a_connection_continues_after_an_error,
        two_requests_in_one_breath,
    ];
    thread::scope(|scope| {
        slow.iter().for_each(|kind| drop(scope.spawn(|| kind(world))));
        quick.iter().for_each(|kind| kind(world));
    });
    1 + slow.len() + quick.len()
}

fn idle_connections(world: &World) {
    let mut idle: Vec<TcpStream> = (0..200).map(|_| world.connect()).collect();
    assert_eq!(world.get("/health").status, 200);
    // Closed by the server after the timeout.
    for stream in &mut idle {
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

fn more_connections_than_allowed(world: &World) {
    let held: Vec<TcpStream> = (0..320).map(|_| world.connect()).collect();
    let mut turned_away = 0;
    for mut stream in held {
        stream.write_all(get("/health").as_bytes()).unwrap_or_default();
        let answer = Answer::read(&mut stream);
        if answer.status == 503 {
            turned_away += 1;
            assert_is_error("more connections than places", &answer);
            assert!(answer.header("retry-after").is_some());
        } else {
            assert_eq!(answer.status, 200);
        }
    }
    assert!(turned_away >= 40, "{turned_away} were turned away");
}

fn dripped_headers(world: &World) {
    let mut stream = world.connect();
    let request = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}", "a".repeat(10_000));
    // Closed before it is complete: it would take minutes.
    let cut = request.bytes().find(|byte| {
        thread::sleep(Duration::from_millis(30));
        stream.write_all(&[*byte]).is_err()
    });
    assert!(cut.is_some());
}

fn a_dripped_body(world: &World) {
    let mut stream = world.connect();
    let request = post_with("Content-Type: application/json\r\n", &[b' '; 1000]);
    let (head, body) = request.split_at(request.len() - 1000);
    stream.write_all(head).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answer = thread::scope(|scope| {
        let answer = scope.spawn(move || Answer::read(&mut reader));
        for byte in body {
            if answer.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            let _ = stream.write_all(&[*byte]);
        }
        answer.join().unwrap()
    });
    assert_eq!(answer.status, 408);
    assert_is_error("a dripped body", &answer);
}

fn fifty_posts_at_once(world: &World) {
    let body = json!({"max_tokens": 40, "n": 16});
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || {
            let answer = world.complete(&body);
            if answer.status != 200 {
                assert_is_error("fifty posts", &answer);
                assert!(answer.header("retry-after").is_some());
            }
            answer.status
        };
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
}

fn clients_that_leave_in_mid_stream(world: &World) {
    let request = post(&json!({"max_tokens": 4096, "n": 16, "stream": true}).to_string());
    for _ in 0..3 {
        let mut stream = world.connect();
        stream.write_all(&request).unwrap();
        let _ = stream.read(&mut [0; 200]);
    }
}

fn clients_that_leave_before_the_answer(world: &World) {
    for length in [4096, 100] {
        let request = post(&json!({"max_tokens": length, "n": 16}).to_string());
        let mut stream = world.connect();
        stream.write_all(&request).unwrap();
    }
    let mut half = world.connect();
    half.write_all(b"POST /v1/comp").unwrap();
}

fn clients_that_read_nothing(world: &World) {
    let request = json!({"max_tokens": 4096, "n": 8, "stream": true, "logprobs": 5});
    let mut stream = world.connect();
    stream.write_all(&post(&request.to_string())).unwrap();
    thread::sleep(Duration::from_millis(1500));
    // Another client is served, whatever happened to that one.
    let answer = world.complete(&json!({"max_tokens": 2}));
    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
}

fn a_connection_continues_after_an_error(world: &World) {
    let mut stream = world.connect();
    for (request, status) in [
        (post("{\"max_tokens\": -1}"), 400),
        (get("/nothing").into_bytes(), 404),
        (post_with("Content-Type: text/plain\r\n", b"{}"), 415),
        (get("/health").into_bytes(), 200),
    ] {
        stream.write_all(&request).unwrap();
        assert_eq!(Answer::read(&mut stream).status, status);
    }
}

fn two_requests_in_one_breath(world: &World) {
    let mut stream = world.connect();
    let bad = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{bad}{last}").as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let statuses: Vec<&str> = all.matches("HTTP/1.1 ").collect();
    assert_eq!(statuses.len(), 2, "{all}");
    assert!(all.starts_with("HTTP/1.1 404") && all.contains("HTTP/1.1 200"), "{all}");
}
