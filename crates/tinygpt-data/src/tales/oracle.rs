//! Which texts the grammar can write, decided by trying every cast of every plot: slow and simple, the
//! definition that the checker is tested against.
//!
//! It shares the templates and the spelling of articles with the checker, and nothing else.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::generator::{Pronoun, pronouns_of};
use super::spelling::{fix_articles, without_n};
use super::templates::{Binding, Part, Plot, Row, Table, Templates, options};

/// Whether a story of the grammar has the words of `text`.
pub(super) fn can_be_written(templates: &Templates, text: &str) -> bool {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = without_n(&text);
    fix_articles(&plain) == text
        && templates.plots.iter().any(|plot| is_of(templates, plot, &plain))
}

/// Whether `text`, in which every article is "a", is a story of `plot`. The characters of a beat are drawn
/// when it is read, so that most casts are done with after the first beat.
fn is_of(templates: &Templates, plot: &Plot, text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut casts = vec![(Vec::new(), Places::from([(0, false)]))];
    let mut is_drawn = vec![false; plot.bindings.len()];
    for (beat_idx, beat) in plot.beats.iter().enumerate() {
        let template = whole_template(templates, plot, &beat.variants);
        for (idx, binding) in plot.bindings.iter().enumerate() {
            let is_needed = names(binding).iter().any(|name| refers(&template, name));
            if !is_needed || std::mem::replace(&mut is_drawn[idx], true) {
                continue;
            }
            let drawn = drawn(templates, (idx, binding), &lower);
            let more = |(cast, places): &(Vec<_>, Places)| {
                let places = places.clone();
                with_each(cast, &drawn).into_iter().map(move |cast| (cast, places.clone()))
            };
            casts = casts.iter().flat_map(more).collect();
        }
        for (cast, places) in &mut casts {
            let matcher = Matcher { templates, cast, text };
            let start = matcher.plain(if beat_idx > 0 { " " } else { "" }, places);
            *places = matcher.any(beat.variants.iter().copied(), &start);
        }
        casts.retain(|(_, places)| !places.is_empty());
    }
    casts.iter().any(|(_, places)| places.iter().any(|(at, _)| *at == text.len()))
}

/// All that `variants` can be made of, in lower case: with the tables and the options that they refer to.
fn whole_template(templates: &Templates, plot: &Plot, variants: &[&str]) -> String {
    let tables = templates
        .tables
        .iter()
        .map(|table| (vec![table.name], table.rows.iter().map(|row| row[0]).collect::<Vec<_>>()));
    let choices = plot.bindings.iter().filter_map(|binding| match binding {
        Binding::Choice { names, options } => Some((names.clone(), options.concat())),
        Binding::Role { .. } => None,
    });
    let mut parts: Vec<_> = tables.chain(choices).collect();
    let mut template = variants.concat().to_ascii_lowercase();
    loop {
        let is_needed =
            |(names, _): &mut (Vec<&str>, _)| names.iter().any(|it| refers(&template, it));
        let needed: Vec<_> = parts.extract_if(.., is_needed).collect();
        if needed.is_empty() {
            return template;
        }
        template.extend(needed.into_iter().map(|(_, texts)| texts.concat().to_ascii_lowercase()));
    }
}

/// Whether `template` has a marker of `name`.
fn refers(template: &str, name: &str) -> bool {
    template.match_indices(name).any(|(at, _)| {
        template[..at].ends_with('{') && template[at + name.len()..].starts_with(['}', '.'])
    })
}

fn names<'t>(binding: &Binding) -> Vec<&'t str> {
    match binding {
        Binding::Role { name, .. } => vec![name],
        Binding::Choice { names, .. } => names.clone(),
    }
}

#[derive(Clone, Copy)]
struct Bound<'t> {
    name: &'t str,
    text: &'t str,
    pronoun: Option<Pronoun>,
    row: Option<(&'t Table, &'t Row)>,
}

/// `cast` with each of `drawn` that can be drawn for it: no second rabbit and no second Anna.
fn with_each<'t>(cast: &[Bound<'t>], drawn: &[Vec<Bound<'t>>]) -> Vec<Vec<Bound<'t>>> {
    let excludes = |old: &Bound<'_>, new: &Bound<'_>| match (old.row, new.row) {
        (Some((_, old)), Some((table, new))) if table.name != "child" && old[0] == new[0] => true,
        (_, Some(_)) => old.text == new.text,
        _ => false,
    };
    let is_free =
        |new: &&Vec<Bound<'_>>| new.iter().all(|new| !cast.iter().any(|old| excludes(old, new)));
    drawn.iter().filter(is_free).map(|new| [cast, new].concat()).collect()
}

/// Whether `words` stand somewhere in `text`, which is in lower case.
fn has(text: &str, words: &str) -> bool {
    let words = without_n(words).to_ascii_lowercase();
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let is_whole = |(at, _): (usize, &str)| {
        !text[..at].ends_with(is_letter) && !text[at + words.len()..].starts_with(is_letter)
    };
    text.match_indices(&words).any(is_whole)
}

/// What can be drawn for the binding with number `idx`: a character, or an option of a choice. Of the names
/// that are not in `text`, one of its own stands for all; of the rows of which nothing is in it, one for each
/// pronoun.
fn drawn<'t>(
    templates: &'t Templates,
    (idx, binding): (usize, &'t Binding),
    text: &str,
) -> Vec<Vec<Bound<'t>>> {
    let (name, named, tables) = match binding {
        Binding::Choice { names, options } => {
            let bound = |(name, text)| Bound { name, text, pronoun: None, row: None };
            let all = |option: &Vec<&'t str>| {
                names.iter().copied().zip(option.iter().copied()).map(bound).collect()
            };
            return options.iter().map(all).collect();
        }
        Binding::Role { name, named, tables } => (*name, *named, tables),
    };
    let mut drawn = Vec::new();
    for wanted in tables {
        let table = templates.table(wanted.table).unwrap();
        let mut absent = BTreeSet::new();
        for row in table.rows.iter().filter(|row| wanted.fits(table, row)) {
            let word = table.cell(row, "pronoun");
            let mut cells = row.iter().copied().filter(|cell| Some(*cell) != word);
            if !cells.any(|cell| has(text, cell)) && !absent.insert(word) {
                continue;
            }
            let pronouns = match word {
                None => vec![None],
                Some(word) => pronouns_of(word, named).iter().copied().map(Some).collect(),
            };
            for pronoun in pronouns {
                let bound = |text| vec![Bound { name, text, pronoun, row: Some((table, row)) }];
                let Some(pronoun) = pronoun.filter(|_| named) else {
                    drawn.push(bound(row[0]));
                    continue;
                };
                let names = templates.names(table.name, pronoun.is_she());
                let (here, absent): (Vec<&str>, Vec<&str>) = names.partition(|it| has(text, it));
                drawn.extend(here.into_iter().chain(absent.get(idx).copied()).map(bound));
            }
        }
    }
    drawn
}

/// A place in the text, and whether the next letter is a capital.
type Places = BTreeSet<(usize, bool)>;

struct Matcher<'a> {
    templates: &'a Templates,
    cast: &'a [Bound<'a>],
    text: &'a str,
}

impl Matcher<'_> {
    fn plain(&self, plain: &str, places: &Places) -> Places {
        let after = |&(at, capital): &(usize, bool)| {
            let is_equal = |(i, (a, b)): (usize, (u8, u8))| {
                a == if i == 0 && capital { b.to_ascii_uppercase() } else { b }
            };
            let rest = self.text[at..].bytes();
            let is_here =
                rest.len() >= plain.len() && rest.zip(plain.bytes()).enumerate().all(is_equal);
            is_here.then(|| (at + plain.len(), capital && plain.is_empty()))
        };
        places.iter().filter_map(after).collect()
    }

    fn any<'t>(&self, variants: impl Iterator<Item = &'t str>, places: &Places) -> Places {
        variants.flat_map(|variant| self.template(variant, places)).collect()
    }

    fn template(&self, template: &str, places: &Places) -> Places {
        let (plain, from) = template.split_at(template.find(['{', '(']).unwrap_or(template.len()));
        let places = self.plain(&without_n(plain), places);
        if places.is_empty() || from.is_empty() {
            return places;
        }
        let (part, after) = Part::split(from).unwrap();
        let places = match part {
            Part::Group(inside) => self.any(options(inside).into_iter(), &places),
            Part::Marker(marker) => {
                places.iter().flat_map(|place| self.marker(marker, *place)).collect()
            }
        };
        self.template(after, &places)
    }

    fn marker(&self, marker: &str, (at, was_capital): (usize, bool)) -> Places {
        let capital = was_capital || marker.starts_with(|c: char| c.is_ascii_uppercase());
        let places = BTreeSet::from([(at, capital)]);
        let key = marker.to_ascii_lowercase();
        let (name, field) = key.split_once('.').unwrap_or((&key, ""));
        let ends = match self.cast.iter().find(|bound| bound.name == name) {
            Some(bound) => self.template(bound.word(field), &places),
            None => {
                let rows = &self.templates.table(&key).unwrap().rows;
                self.any(rows.iter().map(|row| row[0]), &places)
            }
        };
        // A capital that no letter has taken is lost, as in the generator.
        ends.into_iter().map(|(at, is_left)| (at, is_left && was_capital)).collect()
    }
}

impl Bound<'_> {
    fn word(&self, field: &str) -> &str {
        match (field, self.pronoun.and_then(|pronoun| pronoun.form(field)), self.row) {
            ("", ..) => self.text,
            (_, Some(form), _) => form,
            ("kind", _, Some((_, row))) => row[0],
            (_, _, Some((table, row))) => table.cell(row, field).unwrap(),
            _ => unreachable!("no field of a choice"),
        }
    }
}
