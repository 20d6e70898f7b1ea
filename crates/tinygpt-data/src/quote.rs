//! How messages quote input: in excerpts, never more than one line.
//!
//! A line, a key or a name may be megabytes long and hold characters that move a terminal's cursor.
//! Messages of this crate quote the beginning of input, with control characters escaped. A program,
//! which escapes its output as a whole, quotes beginning and end, which identify a path or a sentence.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::path::Path;

/// The most characters of any input that a message quotes.
pub const MAX_QUOTED: usize = 80;

/// The longest path that is shown whole, in characters.
const MAX_PATH_CHARS: usize = 240;

/// The most characters of a message that quotes input in turn, such as a library's.
const MAX_MESSAGE_CHARS: usize = 600;

/// The most entries of a list that a message names.
const MAX_ENTRIES: usize = 10;

/// `text`, or its beginning and its end if it has more than [`MAX_QUOTED`] characters.
///
/// ```
/// use tinygpt_data::excerpt;
/// assert_eq!(excerpt("short"), "short");
/// assert_eq!(excerpt(&"x".repeat(1_000_000)).chars().count(), 80);
/// ```
pub fn excerpt(text: &str) -> Cow<'_, str> {
    middle_cut(text, MAX_QUOTED)
}

/// A message of a parser such as `invalid type: string "…", expected usize`: what it quotes in
/// double quotes or backticks is cut by [`excerpt`], the rest stays.
pub fn excerpt_quoted(message: &str) -> String {
    let mut text = String::new();
    for (i, piece) in outer_split(message, '"').into_iter().enumerate() {
        if i == 1 {
            text.push_str(&format!("\"{}\"", excerpt(piece)));
            continue;
        }
        for (j, piece) in piece.split('`').enumerate() {
            let tick = if j > 0 { "`" } else { "" };
            text.push_str(tick);
            text.push_str(&if j % 2 == 1 { excerpt(piece) } else { Cow::from(piece) });
        }
    }
    middle_cut(&text, 8 * MAX_QUOTED).into_owned()
}

/// What is before the first `quote`, between it and the last one, and after that.
fn outer_split(text: &str, quote: char) -> Vec<&str> {
    match text.split_once(quote) {
        Some((before, rest)) => match rest.rsplit_once(quote) {
            Some((inside, after)) => vec![before, inside, after],
            None => vec![text],
        },
        None => vec![text],
    }
}

/// `text` if it has at most `n_chars` characters, else a beginning, `…` and a shorter end.
pub fn middle_cut(text: &str, n_chars: usize) -> Cow<'_, str> {
    if text.len() <= n_chars || text.chars().nth(n_chars).is_none() {
        return Cow::from(text);
    }
    let n_tail = n_chars / 4;
    let n_head = n_chars.saturating_sub(n_tail + 1);
    let head = text.char_indices().nth(n_head).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().rev().nth(n_tail.saturating_sub(1)).map_or(0, |(at, _)| at);
    Cow::from(format!("{}…{}", &text[..head], &text[tail..]))
}

/// The beginning of `text`, at most [`MAX_QUOTED`] characters, control characters escaped.
pub(crate) fn escaped_excerpt(text: &str) -> String {
    escaped_start(text, MAX_QUOTED)
}

/// The beginning of a message that may quote input, such as a library's.
pub(crate) fn escaped_message(message: &str) -> String {
    escaped_start(message, MAX_MESSAGE_CHARS)
}

fn escaped_start(text: &str, max_chars: usize) -> String {
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
        let half = (MAX_QUOTED - 1) / 2;
        let head: String = path.chars().take(half).collect();
        let tail: String = path.chars().skip(n_chars - half).collect();
        write!(f, "{}…{}", escape(head), escape(tail))
    }
}

/// `a`, `b` and `c` for a message, the first ten of them; "none" for an empty list.
pub(crate) fn quoted_list(names: &[impl AsRef<str>]) -> String {
    let mut quoted: Vec<String> = names
        .iter()
        .take(MAX_ENTRIES)
        .map(|name| format!("`{}`", escaped_excerpt(name.as_ref())))
        .collect();
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
    fn an_excerpt_has_at_most_eighty_characters_and_both_ends() {
        let exact = "ä".repeat(80);
        assert_eq!(excerpt(&exact), exact);
        let long = format!("begin{}end", "漢".repeat(500_000));
        let cut = excerpt(&long);
        assert_eq!(cut.chars().count(), 80);
        assert!(cut.starts_with("begin漢") && cut.ends_with("漢end"), "{cut}");
    }

    #[test]
    fn only_what_a_message_quotes_is_cut() {
        let words = "word ".repeat(100_000);
        let message = format!("invalid type: string \"{words}\", expected usize");
        let cut = excerpt_quoted(&message);
        assert!(cut.chars().count() < 130, "{cut}");
        assert!(cut.starts_with("invalid type: string \"word word"), "{cut}");
        assert!(cut.ends_with("\", expected usize"), "{cut}");
        let message = format!("unknown field `{words}`, expected `a` or `b`");
        assert!(excerpt_quoted(&message).ends_with("`, expected `a` or `b`"));
        assert_eq!(excerpt_quoted("a \"b"), "a \"b");
        assert!(excerpt_quoted(&"`".repeat(100_000)).chars().count() <= 640);
    }

    #[test]
    fn long_input_is_cut_and_control_characters_are_escaped() {
        assert_eq!(escaped_excerpt("short"), "short");
        assert_eq!(escaped_excerpt("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        let exact = "é".repeat(80);
        assert_eq!(escaped_excerpt(&exact), exact);
        for long in ["é".repeat(81), "x".repeat(2 << 20), "\u{1b}".repeat(100), "\u{1b}".repeat(15)]
        {
            let clipped = escaped_excerpt(&long);
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
        assert!(shown.chars().count() <= MAX_QUOTED);
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
