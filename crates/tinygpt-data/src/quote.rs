//! How messages quote input: never more than one line.
//!
//! A line, a key or a name may be megabytes long and hold characters that move a terminal's
//! cursor. Every message of this crate quotes input through these functions.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::path::Path;

/// The most characters of any input that a message quotes.
const MAX_CHARS: usize = 80;

/// The longest path that is shown whole, in characters.
const MAX_PATH_CHARS: usize = 240;

/// The most characters of a message that quotes input in turn, such as a library's.
const MAX_MESSAGE_CHARS: usize = 600;

/// The most entries of a list that a message names.
const MAX_ENTRIES: usize = 10;

/// The beginning of `text`, at most 80 characters, control characters escaped.
pub(crate) fn clip(text: &str) -> String {
    clip_to(text, MAX_CHARS)
}

/// The beginning of a message that may quote input, such as a library's.
pub(crate) fn clip_message(message: &str) -> String {
    clip_to(message, MAX_MESSAGE_CHARS)
}

fn clip_to(text: &str, max_chars: usize) -> String {
    let mut clipped = String::new();
    let mut n_chars = 0;
    for (at, c) in text.char_indices() {
        let width = if c.is_control() { c.escape_default().count() } else { 1 };
        let is_last = at + c.len_utf8() == text.len();
        // One place is kept for the mark that something is missing.
        if n_chars + width + usize::from(!is_last) > max_chars {
            clipped.push('…');
            return clipped;
        }
        n_chars += width;
        if c.is_control() { clipped.extend(c.escape_default()) } else { clipped.push(c) }
    }
    clipped
}

/// A path in a message: complete, so that it can be copied; a path longer than people
/// type loses its middle.
#[derive(Debug)]
pub struct Shown<'a>(pub &'a Path);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.to_string_lossy();
        let n_chars = path.chars().count();
        let escape = |text: String| -> String {
            text.chars()
                .flat_map(|c| {
                    let escaped = c.is_control().then(|| c.escape_default());
                    let plain = escaped.is_none().then_some(c);
                    escaped.into_iter().flatten().chain(plain)
                })
                .collect()
        };
        if n_chars <= MAX_PATH_CHARS {
            return f.write_str(&escape(path.into_owned()));
        }
        let half = (MAX_CHARS - 1) / 2;
        let head: String = path.chars().take(half).collect();
        let tail: String = path.chars().skip(n_chars - half).collect();
        write!(f, "{}…{}", escape(head), escape(tail))
    }
}

/// `a`, `b` and `c` for a message, the first ten of them; "none" for an empty list.
pub(crate) fn quoted_list(names: &[impl AsRef<str>]) -> String {
    let mut quoted: Vec<String> =
        names.iter().take(MAX_ENTRIES).map(|name| format!("`{}`", clip(name.as_ref()))).collect();
    if names.len() > MAX_ENTRIES {
        quoted.push(format!("{} more", names.len() - MAX_ENTRIES));
    }
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// `text` as one word of a command line, quoted if a shell would split, expand or run any of it.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain =
        |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c) || (cfg!(windows) && c == '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::from(text);
    }
    // A single quote quotes nothing in a Windows shell, and a path there has no double quotes.
    Cow::from(if cfg!(windows) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_input_is_cut_and_control_characters_are_escaped() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        let exact = "é".repeat(80);
        assert_eq!(clip(&exact), exact);
        for long in ["é".repeat(81), "x".repeat(2 << 20), "\u{1b}".repeat(100), "\u{1b}".repeat(15)]
        {
            let clipped = clip(&long);
            assert!(clipped.chars().count() <= 80 && clipped.ends_with('…'), "{clipped}");
        }
    }

    #[test]
    fn lists_and_paths_are_bounded() {
        assert_eq!(quoted_list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(quoted_list(&[""; 0]), "none");
        let many: Vec<String> = (0..20_000).map(|i| format!("column {i}")).collect();
        assert!(quoted_list(&many).ends_with("`column 9` and 19990 more"));
        let path = "/data/".to_owned() + &"x".repeat(100_000) + "/last.txt";
        let shown = Shown(Path::new(&path)).to_string();
        assert!(shown.starts_with("/data/xx") && shown.ends_with("/last.txt"), "{shown}");
        assert!(shown.chars().count() <= MAX_CHARS);
    }

    #[test]
    #[cfg(not(windows))]
    fn words_of_a_command_are_quoted_where_a_shell_needs_it() {
        for (text, word) in [
            ("out/best", "out/best"),
            ("été-1.0", "été-1.0"),
            ("my dir", "'my dir'"),
            ("$HOME", "'$HOME'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
