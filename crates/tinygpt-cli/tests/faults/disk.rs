//! A model of a disk that keeps only what was synced: the strictest that POSIX allows.
//!
//! From the system calls of a run, it derives for each file and directory what a program sees and what
//! is synced. After a power cut any unsynced directory may hold its synced names, its new
//! ones, or the synced ones without those that were removed; any unsynced file may be empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::Call;

/// A file, whatever its name.
pub(crate) type Id = usize;

#[derive(Debug)]
enum Node {
    Dir { now: BTreeMap<String, Id>, synced: BTreeMap<String, Id> },
    File { is_synced: bool },
    Link { target: String },
}

/// The files below one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: String,
    nodes: Vec<Node>,
}

/// What a power cut left of the unsynced names of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Synced,
    Now,
    /// Removals came through, additions did not.
    Removed,
}

/// One outcome of a power cut.
pub(crate) struct Left<'a> {
    disk: &'a Disk,
    names: BTreeMap<Id, Names>,
}

impl Disk {
    /// An empty one, whose `root` is there and synced.
    pub(crate) fn new(root: &str) -> Self {
        let root_dir = Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() };
        Self { root: root.to_owned(), nodes: vec![root_dir] }
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The path from the root, if it is below it and not that of a deleted file.
    fn inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&self.root)?.strip_prefix('/')
    }

    /// What a program finds at a path below the root.
    pub(crate) fn find(&self, path: &str) -> Option<Id> {
        path.split('/').try_fold(0, |dir, name| match &self.nodes[dir] {
            Node::Dir { now, .. } => now.get(name).copied(),
            _ => None,
        })
    }

    fn parent<'p>(&mut self, path: &'p str) -> (&mut BTreeMap<String, Id>, &'p str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = if dir.is_empty() { 0 } else { self.find(dir).expect(path) };
        match &mut self.nodes[id] {
            Node::Dir { now, .. } => (now, name),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn insert(&mut self, path: &str, id: Id) {
        let (dir, name) = self.parent(path);
        dir.insert(name.to_owned(), id);
    }

    fn remove(&mut self, path: &str) -> Option<Id> {
        let (dir, name) = self.parent(path);
        dir.remove(name)
    }

    /// Whether a file's content is as synced as it is.
    pub(crate) fn is_synced(&self, id: Id) -> bool {
        matches!(self.nodes[id], Node::File { is_synced: true } | Node::Link { .. })
    }

    /// Lets a call happen.
    pub(crate) fn apply(&mut self, call: &Call) {
        if !call.is_ok || !call.changes() {
            return;
        }
        let paths = call.paths();
        let mut paths = paths.iter().copied();
        match call.name.as_str() {
            "openat" => {
                let path =
                    call.quoted().first().and_then(|path| self.inside(path)).map(str::to_owned);
                let Some(path) = path else { return };
                match self.find(&path) {
                    None => {
                        let id = self.add(Node::File { is_synced: false });
                        self.insert(&path, id);
                    }
                    Some(id) if call.args.contains("O_TRUNC") => self.dirty(id),
                    Some(_) => {}
                }
            }
            "write" | "pwrite64" | "writev" | "ftruncate" => {
                if let Some(id) =
                    paths.next().and_then(|p| self.inside(p)).and_then(|p| self.find(p))
                {
                    self.dirty(id);
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(path) = paths.next() {
                    let id = if path == self.root {
                        Some(0)
                    } else {
                        self.inside(path).and_then(|p| self.find(p))
                    };
                    self.sync(id);
                }
            }
            "mkdir" | "mkdirat" => {
                let Some(path) = paths.last().and_then(|p| self.inside(p)).map(str::to_owned)
                else {
                    return;
                };
                let id = self.add(Node::Dir { now: BTreeMap::new(), synced: BTreeMap::new() });
                self.insert(&path, id);
            }
            "symlink" | "symlinkat" => {
                let target = paths.next().unwrap().to_owned();
                let Some(path) = paths.last().and_then(|p| self.inside(p)).map(str::to_owned)
                else {
                    return;
                };
                let id = self.add(Node::Link { target });
                self.insert(&path, id);
            }
            "rename" | "renameat" | "renameat2" => {
                let inside: Vec<String> =
                    paths.filter_map(|p| self.inside(p)).map(str::to_owned).collect();
                let [from, to] = &inside[..] else { return };
                if call.args.contains("RENAME_EXCHANGE") {
                    let (left, right) = (self.remove(from), self.remove(to));
                    self.insert(from, right.unwrap());
                    self.insert(to, left.unwrap());
                } else if let Some(id) = self.remove(from) {
                    self.insert(to, id);
                }
            }
            "unlink" | "rmdir" => {
                if let Some(path) = paths.next().and_then(|p| self.inside(p)).map(str::to_owned) {
                    self.remove(&path);
                }
            }
            "unlinkat" => {
                let (dir, name) = (paths.next().unwrap(), paths.next().unwrap());
                let path =
                    if name.starts_with('/') { name.to_owned() } else { format!("{dir}/{name}") };
                if let Some(path) = self.inside(&path).map(str::to_owned) {
                    self.remove(&path);
                }
            }
            // Permissions and locks are not content.
            _ => {}
        }
    }

    fn dirty(&mut self, id: Id) {
        if let Node::File { is_synced } = &mut self.nodes[id] {
            *is_synced = false;
        }
    }

    fn sync(&mut self, id: Option<Id>) {
        match id.map(|id| &mut self.nodes[id]) {
            Some(Node::Dir { now, synced }) => synced.clone_from(now),
            Some(Node::File { is_synced }) => *is_synced = true,
            _ => {}
        }
    }

    /// All that a power cut can leave now.
    pub(crate) fn after_a_power_cut(&self) -> Vec<Left<'_>> {
        let unsynced: Vec<Id> = (0..self.nodes.len())
            .filter(|id| matches!(&self.nodes[*id], Node::Dir { now, synced } if now != synced))
            .filter(|id| self.is_reachable(*id))
            .collect();
        assert!(unsynced.len() <= 6, "too many unsynced directories to try all outcomes");
        let mut outcomes = vec![BTreeMap::new()];
        for dir in unsynced {
            outcomes = outcomes
                .iter()
                .flat_map(|outcome| {
                    [Names::Synced, Names::Now, Names::Removed].map(|names| {
                        let mut outcome = outcome.clone();
                        outcome.insert(dir, names);
                        outcome
                    })
                })
                .collect();
        }
        outcomes.into_iter().map(|names| Left { disk: self, names }).collect()
    }

    /// Whether some name, synced or not, leads to the directory.
    fn is_reachable(&self, wanted: Id) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![0]);
        while let Some(id) = open.pop() {
            if let (true, Node::Dir { now, synced }) = (seen.insert(id), &self.nodes[id]) {
                open.extend(now.values().chain(synced.values()));
            }
        }
        seen.contains(&wanted)
    }
}

impl Left<'_> {
    /// The names in a directory that is still there.
    pub(crate) fn names(&self, dir: &str) -> BTreeMap<&str, Id> {
        self.find(dir).map(|id| self.names_of(id)).unwrap_or_default()
    }

    fn names_of(&self, id: Id) -> BTreeMap<&str, Id> {
        let Node::Dir { now, synced } = &self.disk.nodes[id] else { return BTreeMap::new() };
        let chosen = match self.names.get(&id) {
            Some(Names::Now) => now,
            _ => synced,
        };
        let is_left =
            |name: &String| self.names.get(&id) != Some(&Names::Removed) || now.contains_key(name);
        let left = chosen.iter().filter(|(name, _)| is_left(name));
        left.map(|(name, id)| (name.as_str(), *id)).collect()
    }

    /// The file at a path below the root that is still there.
    pub(crate) fn find(&self, path: &str) -> Option<Id> {
        path.split('/').try_fold(0, |dir, name| self.names_of(dir).get(name).copied())
    }

    /// Whether the file is there with all of its content.
    pub(crate) fn has_whole(&self, path: &str) -> bool {
        self.find(path).is_some_and(|id| self.disk.is_synced(id))
    }

    /// Where a symbolic link points that is still there.
    pub(crate) fn target(&self, path: &str) -> Option<&str> {
        match &self.disk.nodes[self.find(path)?] {
            Node::Link { target } => Some(target),
            _ => None,
        }
    }
}
