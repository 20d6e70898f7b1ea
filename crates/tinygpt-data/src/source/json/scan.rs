//! Takes a few fields out of a JSON value without parsing the rest of it.
//!
//! Other values are skipped by their brackets and quotes alone: they may be nested to any depth,
//! and may hold `NaN`, `Infinity` or a number of any size, which Python and pandas write. Nothing
//! here recurses over the input.

use std::borrow::Cow;

use memchr::memchr2;

use super::super::fields::Value;
use super::string::{Repair, StringFault, unescape};

/// How many of an object's keys are listed.
const MAX_KEYS: usize = 20;

/// Why a record is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScanFault {
    /// Not JSON, at this byte.
    Syntax { at: usize, what: &'static str },
    /// It ends too early.
    Unfinished,
    /// Not UTF-8, at this byte.
    NotUtf8(usize),
}

/// A record as far as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// An object; its fields are in the requested order.
    Object,
    /// A string by itself.
    Text(String),
    /// Something else: its kind in words.
    Other(&'static str),
}

/// Reads one record, and of an object the fields of these names into `values`.
///
/// A name is that of a field or, with dots, leads into objects. Of several fields that it names
/// the last counts.
pub(super) fn record<'a>(
    bytes: &'a [u8],
    names: &[String],
    values: &mut Vec<Value<'a>>,
    repair: &mut Repair,
) -> Result<Record, ScanFault> {
    values.clear();
    values.resize(names.len(), Value::Missing);
    let mut scan = Scan { bytes, at: 0 };
    scan.skip_white_space();
    let record = match scan.peek() {
        Some(b'{') => {
            let wanted: Vec<Wanted<'_>> =
                names.iter().enumerate().map(|(idx, name)| Wanted { idx, path: name }).collect();
            scan.object(wanted, values, repair)?;
            Record::Object
        }
        Some(b'"') => Record::Text(scan.text(repair)?.into_owned()),
        Some(_) => Record::Other(scan.skip_value()?),
        None => return Err(ScanFault::Unfinished),
    };
    scan.skip_white_space();
    match scan.peek() {
        None => Ok(record),
        Some(b'{') => Err(scan.wrong("two records on one line")),
        Some(_) => Err(scan.wrong("more after its end")),
    }
}

/// The first keys of an object, for a message; of objects in it `outer.inner`.
pub(super) fn keys(bytes: &[u8]) -> Vec<String> {
    let mut keys = Vec::new();
    for_each_member(bytes, |key, value| {
        let mut below = Vec::new();
        if value.first() == Some(&b'{') {
            for_each_member(value, |inner, _| {
                below.push(format!("{key}.{inner}"));
                below.len() < MAX_KEYS
            });
        }
        if below.is_empty() {
            below.push(key.to_owned());
        }
        keys.append(&mut below);
        keys.len() < MAX_KEYS
    });
    keys
}

/// The first key of an object that has a list of objects or strings.
pub(super) fn list_key(bytes: &[u8]) -> Option<String> {
    let mut found = None;
    for_each_member(bytes, |key, value| {
        let inner = value.strip_prefix(b"[").unwrap_or_default().trim_ascii_start();
        if matches!(inner.first(), Some(b'{' | b'"')) {
            found = Some(key.to_owned());
        }
        found.is_none()
    });
    found
}

/// Calls `member` with the members of an object, as long as it returns true.
fn for_each_member(bytes: &[u8], mut member: impl FnMut(&str, &[u8]) -> bool) {
    let mut scan = Scan { bytes, at: 0 };
    scan.skip_white_space();
    if scan.peek() != Some(b'{') {
        return;
    }
    let mut has_more = scan.enter(b'}').unwrap_or(false);
    while has_more {
        let Ok(key) = scan.key(&mut Repair { lossy: true, ..Repair::default() }) else { return };
        let start = scan.at;
        let is_whole = scan.skip_value().is_ok();
        has_more = member(&key, &bytes[start..scan.at]) && is_whole;
        has_more = has_more && scan.more(b'}').unwrap_or(false);
    }
}

/// A wanted field: its index among the values, and the rest of its path.
#[derive(Clone, Copy)]
struct Wanted<'n> {
    idx: usize,
    path: &'n str,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, what: &'static str) -> ScanFault {
        ScanFault::Syntax { at: self.at, what }
    }

    fn skip_white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips an opening bracket; returns whether anything comes before `close`, which is skipped
    /// too.
    fn enter(&mut self, close: u8) -> Result<bool, ScanFault> {
        self.at += 1;
        self.skip_white_space();
        match self.peek() {
            None => Err(ScanFault::Unfinished),
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Ok(true),
        }
    }

    /// Skips the separator after a member; returns whether another one follows.
    fn more(&mut self, close: u8) -> Result<bool, ScanFault> {
        self.skip_white_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_white_space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Err(self.wrong("no comma between two members")),
            None => Err(ScanFault::Unfinished),
        }
    }

    /// A key and the colon after it.
    fn key(&mut self, repair: &mut Repair) -> Result<Cow<'a, str>, ScanFault> {
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return Err(self.wrong("a key in double quotes is missing")),
            None => return Err(ScanFault::Unfinished),
        }
        let key = self.text(repair)?;
        self.skip_white_space();
        match self.peek() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.wrong("no colon behind a key")),
            None => return Err(ScanFault::Unfinished),
        }
        self.skip_white_space();
        Ok(key)
    }

    /// Reads the fields that are wanted of an object, and of objects in it.
    ///
    /// Each level of the stack is an object that is being read, with what is wanted of it; a path
    /// has as many levels as dots, so the input cannot choose the depth.
    fn object(
        &mut self,
        wanted: Vec<Wanted<'_>>,
        values: &mut [Value<'a>],
        repair: &mut Repair,
    ) -> Result<(), ScanFault> {
        // Keys are compared as they are read; a wrong byte in one that is not wanted is harmless.
        let mut in_keys = Repair { lossy: true, ..Repair::default() };
        let mut open = vec![wanted];
        let mut has_more = self.enter(b'}')?;
        while let Some(wanted) = open.last() {
            if !has_more {
                open.pop();
                if !open.is_empty() {
                    has_more = self.more(b'}')?;
                }
                continue;
            }
            let key = self.key(&mut in_keys)?;
            let exact: Vec<usize> =
                wanted.iter().filter(|it| it.path == key).map(|it| it.idx).collect();
            if let [first, rest @ ..] = exact.as_slice() {
                let value = self.value(repair)?;
                for idx in rest {
                    values[*idx] = value.clone();
                }
                values[*first] = value;
            } else {
                let below: Vec<Wanted<'_>> = wanted
                    .iter()
                    .filter_map(|it| {
                        let path = it.path.strip_prefix(&*key)?.strip_prefix('.')?;
                        Some(Wanted { idx: it.idx, path })
                    })
                    .collect();
                if !below.is_empty() && self.peek() == Some(b'{') {
                    open.push(below);
                    has_more = self.enter(b'}')?;
                    continue;
                }
                self.skip_value()?;
            }
            has_more = self.more(b'}')?;
        }
        Ok(())
    }

    /// A value that is wanted.
    fn value(&mut self, repair: &mut Repair) -> Result<Value<'a>, ScanFault> {
        if self.peek() == Some(b'"') {
            return Ok(Value::Text(self.text(repair)?));
        }
        let start = self.at;
        let kind = self.skip_value()?;
        Ok(match (kind, std::str::from_utf8(&self.bytes[start..self.at])) {
            ("null", _) => Value::Null,
            ("a number" | "a boolean", Ok(written)) => Value::Scalar(written),
            ("a list", _) => Value::Other("a list"),
            _ => Value::Other("an object"),
        })
    }

    /// A string, unescaped.
    fn text(&mut self, repair: &mut Repair) -> Result<Cow<'a, str>, ScanFault> {
        let start = self.at + 1;
        let has_escapes = self.skip_string()?;
        let raw = &self.bytes[start..self.at - 1];
        unescape(raw, has_escapes, repair).map_err(|fault| match fault {
            StringFault::NotUtf8(at) => ScanFault::NotUtf8(start + at),
            StringFault::Wrong { at, what } => ScanFault::Syntax { at: start + at, what },
        })
    }

    /// Skips a string; returns whether it has escapes.
    fn skip_string(&mut self) -> Result<bool, ScanFault> {
        let mut at = self.at + 1;
        let mut has_escapes = false;
        loop {
            match memchr2(b'"', b'\\', self.bytes.get(at..).unwrap_or_default()) {
                None => return Err(ScanFault::Unfinished),
                Some(n) if self.bytes[at + n] == b'"' => {
                    self.at = at + n + 1;
                    return Ok(has_escapes);
                }
                Some(n) => {
                    has_escapes = true;
                    at += n + 2;
                }
            }
        }
    }

    /// Skips a value of any kind and returns the name of its kind.
    fn skip_value(&mut self) -> Result<&'static str, ScanFault> {
        match self.peek() {
            None => Err(ScanFault::Unfinished),
            Some(b'"') => self.skip_string().map(|_| "a string"),
            Some(open @ (b'[' | b'{')) => {
                self.skip_brackets()?;
                Ok(if open == b'[' { "a list" } else { "an object" })
            }
            Some(_) => self.skip_scalar(),
        }
    }

    /// Skips a list or an object, up to its closing bracket.
    fn skip_brackets(&mut self) -> Result<(), ScanFault> {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(ScanFault::Unfinished)
    }

    /// Skips a number of any form, `true`, `false`, `null`, `NaN`, `Infinity`.
    fn skip_scalar(&mut self) -> Result<&'static str, ScanFault> {
        let rest = &self.bytes[self.at..];
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let n = rest.iter().take_while(|byte| is_part(byte)).count();
        let word = &rest[..n];
        let kind = match word {
            b"null" => "null",
            b"true" | b"false" => "a boolean",
            b"NaN" | b"Infinity" | b"-Infinity" | b"nan" | b"inf" | b"-inf" => "a number",
            [b'-' | b'0'..=b'9', ..] => "a number",
            [] => return Err(self.wrong("a value is missing")),
            _ if n == rest.len() && is_begun(word) => return Err(ScanFault::Unfinished),
            _ => return Err(self.wrong("a value that is not JSON")),
        };
        self.at += n;
        Ok(kind)
    }
}

/// Whether `word` is a prefix of a JSON keyword.
fn is_begun(word: &[u8]) -> bool {
    ["null", "true", "false", "NaN", "Infinity"].iter().any(|it| it.as_bytes().starts_with(word))
}
