//! No import circles: in every folder the modules can be put into an order in which each uses only earlier ones.
//!
//! A path from one module to another counts for the two children of their lowest common folder that
//! hold them. A `mod.rs` is the folder itself: what it declares and re-exports is below it, so it uses
//! its children and they may use it; a name that it re-exports belongs to the child that defines it. Error modules name what fails everywhere and are exempt.

use std::collections::{BTreeMap, BTreeSet};

use super::{assert_none, rust_files};

/// A module's path inside its crate; empty for the crate itself.
type ModulePath = Vec<String>;

/// The modules of a crate, each with its code.
type Modules = BTreeMap<ModulePath, String>;

/// For each folder, the children of it that each child uses, with an example.
type Folders = BTreeMap<ModulePath, BTreeMap<String, BTreeMap<String, String>>>;

#[test]
fn modules_use_each_other_in_one_direction() {
    let mut crates: BTreeMap<String, Modules> = BTreeMap::new();
    for (file, text) in rust_files() {
        let Some((name, path)) = file.strip_prefix("crates/").and_then(|f| f.split_once("/src/"))
        else {
            continue;
        };
        if !path.ends_with("tests.rs") && !path.starts_with("bin/") {
            crates.entry(name.to_owned()).or_default().insert(module_of(path), code_of(&text));
        }
    }
    let (mut faults, mut n_edges) = (Vec::new(), 0);
    for (name, modules) in &crates {
        let folders = folders(modules);
        n_edges += folders.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum::<usize>();
        faults.extend(circles(&folders).into_iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(n_edges > 300, "only {n_edges} uses of a module by another were found");
    assert_none(&faults);
}

/// The module of a file below `src/`.
fn module_of(path: &str) -> ModulePath {
    let mut module: ModulePath =
        path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The code of a file without comments and without its unit tests.
fn code_of(text: &str) -> String {
    let text = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let text = text.collect::<Vec<_>>().join("\n");
    // Tests in a file of their own are only declared here, and code may follow.
    let mut tests = text.match_indices("#[cfg(test)]\n");
    let is_inline = |at: usize| {
        let item = text[at..].lines().find(|line| line.contains("mod "));
        item.is_some_and(|item| item.ends_with('{'))
    };
    match tests.find(|(at, _)| !text[..*at].ends_with(|c| c != '\n') && is_inline(*at)) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}

/// Which children use which in each folder.
fn folders(modules: &Modules) -> Folders {
    let names = re_exports(modules);
    let mut folders = Folders::new();
    for (module, code) in modules {
        for path in paths(code) {
            let Some(used) = definer(&path, module, modules, &names) else { continue };
            let n = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (module.get(n), used.get(n)) else { continue };
            if [from, to].iter().any(|name| name.contains("error")) {
                continue;
            }
            let example = format!("{} uses {}", module.join("::"), used.join("::"));
            let children = folders.entry(module[..n].to_vec()).or_default();
            children.entry(from.clone()).or_default().entry(to.clone()).or_insert(example);
        }
    }
    folders
}

/// Every path in a file: the leaves of its `use` trees, and what starts with `crate`, `self` or
/// `super` anywhere else.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "use" => {
                let end = (at..tokens.len()).find(|i| tokens[*i] == ";").unwrap_or(tokens.len());
                expand(&tokens[at + 1..end], &[], &mut paths);
                at = end;
            }
            "crate" | "self" | "super" => {
                let start = at;
                while tokens.get(at + 1).is_some_and(|token| token == "::") {
                    at += 2;
                }
                let path = tokens[start..=at.min(tokens.len() - 1)].iter();
                paths.push(path.filter(|token| *token != "::").cloned().collect());
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// Names, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let (mut in_name, mut before) = (false, ' ');
    for c in code.chars() {
        let is_name = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some(last) if is_name && in_name => last.push(c),
            Some(last) if c == ':' && before == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        (in_name, before) = (is_name, c);
    }
    tokens
}

/// Adds the paths of a `use` tree behind `prefix`.
fn expand(tree: &[String], prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let Some(open) = tree.iter().position(|token| token == "{") else {
        let name = tree.split(|token| token == "as").next().unwrap_or_default();
        let name = name.iter().filter(|token| *token != "::").cloned();
        return paths.push(prefix.iter().cloned().chain(name).collect());
    };
    let shared = tree[..open].iter().filter(|token| *token != "::").cloned();
    let prefix: Vec<String> = prefix.iter().cloned().chain(shared).collect();
    let (mut depth, mut start) = (0, open + 1);
    for (at, token) in tree.iter().enumerate().skip(open + 1) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth > 0 => depth -= 1,
            "," | "}" if depth == 0 => {
                if start < at {
                    expand(&tree[start..at], &prefix, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Names that a module takes from its children: the module and the name, with the child.
fn re_exports(modules: &Modules) -> BTreeMap<(ModulePath, String), ModulePath> {
    let mut names = BTreeMap::new();
    for (module, code) in modules {
        for path in paths(code) {
            if let (Some((child, _)), Some(name)) = (resolved(&path, module, modules), path.last())
                && child.len() > module.len()
                && child.starts_with(module)
            {
                names.insert((module.clone(), name.clone()), child);
            }
        }
    }
    names
}

/// The module that a path in `module` leads to, if it is another one; of a name that this module only
/// re-exports from a child, the child.
fn definer(
    path: &[String],
    module: &[String],
    modules: &Modules,
    names: &BTreeMap<(ModulePath, String), ModulePath>,
) -> Option<ModulePath> {
    let (mut used, mut rest) = resolved(path, module, modules)?;
    while let Some(name) = rest.first()
        && let Some(child) = names.get(&(used.clone(), name.clone()))
    {
        (used, rest) = (child.clone(), vec![name.clone()]);
    }
    Some(used)
}

/// The module of this crate that a path in `module` leads to, if it is another one, and what follows
/// in the path.
fn resolved(
    path: &[String],
    module: &[String],
    modules: &Modules,
) -> Option<(ModulePath, Vec<String>)> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (base, rest) = (Vec::new(), &path[1..]),
        "self" | "super" => {
            while let Some((first, behind)) = rest.split_first() {
                match first.as_str() {
                    "super" => base.truncate(base.len().saturating_sub(1)),
                    "self" => {}
                    _ => break,
                }
                rest = behind;
            }
        }
        _ => {}
    }
    let full: ModulePath = base.into_iter().chain(rest.iter().cloned()).collect();
    let n = (0..=full.len()).rev().find(|n| modules.contains_key(&full[..*n]))?;
    (full[..n] != *module).then(|| (full[..n].to_vec(), full[n..].to_vec()))
}

/// One line for each folder's circle: the uses of which it consists.
fn circles(folders: &Folders) -> Vec<String> {
    let mut circles = Vec::new();
    for (folder, uses) in folders {
        let in_circle = |from: &str, to: &str| reachable(uses, to).contains(from);
        let examples: Vec<&str> = uses
            .iter()
            .flat_map(|(from, used)| used.iter().map(move |(to, example)| (from, to, example)))
            .filter(|(from, to, _)| in_circle(from, to))
            .map(|(_, _, example)| example.as_str())
            .collect();
        if !examples.is_empty() {
            let folder = if folder.is_empty() { "src".to_owned() } else { folder.join("/") };
            circles.push(format!("a circle in {folder}: {}", examples.join(", ")));
        }
    }
    circles
}

/// All modules that can be reached from `start`, and itself.
fn reachable<'a>(
    uses: &'a BTreeMap<String, BTreeMap<String, String>>,
    start: &'a str,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        if reached.insert(module) {
            open.extend(uses.get(module).into_iter().flat_map(BTreeMap::keys).map(String::as_str));
        }
    }
    reached
}

#[test]
fn a_circle_is_found_through_folders_and_nested_trees() {
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<ModulePath>();
    let found = |b: &str| {
        let modules = Modules::from([
            (module("a"), "use crate::{\n    b::{c::One as Other, d}, std::fmt};".to_owned()),
            (module("b"), "mod c;\nmod d;\nuse c::One;".to_owned()),
            (module("b/c"), code_of("// use crate::a;\nuse super::One;\n")),
            (module("b/d"), code_of(b)),
        ]);
        circles(&folders(&modules))
    };
    assert_eq!(found("use super::c::One;"), [""; 0]);
    let expected = "a circle in src: a uses b::c, b::d uses a";
    assert_eq!(found("fn f() { crate::a::f::<u32>() }"), [expected]);
    assert_eq!(found("use super::super::a;"), [expected]);
    assert_eq!(found("#[cfg(test)]\nmod tests;\nuse crate::a;"), [expected]);
    assert_eq!(found("#[cfg(test)]\nmod tests {\nuse crate::a;\n}"), [""; 0]);
}
