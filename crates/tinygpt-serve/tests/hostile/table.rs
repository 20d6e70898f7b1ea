//! Malformed requests and the status that each must get.

use crate::assert_is_error;
use crate::common::{World, post, post_with};

const JSON: &str = "Content-Type: application/json\r\n";

/// A request and its status.
type Case = (&'static str, u16, Vec<u8>);

/// Sends them all; returns their number.
pub(crate) fn run(world: &World, keyed: &World) -> usize {
    let mut wrong = Vec::new();
    let mut n_cases = 0;
    for (server, cases) in
        [(world, hosts()), (world, bodies()), (world, lengths()), (world, paths()), (keyed, keys())]
    {
        for (name, status, request) in cases {
            n_cases += 1;
            let answer = server.send(request);
            if answer.status != status {
                wrong
                    .push(format!("{name}: {}, expected {status}: {}", answer.status, answer.body));
            } else if status >= 400 {
                assert_is_error(name, &answer);
            }
        }
    }
    for (name, statuses, request) in not_http() {
        n_cases += 1;
        let answer = world.send(request);
        if !statuses.contains(&answer.status) || answer.status == 200 {
            wrong.push(format!("{name}: {}, expected one of {statuses:?}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    n_cases
}

/// `Host` and `Origin` headers.
fn hosts() -> Vec<Case> {
    let get = |headers: &str| format!("GET /health HTTP/1.1\r\n{headers}\r\n").into_bytes();
    let from =
        |origin: &str| post_with(&format!("{JSON}Origin: {origin}\r\n"), b"{\"max_tokens\": 1}");
    vec![
        ("foreign Host", 403, get("Host: evil.example\r\n")),
        ("Host with ours as its beginning", 403, get("Host: localhost.evil.example\r\n")),
        ("Host of another machine", 403, get("Host: 192.168.0.1:8080\r\n")),
        ("no Host", 400, get("")),
        ("two Hosts", 400, get("Host: localhost\r\nHost: evil.example\r\n")),
        ("Host with a user", 400, get("Host: evil.example@localhost\r\n")),
        ("invalid Host", 400, get("Host: local host\r\n")),
        (
            "URL of another server",
            400,
            b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("foreign Origin", 403, from("https://evil.example")),
        ("Origin of another port", 403, from("http://localhost:1")),
        ("Origin null", 403, from("null")),
        ("own Origin", 200, from("http://localhost")),
    ]
}

/// Bodies.
fn bodies() -> Vec<Case> {
    let typed = |kind: &str| post_with(&format!("Content-Type: {kind}\r\n"), b"{}");
    let deep = |bracket: &str| post(&bracket.repeat(200_000));
    vec![
        ("text/plain", 415, typed("text/plain")),
        ("a form", 415, typed("application/x-www-form-urlencoded")),
        ("no type", 415, post_with("", b"{}")),
        ("a type that only begins like JSON", 415, typed("application/jsonp")),
        ("JSON with a charset", 200, typed("Application/JSON; charset=utf-8")),
        ("nothing", 400, post("")),
        ("not JSON", 400, post("prompt=hello")),
        ("cut off", 400, post("{\"prompt\": \"a")),
        ("two objects", 400, post("{} {}")),
        ("a list", 400, post("[]")),
        ("null", 400, post("null")),
        ("deep lists", 400, deep("[")),
        ("deep objects", 400, deep("{\"a\":")),
        ("bad UTF-8", 400, post_with(JSON, b"{\"prompt\": \"\xff\xfe\"}")),
        ("half a surrogate", 400, post("{\"prompt\": \"\\ud800\"}")),
        ("NUL", 400, post("{\"prompt\": \"\0\"}")),
        ("a number out of range", 400, post("{\"temperature\": 1e999}")),
        ("a wrong type", 400, post("{\"max_tokens\": \"many\"}")),
        ("too many texts", 400, post("{\"n\": 1000000000}")),
        ("too many tokens", 400, post("{\"max_tokens\": 9007199254740993}")),
        ("a token outside the vocabulary", 400, post("{\"prompt\": [4294967295]}")),
        ("an unsupported field", 400, post("{\"num_beams\": 4}")),
        ("another model", 404, post("{\"model\": \"../../etc/passwd\"}")),
    ]
}

/// Lengths of bodies.
fn lengths() -> Vec<Case> {
    let long = format!("{{\"prompt\": \"{}\"}}", "a".repeat(2 << 20));
    let head = |headers: &str| {
        format!("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{JSON}{headers}\r\n")
    };
    let chunk = format!("8000\r\n{}\r\n", "a".repeat(0x8000));
    let asks = "Expect: 100-continue\r\nContent-Length: 99999999999\r\n";
    vec![
        ("2 MiB", 413, post(&long)),
        (
            "chunks without end",
            413,
            (head("Transfer-Encoding: chunked\r\n") + &chunk.repeat(400)).into(),
        ),
        ("a length beyond all, asked about first", 413, head(asks).into()),
        ("an invalid chunk", 400, (head("Transfer-Encoding: chunked\r\n") + "zz\r\n\r\n").into()),
        ("a body that does not come", 408, (head("Content-Length: 100\r\n") + "{").into()),
        (
            "chunks that stop coming",
            408,
            (head("Transfer-Encoding: chunked\r\n") + "5\r\nab").into(),
        ),
    ]
}

/// Paths and methods.
fn paths() -> Vec<Case> {
    let ask = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").into()
    };
    let preflight = b"OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\n\
        Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    vec![
        ("unknown path", 404, ask("GET", "/v1/chat/nothing")),
        ("dots", 404, ask("GET", "/../../../etc/passwd")),
        ("dots after a folder", 404, ask("GET", "/v1/../card")),
        ("coded dots", 404, ask("GET", "/%2e%2e/%2e%2e/etc/passwd")),
        ("two slashes", 404, ask("GET", "//etc/passwd")),
        ("coded NUL", 404, ask("GET", "/health%00")),
        ("invalid UTF-8 in a model's name", 400, ask("GET", "/v1/models/%ff%fe")),
        ("GET of a completion", 405, ask("GET", "/v1/completions")),
        ("PUT", 405, ask("PUT", "/health")),
        ("DELETE", 405, ask("DELETE", "/")),
        ("TRACE", 405, ask("TRACE", "/health")),
        ("a method of one's own", 405, ask("MAKETEA", "/health")),
        ("a preflight", 405, preflight.to_vec()),
    ]
}

/// API keys.
fn keys() -> Vec<Case> {
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    };
    let with = |value: &str| get("/v1/models", &format!("Authorization: {value}\r\n"));
    vec![
        ("no key", 401, get("/v1/models", "")),
        ("no key for the card", 401, get("/card", "")),
        ("wrong key", 401, with("Bearer open-sesamo")),
        ("half a key", 401, with("Bearer open")),
        ("the key and more", 401, with("Bearer open-sesame!")),
        ("the key without its scheme", 401, with("open-sesame")),
        ("a key in the URL", 401, get("/v1/models?api_key=open-sesame", "")),
        ("a key for a path below", 401, get("/v1/nothing", "")),
        ("no key for health", 200, get("/health", "")),
        ("the key", 200, with("Bearer open-sesame")),
    ]
}

/// Input that is not HTTP gets a bare status or none: the HTTP library responds before any of our code
/// runs.
fn not_http() -> Vec<(&'static str, &'static [u16], Vec<u8>)> {
    let head = |headers: &str| {
        format!("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{JSON}{headers}\r\n{{}}")
    };
    let many = (0..200).map(|i| format!("X-{i}: a\r\n")).collect::<String>();
    let get = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n").into_bytes();
    vec![
        ("a TLS greeting", &[0, 400], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("an HTTP/2 greeting", &[0, 400, 505], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP of the future", &[400, 505], get("GET / HTTP/7.3")),
        ("nonsense", &[400], b"\0\x01\x02 hello\r\n\r\n".to_vec()),
        ("two lengths", &[400], head("Content-Length: 2\r\nContent-Length: 3\r\n").into()),
        ("a negative length", &[400], head("Content-Length: -1\r\n").into()),
        (
            "a length and chunks",
            &[400],
            head("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n").into(),
        ),
        ("200 headers", &[431], head(&many).into()),
        ("a header of 40 KB", &[431], head(&format!("X: {}\r\n", "a".repeat(40_000))).into()),
        ("a URL of 70 KB", &[414, 431], get(&format!("GET /{} HTTP/1.1", "a".repeat(70_000)))),
        ("a space before the colon", &[400], head("X : a\r\n").into()),
        ("a bare line feed in a value", &[400], head("X: a\rb\r\n").into()),
    ]
}
