//! Input text quoted in messages, cut to a length that suits a terminal and a log.
//!
//! A config file, a checkpoint's JSON or a flag may hold a value of megabytes. Messages quote its
//! beginning and its end, which is what identifies a path or a sentence.

use std::borrow::Cow;

/// The most characters of any input that a message quotes.
pub const MAX_QUOTED: usize = 80;

/// `text`, or its beginning and its end if it has more than [`MAX_QUOTED`] characters.
///
/// ```
/// use tinygpt_train::excerpt;
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
}
