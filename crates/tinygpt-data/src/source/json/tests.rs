//! Records are taken out of JSON of every kind, and what is wrong is named.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::error::{DataError, ErrorKind};
use crate::source::tests::{as_usual, file, only_documents, read_as};
use crate::source::{Fields, ReadAs, SourceStats};

/// The documents of a file of this name and content, and what else there was.
fn read(name: &str, content: &str, read: ReadAs) -> Result<(Vec<String>, SourceStats), DataError> {
    let dir = tempfile::tempdir().unwrap();
    read_as(&file(&dir, name, content), read)
}

fn documents(name: &str, content: &str) -> Vec<String> {
    read(name, content, as_usual()).unwrap_or_else(|error| panic!("{content}: {error}")).0
}

fn column(name: &str) -> ReadAs {
    ReadAs { fields: Fields::column(name), ..as_usual() }
}

#[test]
fn arrays_and_values_are_read_however_they_are_laid_out() {
    for (name, content) in [
        ("a.json", r#"[{"text": "a"}, {"text": "b"}]"#),
        ("a.json", "[\n  {\n    \"text\": \"a\"\n  },\n  {\"text\":\n\"b\"}\n]\n"),
        ("a.json", r#"["a", "b"]"#),
        ("a.json", "{\"text\": \"a\"}\n{\"text\": \"b\"}"),
        ("a.json", "{\"text\": \"a\"}{\n\"text\": \"b\"}"),
        ("a.jsonl", r#" [{"text": "a"}, {"text": "b"}]"#),
        ("a.jsonl", "{\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}\r\n"),
        ("a.jsonl", "\u{feff}{\"text\": \"a\"}\n{\"text\": \"b\"}"),
        ("a.ndjson", "\"a\"\n\"b\"\n"),
    ] {
        assert_eq!(documents(name, content), ["a", "b"], "{name}: {content}");
    }
    assert!(documents("a.json", "[]").is_empty());
    assert!(documents("a.json", "").is_empty());
}

#[test]
fn arrays_are_read_across_the_borders_of_buffers() {
    let texts: Vec<String> =
        (0..30_000).map(|i| format!("\"{{[{i}]}}\" \\ ü {}", "x".repeat(i % 97))).collect();
    for content in [
        serde_json::to_string(&texts).unwrap(),
        serde_json::to_string_pretty(&texts).unwrap(),
        serde_json::to_string_pretty(
            &texts
                .iter()
                .map(|it| serde_json::json!({"id": [1, {}], "text": it}))
                .collect::<Vec<_>>(),
        )
        .unwrap(),
    ] {
        assert!(documents("a.json", &content) == texts);
    }
}

#[test]
fn fields_that_are_not_read_may_hold_anything() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for other in [
        "NaN",
        "-Infinity",
        "Infinity",
        "1e400",
        &"9".repeat(400),
        "-0.5E+3",
        "true",
        "null",
        r#""\ud800""#,
        r#"{"text": "inner", "a": [{"b": "]"}]}"#,
        "\"raw \t tab\"",
        &deep,
    ] {
        for content in [
            format!("{{\"other\": {other}, \"text\": \"a\"}}"),
            format!("{{\"text\": \"a\", \"other\": {other} }}"),
        ] {
            assert_eq!(documents("a.jsonl", &content), ["a"], "{other:.40}");
            assert_eq!(documents("a.json", &format!("[{content}]")), ["a"], "{other:.40}");
        }
    }
}

#[test]
fn strings_are_unescaped_as_in_json() {
    for (json, text) in [
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\u00e9\u20AC\u0041""#, "é€A"),
        (r#""\ud83e\udd9c!""#, "🦜!"),
        (r#""plain é 🦜""#, "plain é 🦜"),
    ] {
        assert_eq!(documents("a.jsonl", json), [text]);
        assert_eq!(serde_json::from_str::<String>(json).unwrap(), text);
    }
    for (json, text, n_half_pairs) in [
        (r#""a\ud83e""#, "a\u{fffd}", 1),
        (r#""\ud83e b""#, "\u{fffd} b", 1),
        (r#""\udd9c\ud83e\ud83e\udd9c""#, "\u{fffd}\u{fffd}🦜", 2),
        (r#""\ud83e\u0041""#, "\u{fffd}A", 1),
    ] {
        let (documents, stats) = read("a.jsonl", json, as_usual()).unwrap();
        assert_eq!(documents, [text]);
        assert_eq!(stats, SourceStats { n_half_pairs, ..only_documents(1) });
    }
}

#[test]
fn dots_lead_into_objects() {
    let nested = r#"{"id": 1, "data": {"x": {}, "text": "in", "deep": {"text": "deeper"}}}"#;
    for (name, expected) in [("data.text", "in"), ("data.deep.text", "deeper")] {
        assert_eq!(read("a.jsonl", nested, column(name)).unwrap().0, [expected]);
    }
    let flat = r#"{"data.text": "flat", "data": 5}"#;
    assert_eq!(read("a.jsonl", flat, column("data.text")).unwrap().0, ["flat"]);
    // The last of equal names counts, as in Python.
    let twice = r#"{"text": "first", "te\u0078t": "second"}"#;
    assert_eq!(documents("a.jsonl", twice), ["second"]);
    let message = read("a.jsonl", nested, as_usual()).unwrap_err().explained();
    let available = "it has `id`, `data.x`, `data.text` and `data.deep`";
    assert!(message.contains(available), "{message}");
}

#[test]
fn templates_join_fields_of_records() {
    let fields = Fields::template(r"{q.text}\n{a} ({n})").unwrap();
    let lines = "{\"a\": \"yes\", \"n\": 4.50, \"q\": {\"text\": \"Is it?\"}}\n\
                 {\"q\": {\"text\": null}, \"a\": \"no\", \"n\": true}";
    let (documents, _) = read("a.jsonl", lines, ReadAs { fields, ..as_usual() }).unwrap();
    assert_eq!(documents, ["Is it?\nyes (4.50)", "\nno (true)"]);
}

#[test]
fn records_without_a_value_are_counted_and_those_that_are_bad_bounded() {
    let good = "{\"text\": \"a\"}\n".repeat(97);
    let bad = "{\"title\": \"x\"}\n{\"text\": 5}\nnonsense\n{\"text\": null}\n";
    let lenient = ReadAs { max_bad_fraction: 0.03, ..as_usual() };
    let (documents, stats) = read("a.jsonl", &(good.clone() + bad), lenient).unwrap();
    assert_eq!((documents.len(), stats.n_nulls, stats.n_bad), (97, 1, 3));
    let expected = [
        "a.jsonl line 98: no `text`; it has `title`",
        "a.jsonl line 99: `text` is a number, not a string",
        "a.jsonl line 100: not a JSON object (a value that is not JSON, at column 1)",
    ];
    assert_eq!(stats.examples, expected);
    let strict = ReadAs { max_bad_fraction: 0.02, ..as_usual() };
    let error = read("a.jsonl", &(good + bad), strict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    for part in ["line 98: no `text`", "3 of 101 records", "(3.0%)", "`max_bad_fraction` to 0.03"] {
        assert!(error.explained().contains(part), "{part}: {error}");
    }
}

#[test]
fn a_file_of_which_nothing_can_be_used_is_answered_at_once() {
    let line = "{\"story\": \"a\"}\n";
    for (content, kind, expected_text) in [
        (line.repeat(20), ErrorKind::Usage, "line 1: no text column `text`; it has `story`"),
        (line.repeat(5_000) + "{\"text\": \"a\"}", ErrorKind::Usage, "it has `story`"),
        ("{'text': 'a'}".to_owned(), ErrorKind::Corrupt, "a key in double quotes is missing"),
        (
            "{\"text\": \"a\"} {\"text\": \"b\"}".to_owned(),
            ErrorKind::Corrupt,
            "two records on one line",
        ),
        ("{\"text\": \"a\",}".to_owned(), ErrorKind::Corrupt, "a key in double quotes"),
        ("{\"text\": \"a\\x\"}".to_owned(), ErrorKind::Corrupt, "an unknown escape"),
        ("{\"text\": \"a\tb\"}".to_owned(), ErrorKind::Corrupt, "a control character"),
        ("{\"text\" \"a\"}".to_owned(), ErrorKind::Corrupt, "no colon"),
        ("{\"text\": \"a\" \"b\": 1}".to_owned(), ErrorKind::Corrupt, "no comma"),
        ("{\"text\": }".to_owned(), ErrorKind::Corrupt, "a value is missing"),
        ("{\"text\": \"a".to_owned(), ErrorKind::Corrupt, "the last line is cut off"),
        (
            "{\"text\": \"a\n{\"text\": tru".to_owned(),
            ErrorKind::Corrupt,
            "the line ends inside it",
        ),
        ("5".to_owned(), ErrorKind::Corrupt, "not a JSON object but a number"),
        ("{\"text\": [\"a\"]}".to_owned(), ErrorKind::Corrupt, "`text` is a list"),
        ("{\"text\": {}}".to_owned(), ErrorKind::Corrupt, "`text` is an object"),
    ] {
        let error = read("a.jsonl", &content, ReadAs { max_bad_fraction: 1.0, ..as_usual() });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.explained().contains(expected_text), "{expected_text}: {error}");
    }
    for (content, expected_text) in [
        ("[{\"text\": \"a\"}", "the array is cut off"),
        ("[{\"text\": \"a\"}, {\"text\": \"b", "the last value is cut off"),
        ("[{\"text\": \"a\"}]\n[{\"text\": \"b\"}]", "line 2: more after the array's end"),
        ("{\"n\": 1, \"rows\": [{\"text\": \"a\"}]}", "jq '.rows' IN.json"),
    ] {
        let error = read("a.json", content, as_usual()).unwrap_err().explained();
        assert!(error.contains(expected_text), "{expected_text}: {error}");
    }
}

#[test]
fn messages_quote_little_of_what_they_are_about() {
    let long = "x".repeat(2 << 20);
    for content in [
        format!("\"{long}"),
        long.clone(),
        format!("{{\"{long}\": 1}}"),
        format!(
            "{{{}\"a\": 1}}",
            (0..20_000).map(|i| format!("\"key{i}\": 1, ")).collect::<String>()
        ),
        format!("{{\"text\": [\"{long}\"]}}"),
        format!("[{{\"{long}\": [\"a\"]}}]"),
    ] {
        for name in ["a.jsonl", "a.json"] {
            let error = read(name, &content, as_usual()).unwrap_err().explained();
            assert!(error.len() < 1200, "{} bytes", error.len());
        }
    }
}

#[test]
fn what_is_not_utf_8_matters_only_where_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "a.jsonl", b"{\"\xff\": \"\xff\", \"text\": \"a\"}\n{\"text\": \"b\xff\"}");
    let message = read_as(&path, as_usual()).unwrap_err().explained();
    assert!(message.contains("invalid UTF-8 at byte 35"), "{message}");
    let (documents, stats) = read_as(&path, ReadAs { lossy: true, ..as_usual() }).unwrap();
    assert_eq!((documents, stats.n_replaced), (vec!["a".to_owned(), "b\u{fffd}".to_owned()], 1));
}
