//! Output to terminals and pipes: results to stdout, everything else to stderr.
//!
//! A reader that closes the pipe (`sample | head`) is not an error. Generated text cannot move the
//! cursor or rename the window: control characters are escaped on a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use tinygpt_data::middle_cut;

/// Standard output, and whether a terminal or a program reads it.
#[derive(Debug)]
pub struct Output {
    out: io::StdoutLock<'static>,
    is_terminal: bool,
    is_closed: bool,
}

impl Output {
    /// Locks standard output.
    pub fn lock() -> Self {
        let out = io::stdout().lock();
        Self { is_terminal: out.is_terminal(), out, is_closed: false }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the reader has closed the pipe, so that writing more is useless.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Writes text of the program unchanged, and flushes.
    ///
    /// # Errors
    /// Any error but a closed pipe.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            result => result.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
            }),
        }
    }

    /// Writes generated text; control characters are escaped on a terminal.
    ///
    /// # Errors
    /// Any error but a closed pipe.
    pub fn print_model_text(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal { self.print(&escape_controls(text)) } else { self.print(text) }
    }
}

/// Whether output may be coloured.
pub fn wants_colour(out: &Output) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    out.is_terminal() && !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// `text` with all control characters but newline and tab written as `\u{1b}`.
pub fn escape_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1900;
/// The longest line of a message that is too long, in characters.
const MAX_LINE: usize = 400;

/// The rank of this process if several train together.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// From now on this process is `rank` of several: only rank 0 prints messages.
pub fn set_rank(rank: usize) {
    RANK.store(rank, Ordering::Relaxed);
}

/// The rank of this process, 0 if it is alone.
pub fn rank() -> usize {
    RANK.load(Ordering::Relaxed)
}

/// Writes a message to stderr, with control characters escaped. An error of stderr is ignored.
pub fn say(message: &str) {
    if rank() == 0 {
        say_on_any_rank(message);
    }
}

/// The same on every rank, with its number.
pub fn say_on_any_rank(message: &str) {
    let prefix = match rank() {
        0 => String::new(),
        rank => format!("rank {rank}: "),
    };
    let _ = writeln!(io::stderr(), "{prefix}{}", bounded(&escape_controls(message)));
}

/// Shortens a message that is too long: cuts long lines in the middle and omits the last lines, so
/// that a message that quotes a file does not fill a terminal or a log.
pub fn bounded(message: &str) -> Cow<'_, str> {
    if message.len() <= MAX_MESSAGE {
        return Cow::from(message);
    }
    let mut text = String::new();
    for line in message.split('\n') {
        let line = middle_cut(line, MAX_LINE);
        if text.len() + line.len() + 2 > MAX_MESSAGE {
            text.push_str("…\n");
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.pop();
    Cow::from(text)
}

/// `12345678` as `12,345,678`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in words: `8.4 s`, `3 min 20 s`, `2 h 5 min`.
pub fn spoken(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A duration in few characters: `0:08`, `35:24`, `2.1 h`, `130 h`.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        3600..360_000 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape_controls("a\u{1b}[2Jb\n\tc\r\u{9b}é"), "a\\u{1b}[2Jb\n\tc\\u{d}\\u{9b}é");
    }

    #[test]
    fn no_message_is_longer_than_two_kilobytes() {
        assert_eq!(bounded("error: short\nhint: this"), "error: short\nhint: this");
        let lines = "line\n".repeat(500_000);
        for long in ["x".repeat(2_000_000), "漢字 ".repeat(500_000), lines.clone()] {
            let message = format!("error: {long}, expected less");
            let shown = bounded(&message);
            assert!(shown.len() < 2000 && shown.starts_with("error: "), "{}", shown.len());
        }
        let message = format!("error: {} here\nhint: do this", "x".repeat(2_000_000));
        assert!(bounded(&message).ends_with("x here\nhint: do this"));
        assert!(bounded(&lines).ends_with("line\n…"));
    }

    #[test]
    fn numbers_and_durations_read_well() {
        let numbers = [0, 999, 1000, 12_345_678].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,345,678"]);
        let durations = [8.44, 59.96, 200.0, 7500.0].map(spoken);
        assert_eq!(durations, ["8.4 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]);
        let clocks = [8.44, 2124.0, 3599.6, 7500.0, 468_000.0].map(clock);
        assert_eq!(clocks, ["0:08", "35:24", "1.0 h", "2.1 h", "130 h"]);
    }
}
