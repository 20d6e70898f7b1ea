//! A run that is watched: its events, slow and late readers, and texts from its newest checkpoint.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use tinygpt_serve::{
    Feed, FeedEvent, Limits, LiveRun, ModelSource, NewestModel, ServeError, ServedModel, Server,
    WatchedRun,
};

use crate::common::{Answer, World, get, post, served};

/// Gives the models that a test puts there, one after the other.
#[derive(Clone, Debug, Default)]
struct Source {
    next: Arc<Mutex<Option<NewestModel>>>,
    n_asked: Arc<AtomicUsize>,
    has_any: Arc<AtomicBool>,
}

impl Source {
    fn put(&self) {
        let ServedModel { model, tokenizer, .. } = served();
        *self.next.lock().unwrap() = Some(NewestModel { model, tokenizer });
        self.has_any.store(true, Ordering::Relaxed);
    }
}

impl ModelSource for Source {
    fn newer(&mut self) -> Result<Option<NewestModel>, String> {
        self.n_asked.fetch_add(1, Ordering::Relaxed);
        let next = self.next.lock().unwrap().take();
        if next.is_none() && !self.has_any.load(Ordering::Relaxed) {
            return Err("there is no checkpoint yet".to_owned());
        }
        Ok(next)
    }
}

/// A server of a run.
struct Watched {
    feed: Arc<Feed>,
    source: Source,
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), ServeError>>,
}

impl Watched {
    fn new(limits: Limits, key: Option<&str>) -> Self {
        let server = Server::listen("127.0.0.1:0".parse().unwrap(), key.map(str::to_owned), limits);
        let (server, feed, source) =
            (server.unwrap(), Arc::new(Feed::default()), Source::default());
        let ServedModel { model, tokenizer, bos, eos, mut card } = served();
        card.live = Some(LiveRun { max_iters: 300 });
        let run = WatchedRun {
            feed: Arc::clone(&feed),
            config: model.config().clone(),
            vocab_size: tokenizer.vocab_size(),
            bos,
            eos,
            card,
            source: Box::new(source.clone()),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (server.address(), Arc::clone(&stop));
        let thread = thread::spawn(move || server.watch(run, &|| stopped.load(Ordering::Relaxed)));
        Self { feed, source, address, stop, thread }
    }

    fn send(&self, request: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_ref()).unwrap();
        stream
    }

    fn end(self) {
        self.feed.end("\"done\"");
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

/// Reads until `part` has been received.
#[track_caller]
fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut text = String::new();
    while !text.contains(part) {
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "{part} is missing: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    text
}

fn events_after(id: &str) -> String {
    get("/events").replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {id}\r\n\r\n"))
}

#[test]
fn events_so_far_come_first_and_new_ones_follow_until_the_end() {
    let run = Watched::new(Limits::default(), None);
    run.feed.push(FeedEvent::Eval, "{\"iter\":0}");
    run.feed.push(FeedEvent::Sample, "{\"text\":\"fox\"}");
    let mut stream = run.send(get("/events"));
    let text = read_until(&mut stream, "fox");
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    assert!(text.contains("event: eval\ndata: {\"iter\":0}\n\n"), "{text}");
    assert!(text.contains("event: sample\ndata: {\"text\":\"fox\"}\n\n"), "{text}");
    run.feed.push(FeedEvent::Step, "{\"iter\":7}");
    let text = read_until(&mut stream, "event: step\ndata: {\"iter\":7}\n\n");
    // A reader that lost its connection continues after the last event that it has.
    let id = text.split("id: ").nth(1).unwrap().lines().next().unwrap();
    run.feed.push(FeedEvent::Step, "{\"iter\":8}");
    let mut again = run.send(events_after(id));
    let text = read_until(&mut again, "{\"iter\":8}");
    assert!(!text.contains("{\"iter\":7}") && !text.contains("fox"), "{text}");
    // A restarted program has other ids.
    let text = read_until(&mut run.send(events_after("abc-2")), "{\"iter\":8}");
    assert!(text.contains("fox"), "{text}");
    run.end();
    for mut stream in [stream, again] {
        let text = read_until(&mut stream, "0\r\n\r\n");
        assert!(text.contains("event: end\ndata: \"done\"\n\n"), "{text}");
    }
}

#[test]
fn slow_and_many_readers_keep_neither_the_run_nor_its_end_waiting() {
    let run = Watched::new(Limits::default(), None);
    // Readers that never read.
    let _deaf: Vec<TcpStream> = (0..50).map(|_| run.send(get("/events"))).collect();
    let line = format!("{{\"text\":\"{}\"}}", "x".repeat(500));
    let since = Instant::now();
    for _ in 0..50_000 {
        run.feed.push(FeedEvent::Step, &line);
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let mut reader = run.send(get("/events"));
    read_until(&mut reader, "event: step");
    let since = Instant::now();
    run.end();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

#[test]
fn texts_come_from_the_newest_checkpoint() {
    let run = Watched::new(Limits::default(), None);
    let request = post(&json!({"prompt": "the", "max_tokens": 5, "seed": 1}).to_string());
    let complete = || Answer::read(&mut run.send(&request));
    let early = complete();
    assert_eq!(early.status, 503);
    assert!(early.body.contains("there is no checkpoint yet"), "{}", early.body);
    run.source.put();
    let first = complete();
    assert_eq!(first.status, 200, "{}", first.body);
    let n_asked = run.source.n_asked.load(Ordering::Relaxed);
    assert_eq!(complete().json()["choices"], first.json()["choices"]);
    assert_eq!(run.source.n_asked.load(Ordering::Relaxed), n_asked + 1);
    // Many requests at the same time are one batch or several.
    run.source.put();
    let streams: Vec<TcpStream> = (0..12).map(|_| run.send(&request)).collect();
    for mut stream in streams {
        assert_eq!(Answer::read(&mut stream).json()["choices"], first.json()["choices"]);
    }
    run.end();
}

#[test]
fn guards_are_those_of_a_served_model() {
    let run = Watched::new(Limits::default(), Some("sesame"));
    let status = |request: &str| Answer::read(&mut run.send(request)).status;
    assert_eq!(status(&get("/events")), 401);
    assert_eq!(status(&get("/").replace("localhost", "evil.example")), 403);
    let foreign = get("/events").replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n");
    assert_eq!(status(&foreign), 403);
    let with_key = get("/events").replace("\r\n\r\n", "\r\nAuthorization: Bearer sesame\r\n\r\n");
    run.feed.push(FeedEvent::Step, "{\"iter\":1}");
    read_until(&mut run.send(with_key), "{\"iter\":1}");
    run.end();
    // A model that does not train has no events, and its page does not ask for them.
    let world = World::new(Limits::default(), None);
    assert_eq!(world.get("/events").status, 404);
    assert!(world.get("/card").json().get("live").is_none());
}
