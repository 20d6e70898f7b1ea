//! Generates one story: draws the characters, then writes the plot beat by beat.
//!
//! Who "he" is and what was lost are settled once, when the plot's bindings are drawn; sentences
//! refer to them. `templates.rs` reads the files, `spelling.rs` decides between "a" and "an".

use super::rng::StoryRng;
use super::spelling::fix_articles;
use super::templates::{Binding, Part, Plot, Row, Table, Templates, Wanted, options};

/// A finished story and what tests want to know about it.
pub(super) struct Story {
    pub(super) text: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests count the plots in use"))]
    pub(super) title: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare pronouns with the cast"))]
    pub(super) pronouns: Vec<Pronoun>,
}

/// The pronoun of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pronoun {
    She,
    He,
    It,
}

impl Pronoun {
    /// Whether the character has a name of a girl or a woman.
    pub(super) fn is_she(self) -> bool {
        self == Self::She
    }

    /// The form that a marker like `{hero.his}` asks for; markers use the masculine forms as
    /// names because only there all four differ.
    pub(super) fn form(self, case: &str) -> Option<&'static str> {
        Some(match (case, self) {
            ("he", Self::She) => "she",
            ("he", Self::He) => "he",
            ("he" | "him", Self::It) => "it",
            ("him" | "his", Self::She) => "her",
            ("him", Self::He) => "him",
            ("his", Self::He) => "his",
            ("his", Self::It) => "its",
            ("himself", Self::She) => "herself",
            ("himself", Self::He) => "himself",
            ("himself", Self::It) => "itself",
            _ => return None,
        })
    }
}

/// The pronouns that a row with `word` in its column `pronoun` can have: an animal without a name is
/// "it", one with a name is randomly a she or a he.
pub(super) fn pronouns_of(word: &str, named: bool) -> &'static [Pronoun] {
    match word {
        "she" => &[Pronoun::She],
        "he" => &[Pronoun::He],
        "it" if !named => &[Pronoun::It],
        _ => &[Pronoun::She, Pronoun::He],
    }
}

/// The table of which a story can have the same row twice: two girls have two names.
pub(super) const MAY_REPEAT: &str = "child";

/// What a name at the head of the plot stands for in this story.
struct Bound<'b> {
    name: &'static str,
    text: String,
    pronoun: Option<Pronoun>,
    row: Option<(&'b Table, &'b Row)>,
}

/// Generates the story of `rng`.
pub(super) fn generate(templates: &Templates, rng: StoryRng) -> Option<Story> {
    let mut generator = Generator { templates, rng, bound: Vec::new() };
    let plot = generator.rng.pick(&templates.plots)?;
    for binding in &plot.bindings {
        generator.bind(binding);
    }
    let text = fix_articles(&generator.write(plot));
    let pronouns = generator.bound.iter().filter_map(|bound| bound.pronoun).collect();
    Some(Story { text, title: plot.title, pronouns })
}

struct Generator<'b> {
    templates: &'b Templates,
    rng: StoryRng,
    bound: Vec<Bound<'b>>,
}

impl<'b> Generator<'b> {
    /// All beats in order; one story in six is a single paragraph.
    fn write(&mut self, plot: &Plot) -> String {
        let in_paragraphs = !self.rng.one_in(6);
        let mut out = String::with_capacity(1024);
        for beat in &plot.beats {
            if !out.is_empty() {
                out.push(if in_paragraphs && beat.starts_paragraph { '\n' } else { ' ' });
            }
            if let Some(&variant) = self.rng.pick(&beat.variants) {
                self.expand(variant, &mut out);
            }
        }
        out
    }

    fn bind(&mut self, binding: &Binding) {
        match binding {
            Binding::Role { name, named, tables } => {
                if let Some(wanted) = self.rng.pick(tables) {
                    self.cast(name, *named, wanted);
                }
            }
            Binding::Choice { names, options } => {
                let Some(option) = self.rng.pick(options) else { return };
                for (&name, &template) in names.iter().zip(option) {
                    let mut text = String::new();
                    self.expand(template, &mut text);
                    self.bound.push(Bound { name, text, pronoun: None, row: None });
                }
            }
        }
    }

    /// Draws a row for a role: no second rabbit and no second Anna in one story.
    fn cast(&mut self, name: &'static str, named: bool, wanted: &Wanted) {
        let templates = self.templates;
        let Some(table) = templates.table(wanted.table) else { return };
        let may_repeat = table.name == MAY_REPEAT;
        let is_free = |row: &&Row| wanted.fits(table, row) && (may_repeat || !self.is_cast(row));
        let free: Vec<&Row> = table.rows.iter().filter(is_free).collect();
        let Some(&row) = self.rng.pick(&free) else { return };
        let pronoun = self.pronoun_of(table, row, named);
        let text = match (named, pronoun) {
            (true, Some(pronoun)) => self.free_name(table.name, pronoun.is_she()),
            _ => row.first().copied().unwrap_or_default().to_owned(),
        };
        self.bound.push(Bound { name, text, pronoun, row: Some((table, row)) });
    }

    fn is_cast(&self, row: &Row) -> bool {
        self.bound
            .iter()
            .any(|bound| bound.row.is_some_and(|(_, cast)| cast.first() == row.first()))
    }

    fn pronoun_of(&mut self, table: &Table, row: &Row, named: bool) -> Option<Pronoun> {
        match pronouns_of(table.cell(row, "pronoun")?, named) {
            [only] => Some(*only),
            several => self.rng.pick(several).copied(),
        }
    }

    /// An unused first name from a table such as `child-she`.
    fn free_name(&mut self, table: &str, is_she: bool) -> String {
        let words = self.templates.names(table, is_she);
        let free: Vec<&str> =
            words.filter(|word| self.bound.iter().all(|bound| bound.text != *word)).collect();
        self.rng.pick(&free).copied().unwrap_or_default().to_owned()
    }

    /// Writes `template` to `out`, with its `{markers}` filled and its `(choices|made)`.
    fn expand(&mut self, template: &str, out: &mut String) {
        let mut rest = template;
        while let Some(at) = rest.find(['{', '(']) {
            let (plain, from) = rest.split_at(at);
            out.push_str(plain);
            let Some((part, after)) = Part::split(from) else {
                rest = from;
                break;
            };
            match part {
                Part::Marker(marker) => self.fill(marker, out),
                Part::Group(inside) => {
                    if let Some(&option) = self.rng.pick(&options(inside)) {
                        self.expand(option, out);
                    }
                }
            }
            rest = after;
        }
        out.push_str(rest);
    }

    /// Writes what `{marker}` stands for, with a capital if the marker has one.
    fn fill(&mut self, marker: &str, out: &mut String) {
        let start = out.len();
        let key = marker.to_ascii_lowercase();
        let found = match key.split_once('.') {
            Some((name, field)) => self.bound_field(name, field),
            None => self.bound(&key).map(|bound| bound.text.clone()),
        };
        if let Some(text) = found {
            self.expand(&text, out);
        } else if let Some(line) = self.draw(&key) {
            self.expand(line, out);
        } else {
            // Kept as it is, so that tests find it.
            out.push('{');
            out.push_str(marker);
            out.push('}');
            return;
        }
        if marker.starts_with(|c: char| c.is_ascii_uppercase())
            && let Some(first) = out.get_mut(start..start + 1)
        {
            first.make_ascii_uppercase();
        }
    }

    /// A fresh row of the table `name`.
    fn draw(&mut self, name: &str) -> Option<&'static str> {
        let row = self.rng.pick(&self.templates.table(name)?.rows)?;
        row.first().copied()
    }

    fn bound(&self, name: &str) -> Option<&Bound<'b>> {
        self.bound.iter().find(|bound| bound.name == name)
    }

    /// `{hero.his}`, `{hero.kind}` (the table's own word) or any other column of the hero's row.
    fn bound_field(&self, name: &str, field: &str) -> Option<String> {
        let bound = self.bound(name)?;
        if let Some(form) = bound.pronoun.and_then(|pronoun| pronoun.form(field)) {
            return Some(form.to_owned());
        }
        let (table, row) = bound.row?;
        if field == "kind" {
            return row.first().map(|&kind| kind.to_owned());
        }
        table.cell(row, field).map(str::to_owned)
    }
}
