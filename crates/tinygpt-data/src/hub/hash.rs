//! The hash that names a blob: the SHA-256 of a file in large-file storage, git's hash of any other.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Read and hashed at once.
const CHUNK_BYTES: usize = 256 << 10;

/// How the name of a blob is made from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobHash {
    /// SHA-256 of the bytes.
    Sha256,
    /// SHA-1 of `blob`, a space, the length, a zero byte and the bytes: an object of git.
    Git,
}

impl BlobHash {
    /// Which hash `etag` is, by its length; `None` for any other `ETag`, as mirrors send them.
    pub(super) fn of_name(etag: &str) -> Option<Self> {
        let is_hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hexadecimal => Some(Self::Sha256),
            40 if is_hexadecimal => Some(Self::Git),
            _ => None,
        }
    }

    /// Its name in messages.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Git => "git hash",
        }
    }

    /// The hash of the `len` bytes left to read, in hexadecimal; `None` if it is to stop.
    pub(super) fn compute(
        self,
        reader: &mut impl Read,
        len: u64,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<Option<String>> {
        match self {
            Self::Sha256 => digest(Sha256::new(), reader, is_stopped),
            Self::Git => {
                let header = format!("blob {len}\0");
                digest(Sha1::new_with_prefix(header), reader, is_stopped)
            }
        }
    }
}

fn digest<D: Digest>(
    mut hasher: D,
    reader: &mut impl Read,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<Option<String>> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        if is_stopped() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
        for (name, hash) in [
            ("ce013625030ba8dba906f756967f9e9ca394464a", BlobHash::Git),
            ("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", BlobHash::Sha256),
        ] {
            assert_eq!(BlobHash::of_name(name), Some(hash));
            let mut bytes = &b"hello\n"[..];
            let found = hash.compute(&mut bytes, 6, &|| false).unwrap().unwrap();
            assert_eq!(found, name);
        }
        for other in ["", "always-the-same", "ce013625030ba8dba906f756967f9e9ca394464g", "abc123"] {
            assert_eq!(BlobHash::of_name(other), None, "{other}");
        }
    }
}
