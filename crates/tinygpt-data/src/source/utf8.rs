//! Bytes to text: invalid UTF-8 is an error, or is replaced and counted on request.

/// Turns bytes into text.
///
/// With `lossy`, each run of bytes that is not UTF-8 becomes U+FFFD and counts once in
/// `n_replaced`. Without, the error is the offset of the first bad byte.
pub(super) fn to_text(bytes: Vec<u8>, lossy: bool, n_replaced: &mut u64) -> Result<String, usize> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    if !lossy {
        return Err(error.utf8_error().valid_up_to());
    }
    let bytes = error.into_bytes();
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            *n_replaced += 1;
        }
    }
    Ok(text)
}

/// How many of `bytes` come before a character that they may only be the beginning of.
pub(super) fn len_without_unfinished(bytes: &[u8]) -> usize {
    let n_last = bytes.len().min(3);
    for back in 1..=n_last {
        let at = bytes.len() - back;
        let length = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back { at } else { bytes.len() };
    }
    bytes.len()
}
