//! Text in other encodings than UTF-8: UTF-16 is decoded; others are guessed so that
//! a message can say how to convert it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_16BE, UTF_16LE};

use super::magic::{is_binary, unmarked_utf16};

/// The bytes of UTF-16 that are decoded at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How many bytes a guess is made from.
const GUESSED_BYTES: usize = 64 << 10;

/// How many bytes before the first wrong one a guess is made from, too.
const BEFORE_BYTES: u64 = 4 << 10;

/// The byte order of a UTF-16 byte order mark.
pub(super) fn marked_utf16(head: &[u8]) -> Option<&'static Encoding> {
    match head {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        _ => None,
    }
}

/// UTF-16 as UTF-8.
pub(super) struct Utf16<R> {
    inner: R,
    decoder: Decoder,
    /// What was read and not decoded yet: `undecoded[start..]`.
    undecoded: Vec<u8>,
    start: usize,
    is_at_end: bool,
    /// What was decoded and not handed over yet: `decoded[handed_over..]`.
    decoded: Vec<u8>,
    handed_over: usize,
    /// Whether what is not UTF-16 becomes U+FFFD and counts in `n_replaced`.
    lossy: bool,
    n_replaced: Arc<AtomicU64>,
}

impl<R: Read> Utf16<R> {
    /// Decodes `inner`, which starts with a byte order mark.
    pub(super) fn new(
        inner: R,
        encoding: &'static Encoding,
        lossy: bool,
        n_replaced: Arc<AtomicU64>,
    ) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_with_bom_removal(),
            undecoded: Vec::new(),
            start: 0,
            is_at_end: false,
            decoded: Vec::new(),
            handed_over: 0,
            lossy,
            n_replaced,
        }
    }

    /// Decodes some more; false at the end.
    fn decode(&mut self) -> io::Result<bool> {
        if self.is_at_end && self.start == self.undecoded.len() {
            return Ok(false);
        }
        if self.start == self.undecoded.len() {
            self.undecoded.clear();
            self.start = 0;
            let mut chunk = self.inner.by_ref().take(CHUNK_BYTES as u64);
            // Less only at the end.
            self.is_at_end = chunk.read_to_end(&mut self.undecoded)? < CHUNK_BYTES;
        }
        // Two bytes become at most three.
        self.decoded.resize(2 * CHUNK_BYTES, 0);
        let (result, n_read, n_written) = self.decoder.decode_to_utf8_without_replacement(
            &self.undecoded[self.start..],
            &mut self.decoded,
            self.is_at_end,
        );
        self.start += n_read;
        self.decoded.truncate(n_written);
        self.handed_over = 0;
        if let DecoderResult::Malformed(..) = result {
            if !self.lossy {
                let what = "half a surrogate pair or half a character in UTF-16";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.n_replaced.fetch_add(1, Ordering::Relaxed);
            self.decoded.extend("\u{fffd}".bytes());
        }
        Ok(true)
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.handed_over == self.decoded.len() {
            if !self.decode()? {
                return Ok(0);
            }
        }
        let ready = &self.decoded[self.handed_over..];
        let n = ready.len().min(into.len());
        into[..n].copy_from_slice(&ready[..n]);
        self.handed_over += n;
        Ok(n)
    }
}

/// What a text that is not UTF-8 may be instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Text in this encoding, by the name that `iconv` knows.
    Encoding(&'static str),
    /// UTF-8 that ends inside a character.
    CutOff,
    /// Not text.
    Binary,
    /// Unknown.
    Unknown,
}

/// Guesses what `text` is, whose first byte that is not UTF-8 is at `offset`.
pub(super) fn guess(mut text: impl Read, offset: u64) -> Guess {
    let mut bytes = Vec::new();
    let skipped =
        io::copy(&mut text.by_ref().take(offset.saturating_sub(BEFORE_BYTES)), &mut io::sink());
    if skipped.and_then(|_| text.take(GUESSED_BYTES as u64).read_to_end(&mut bytes)).is_err() {
        return Guess::Unknown;
    }
    let at = usize::try_from(offset.min(BEFORE_BYTES)).unwrap_or(0).min(bytes.len());
    let is_unfinished = std::str::from_utf8(&bytes[at..])
        .is_err_and(|it| it.error_len().is_none() && it.valid_up_to() == 0);
    if is_unfinished && bytes.len() - at < 4 {
        return Guess::CutOff;
    }
    if let Some(name) = unmarked_utf16(&bytes) {
        return Guess::Encoding(name);
    }
    if is_binary(&bytes) {
        return Guess::Binary;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(&bytes, true);
    Guess::Encoding(iconv_name(detector.guess(None, Utf8Detection::Deny)))
}

/// The name that `iconv` has for an encoding of the web.
fn iconv_name(encoding: &'static Encoding) -> &'static str {
    match encoding.name() {
        // Every text of the smaller sets is one of the larger.
        "GBK" | "gb18030" => "GB18030",
        "Shift_JIS" => "SHIFT_JIS",
        "Big5" => "BIG5",
        "windows-1250" => "WINDOWS-1250",
        "windows-1251" => "WINDOWS-1251",
        "windows-1252" => "WINDOWS-1252",
        "windows-1253" => "WINDOWS-1253",
        "windows-1254" => "WINDOWS-1254",
        "windows-1255" => "WINDOWS-1255",
        "windows-1256" => "WINDOWS-1256",
        "windows-1257" => "WINDOWS-1257",
        "windows-1258" => "WINDOWS-1258",
        "windows-874" => "WINDOWS-874",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn utf16(units: &[u16], lossy: bool) -> (io::Result<String>, u64) {
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let n_replaced = Arc::new(AtomicU64::new(0));
        let encoding = marked_utf16(&bytes).unwrap();
        let mut reader = Utf16::new(&bytes[..], encoding, lossy, Arc::clone(&n_replaced));
        let mut text = String::new();
        let read = reader.read_to_string(&mut text);
        (read.map(|_| text), n_replaced.load(Ordering::Relaxed))
    }

    #[test]
    fn utf_16_of_any_length_is_decoded() {
        let text = "Grüße, 日本 🦜! ".repeat(20_000);
        let units: Vec<u16> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
        let (decoded, n_replaced) = utf16(&units, false);
        assert!(decoded.unwrap() == text && n_replaced == 0);
        let (decoded, n_replaced) = utf16(&[0xfeff, 0x61, 0xd83d, 0x62, 0xdc00], true);
        assert_eq!((decoded.unwrap().as_str(), n_replaced), ("a\u{fffd}b\u{fffd}", 2));
        assert!(utf16(&[0xfeff, 0x61, 0xd83d, 0x62], false).0.is_err());
        assert_eq!(utf16(&[0xfeff], false).0.unwrap(), "");
    }

    #[test]
    fn encodings_are_guessed() {
        let guessed = |text: &[u8]| {
            let offset = std::str::from_utf8(text).unwrap_err().valid_up_to();
            guess(text, offset as u64)
        };
        let latin = b"Le caf\xe9 est ferm\xe9, mais le th\xe9 y co\xfbte peu. ".repeat(20);
        assert_eq!(guessed(&latin), Guess::Encoding("WINDOWS-1252"));
        let late = [b"plain words, ".repeat(10_000), latin].concat();
        assert_eq!(guessed(&late), Guess::Encoding("WINDOWS-1252"));
        for (encoding, text, name) in [
            (encoding_rs::GB18030, "从前有一只小猫，它喜欢在花园里玩。", "GB18030"),
            (encoding_rs::SHIFT_JIS, "むかしむかし、あるところに小さな猫がいました。", "SHIFT_JIS"),
            (encoding_rs::WINDOWS_1251, "Жила-была кошка, и она любила сад.", "WINDOWS-1251"),
        ] {
            let (bytes, ..) = encoding.encode(text);
            assert_eq!(guessed(&bytes.repeat(5)), Guess::Encoding(name));
        }
        assert_eq!(guessed(b"cut off \xe2\x82"), Guess::CutOff);
        assert_eq!(guessed(&[0x80, 1, 2, 3, 0, 0, 0xff, 4]), Guess::Binary);
    }
}
