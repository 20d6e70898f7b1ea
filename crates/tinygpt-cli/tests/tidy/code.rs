//! Rules of the code: names of public types, lengths of functions.

use std::collections::BTreeMap;

use super::{assert_none, rust_files};

/// The most lines of a function, from its signature to its last brace.
const MAX_FUNCTION_LINES: usize = 60;

/// The library files of all crates without their unit tests: name and lines of each.
fn code_files() -> impl Iterator<Item = (String, Vec<String>)> {
    let files = rust_files().into_iter();
    files.filter(|(name, _)| name.contains("/src/") && !name.ends_with("tests.rs")).map(
        |(name, text)| {
            let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
            (name, code.map(str::to_owned).collect())
        },
    )
}

/// What follows one of `keywords` at the start of a line, up to the end of the name.
fn name_after<'a>(line: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let rest = keywords.iter().find_map(|keyword| line.strip_prefix(keyword))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

#[test]
fn public_types_have_unique_names() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, lines) in code_files() {
        for line in &lines {
            let keywords = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
            if let Some(name) = name_after(line.trim_start(), &keywords) {
                places.entry(name.to_owned()).or_default().push(file.clone());
            }
        }
    }
    assert!(places.len() > 100, "only {} public types were found", places.len());
    let faults: Vec<String> = places
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name} is the name of several types: {}", files.join(", ")))
        .collect();
    assert_none(&faults);
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    let mut n_functions = 0;
    for (file, lines) in code_files() {
        for (start, line) in lines.iter().enumerate() {
            let Some((name, length)) = function(line, &lines[start..]) else { continue };
            n_functions += 1;
            if length > MAX_FUNCTION_LINES {
                faults.push(format!(
                    "{file}:{}: `{name}` has {length} lines, at most {MAX_FUNCTION_LINES}",
                    start + 1
                ));
            }
        }
    }
    assert!(n_functions > 1000, "only {n_functions} functions were found");
    assert_none(&faults);
}

/// The name and the length of the function that starts at `line`, the first of `lines`, as rustfmt
/// lays it out. A declaration without a body is as long as its signature.
fn function<'a>(line: &'a str, lines: &[String]) -> Option<(&'a str, usize)> {
    let indent = &line[..line.len() - line.trim_start().len()];
    let mut rest = line.trim_start();
    for prefix in ["pub(super) ", "pub(crate) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let name = name_after(rest, &["fn "])?;
    let is_last = |line: &String| {
        line.strip_prefix(indent)
            .is_some_and(|line| line == "}" || line.starts_with(')') && line.ends_with([';', '}']))
    };
    let is_one_line = rest.ends_with(['}', ';']);
    let length = if is_one_line { 1 } else { lines.iter().position(is_last)? + 1 };
    Some((name, length))
}

#[test]
fn lengths_of_functions_are_counted() {
    let text =
        "    pub(crate) fn long(\n        x: u32,\n    ) -> u32 {\n        x\n    }\n    fn f() {}";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(function(&lines[0], &lines), Some(("long", 5)));
    assert_eq!(function(&lines[5], &lines[5..]), Some(("f", 1)));
    assert_eq!(function(&lines[3], &lines[3..]), None);
}
