//! The kind of a file by its first bytes, whatever its name.

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    /// What the first bytes of a file say.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        // A zstd file may start with a frame that is to be skipped.
        let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ if skippable => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }
}

/// A kind of file that is not plain text: what it is, and what to do with it.
pub(super) type WrongKind = (&'static str, &'static str);

const UNPACK: &str = "unpack it and give the files in it, or the folder";

/// First bytes of files that are often mistaken for text.
const WRONG: [(&[u8], WrongKind); 17] = [
    (b"PK\x03\x04", ("a zip archive (or a .docx, .xlsx or .epub, which are such)", UNPACK)),
    (b"BZh", ("compressed with bzip2", "unpack it with `bunzip2`")),
    (b"7z\xbc\xaf\x27\x1c", ("a 7-Zip archive", UNPACK)),
    (b"Rar!", ("a RAR archive", UNPACK)),
    (b"%PDF-", ("a PDF", "extract its text, for example with `pdftotext`")),
    (b"{\\rtf", ("a document in rich text format", "save it as plain text")),
    (b"\xd0\xcf\x11\xe0", ("an old Office document", "save it as plain text")),
    (b"PAR1", ("a parquet file", "name it .parquet, or set `format` to `parquet`")),
    (b"ARROW1", ("an Arrow file", "write it as parquet or JSON lines")),
    (b"SQLite format 3\0", ("an SQLite database", "export its text as CSV or JSON lines")),
    (b"\x93NUMPY", ("a NumPy array", "give the text that it was made from")),
    (b"\x89PNG", ("a PNG image", "give text")),
    (b"\xff\xd8\xff", ("a JPEG image", "give text")),
    (b"\x7fELF", ("a program", "give text")),
    (b"\x00\x00\xfe\xff", ("UTF-32 text", "convert it with `iconv -f UTF-32 -t UTF-8`")),
    (b"\xff\xfe\x00\x00", ("UTF-32 text", "convert it with `iconv -f UTF-32 -t UTF-8`")),
    (
        b"version https://git-lfs.github.com/spec/",
        ("a pointer of Git LFS, not the file itself", "fetch the file with `git lfs pull`"),
    ),
];

/// The kind of a file that holds no plain text.
pub(super) fn wrong_kind(head: &[u8]) -> Option<WrongKind> {
    if head.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", UNPACK));
    }
    WRONG.into_iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, kind)| kind)
}

/// The byte order of UTF-16 without a byte order mark: where text is mostly ASCII, every second
/// byte is 0.
pub(super) fn unmarked_utf16(head: &[u8]) -> Option<&'static str> {
    let n_pairs = head.len() / 2;
    let n_zeros = |first: usize| head.iter().skip(first).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd) = (n_zeros(0), n_zeros(1));
    let (most, few) = (n_pairs / 2, n_pairs / 20);
    match n_pairs {
        0 | 1 => None,
        _ if odd > most && even <= few => Some("UTF-16LE"),
        _ if even > most && odd <= few => Some("UTF-16BE"),
        _ => None,
    }
}

/// Whether bytes are not text in any encoding: many control characters.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    let is_control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    bytes.iter().filter(|&&byte| is_control(byte)).count() * 10 > bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_is_recognized_by_its_zeros() {
        let le: Vec<u8> =
            "It was a dark night.".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> =
            "It was a dark night.".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(unmarked_utf16(&le), Some("UTF-16LE"));
        assert_eq!(unmarked_utf16(&be), Some("UTF-16BE"));
        for other in [&b"plain text"[..], b"", b"a", &[0; 64], b"a\0b c d e f g h i j k"] {
            assert_eq!(unmarked_utf16(other), None, "{other:?}");
        }
    }

    #[test]
    fn kinds_are_detected_by_their_first_bytes() {
        assert_eq!(Compression::of(b"\x1f\x8b\x08"), Some(Compression::Gzip));
        assert_eq!(Compression::of(b"P*M\x18"), Some(Compression::Zstd));
        assert_eq!(Compression::of(b"PK"), None);
        assert_eq!(Compression::of(b""), None);
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, what) in [(&b"%PDF-1.7"[..], "PDF"), (b"PK\x03\x04..", "zip"), (&tar, "tar")] {
            assert!(wrong_kind(head).is_some_and(|(kind, _)| kind.contains(what)), "{what}");
        }
        assert_eq!(wrong_kind(b"PKZIP was a program"), None);
        assert!(is_binary(&[1, 2, 3, 4]) && !is_binary(b"caf\xe9 au lait\r\n"));
    }
}
