//! A server with a tiny model on a free port, and a client that sends raw bytes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use candle_core::Device;
use serde_json::Value;
use tinygpt_data::chat::ChatTemplate;
use tinygpt_data::{Encoding, Tokenizer};
use tinygpt_model::{Gpt, ModelConfig};
use tinygpt_serve::{Card, Limits, ServeError, ServedModel, Server};

/// The name of the model.
pub(crate) const MODEL: &str = "tiny";

/// Longer than any response takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A running server; it stops when dropped.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

/// A random model that knows a few words.
pub(crate) fn served() -> ServedModel {
    let text = "the owl and the fox and the café by the old oak";
    let tokenizer = Tokenizer::train(Encoding::Bpe, &[text], 280).unwrap();
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: 32,
        n_layer: 2,
        n_head: 2,
        n_embd: 32,
        ..ModelConfig::default()
    };
    let gpt = Gpt::init(config, 7, &Device::Cpu).unwrap();
    let card = Card { name: MODEL.to_owned(), ..Card::default() };
    // Without an end token the length of every text is known.
    ServedModel { model: Box::new(gpt), bos: tokenizer.eot_id(), eos: None, tokenizer, card }
}

/// A random model whose tokenizer has the special tokens of ChatML, and that template.
pub(crate) fn served_chat() -> ServedModel {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../tinygpt-data/tests/golden/chat");
    let tokenizer = Tokenizer::from_dir(dir).unwrap().with_chat_template(ChatTemplate::chatml());
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: 64,
        n_layer: 2,
        n_head: 2,
        n_embd: 32,
        ..ModelConfig::default()
    };
    let gpt = Gpt::init(config, 7, &Device::Cpu).unwrap();
    let card = Card { name: MODEL.to_owned(), ..Card::default() };
    let eot = tokenizer.eot_id();
    ServedModel { model: Box::new(gpt), bos: eot, eos: Some(eot), tokenizer, card }
}

impl World {
    pub(crate) fn new(limits: Limits, key: Option<&str>) -> Self {
        Self::with(served(), limits, key)
    }

    /// A server with this model.
    pub(crate) fn with(model: ServedModel, limits: Limits, key: Option<&str>) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::listen(address, key.map(str::to_owned), limits).unwrap();
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || server.run(model, &|| stopped.load(Ordering::Relaxed)));
        Self { address, stop, thread: Some(thread) }
    }

    /// Asks the server to stop.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the server and returns how it ended.
    pub(crate) fn end(mut self) -> Result<(), ServeError> {
        self.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends bytes on a new connection and reads the response.
    pub(crate) fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // The server may close the connection before everything is written.
        let _ = stream.write_all(request.as_ref());
        Answer::read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(get(path))
    }

    /// Posts a completion request.
    pub(crate) fn complete(&self, body: &Value) -> Answer {
        self.send(post(&body.to_string()))
    }

    /// Requests an answer.
    pub(crate) fn chat(&self, body: &Value) -> Answer {
        let request = String::from_utf8(post(&body.to_string())).unwrap();
        self.send(request.replace("/v1/completions", "/v1/chat/completions"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub(crate) fn post(body: &str) -> Vec<u8> {
    post_with("Content-Type: application/json\r\n", body.as_bytes())
}

/// A completion request with other headers.
pub(crate) fn post_with(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A response.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// 0 if the connection was closed without a response.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads one response: to its length, the last chunk, or the end of the connection.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = Self::whole(&bytes) {
                return answer;
            }
            let mut more = [0; 4096];
            match stream.read(&mut more) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&more[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        Self::parse(&bytes).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    fn whole(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::parse(bytes)?;
        if answer.header("transfer-encoding").is_some() {
            answer.body = dechunked(&answer.body)?;
            return Some(answer);
        }
        let length: usize = answer.header("content-length")?.parse().ok()?;
        (answer.body.len() >= length).then_some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The objects of a stream's events, and whether it ended with `[DONE]`.
    pub(crate) fn events(&self) -> (Vec<Value>, bool) {
        let mut lines: Vec<&str> =
            self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        let done = lines.last() == Some(&"[DONE]");
        lines.truncate(lines.len() - usize::from(done));
        (lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(), done)
    }
}

/// The content of a chunked body, if it is complete.
fn dechunked(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..length)?);
        body = rest.get(length + 2..)?;
    }
}
