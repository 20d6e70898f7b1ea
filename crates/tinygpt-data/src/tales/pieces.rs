//! Plots cut into pieces for `reading.rs`, once: a checker does not parse templates for each story.

use super::cast::{Candidate, candidates};
use super::spelling::without_n;
use super::templates::{Binding, Part, Plot, Templates, options};

/// What a template is made of.
pub(super) enum Piece {
    /// Text as it is, in which every article is "a".
    Text(String),
    /// One of these.
    OneOf(Vec<Vec<Self>>),
    /// The option that this story has of a choice at the head of the plot: the pieces of each option.
    Choice { binding: usize, options: Vec<Vec<Self>> },
    /// A word about a character: one of the list with this number.
    Role { binding: usize, words: usize, capital: bool },
}

/// A word about a character, and the candidates for whom it is this one, by their numbers.
pub(super) struct Word {
    pub(super) text: String,
    pub(super) candidates: Vec<u16>,
}

/// Who a candidate is, as far as no two characters of a story can be the same.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub(super) text: &'static str,
    pub(super) kind: &'static str,
    pub(super) may_repeat: bool,
}

/// A plot that can be read.
pub(super) struct ReadablePlot {
    pub(super) title: &'static str,
    /// The candidates of each binding; of a choice, the list is empty.
    pub(super) cast: Vec<Vec<Identity>>,
    /// The number of candidates or options of each binding.
    pub(super) n_fitting: Vec<u16>,
    /// Lists of words, by number.
    pub(super) words: Vec<Vec<Word>>,
    /// The variants of each beat.
    pub(super) beats: Vec<Vec<Vec<Piece>>>,
}

impl ReadablePlot {
    /// Cuts the templates of `plot`.
    pub(super) fn new(templates: &Templates, plot: &Plot) -> Self {
        let cast = candidates(templates, plot);
        let mut cutter = Cutter { templates, plot, cast: &cast, fields: Vec::new() };
        let beats = plot.beats.iter().map(|beat| {
            beat.variants.iter().map(|variant| cutter.template(variant, false)).collect()
        });
        let beats = beats.collect();
        let words = cutter.fields.iter().map(|(idx, field)| words(&cast[*idx], field)).collect();
        let counts = plot.bindings.iter().zip(&cast).map(|(binding, cast)| match binding {
            Binding::Role { .. } => cast.len() as u16,
            Binding::Choice { options, .. } => options.len() as u16,
        });
        let n_fitting = counts.collect();
        let identity = |it: &Candidate<'_>| Identity {
            text: it.text,
            kind: it.kind(),
            may_repeat: it.may_repeat(),
        };
        let cast = cast.iter().map(|of_one| of_one.iter().map(identity).collect()).collect();
        Self { title: plot.title, cast, n_fitting, words, beats }
    }
}

/// The words that `{name.field}` stands for, each with its candidates.
fn words(cast: &[Candidate<'_>], field: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (candidate, number) in cast.iter().zip(0..) {
        let text = without_n(candidate.word(field));
        match words.iter_mut().find(|known| known.text == text) {
            Some(known) => known.candidates.push(number),
            None => words.push(Word { text: text.into_owned(), candidates: vec![number] }),
        }
    }
    words
}

struct Cutter<'a> {
    templates: &'a Templates,
    plot: &'a Plot,
    cast: &'a [Vec<Candidate<'a>>],
    /// The binding and the field of each list of words.
    fields: Vec<(usize, String)>,
}

impl Cutter<'_> {
    /// The pieces of `template`; its first letter is a capital if `capital`.
    fn template(&mut self, template: &str, mut capital: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let (plain, from) = rest.split_at(rest.find(['{', '(']).unwrap_or(rest.len()));
            if !plain.is_empty() {
                let mut plain = without_n(plain).into_owned();
                if std::mem::take(&mut capital) {
                    plain[..1].make_ascii_uppercase();
                }
                pieces.push(Piece::Text(plain));
            }
            let Some((part, after)) = Part::split(from) else { break };
            pieces.push(match part {
                Part::Marker(marker) => self.marker(marker, capital),
                Part::Group(inside) => self.one_of(options(inside).into_iter(), capital),
            });
            (rest, capital) = (after, false);
        }
        pieces
    }

    fn one_of<'t>(&mut self, variants: impl Iterator<Item = &'t str>, capital: bool) -> Piece {
        Piece::OneOf(variants.map(|variant| self.template(variant, capital)).collect())
    }

    fn marker(&mut self, marker: &str, capital: bool) -> Piece {
        let capital = capital || marker.starts_with(|c: char| c.is_ascii_uppercase());
        let key = marker.to_ascii_lowercase();
        let (name, field) = key.split_once('.').unwrap_or((&key, ""));
        let plot = self.plot;
        for (binding, bound) in plot.bindings.iter().enumerate() {
            match bound {
                Binding::Role { name: role, .. } if *role == name => {
                    return Piece::Role { binding, words: self.words(binding, field), capital };
                }
                Binding::Choice { names, options } => {
                    if let Some(column) = names.iter().position(|choice| *choice == name) {
                        let texts = options.iter().map(|option| option[column]);
                        let options = texts.map(|text| self.template(text, capital)).collect();
                        return Piece::Choice { binding, options };
                    }
                }
                Binding::Role { .. } => {}
            }
        }
        let templates = self.templates;
        let rows = templates.table(&key).into_iter().flat_map(|table| &table.rows);
        self.one_of(rows.filter_map(|row| row.first().copied()), capital)
    }

    /// The number of the list of words for `field` of the character of `binding`.
    fn words(&mut self, binding: usize, field: &str) -> usize {
        debug_assert!(!self.cast[binding].is_empty(), "a role has candidates");
        let known = self.fields.iter().position(|(idx, known)| *idx == binding && known == field);
        known.unwrap_or_else(|| {
            self.fields.push((binding, field.to_owned()));
            self.fields.len() - 1
        })
    }
}
