//! What `prepare` prints about the files it read and the records it skipped.

use tinygpt_data::{LeftOut, SourceFiles, SourceStats};

use crate::hints::in_flags;
use crate::terminal::{escape_controls, grouped};

/// The most names of a list that are printed.
const MAX_NAMES: usize = 5;

/// The longest name that is printed in full, in characters.
const MAX_NAME_CHARS: usize = 60;

/// The files for training and validation, and those that were skipped; nothing for a single file.
pub(super) fn files_text(files: &SourceFiles) -> String {
    let mut text = String::new();
    let is_one = files.train.len() + files.validation.len() <= 1;
    if !(is_one && files.left_out.is_empty()) {
        text.push_str(&format!("  files       {}\n", named(&files.train, "to train on")));
        if !files.validation.is_empty() {
            let validation = named(&files.validation, "to validate on");
            text.push_str(&format!("              {validation}\n"));
        }
    }
    text + &left_out_text(&files.left_out)
}

/// The files that were skipped, each with the reason.
pub(super) fn left_out_text(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let shown = left_out.iter().take(MAX_NAMES);
    let shown: Vec<String> =
        shown.map(|file| format!("{} ({})", short(&file.name), in_flags(file.why))).collect();
    let (count, more) = (counted(left_out.len()), and_more(left_out.len()));
    format!("  skipped     {count}: {}{more}\n", shown.join(", "))
}

/// `3 files to train on: a.txt, b.txt, c.txt`.
fn named(names: &[String], purpose: &str) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| short(name)).collect();
    let (count, more) = (counted(names.len()), and_more(names.len()));
    format!("{count} {purpose}: {}{more}", shown.join(", "))
}

fn counted(n_files: usize) -> String {
    let files = if n_files == 1 { "file" } else { "files" };
    format!("{} {files}", grouped(n_files as u64))
}

fn and_more(n: usize) -> String {
    match n.saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {} more", grouped(more as u64)),
    }
}

/// A name on one line; of a long name only the end, which differs most.
fn short(name: &str) -> String {
    let name = escape_controls(name).replace(['\n', '\t'], " ");
    let n_chars = name.chars().count();
    if n_chars <= MAX_NAME_CHARS {
        return name;
    }
    let end: String = name.chars().skip(n_chars - MAX_NAME_CHARS).collect();
    format!("…{end}")
}

/// Records that were skipped, and bytes that were replaced.
pub(super) fn stats_text(stats: &SourceStats) -> String {
    let mut text = String::new();
    let (nulls, empty) = (stats.n_nulls, stats.n_empty);
    if nulls + empty > 0 {
        let (nulls, empty) = (grouped(nulls), grouped(empty));
        text.push_str(&format!(
            "  skipped     {nulls} records without a value, {empty} without text\n"
        ));
    }
    if stats.n_bad > 0 {
        let records = if stats.n_bad == 1 { "record" } else { "records" };
        let n_bad = grouped(stats.n_bad);
        text.push_str(&format!("  skipped     {n_bad} {records} that cannot be used:\n"));
        for example in &stats.examples {
            text.push_str(&format!("                {example}\n"));
        }
        let more = stats.n_bad.saturating_sub(stats.examples.len() as u64);
        if more > 0 {
            text.push_str(&format!("                and {} more\n", grouped(more)));
        }
    }
    for (count, what) in
        [(stats.n_replaced, "of invalid UTF-8"), (stats.n_half_pairs, "with half a surrogate pair")]
    {
        if count > 0 {
            let places = if count == 1 { "place" } else { "places" };
            text.push_str(&format!("  replaced    {} {places} {what}\n", grouped(count)));
        }
    }
    if stats.n_nul > 0 {
        let characters = if stats.n_nul == 1 { "character" } else { "characters" };
        text.push_str(&format!(
            "  note        {} NUL {characters}, which are rare in text: check the source\n",
            grouped(stats.n_nul)
        ));
    }
    text
}
