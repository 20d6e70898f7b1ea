//! JSON strings: escapes become characters, and half a surrogate pair becomes U+FFFD.

use std::borrow::Cow;

use memchr::memchr;

use crate::source::utf8::to_text;

/// What is replaced in strings, and how often it was.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Whether bytes that are not UTF-8 are replaced.
    pub(super) lossy: bool,
    pub(super) n_replaced: u64,
    pub(super) n_half_pairs: u64,
}

/// What is wrong with a string, and at which of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StringFault {
    NotUtf8(usize),
    Wrong { at: usize, what: &'static str },
}

/// The text of a string, given the bytes between its quotes.
pub(super) fn unescape<'a>(
    raw: &'a [u8],
    has_escapes: bool,
    repair: &mut Repair,
) -> Result<Cow<'a, str>, StringFault> {
    // A fold looks at many bytes at once, a search does not.
    if raw.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
        let at = raw.iter().position(|&byte| byte < 0x20).unwrap_or(0);
        return Err(StringFault::Wrong { at, what: "a control character in a string" });
    }
    let text = match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => to_text(raw.to_vec(), repair.lossy, &mut repair.n_replaced)
            .map_err(StringFault::NotUtf8)?
            .into(),
    };
    if !has_escapes {
        return Ok(text);
    }
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(n) = memchr(b'\\', rest.as_bytes()) {
        unescaped.push_str(&rest[..n]);
        let (c, length) = escape(&rest[n..], repair).ok_or(StringFault::Wrong {
            at: (text.len() - rest.len() + n).min(raw.len()),
            what: "an unknown escape",
        })?;
        unescaped.push(c);
        rest = &rest[n + length..];
    }
    unescaped.push_str(rest);
    Ok(unescaped.into())
}

/// The character of the escape at the start of `text`, and the bytes of the escape.
fn escape(text: &str, repair: &mut Repair) -> Option<(char, usize)> {
    let c = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return escape_of_unit(text, repair),
        _ => return None,
    };
    Some((c, 2))
}

/// The character of `\uXXXX`, or of two of them that are a surrogate pair.
fn escape_of_unit(text: &str, repair: &mut Repair) -> Option<(char, usize)> {
    let first = unit(text)?;
    if let Some(c) = char::from_u32(first) {
        return Some((c, 6));
    }
    let second = text.get(6..).and_then(unit);
    let pair = second.filter(|second| (0xdc00..0xe000).contains(second) && first < 0xdc00);
    match pair {
        Some(second) => {
            let code_point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            Some((char::from_u32(code_point)?, 12))
        }
        None => {
            repair.n_half_pairs += 1;
            Some((char::REPLACEMENT_CHARACTER, 6))
        }
    }
}

/// The four hexadecimal digits behind `\u`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}
