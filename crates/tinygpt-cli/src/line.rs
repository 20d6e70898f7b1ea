//! Reads lines: with a cursor and a history on a terminal, plain lines elsewhere.
//!
//! The terminal is in raw mode only while it waits for a key, so a signal does not leave it in raw
//! mode. The caller interprets the lines.

use std::io::{self, BufRead as _, IsTerminal as _};

use console::{Key, Term, measure_text_width};

/// A line of input, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// A line that is not UTF-8; only from a pipe or a file.
    NotText,
    /// There are no more lines: the input's end, or Ctrl-D.
    End,
}

/// Reads lines from standard input.
#[derive(Debug)]
pub struct LineReader {
    /// The terminal for keys and the line; `None` if the input is not a terminal.
    term: Option<Term>,
    history: Vec<String>,
}

impl LineReader {
    /// A reader without history.
    pub fn new() -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { term: is_terminal.then(Term::stderr), history: Vec::new() }
    }

    /// Whether input and messages are on a terminal.
    pub fn is_terminal(&self) -> bool {
        self.term.is_some()
    }

    /// Reads a line. On a terminal, prints `prompt` to standard error first, and Ctrl-C empties the
    /// line.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub fn read(&mut self, prompt: &str) -> io::Result<Typed> {
        let Some(term) = &self.term else {
            let mut line = Vec::new();
            if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
                return Ok(Typed::End);
            }
            let Ok(line) = String::from_utf8(line) else { return Ok(Typed::NotText) };
            // Some shells write a byte order mark before piped text.
            let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
            return Ok(Typed::Line(line.trim_end_matches(['\n', '\r']).to_owned()));
        };
        let mut line = Line::new(&self.history);
        let typed = loop {
            draw(term, prompt, &line)?;
            match term.read_key_raw() {
                Ok(key) => {
                    if let Some(typed) = line.press(key) {
                        break typed;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Typed::End,
                Err(error) => return Err(error),
            }
        };
        term.write_line("")?;
        if let Typed::Line(text) = &typed
            && !text.is_empty()
            && self.history.last() != Some(text)
        {
            self.history.push(text.clone());
        }
        Ok(typed)
    }
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Draws the part of the line around the cursor that fits.
fn draw(term: &Term, prompt: &str, line: &Line<'_>) -> io::Result<()> {
    let room = usize::from(term.size().1).saturating_sub(measure_text_width(prompt) + 1).max(8);
    let (text, behind) = line.visible(room);
    term.clear_line()?;
    term.write_str(&format!("{prompt}{text}"))?;
    if behind > 0 { term.move_cursor_left(behind) } else { Ok(()) }
}

/// A line that is being typed.
#[derive(Debug)]
struct Line<'a> {
    text: Vec<char>,
    /// Characters before the cursor.
    cursor: usize,
    history: &'a [String],
    /// Index of the shown line of the history; its length stands for the new line.
    shown: usize,
    /// The new line, while another is shown.
    draft: Vec<char>,
}

impl<'a> Line<'a> {
    fn new(history: &'a [String]) -> Self {
        let (text, draft) = (Vec::new(), Vec::new());
        Self { text, cursor: 0, history, shown: history.len(), draft }
    }

    /// Handles a key; returns the input if the key ends the line.
    fn press(&mut self, key: Key) -> Option<Typed> {
        match key {
            Key::Enter => return Some(Typed::Line(self.text.iter().collect())),
            // Ctrl-D
            Key::Char('\u{4}') if self.text.is_empty() => return Some(Typed::End),
            Key::Char('\u{4}') | Key::Del if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::ArrowLeft => self.cursor = self.cursor.saturating_sub(1),
            Key::ArrowRight => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.text.len(),
            Key::ArrowUp if self.shown > 0 => self.show(self.shown - 1),
            Key::ArrowDown if self.shown < self.history.len() => self.show(self.shown + 1),
            Key::CtrlC => *self = Self::new(self.history),
            // Ctrl-U and Ctrl-K
            Key::Char('\u{15}') => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            Key::Char('\u{b}') => self.text.truncate(self.cursor),
            Key::Char(c) if !c.is_control() => {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
            }
            _ => {}
        }
        None
    }

    /// Shows another line of the history, or the new one again.
    fn show(&mut self, place: usize) {
        if self.shown == self.history.len() {
            self.draft = std::mem::take(&mut self.text);
        }
        self.shown = place;
        self.text = match self.history.get(place) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.draft),
        };
        self.cursor = self.text.len();
    }

    /// The part of the line around the cursor that fits into `room` columns, and its columns behind
    /// the cursor.
    fn visible(&self, room: usize) -> (String, usize) {
        let width = |c: &char| measure_text_width(c.encode_utf8(&mut [0; 4]));
        let mut used = 0;
        let mut fits = |c: &&char| {
            used += width(c);
            used <= room
        };
        let n_before = self.text[..self.cursor].iter().rev().take_while(&mut fits).count();
        let n_behind = match n_before == self.cursor {
            true => self.text[self.cursor..].iter().take_while(&mut fits).count(),
            false => 0,
        };
        let text = &self.text[self.cursor - n_before..self.cursor + n_behind];
        (text.iter().collect(), text[n_before..].iter().map(width).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The input after some keys, with a history.
    fn typed(history: &[&str], keys: Vec<Key>) -> Option<Typed> {
        let history: Vec<String> = history.iter().map(|line| (*line).to_owned()).collect();
        let mut line = Line::new(&history);
        keys.into_iter().fold(None, |ended, key| ended.or_else(|| line.press(key)))
    }

    fn keys(text: &str) -> Vec<Key> {
        text.chars().map(Key::Char).collect()
    }

    #[test]
    fn a_line_is_edited_at_the_cursor() {
        use Key::{ArrowLeft, ArrowRight, Backspace, CtrlC, Del, End, Enter, Home};
        for (pressed, expected) in [
            (vec![], ""),
            (keys("añ漢"), "añ漢"),
            ([keys("ac"), vec![ArrowLeft], keys("b")].concat(), "abc"),
            ([keys("abc"), vec![Backspace, Home, Del, ArrowRight], keys("d")].concat(), "bd"),
            ([vec![Backspace, ArrowLeft, Del], keys("x"), vec![End, ArrowRight]].concat(), "x"),
            ([keys("old"), vec![CtrlC], keys("new\u{1b}")].concat(), "new"),
            ([keys("abcd"), vec![ArrowLeft], keys("\u{15}x")].concat(), "xd"),
            ([keys("abcd"), vec![ArrowLeft], keys("\u{b}\u{4}")].concat(), "abc"),
        ] {
            let typed = typed(&[], [pressed, vec![Enter]].concat());
            assert_eq!(typed, Some(Typed::Line(expected.to_owned())));
        }
    }

    #[test]
    fn control_d_ends_an_empty_line_only() {
        assert_eq!(typed(&[], keys("\u{4}")), Some(Typed::End));
        assert_eq!(typed(&[], keys("a\u{4}")), None);
    }

    #[test]
    fn arrows_walk_through_the_history_and_back_to_what_was_begun() {
        use Key::{ArrowDown as Down, ArrowUp as Up, Enter};
        for (pressed, expected) in [
            (vec![Up], "two"),
            (vec![Up, Up, Up], "one"),
            (vec![Up, Up, Down], "two"),
            (vec![Up, Up, Down, Down, Down], "begun"),
            ([vec![Up], keys("!")].concat(), "two!"),
        ] {
            let typed = typed(&["one", "two"], [keys("begun"), pressed, vec![Enter]].concat());
            assert_eq!(typed, Some(Typed::Line(expected.to_owned())));
        }
    }

    #[test]
    fn a_line_longer_than_the_terminal_shows_what_is_around_the_cursor() {
        let mut line = Line::new(&[]);
        keys("abc漢字xyz").into_iter().for_each(|key| assert!(line.press(key).is_none()));
        assert_eq!(line.visible(20), ("abc漢字xyz".to_owned(), 0));
        assert_eq!(line.visible(6), ("字xyz".to_owned(), 0));
        (0..5).for_each(|_| assert!(line.press(Key::ArrowLeft).is_none()));
        assert_eq!(line.visible(20), ("abc漢字xyz".to_owned(), 7));
        assert_eq!(line.visible(6), ("abc漢".to_owned(), 2));
    }
}
