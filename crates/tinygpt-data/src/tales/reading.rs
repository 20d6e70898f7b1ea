//! Reads a text as a story of one plot: the inverse of `generator.rs`.
//!
//! A reading follows the plot beat by beat. Wherever the generator would have drawn something, all ways
//! to read the text continue side by side, each with the characters and things that it still
//! allows. A text can be read if one of them reaches its end.

use std::rc::Rc;

use super::cast::Candidate;
use super::generator::MAY_REPEAT;
use super::spelling::without_n;
use super::templates::{Binding, Part, Plot, Templates, options};

/// One way to read the text up to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// The next byte of the text.
    at: usize,
    /// For each binding of the plot, the candidates or options that fit so far, by their numbers.
    fitting: Vec<Rc<[u16]>>,
}

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
    /// Words that could have stood there.
    pub(super) expected: Vec<String>,
}

/// Reads `text`, in which every article is "a", as a story of `plot`.
pub(super) fn read(
    templates: &Templates,
    (plot, cast): (&Plot, &[Vec<Candidate>]),
    text: &str,
) -> Reading {
    let mut reader = Reader { templates, plot, cast, text, reading: Reading::default() };
    let mut states = vec![reader.start()];
    for (beat_idx, beat) in plot.beats.iter().enumerate() {
        if beat_idx > 0 {
            states = reader.plain(" ", false, states);
        }
        states = reader.any_of(beat.variants.iter().copied(), false, &states);
    }
    reader.reading.is_whole = states.iter().any(|state| state.at == text.len());
    reader.reading.ends_at = states.iter().map(|state| state.at).max();
    reader.reading
}

/// Whether `text` starts with a beat of `plot`, and that is at least `length` bytes.
pub(super) fn starts_with_a_beat(
    templates: &Templates,
    (plot, cast): (&Plot, &[Vec<Candidate>]),
    (text, length): (&str, usize),
) -> bool {
    let mut reader = Reader { templates, plot, cast, text, reading: Reading::default() };
    let states = [reader.start()];
    let variants = plot.beats.iter().flat_map(|beat| beat.variants.iter().copied());
    let ends = reader.any_of(variants, false, &states);
    ends.iter().any(|state| state.at >= length)
}

struct Reader<'a> {
    templates: &'a Templates,
    plot: &'a Plot,
    cast: &'a [Vec<Candidate>],
    text: &'a str,
    reading: Reading,
}

impl Reader<'_> {
    fn start(&self) -> State {
        let count = |(binding, cast): (&Binding, &Vec<Candidate>)| match binding {
            Binding::Role { .. } => cast.len(),
            Binding::Choice { options, .. } => options.len(),
        };
        let counts = self.plot.bindings.iter().zip(self.cast).map(count);
        State { at: 0, fitting: counts.map(|n| (0..n as u16).collect()).collect() }
    }

    /// Notes that `expected` does not stand at the word that holds byte `at`.
    fn failed(&mut self, at: usize, expected: &str) {
        if at < self.reading.end {
            return;
        }
        self.reading.is_cut |= at == self.text.len();
        let word = self.text[..at].rfind([' ', '"']).map_or(0, |space| space + 1);
        let reading = &mut self.reading;
        if word > reading.end {
            reading.end = word;
            reading.expected.clear();
        }
        if word == reading.end && !reading.expected.iter().any(|known| known == expected) {
            reading.expected.push(expected.to_owned());
        }
    }

    /// Reads one of `variants`.
    fn any_of<'t>(
        &mut self,
        variants: impl Iterator<Item = &'t str>,
        capital: bool,
        states: &[State],
    ) -> Vec<State> {
        let mut read: Vec<State> = Vec::new();
        for variant in variants {
            for state in self.template(variant, capital, states.to_vec()) {
                if !read.contains(&state) {
                    read.push(state);
                }
            }
        }
        read
    }

    /// Reads a template; its first letter is a capital if `capital`.
    fn template(
        &mut self,
        template: &str,
        mut capital: bool,
        mut states: Vec<State>,
    ) -> Vec<State> {
        let mut rest = template;
        while !rest.is_empty() && !states.is_empty() {
            let (plain, from) = rest.split_at(rest.find(['{', '(']).unwrap_or(rest.len()));
            if !plain.is_empty() {
                states = self.plain(&without_n(plain), capital, states);
                capital = false;
            }
            let Some((part, after)) = Part::split(from) else { break };
            states = match part {
                Part::Marker(marker) => self.marker(marker, capital, &states),
                Part::Group(inside) => self.any_of(options(inside).into_iter(), capital, &states),
            };
            (rest, capital) = (after, false);
        }
        states
    }

    /// Reads `plain` as it is.
    fn plain(&mut self, plain: &str, capital: bool, mut states: Vec<State>) -> Vec<State> {
        states.retain_mut(|state| match self.word_end(plain, capital, state.at) {
            Some(end) => {
                state.at = end;
                true
            }
            None => false,
        });
        states
    }

    /// Where `plain` ends if it stands at byte `at`.
    fn word_end(&mut self, plain: &str, capital: bool, at: usize) -> Option<usize> {
        let mut wanted = plain.bytes();
        let first = wanted.next().map(|b| if capital { b.to_ascii_uppercase() } else { b });
        let rest = &self.text.as_bytes()[at..];
        let equal = first.into_iter().chain(wanted).zip(rest).take_while(|(a, b)| a == *b);
        let n_equal = equal.count();
        if n_equal == plain.len() {
            return Some(at + n_equal);
        }
        self.failed(at + n_equal, word_at(plain, n_equal));
        None
    }

    fn marker(&mut self, marker: &str, capital: bool, states: &[State]) -> Vec<State> {
        let capital = capital || marker.starts_with(|c: char| c.is_ascii_uppercase());
        let key = marker.to_ascii_lowercase();
        let (name, field) = key.split_once('.').unwrap_or((&key, ""));
        for (idx, binding) in self.plot.bindings.iter().enumerate() {
            match binding {
                Binding::Role { name: role, .. } if *role == name => {
                    return states
                        .iter()
                        .flat_map(|it| self.role(idx, field, capital, it))
                        .collect();
                }
                Binding::Choice { names, options } => {
                    if let Some(column) = names.iter().position(|choice| *choice == name) {
                        let texts: Vec<&str> =
                            options.iter().map(|option| option[column]).collect();
                        return self.choice((idx, &texts), capital, states);
                    }
                }
                Binding::Role { .. } => {}
            }
        }
        let templates = self.templates;
        let rows = templates.table(&key).into_iter().flat_map(|table| &table.rows);
        self.any_of(rows.filter_map(|row| row.first().copied()), capital, states)
    }

    /// Reads a word about the character of binding `idx`, and keeps the candidates that have it.
    fn role(&mut self, idx: usize, field: &str, capital: bool, state: &State) -> Vec<State> {
        let cast = self.cast;
        let mut words: Vec<(&str, Vec<u16>)> = Vec::new();
        for &candidate in state.fitting[idx].iter() {
            let word = self.word(&cast[idx][usize::from(candidate)], field);
            match words.iter_mut().find(|(known, _)| *known == word) {
                Some((_, candidates)) => candidates.push(candidate),
                None => words.push((word, vec![candidate])),
            }
        }
        let mut read = Vec::new();
        for (word, candidates) in words {
            let Some(at) = self.word_end(&without_n(word), capital, state.at) else { continue };
            let mut narrowed = State { at, fitting: state.fitting.clone() };
            narrowed.fitting[idx] = candidates.into();
            if self.has_two_of_one(&narrowed, idx) {
                self.failed(state.at, "");
                continue;
            }
            read.push(narrowed);
        }
        read
    }

    /// The form of a pronoun, another cell of the row, or the name.
    fn word(&self, candidate: &Candidate, field: &str) -> &'static str {
        if let Some(form) = candidate.pronoun.and_then(|pronoun| pronoun.form(field)) {
            return form;
        }
        let table = &self.templates.tables[candidate.table];
        let row = &table.rows[candidate.row];
        match field {
            "" => candidate.text,
            "kind" => row.first().copied().unwrap_or_default(),
            field => table.cell(row, field).unwrap_or_default(),
        }
    }

    /// Whether the character of binding `idx` has the name or the kind of another one.
    fn has_two_of_one(&self, state: &State, idx: usize) -> bool {
        let only = |idx: usize| {
            let [first, others @ ..] = &*state.fitting[idx] else { return (None, None) };
            let first = self.cast[idx].get(usize::from(*first));
            let all = |same: &dyn Fn(&Candidate, &Candidate) -> bool| {
                first.filter(|first| {
                    others.iter().all(|it| same(first, &self.cast[idx][usize::from(*it)]))
                })
            };
            let kind = |it: &Candidate| (it.table, it.row);
            (all(&|a, b| a.text == b.text), all(&|a, b| kind(a) == kind(b)))
        };
        let (name, kind) = only(idx);
        let roles = (0..state.fitting.len()).filter(|other| *other != idx);
        roles.map(only).any(|(other_name, other_kind)| {
            let same_name = name.zip(other_name).is_some_and(|(a, b)| a.text == b.text);
            let word = |it: &Candidate| self.templates.tables[it.table].rows[it.row].first();
            let same_kind = kind.zip(other_kind).is_some_and(|(a, b)| {
                word(a) == word(b) && self.templates.tables[a.table].name != MAY_REPEAT
            });
            same_name || same_kind
        })
    }

    /// Reads the text of a choice, and keeps the options that have it.
    fn choice(
        &mut self,
        (idx, texts): (usize, &[&str]),
        capital: bool,
        states: &[State],
    ) -> Vec<State> {
        let mut read = Vec::new();
        for state in states {
            for &option in state.fitting[idx].iter() {
                let mut narrowed = state.clone();
                narrowed.fitting[idx] = Rc::new([option]);
                read.extend(self.template(texts[usize::from(option)], capital, vec![narrowed]));
            }
        }
        read
    }
}

/// The word of `plain` that holds byte `at`.
fn word_at(plain: &str, at: usize) -> &str {
    let start = plain[..at].rfind([' ', '"']).map_or(0, |space| space + 1);
    let word = &plain[start..];
    &word[..word.find(' ').unwrap_or(word.len())]
}
