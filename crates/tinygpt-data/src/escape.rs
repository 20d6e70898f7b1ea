//! Escapes in values that are typed: `\n`, `\r`, `\t` and `\\`, as a shell leaves them.

use crate::error::DataError;
use crate::quote::escaped_excerpt;

/// The text that `typed`, the value of `key`, stands for.
///
/// # Errors
/// [`DataError::Usage`] for any other escape, and for a `\` at the end.
pub(crate) fn unescape(key: &str, typed: &str) -> Result<String, DataError> {
    let mut text = String::with_capacity(typed.len());
    let mut chars = typed.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('\\') => text.push('\\'),
            other => {
                let found =
                    other.map_or_else(|| "at the end".to_owned(), |c| format!("before `{c}`"));
                return Err(DataError::usage(
                    format!("{key} `{}` has a backslash {found}", escaped_excerpt(typed)),
                    "the escapes are \\n, \\r, \\t and \\\\",
                ));
            }
        }
    }
    Ok(text)
}
