//! The templates of stories: word tables and plots, read from the text files next to this module.
//!
//! The files are compiled in, so users cannot fix a mistake in them:
//! reading never fails, it keeps what it does not understand as plain text, and tests check that
//! no story shows any. `mod.rs` describes the notation, `generator.rs` generates stories.

/// Every word table, then every plot, by theme.
pub(super) const WORDS: &str = include_str!("words.txt");
pub(super) const PLOTS: [&str; 7] = [
    include_str!("plots/lost_and_found.txt"),
    include_str!("plots/friends.txt"),
    include_str!("plots/courage.txt"),
    include_str!("plots/trying.txt"),
    include_str!("plots/right_and_wrong.txt"),
    include_str!("plots/wonder.txt"),
    include_str!("plots/everyday.txt"),
];

/// Rows of words or sentences. The first column is the word itself, the others describe it.
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

/// The cells of one row, in the order of the table's columns.
pub(super) type Row = Vec<&'static str>;

impl Table {
    /// The cell of `row` under the heading `column`.
    pub(super) fn cell(&self, row: &Row, column: &str) -> Option<&'static str> {
        let at = self.columns.iter().position(|&name| name == column)?;
        row.get(at).copied()
    }
}

/// One line at the head of a plot: names that hold their meaning through the whole story.
pub(super) enum Binding {
    /// `hero: named child or animal+small`: a row of one of the tables.
    Role { name: &'static str, named: bool, tables: Vec<Wanted> },
    /// `spot, cry = on the roof / Up there; in the well / Down there`: one of the given options.
    Choice { names: Vec<&'static str>, options: Vec<Vec<&'static str>> },
}

/// A table and the tags that a row must carry to be drawn from it.
pub(super) struct Wanted {
    pub(super) table: &'static str,
    pub(super) tags: Vec<&'static str>,
}

impl Wanted {
    /// Whether `row` has all the tags.
    pub(super) fn fits(&self, table: &Table, row: &Row) -> bool {
        let tags = table.cell(row, "tags").unwrap_or_default();
        self.tags.iter().all(|tag| tags.split(' ').any(|has| has == *tag))
    }
}

/// A part of a plot, in several variants.
pub(super) struct Beat {
    pub(super) starts_paragraph: bool,
    pub(super) variants: Vec<&'static str>,
}

/// What happens in a story, from beginning to end.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) bindings: Vec<Binding>,
    pub(super) beats: Vec<Beat>,
}

/// All that a story can be made of.
pub(super) struct Templates {
    pub(super) tables: Vec<Table>,
    pub(super) plots: Vec<Plot>,
}

impl Templates {
    /// Reads the files compiled in.
    pub(super) fn open() -> Self {
        let plots = PLOTS.iter().flat_map(|text| read_plots(text)).collect();
        Self { tables: read_tables(WORDS), plots }
    }

    /// The table called `name`.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The first names for characters of the table called `table`, such as `child-she`.
    pub(super) fn names(&self, table: &str, is_she: bool) -> impl Iterator<Item = &'static str> {
        let pronoun = if is_she { "she" } else { "he" };
        let rows = self.table(&format!("{table}-{pronoun}")).map(|names| names.rows.iter());
        rows.into_iter().flatten().filter_map(|row| row.first().copied())
    }
}

/// The lines without comments and empty lines.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `text` cut at `separator`, each part without the spaces around it.
fn parts(text: &'static str, separator: &str) -> Vec<&'static str> {
    text.split(separator).map(str::trim).collect()
}

/// `[name; column; …]` starts a table, every other line is a row with `;` between the cells.
fn read_tables(text: &'static str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in lines(text) {
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let columns = parts(head, ";");
            let name = columns.first().copied().unwrap_or_default();
            tables.push(Table { name, columns, rows: Vec::new() });
        } else if let Some(table) = tables.last_mut() {
            table.rows.push(parts(line, ";"));
        }
    }
    tables
}

/// `[title]` starts a plot, then its bindings; `+` starts a beat, `//` a beat and a paragraph;
/// every line under those is one variant of the beat.
fn read_plots(text: &'static str) -> Vec<Plot> {
    let mut plots: Vec<Plot> = Vec::new();
    for line in lines(text) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            plots.push(Plot { title, bindings: Vec::new(), beats: Vec::new() });
            continue;
        }
        let Some(plot) = plots.last_mut() else { continue };
        match (line, plot.beats.last_mut()) {
            ("+" | "//", _) => {
                plot.beats.push(Beat { starts_paragraph: line == "//", variants: Vec::new() });
            }
            (_, Some(beat)) => beat.variants.push(line),
            (_, None) => plot.bindings.extend(read_binding(line)),
        }
    }
    plots
}

/// One line at the head of a plot; see [`Binding`] for the two forms.
fn read_binding(line: &'static str) -> Option<Binding> {
    if let Some((names, options)) = line.split_once(" = ") {
        let options = parts(options, ";").into_iter().map(|option| parts(option, " / ")).collect();
        return Some(Binding::Choice { names: parts(names, ","), options });
    }
    let (name, wanted) = line.split_once(": ")?;
    let (named, wanted) = match wanted.strip_prefix("named ") {
        Some(rest) => (true, rest),
        None => (false, wanted),
    };
    let tables = parts(wanted, " or ").into_iter().map(read_wanted).collect();
    Some(Binding::Role { name, named, tables })
}

/// `table+tag+tag`.
fn read_wanted(text: &'static str) -> Wanted {
    let mut words = text.split('+');
    Wanted { table: words.next().unwrap_or_default(), tags: words.collect() }
}

/// What a template can hold besides plain text.
pub(super) enum Part<'t> {
    /// The inside of `{…}`.
    Marker(&'t str),
    /// The inside of `(…)`.
    Group(&'t str),
}

impl<'t> Part<'t> {
    /// The part that `text` opens with, and what follows it; `None` if it is never closed.
    pub(super) fn split(text: &'t str) -> Option<(Self, &'t str)> {
        if let Some(inside) = text.strip_prefix('{') {
            return inside.split_once('}').map(|(marker, after)| (Self::Marker(marker), after));
        }
        split_group(text).map(|(inside, after)| (Self::Group(inside), after))
    }
}

/// The inside of the group that `text` opens with, and what follows it.
fn split_group(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(1..at)?, text.get(at + 1..)?));
        }
    }
    None
}

/// The options of a group: cut at each `|` that is not inside a group of its own.
pub(super) fn options(inside: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                found.extend(inside.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.extend(inside.get(start..));
    found
}
