//! A Hugging Face hub on a local port, with faults on demand.
//!
//! Speaks the three requests of the hub's protocol that a download needs (listing, description
//! by one byte, bytes), over `std`'s sockets. It belongs to the tests; the binaries' end-to-end
//! tests include this file too, so it knows nothing of the crate under test.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that the hub's `main` stands for.
pub(crate) const COMMIT: &str = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64";

/// The revision under which the hub offers parquet files of any dataset.
const CONVERTED: &str = "refs/convert/parquet";

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The repository's commit and file names.
    Listing,
    /// One byte of a file, for its headers.
    Description,
    /// The file, or its rest.
    Bytes,
}

/// What to do instead of the right answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A status with headers such as `Retry-After: 1`.
    Status(u16, &'static [&'static str]),
    /// A redirect to this `Location`, with the hub's description of the file in its headers.
    Redirect(String),
    /// The right headers, then the connection ends after this many bytes of the body.
    Cut(usize),
    /// A body without a length, this many bytes too long.
    LongUnsized(usize),
    /// A body without a length that ends after this many bytes.
    ShortUnsized(usize),
    /// A complete response that is this many bytes shorter than the file.
    Short(usize),
    /// The right length, one byte changed.
    Altered,
    /// The whole file with status 200, whatever range was asked for.
    IgnoreRange,
    /// Status 206 with a range that starts elsewhere.
    WrongRange,
    /// A login page.
    Html,
    /// Another `ETag` than the bytes'.
    Etag(&'static str),
    /// git's hash as `ETag`, as for a file outside large-file storage.
    GitEtag,
    /// No answer at all.
    Silence,
    /// One byte of the body now and then.
    Drip(Duration),
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What it asked for.
    pub(crate) ask: Ask,
    /// Path and query.
    pub(crate) target: String,
    /// The `Range` header.
    pub(crate) range: Option<String>,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
}

struct State {
    /// `datasets/` or nothing, as it stands before the repository in a file's address.
    prefix: &'static str,
    repository: String,
    files: Mutex<Vec<(String, Vec<u8>)>>,
    faults: Mutex<Vec<(Ask, usize, Fault)>>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// A running hub; it stops when dropped.
pub(crate) struct FakeHub {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

impl FakeHub {
    /// Starts a hub that has one dataset repository with these files.
    pub(crate) fn start(repository: &str, files: &[(&str, Vec<u8>)]) -> Self {
        Self::start_kind("datasets/", repository, files)
    }

    /// Starts a hub that has one model repository with these files.
    #[allow(dead_code, reason = "some of the tests that share this file want datasets only")]
    pub(crate) fn start_model(repository: &str, files: &[(&str, Vec<u8>)]) -> Self {
        Self::start_kind("", repository, files)
    }

    fn start_kind(prefix: &'static str, repository: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone()));
        let state = Arc::new(State {
            prefix,
            repository: repository.to_owned(),
            files: Mutex::new(files.collect()),
            faults: Mutex::new(Vec::new()),
            log: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let listener = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that hangs up early is part of the tests.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { address, state, listener: Some(listener) }
    }

    /// The endpoint, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next `times` requests of a kind with a fault.
    pub(crate) fn fail(&self, ask: Ask, times: usize, fault: Fault) {
        self.state.faults.lock().unwrap().push((ask, times, fault));
    }

    /// Answers as it should again.
    pub(crate) fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// The requests so far that asked for a file's bytes.
    pub(crate) fn transfers(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.ask == Ask::Bytes).collect()
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = read_request(&stream)? else { return Ok(()) };
        self.log.lock().unwrap().push(request.clone());
        let fault = self.take_fault(request.ask);
        if let Some(Fault::Silence) = fault {
            while !self.stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            return Ok(());
        }
        if let Some(Fault::Status(status, headers)) = fault {
            return answer(&mut stream, status, headers, b"a fault");
        }
        if let Some(Fault::Html) = fault {
            let headers = ["Content-Type: text/html; charset=utf-8"];
            return answer(&mut stream, 200, &headers, b"<html>please log in</html>");
        }
        let target = request.target.split('?').next().unwrap_or_default().to_owned();
        if request.ask == Ask::Listing {
            if let Some(Fault::Redirect(location)) = fault {
                let location = format!("Location: {location}");
                return answer(&mut stream, 307, &[&location], b"");
            }
            if let Some(Fault::Cut(n)) = fault {
                return send(&mut stream, 200, &[], Some(1000), &b"{\"id\": ".repeat(9)[..n]);
            }
            return self.serve_listing(&mut stream, &target);
        }
        let prefix = format!("/{}{}/resolve/{COMMIT}/", self.prefix, self.repository);
        let files = self.files.lock().unwrap().clone();
        let file = target.strip_prefix(&prefix).and_then(|path| {
            let name = percent_decoded(path);
            files.iter().find(|(listed, _)| *listed == name)
        });
        match file {
            Some((_, bytes)) => self.serve_file(&mut stream, &request, bytes, fault),
            None => answer(&mut stream, 404, &[], b"no such file"),
        }
    }

    fn serve_listing(&self, stream: &mut TcpStream, target: &str) -> std::io::Result<()> {
        let kind = if self.prefix.is_empty() { "models/" } else { self.prefix };
        let path = format!("/api/{kind}{}/revision/", self.repository);
        let revision = percent_decoded(target.strip_prefix(&path).unwrap_or_default());
        if !["main", CONVERTED, COMMIT].contains(&&*revision) {
            return answer(stream, 404, &[], b"{\"error\":\"Repository not found\"}");
        }
        let names: Vec<String> = self.files.lock().unwrap().iter().map(|f| f.0.clone()).collect();
        let siblings: Vec<_> =
            names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let body = serde_json::json!({
            "id": self.repository, "sha": COMMIT, "siblings": siblings,
        });
        answer(stream, 200, &["Content-Type: application/json"], body.to_string().as_bytes())
    }

    fn serve_file(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        bytes: &[u8],
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let etag = match &fault {
            Some(Fault::Etag(other)) => (*other).to_owned(),
            Some(Fault::GitEtag) => git_hash(bytes),
            _ => sha256(bytes),
        };
        let (commit, linked) = (format!("X-Repo-Commit: {COMMIT}"), format!("ETag: \"{etag}\""));
        if let Some(Fault::Redirect(location)) = &fault {
            let hub_headers = [
                format!("Location: {location}"),
                format!("X-Linked-Etag: \"{etag}\""),
                format!("X-Linked-Size: {}", bytes.len()),
                commit,
            ];
            let hub_headers: Vec<&str> = hub_headers.iter().map(String::as_str).collect();
            return answer(stream, 302, &hub_headers, b"");
        }
        let ignore_range = matches!(fault, Some(Fault::IgnoreRange));
        let range = request.range.as_deref().filter(|_| !ignore_range);
        let (start, end) = match range.and_then(|range| parse_range(range, bytes.len())) {
            Some(range) => range,
            None if range.is_some() => return answer(stream, 416, &[], b""),
            None => (0, bytes.len()),
        };
        let status = if range.is_some() { 206 } else { 200 };
        let shown = start + usize::from(matches!(fault, Some(Fault::WrongRange)));
        let content_range =
            format!("Content-Range: bytes {shown}-{}/{}", end.saturating_sub(1), bytes.len());
        let mut headers = vec![commit.as_str(), linked.as_str()];
        if range.is_some() {
            headers.push(&content_range);
        }
        let mut body = bytes[start..end].to_vec();
        match fault {
            Some(Fault::Altered) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            Some(Fault::Short(n)) => body.truncate(body.len().saturating_sub(n)),
            Some(Fault::Cut(n)) => {
                let whole = body.len();
                body.truncate(n);
                return send(stream, status, &headers, Some(whole), &body);
            }
            Some(Fault::LongUnsized(n)) => {
                body.extend(std::iter::repeat_n(b'x', n));
                return send(stream, status, &headers, None, &body);
            }
            Some(Fault::ShortUnsized(n)) => {
                body.truncate(n);
                return send(stream, status, &headers, None, &body);
            }
            Some(Fault::Drip(pause)) => {
                send(stream, status, &headers, Some(body.len()), &[])?;
                for byte in body {
                    if self.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    stream.write_all(&[byte])?;
                    thread::sleep(pause);
                }
                return Ok(());
            }
            _ => {}
        }
        answer(stream, status, &headers, &body)
    }

    fn take_fault(&self, ask: Ask) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, times, fault) = faults.iter_mut().find(|f| f.0 == ask && f.1 > 0)?;
        *times -= 1;
        Some(fault.clone())
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut authorization) = (None, None);
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let ask = match range.as_deref() {
        _ if target.starts_with("/api/") => Ask::Listing,
        Some("bytes=0-0") => Ask::Description,
        _ => Ask::Bytes,
    };
    Ok(Some(Request { ask, target, range, authorization }))
}

fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[&str],
    body: &[u8],
) -> std::io::Result<()> {
    send(stream, status, headers, Some(body.len()), body)
}

fn send(
    stream: &mut TcpStream,
    status: u16,
    headers: &[&str],
    length: Option<usize>,
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)
}

fn parse_range(range: &str, size: usize) -> Option<(usize, usize)> {
    let (start, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = last.parse::<usize>().map_or(size, |last| (last + 1).min(size));
    (start < end).then_some((start, end))
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = std::str::from_utf8(tail.get(..2).unwrap_or_default()).unwrap_or_default();
        match u8::from_str_radix(code, 16) {
            Ok(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The SHA-256 of `bytes` in hexadecimal: the hub's `ETag` of a large file.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// git's hash of `bytes` in hexadecimal: the hub's `ETag` of a file that git itself holds.
pub(crate) fn git_hash(bytes: &[u8]) -> String {
    let object = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    Sha1::digest(object).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A parquet file with one optional string column `text`, as the datasets of the hub have it.
pub(crate) fn parquet_file(texts: &[&str]) -> Vec<u8> {
    parquet_file_in_groups(texts, texts.len())
}

/// The same in row groups of `n_rows`, with values that may be anything.
pub(crate) fn parquet_file_in_groups(texts: &[impl AsRef<[u8]>], n_rows: usize) -> Vec<u8> {
    let schema = parse_message_type("message schema { optional binary text (UTF8); }").unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).unwrap();
    for texts in texts.chunks(n_rows) {
        let mut rows = writer.next_row_group().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> =
            texts.iter().map(|text| ByteArray::from(text.as_ref().to_vec())).collect();
        let levels = vec![1; values.len()];
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// A parquet file with a question and, mostly, an answer in each row.
pub(crate) fn questions_file(rows: &[(&str, Option<&str>)]) -> Vec<u8> {
    let schema =
        "message schema { optional binary prompt (UTF8); optional binary completion (UTF8); }";
    let schema = parse_message_type(schema).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let columns: [Vec<Option<&str>>; 2] = [
        rows.iter().map(|(question, _)| Some(*question)).collect(),
        rows.iter().map(|(_, answer)| *answer).collect(),
    ];
    for texts in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = texts.iter().flatten().map(|&text| text.into()).collect();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}
