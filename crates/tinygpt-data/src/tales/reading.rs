//! Reads a text as a story of one plot: the inverse of `generator.rs`.
//!
//! A reading follows the plot beat by beat. Wherever the generator would have drawn something, all ways
//! to read the text continue side by side, each with the characters and things that it still
//! allows. A text can be read if one of them reaches its end.

use std::rc::Rc;

use super::pieces::{Piece, ReadablePlot, Word};

/// For each binding of the plot, the candidates or options that fit so far, by their numbers.
type Fitting = Rc<[Rc<[u16]>]>;

/// One way to read the text up to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// The next byte of the text.
    at: usize,
    fitting: Fitting,
}

impl State {
    /// The state at byte `at`, with only `numbers` left for `binding`.
    fn narrowed(&self, at: usize, binding: usize, numbers: Rc<[u16]>) -> Self {
        let narrow = |(idx, fitting): (usize, &Rc<[u16]>)| {
            if idx == binding { numbers.clone() } else { fitting.clone() }
        };
        Self { at, fitting: self.fitting.iter().enumerate().map(narrow).collect() }
    }
}

/// Words that are kept of those that could have stood at a place.
const N_EXPECTED: usize = 3;

/// How far a plot explains a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Whether it explains all of it.
    pub(super) is_whole: bool,
    /// Whether the text ends before the story, which it fits as far as it goes.
    pub(super) is_cut: bool,
    /// Where the story ends, if it ends before the text.
    pub(super) ends_at: Option<usize>,
    /// Where the first word stands that it does not explain.
    pub(super) end: usize,
    /// Some of the words that could have stood there.
    pub(super) expected: Vec<String>,
}

/// Reads `text`, in which every article is "a", as a story of `plot`.
pub(super) fn read(plot: &ReadablePlot, text: &str) -> Reading {
    let mut reader = Reader::new(plot, text);
    let mut states = vec![reader.start()];
    for (beat_idx, beat) in plot.beats.iter().enumerate() {
        if beat_idx > 0 {
            states = reader.text(" ", &states);
        }
        states = reader.one_of(beat, &states);
    }
    reader.reading.is_whole = states.iter().any(|state| state.at == text.len());
    reader.reading.ends_at = states.iter().map(|state| state.at).max();
    reader.reading
}

/// Whether `text` starts with a beat of `plot`, and that is at least `length` bytes.
pub(super) fn starts_with_a_beat(plot: &ReadablePlot, text: &str, length: usize) -> bool {
    let mut reader = Reader::new(plot, text);
    // Nobody asks what does not fit.
    reader.reading.end = usize::MAX;
    let states = [reader.start()];
    let mut ends = plot.beats.iter().flat_map(|beat| reader.one_of(beat, &states));
    ends.any(|state| state.at >= length)
}

struct Reader<'a> {
    plot: &'a ReadablePlot,
    text: &'a str,
    reading: Reading,
}

impl<'a> Reader<'a> {
    fn new(plot: &'a ReadablePlot, text: &'a str) -> Self {
        Self { plot, text, reading: Reading::default() }
    }

    fn start(&self) -> State {
        let all = self.plot.n_fitting.iter().map(|n| (0..*n).collect());
        State { at: 0, fitting: all.collect() }
    }

    /// Whether it matters that something else stands at byte `at`: most variants do not fit, and few of
    /// them come as far as the best.
    fn is_news(&self, at: usize) -> bool {
        let Reading { end, expected, .. } = &self.reading;
        at >= *end
            && (expected.len() < N_EXPECTED
                || at == self.text.len()
                || self.text.as_bytes()[*end..at].iter().any(|b| b" \"".contains(b)))
    }

    /// Notes that `expected` does not stand at the word that holds byte `at`.
    fn failed(&mut self, at: usize, expected: &str) {
        if !self.is_news(at) {
            return;
        }
        self.reading.is_cut |= at == self.text.len();
        let word = self.text[..at].rfind([' ', '"']).map_or(0, |space| space + 1);
        let reading = &mut self.reading;
        if word > reading.end {
            reading.end = word;
            reading.expected.clear();
        }
        let is_known = |known: &String| known == expected;
        if word == reading.end
            && reading.expected.len() < N_EXPECTED
            && !reading.expected.iter().any(is_known)
        {
            reading.expected.push(expected.to_owned());
        }
    }

    /// Reads one of `variants`.
    fn one_of(&mut self, variants: &[Vec<Piece>], states: &[State]) -> Vec<State> {
        let mut read: Vec<State> = Vec::new();
        for variant in variants {
            for state in self.sequence(variant, states) {
                if !read.contains(&state) {
                    read.push(state);
                }
            }
        }
        read
    }

    fn sequence(&mut self, pieces: &[Piece], states: &[State]) -> Vec<State> {
        let Some((first, others)) = pieces.split_first() else { return states.to_vec() };
        let mut read = self.piece(first, states);
        for piece in others {
            if read.is_empty() {
                break;
            }
            read = self.piece(piece, &read);
        }
        read
    }

    fn piece(&mut self, piece: &Piece, states: &[State]) -> Vec<State> {
        match piece {
            Piece::Text(text) => self.text(text, states),
            Piece::OneOf(variants) => self.one_of(variants, states),
            Piece::Choice { binding, options } => self.choice(*binding, options, states),
            Piece::Role { binding, words, capital } => {
                let words = &self.plot.words[*words];
                states.iter().flat_map(|it| self.role(*binding, words, *capital, it)).collect()
            }
        }
    }

    /// Reads `text` as it is.
    fn text(&mut self, text: &str, states: &[State]) -> Vec<State> {
        let mut read = Vec::new();
        for state in states {
            let n_equal = n_equal(&self.text[state.at..], text, false);
            let at = state.at + n_equal;
            if n_equal == text.len() {
                read.push(State { at, fitting: state.fitting.clone() });
            } else if self.is_news(at) {
                self.failed(at, word_at(text, n_equal));
            }
        }
        read
    }

    /// Reads one of `words` about the character of `binding`, and keeps the candidates that have it.
    fn role(&mut self, binding: usize, words: &[Word], capital: bool, state: &State) -> Vec<State> {
        let fitting = &state.fitting[binding];
        let mut read = Vec::new();
        for word in words {
            let n_equal = n_equal(&self.text[state.at..], &word.text, capital);
            if n_equal < word.text.len() {
                let at = state.at + n_equal;
                let fits = |it: &u16| fitting.binary_search(it).is_ok();
                if self.is_news(at) && word.candidates.iter().any(fits) {
                    self.failed(at, word_at(&word.text, n_equal));
                }
                continue;
            }
            let both = fitting.iter().filter(|it| word.candidates.binary_search(it).is_ok());
            let both: Rc<[u16]> = both.copied().collect();
            if both.is_empty() {
                continue;
            }
            let narrowed = state.narrowed(state.at + word.text.len(), binding, both);
            if self.has_two_of_one(&narrowed, binding) {
                self.failed(state.at, "");
                continue;
            }
            read.push(narrowed);
        }
        read
    }

    /// Whether the character of `binding` has the name or the kind of another one.
    fn has_two_of_one(&self, state: &State, binding: usize) -> bool {
        // What all candidates that are left have in common.
        let known = |binding: usize| {
            let cast = &self.plot.cast[binding];
            let mut fitting = state.fitting[binding].iter().map(|it| cast.get(usize::from(*it)));
            let first = fitting.next().flatten()?;
            let (mut name, mut kind) = (Some(first.text), Some(first.kind));
            for other in fitting.flatten() {
                name = name.filter(|name| *name == other.text);
                kind = kind.filter(|kind| *kind == other.kind);
                if name.is_none() && kind.is_none() {
                    return None;
                }
            }
            Some((name, kind.filter(|_| !first.may_repeat)))
        };
        let Some((name, kind)) = known(binding) else { return false };
        let others = (0..state.fitting.len()).filter(|other| *other != binding);
        others.filter_map(known).any(|(other_name, other_kind)| {
            name.is_some() && name == other_name || kind.is_some() && kind == other_kind
        })
    }

    /// Reads the text of one of `options`, and keeps that option.
    fn choice(&mut self, binding: usize, options: &[Vec<Piece>], states: &[State]) -> Vec<State> {
        let mut read = Vec::new();
        for state in states {
            for &option in state.fitting[binding].iter() {
                let narrowed = state.narrowed(state.at, binding, Rc::new([option]));
                read.extend(self.sequence(&options[usize::from(option)], &[narrowed]));
            }
        }
        read
    }
}

/// The number of bytes with which `text` starts as `wanted` does, whose first letter is a capital if
/// `capital`.
fn n_equal(text: &str, wanted: &str, capital: bool) -> usize {
    let mut wanted = wanted.bytes();
    let first = wanted.next().map(|b| if capital { b.to_ascii_uppercase() } else { b });
    first.into_iter().chain(wanted).zip(text.bytes()).take_while(|(a, b)| a == b).count()
}

/// The word of `plain` that holds byte `at`.
fn word_at(plain: &str, at: usize) -> &str {
    let start = plain[..at].rfind([' ', '"']).map_or(0, |space| space + 1);
    let word = &plain[start..];
    &word[..word.find(' ').unwrap_or(word.len())]
}
