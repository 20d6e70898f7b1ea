//! The characters that a plot can have: every one that `generator.rs` may draw for a role.
//!
//! The checker reads a story without knowing who was drawn. It starts from all of these and keeps those
//! that fit what the story says.

use super::generator::{Pronoun, pronouns_of};
use super::templates::{Binding, Wanted};
use super::templates::{Plot, Templates};

/// One character that may have been drawn for a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The name, or the word of the table if the role has no name.
    pub(super) text: &'static str,
    pub(super) pronoun: Option<Pronoun>,
    /// The table and the row, by their numbers.
    pub(super) table: usize,
    pub(super) row: usize,
}

/// The candidates of each binding of `plot`; of a choice, the list is empty.
pub(super) fn candidates(templates: &Templates, plot: &Plot) -> Vec<Vec<Candidate>> {
    let of = |binding: &Binding| match binding {
        Binding::Choice { .. } => Vec::new(),
        Binding::Role { named, tables, .. } => {
            tables.iter().flat_map(|wanted| of_table(templates, wanted, *named)).collect()
        }
    };
    plot.bindings.iter().map(of).collect()
}

fn of_table(templates: &Templates, wanted: &Wanted, named: bool) -> Vec<Candidate> {
    let found = templates.tables.iter().position(|table| table.name == wanted.table);
    let Some(index) = found else { return Vec::new() };
    let table = &templates.tables[index];
    let mut all = Vec::new();
    for (row_index, row) in table.rows.iter().enumerate().filter(|(_, row)| wanted.fits(table, row))
    {
        let pronouns = match table.cell(row, "pronoun") {
            None => vec![None],
            Some(word) => pronouns_of(word, named).iter().copied().map(Some).collect(),
        };
        for pronoun in pronouns {
            let word = row.first().copied().unwrap_or_default();
            let candidate = |text| Candidate { text, pronoun, table: index, row: row_index };
            match pronoun
                .filter(|_| named)
                .map(|pronoun| templates.names(table.name, pronoun.is_she()))
            {
                Some(names) => all.extend(names.map(candidate)),
                None => all.push(candidate(word)),
            }
        }
    }
    all
}
