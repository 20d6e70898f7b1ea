//! A file as a stream of UTF-8: decompressed, decoded, without a byte order mark.
//!
//! The first bytes of a file show its compression and whether it is UTF-16. Memory is
//! bounded: a compressed file that needs a larger window than
//! [`MAX_WINDOW_LOG`] is rejected.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::encodings::{Guess, Utf16, guess, marked_utf16};
use super::magic::{Compression, unmarked_utf16, wrong_kind};
use crate::error::DataError;
use crate::quote::{Shown, escaped_message};

/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// How many bytes are read to detect the kind of a file.
const HEAD_BYTES: usize = 4 << 10;

/// The largest window of a compressed file, as a power of two: what `zstd -22` and `xz -9` need.
const MAX_WINDOW_LOG: u32 = 27;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that is being read.
pub(super) struct Input {
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    compression: Option<Compression>,
    /// Whether bytes of text are bytes of the file.
    is_plain: bool,
    /// Where the text starts: after the byte order mark.
    text_offset: u64,
    n_file_bytes: Arc<AtomicU64>,
    n_replaced: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file of text; with `lossy`, what is not UTF-16 in a file of it is replaced.
    pub(super) fn open(path: &Path, lossy: bool) -> Result<Self, DataError> {
        let (n_file_bytes, n_replaced) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let (compression, head, unpacked) = unpack(path, &n_file_bytes)?;
        if let Some((what, fix)) = wrong_kind(&head) {
            return Err(DataError::corrupt(path, format!("this is {what}"), fix));
        }
        let marked = marked_utf16(&head);
        if let (None, Some(name)) = (marked, unmarked_utf16(&head)) {
            return Err(DataError::corrupt(
                path,
                format!("this looks like {name} without a byte order mark"),
                convert(name),
            ));
        }
        let has_mark = head.starts_with(UTF8_MARK);
        let head = if has_mark { head[UTF8_MARK.len()..].to_vec() } else { head };
        let text = io::Cursor::new(head).chain(unpacked);
        let reader: Box<dyn Read + Send> = match marked {
            Some(encoding) => Box::new(Utf16::new(text, encoding, lossy, Arc::clone(&n_replaced))),
            None => Box::new(text),
        };
        Ok(Self {
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            compression,
            is_plain: compression.is_none() && marked.is_none(),
            text_offset: if has_mark { UTF8_MARK.len() as u64 } else { 0 },
            n_file_bytes,
            n_replaced,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The offset of the text's first byte.
    pub(super) fn text_offset(&self) -> u64 {
        self.text_offset
    }

    /// How many bytes of the file have been read, for a progress bar.
    pub(super) fn n_file_bytes(&self) -> u64 {
        let n_read = self.n_file_bytes.load(Ordering::Relaxed);
        // What lies in the buffer is read from the file, but not from here.
        if self.is_plain { n_read - self.reader.buffer().len() as u64 } else { n_read }
    }

    /// How many places that are not UTF-16 were replaced.
    pub(super) fn n_replaced(&self) -> u64 {
        self.n_replaced.load(Ordering::Relaxed)
    }

    /// The error of a read that failed.
    pub(super) fn error(&self, error: io::Error) -> DataError {
        unreadable(&self.path, self.compression, error)
    }

    /// The error of text that is not UTF-8 at `offset`.
    pub(super) fn not_utf8(&self, offset: u64) -> DataError {
        not_utf8(&self.path, offset)
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.reader.consume(n);
    }
}

/// What a file is compressed with, the first bytes of what it unpacks to, and the rest of that.
type Unpacked = (Option<Compression>, Vec<u8>, Box<dyn Read + Send>);

fn unpack(path: &Path, n_file_bytes: &Arc<AtomicU64>) -> Result<Unpacked, DataError> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let mut file = Counted { inner: file, n_bytes: Arc::clone(n_file_bytes) };
    let head = read_head(&mut file).map_err(DataError::io("read", path))?;
    let Some(compression) = Compression::of(&head) else {
        return Ok((None, head, Box::new(file)));
    };
    let packed = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(head).chain(file));
    let mut unpacked: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            let decoder = zstd::Decoder::with_buffer(packed).and_then(|mut decoder| {
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Ok(decoder)
            });
            Box::new(decoder.map_err(DataError::io("unpack", path))?)
        }
        Compression::Xz => {
            Box::new(XzReader::new_mem_limit(packed, true, 1 << (MAX_WINDOW_LOG - 10)))
        }
    };
    let head = read_head(&mut unpacked);
    let head = head.map_err(|error| unreadable(path, Some(compression), error))?;
    if let Some(inner) = Compression::of(&head) {
        let (outer, inner) = (compression.name(), inner.name());
        let what = format!("compressed twice, with {inner} and then with {outer}");
        return Err(DataError::corrupt(path, what, "unpack it once"));
    }
    Ok((Some(compression), head, unpacked))
}

/// The first bytes, fewer than [`HEAD_BYTES`] only if there are no more.
fn read_head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The error of a failed read: from the system, or from the contents of the file.
fn unreadable(path: &Path, compression: Option<Compression>, error: io::Error) -> DataError {
    let Some(compression) = compression.filter(|_| error.raw_os_error().is_none()) else {
        if error.kind() == io::ErrorKind::InvalidData {
            let fix = "repair the file, or use `lossy` to replace such places";
            return DataError::corrupt(path, error.to_string(), fix);
        }
        return DataError::io("read", path)(error);
    };
    let name = compression.name();
    let message = error.to_string();
    if error.kind() == io::ErrorKind::OutOfMemory || message.contains("too much memory") {
        let what = format!(
            "its {name} needs a window of more than {} MiB to unpack",
            (1u64 << MAX_WINDOW_LOG) >> 20
        );
        return DataError::corrupt(
            path,
            what,
            "unpack it first, or compress it again with a smaller window",
        );
    }
    if error.kind() == io::ErrorKind::UnexpectedEof || message.contains("incomplete") {
        return DataError::corrupt(path, format!("its {name} data is cut off"), "fetch it again");
    }
    let what = format!("its {name} data is damaged ({})", escaped_message(&message));
    DataError::corrupt(path, what, "fetch it again")
}

/// The error of text that is not UTF-8 at `offset`, with a guess of what it is.
fn not_utf8(path: &Path, offset: u64) -> DataError {
    let guessed = unpack(path, &Arc::default())
        .map_or(Guess::Unknown, |(_, head, rest)| guess(io::Cursor::new(head).chain(rest), offset));
    let lossy = "or use `lossy` to replace such bytes";
    let (what, fix) = match guessed {
        Guess::Encoding(name) => {
            (format!("; it looks like {name}"), format!("{}, {lossy}", convert(name)))
        }
        Guess::CutOff => (
            ", where the file ends inside a character".to_owned(),
            "the file seems to be cut off: fetch it again, or use `lossy` to replace the rest"
                .to_owned(),
        ),
        Guess::Binary => ("; it does not look like text".to_owned(), "give text".to_owned()),
        Guess::Unknown => (String::new(), format!("{}, {lossy}", convert("ENCODING"))),
    };
    DataError::InvalidUtf8 { path: path.to_path_buf(), offset, what, fix }
}

/// The error of text with too much invalid UTF-8 to be replaced.
pub(super) fn hardly_utf8(path: &Path, n_replaced: u64, n_bytes: u64) -> DataError {
    let guessed = unpack(path, &Arc::default())
        .map_or(Guess::Unknown, |(_, head, rest)| guess(io::Cursor::new(head).chain(rest), 0));
    let what = format!(
        "{n_replaced} places in {n_bytes} bytes of text are not UTF-8: too many to replace"
    );
    let fix = match guessed {
        Guess::Encoding(name) => format!("it looks like {name}: {}", convert(name)),
        Guess::Binary => "it does not look like text: give text".to_owned(),
        Guess::CutOff | Guess::Unknown => convert("ENCODING"),
    };
    DataError::corrupt(path, what, fix)
}

fn convert(encoding: &str) -> String {
    format!("convert the file with `iconv -f {encoding} -t UTF-8 OLD > NEW`")
}

/// Counts the bytes that are read.
struct Counted {
    inner: File,
    n_bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.n_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Whether a file of unknown name may be text: it is not of another known kind, and has no NUL.
pub(super) fn looks_like_text(path: &Path) -> bool {
    unpack(path, &Arc::default()).is_ok_and(|(_, head, _)| {
        wrong_kind(&head).is_none() && (marked_utf16(&head).is_some() || !head.contains(&0))
    })
}

/// The kind of a file with an unknown extension by its first bytes, for a helpful message.
pub(super) fn refuse_unknown(path: &Path) -> DataError {
    match unpack(path, &Arc::default()) {
        Ok((_, head, _)) => match wrong_kind(&head) {
            Some((what, fix)) => DataError::usage(format!("{}: this is {what}", Shown(path)), fix),
            None => super::format::unknown(path),
        },
        Err(_) => super::format::unknown(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::super::ReadAs;
    use super::super::tests::{as_usual, file, read, read_as};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// `hello` and a new line as `xz` packs it.
    #[rustfmt::skip]
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01,
        0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
        0x0a, 0x00, 0x00, 0x00, 0xa5, 0x60, 0x97, 0xf1, 0x94, 0xf6, 0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06,
        0xc1, 0x2f, 0xa4, 0x1d, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

    #[test]
    fn compressed_files_are_read_whatever_their_name_is() {
        let dir = tempfile::tempdir().unwrap();
        let text = "A line of many, größer.\n".repeat(50_000);
        let (head, tail) = text.as_bytes().split_at(text.len() / 2);
        for (name, bytes) in [
            ("a.txt.gz", gzip(text.as_bytes())),
            ("a.txt.zst", zstd(text.as_bytes())),
            ("gzip.txt", gzip(text.as_bytes())),
            ("members.txt.gz", [gzip(head), gzip(tail)].concat()),
            ("frames.txt.zst", [zstd(head), zstd(tail)].concat()),
            ("plain.txt.gz", text.clone().into_bytes()),
        ] {
            assert!(read(&file(&dir, name, bytes)).unwrap().0 == [text.as_str()], "{name}");
        }
    }

    #[test]
    fn damaged_compressed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = (0..50_000).map(|i| format!("line {i}\n")).collect::<String>().into_bytes();
        let (gz, zst) = (gzip(&text), zstd(&text));
        let flipped = |mut bytes: Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 20].fill(0x55);
            bytes
        };
        for (name, bytes, expected_text) in [
            ("cut.txt.gz", gz[..gz.len() / 2].to_vec(), "its gzip data is cut off"),
            ("cut.txt.zst", zst[..zst.len() / 2].to_vec(), "its zstd data is cut off"),
            ("cut.txt.xz", XZ[..30].to_vec(), "its xz data is"),
            ("bad.txt.gz", flipped(gz.clone()), "its gzip data is damaged"),
            ("bad.txt.zst", flipped(zst), "its zstd data is damaged"),
            ("twice.txt.gz", gzip(&gz), "compressed twice"),
            ("zip.txt", b"PK\x03\x04".to_vec(), "a zip archive"),
            ("pdf.txt.gz", gzip(b"%PDF-1.7"), "a PDF"),
        ] {
            let error = read(&file(&dir, name, bytes)).err().unwrap();
            assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt, "{error}");
            assert!(error.explained().contains(expected_text), "{name}: {error}");
        }
    }

    #[test]
    fn a_window_that_takes_too_much_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[b'a'; 1 << 20]).unwrap();
        let path = file(&dir, "a.txt.zst", encoder.finish().unwrap());
        let error = read(&path).unwrap_err().explained();
        assert!(
            error.contains("more than 128 MiB") && error.contains("a smaller window"),
            "{error}"
        );
    }

    #[test]
    fn utf_16_with_a_mark_is_decoded_in_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let le = |text: &str| -> Vec<u8> {
            "\u{feff}"
                .chars()
                .chain(text.chars())
                .collect::<String>()
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect()
        };
        let be = |text: &str| -> Vec<u8> {
            "\u{feff}"
                .chars()
                .chain(text.chars())
                .collect::<String>()
                .encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect()
        };
        for (name, bytes) in [
            ("le.txt", le("größer 🦜")),
            ("be.txt", be("größer 🦜")),
            ("le.jsonl", le("{\"text\": \"größer 🦜\"}\n")),
            ("be.csv", be("id,text\n1,größer 🦜")),
            ("le.txt.gz", gzip(&le("größer 🦜"))),
        ] {
            assert_eq!(read(&file(&dir, name, bytes)).unwrap().0, ["größer 🦜"], "{name}");
        }
        let bare: Vec<u8> = "plain words".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let path = file(&dir, "bare.txt", bare);
        for lossy in [false, true] {
            let error = read_as(&path, ReadAs { lossy, ..as_usual() }).unwrap_err().explained();
            assert!(error.contains("iconv -f UTF-16LE -t UTF-8"), "{error}");
        }
    }

    #[test]
    fn too_much_to_replace_is_another_encoding() {
        let dir = tempfile::tempdir().unwrap();
        let lossy = || ReadAs { lossy: true, ..as_usual() };
        let words = "むかしむかし、あるところに小さな猫がいました。".repeat(50);
        let (bytes, ..) = encoding_rs::SHIFT_JIS.encode(&words);
        let path = file(&dir, "sjis.txt", &bytes);
        let error = read_as(&path, lossy()).unwrap_err().explained();
        assert!(error.contains("too many to replace"), "{error}");
        assert!(error.contains("iconv -f SHIFT_JIS"), "{error}");
        // A hundredth is not too much.
        let mostly = "plain words, ".repeat(1_000).into_bytes();
        let path =
            file(&dir, "mostly.txt", [&mostly[..], b"\xff ".repeat(100).as_slice()].concat());
        assert_eq!(read_as(&path, lossy()).unwrap().1.n_replaced, 100);
        let path = file(&dir, "more.txt", [&mostly[..], b"\xff ".repeat(150).as_slice()].concat());
        assert!(read_as(&path, lossy()).is_err());
    }

    #[test]
    fn xz_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&file(&dir, "a.txt.xz", XZ)).unwrap().0, ["hello\n"]);
    }
}
