//! The characters that a plot can have: every one that `generator.rs` may draw for a role.
//!
//! The checker reads a story without knowing who was drawn. It starts from all of these and keeps those
//! that fit what the story says.

use super::generator::{MAY_REPEAT, Pronoun, pronouns_of};
use super::templates::{Binding, Plot, Row, Table, Templates, Wanted};

/// One character that may have been drawn for a role.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'t> {
    /// The name, or the word of the table if the role has no name.
    pub(super) text: &'static str,
    pronoun: Option<Pronoun>,
    table: &'t Table,
    row: &'t Row,
}

impl Candidate<'_> {
    /// The word of the table.
    pub(super) fn kind(&self) -> &'static str {
        self.row.first().copied().unwrap_or_default()
    }

    /// Whether another character of the same kind can be in the story.
    pub(super) fn may_repeat(&self) -> bool {
        self.table.name == MAY_REPEAT
    }

    /// What `{hero.field}` stands for: the form of a pronoun, another cell of the row, or the name.
    pub(super) fn word(&self, field: &str) -> &'static str {
        if let Some(form) = self.pronoun.and_then(|pronoun| pronoun.form(field)) {
            return form;
        }
        match field {
            "" => self.text,
            "kind" => self.kind(),
            field => self.table.cell(self.row, field).unwrap_or_default(),
        }
    }
}

/// The candidates of each binding of `plot`; of a choice, the list is empty.
pub(super) fn candidates<'t>(templates: &'t Templates, plot: &Plot) -> Vec<Vec<Candidate<'t>>> {
    let of = |binding: &Binding| match binding {
        Binding::Choice { .. } => Vec::new(),
        Binding::Role { named, tables, .. } => {
            tables.iter().flat_map(|wanted| of_table(templates, wanted, *named)).collect()
        }
    };
    plot.bindings.iter().map(of).collect()
}

fn of_table<'t>(templates: &'t Templates, wanted: &Wanted, named: bool) -> Vec<Candidate<'t>> {
    let Some(table) = templates.table(wanted.table) else { return Vec::new() };
    let mut all = Vec::new();
    for row in table.rows.iter().filter(|row| wanted.fits(table, row)) {
        let pronouns = match table.cell(row, "pronoun") {
            None => vec![None],
            Some(word) => pronouns_of(word, named).iter().copied().map(Some).collect(),
        };
        for pronoun in pronouns {
            let candidate = |text| Candidate { text, pronoun, table, row };
            match pronoun.filter(|_| named) {
                Some(pronoun) => {
                    all.extend(templates.names(table.name, pronoun.is_she()).map(candidate));
                }
                None => all.push(candidate(row.first().copied().unwrap_or_default())),
            }
        }
    }
    all
}
