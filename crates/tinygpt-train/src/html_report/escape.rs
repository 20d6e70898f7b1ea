//! Text in HTML: everything that comes from a run goes through here.

use std::fmt::Write as _;

use serde::Serialize;

/// `text` as it stands between tags and in quotes. Control characters, which HTML does not allow,
/// become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            // With "\n" in front of them they are line ends, and alone nothing that is seen.
            '\r' => {}
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number as it stands in the metrics, in its shortest form.
pub(super) fn exact(number: impl Serialize) -> String {
    serde_json::to_string(&number).unwrap_or_default()
}

/// `1,300`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        let separator = if idx > 0 && (digits.len() - idx).is_multiple_of(3) { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{digit}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_becomes_a_tag() {
        assert_eq!(
            escape("<script>\"&amp;\u{0}\u{1b}[1m\r\n\té"),
            "&lt;script&gt;&quot;&amp;amp;\u{fffd}\u{fffd}[1m\n\té"
        );
    }

    #[test]
    fn numbers_are_exact_or_grouped() {
        assert_eq!([exact(0.1f32), exact(3e-5), exact(2u64)], ["0.1", "0.00003", "2"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
