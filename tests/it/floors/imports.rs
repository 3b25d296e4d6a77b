//! Who imports whom below `src/`, read from the code as text: every path that begins with `crate`, `super` or `self`,
//! followed through the `use` lines of the modules on its way to where its name is at home.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's path below the crate, for example `clip`, `tower`, `text`; empty: the crate.
pub type Name = Vec<String>;

/// Re-exports of re-exports that are followed.
const STEPS_MAX: usize = 12;

pub struct Module {
    /// Below `src/`.
    pub file: PathBuf,
    /// Without comments.
    pub code: String,
    /// The same without the tests at its end.
    own: String,
    /// What its `use` lines bring in, by the name that they give it.
    used: BTreeMap<String, Vec<String>>,
}

/// All modules, those of tests left out where it says so.
pub struct Modules {
    all: BTreeMap<Name, Module>,
    tests: BTreeSet<Name>,
}

/// One import: line, the path as it is written, and the module that it leads to.
pub struct Import {
    pub line: usize,
    pub written: String,
    pub to: Name,
}

impl Modules {
    pub fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        rust_files(src, &mut files);
        let sources = files.into_iter().map(|path| {
            let source = std::fs::read_to_string(&path).expect("the folder is readable");
            (path.strip_prefix(src).expect("it was found below src/").to_owned(), source)
        });
        Self::of(sources)
    }

    pub fn of(sources: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let (mut all, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for (file, source) in sources {
            let name = name_of(&file);
            let code: String = source.lines().flat_map(|l| [l.split("//").next().unwrap_or_default(), "\n"]).collect();
            let (own, modules_of_tests) = without_tests(&code);
            for module in modules_of_tests {
                tests.insert(match module {
                    TestModule::Named(last) => name.iter().cloned().chain([last]).collect(),
                    TestModule::File(path) => name_of(&file.with_file_name(path)),
                });
            }
            let uses = own.match_indices("use ").filter(|(at, _)| is_start(own, *at));
            let used = uses.flat_map(|(at, word)| tree(own, at + word.len())).map(|leaf| (leaf.alias, leaf.path));
            all.insert(name, Module { file, used: used.collect(), own: own.to_owned(), code });
        }
        Self { all, tests }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Module)> {
        self.all.iter().filter(|(name, _)| !name.is_empty() && **name != ["main"])
    }

    /// Those that are no tests, with the modules that they use.
    pub fn imports(&self) -> impl Iterator<Item = (&Name, &Module, Vec<Import>)> {
        self.iter().filter(|(name, _)| !self.is_test(name)).map(|(name, module)| {
            let found = paths(&module.own).into_iter().filter_map(|(line, path)| {
                let to = self.home(name, &path, 0).filter(|to| to != name && !self.is_test(to))?;
                Some(Import { line, written: path.join("::"), to })
            });
            (name, module, found.collect())
        })
    }

    /// The folders that have modules below them.
    pub fn folders(&self) -> BTreeSet<Name> {
        self.iter().flat_map(|(name, _)| (1..name.len()).map(|depth| name[..depth].to_vec())).collect()
    }

    /// The modules right below a folder.
    pub fn children(&self, folder: &[String]) -> BTreeSet<String> {
        let below = self.iter().filter(|(name, _)| name.starts_with(folder) && !self.is_test(name));
        below.filter_map(|(name, _)| name.get(folder.len()).cloned()).collect()
    }

    fn is_test(&self, name: &Name) -> bool {
        self.tests.iter().any(|test| name.starts_with(test))
    }

    /// The module that the name at the end of `path` is at home in, as `from` writes it; none outside of the crate. What a
    /// module declares itself is at home there.
    fn home(&self, from: &Name, path: &[String], steps: usize) -> Option<Name> {
        let first = path.first()?.as_str();
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (mut at, mut rest) = match first {
            "crate" => (Name::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(ups)?].to_vec(), &path[ups..]),
            _ if self.all.contains_key(&child(from, first)) => (from.clone(), path),
            _ => return None,
        };
        while let [part, more @ ..] = rest {
            let inner = child(&at, part);
            if self.all.contains_key(&inner) {
                (at, rest) = (inner, more);
                continue;
            }
            let through = self.all.get(&at).and_then(|module| module.used.get(part));
            let through = through.filter(|_| steps < STEPS_MAX).and_then(|used| self.home(&at, used, steps + 1));
            return Some(through.unwrap_or(at));
        }
        Some(at)
    }
}

/// The groups of nodes that lead to each other.
pub fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached = |from: &String| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![from]);
        while let Some(node) = ahead.pop() {
            let next = edges.get(node).into_iter().flatten();
            ahead.extend(next.filter(|next| seen.insert((*next).clone())));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|node| (node, reached(node))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (node, to) in &reached {
        let back = |other: &&String| reached.get(other).is_some_and(|to| to.contains(*node));
        if to.contains(*node) && !circles.iter().any(|circle| circle.contains(*node)) {
            circles.push(to.iter().filter(back).cloned().collect());
        }
    }
    circles
}

fn child(of: &Name, last: &str) -> Name {
    of.iter().cloned().chain([last.to_owned()]).collect()
}

/// The files of Rust in a folder and those below it.
pub fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn name_of(file: &Path) -> Name {
    let mut name: Name = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if name.last().is_some_and(|last| last == "mod") || name == ["lib"] {
        name.pop();
    }
    name
}

enum TestModule {
    Named(String),
    File(String),
}

/// The code up to the tests that are written at its end, and the test modules that are files of their own.
fn without_tests(code: &str) -> (&str, Vec<TestModule>) {
    const TEST: &str = "#[cfg(test)]";
    let (mut end, mut modules) = (code.len(), Vec::new());
    for (at, _) in code.match_indices(TEST) {
        let mut rest = code[at + TEST.len()..].trim_start();
        let mut path = None;
        if let Some(quoted) = rest.strip_prefix("#[path = \"") {
            let Some((file, more)) = quoted.split_once("\"]") else { continue };
            (path, rest) = (Some(file.to_owned()), more.trim_start());
        }
        let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
        let Some(rest) = rest.strip_prefix("mod ") else { continue };
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        match (rest[name.len()..].trim_start().starts_with(';'), path) {
            (true, Some(file)) => modules.push(TestModule::File(file)),
            (true, None) => modules.push(TestModule::Named(name)),
            (false, _) => end = end.min(at),
        }
    }
    (&code[..end], modules)
}

/// Every path that begins with `crate`, `super` or `self`, with its line.
pub fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for first in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(first).filter(|(at, _)| is_start(code, *at)) {
            let line = code[..at].matches('\n').count() + 1;
            found.extend(tree(code, at).into_iter().map(|leaf| (line, leaf.path)));
        }
    }
    found
}

/// Whether a word begins here that is not the middle of a path.
fn is_start(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c| is_word(c) || c == ':' || c == '$')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A path of a `use` tree, and the name that it is called by.
struct Leaf {
    path: Vec<String>,
    alias: String,
}

/// The paths of the tree that begins at `at`: one, or those of its braces.
fn tree(code: &str, at: usize) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    read_tree(code[at..].trim_start(), &[], &mut leaves);
    leaves
}

/// Reads one tree, and returns what is behind it.
fn read_tree<'c>(code: &'c str, before: &[String], leaves: &mut Vec<Leaf>) -> &'c str {
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return behind;
            }
            let behind = read_tree(rest, before, leaves).trim_start();
            rest = behind.strip_prefix(',').unwrap_or(behind);
            if rest.is_empty() || (rest.len() == behind.len() && !behind.starts_with('}')) {
                return rest;
            }
        }
    }
    let word: String = code.chars().take_while(|c| is_word(*c)).collect();
    let rest = &code[word.len()..];
    let mut path = before.to_vec();
    if word != "self" || before.is_empty() {
        path.extend(Some(word).filter(|word| !word.is_empty()));
    }
    // Also before the `<` of a type's arguments, which are paths of their own.
    if let Some(next) = rest.strip_prefix("::")
        && next.starts_with(|c| is_word(c) || c == '{')
    {
        return read_tree(next, &path, leaves);
    }
    let behind = rest.trim_start().strip_prefix("as ");
    let alias: Option<String> = behind.map(|name| name.chars().take_while(|c| is_word(*c)).collect());
    let rest = alias.as_ref().map_or(rest, |alias| &rest.trim_start()["as ".len() + alias.len()..]);
    let alias = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    leaves.push(Leaf { path, alias });
    rest
}
