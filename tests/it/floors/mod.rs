//! The floors of the code: a folder of `src/` uses itself and lower floors only. Within a folder nobody imports in a circle,
//! and where a folder has an order, it is kept.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use imports::rust_files;
use imports::{Modules, circles, paths};

/// Floor, and the folders on it. Floors exist before the folders on them do.
const FLOORS: [(u8, &[&str]); 8] = [
    (0, &["domain"]),
    (
        1,
        &[
            "adaptive",
            "budget",
            "config",
            "encoding",
            "kafka_client",
            "redact",
            "retry",
            "shutdown",
            "telemetry",
            "tls",
            "exhaustion",
        ],
    ),
    (2, &["picture", "tokenize", "model"]),
    (3, &["source", "format", "media", "clip", "store", "dead_letter", "hub"]),
    (4, &["pipeline"]),
    (5, &["worker", "api"]),
    (6, &["demo", "bench"]),
    (7, &["allocator", "cli"]),
];

/// Uses on the same floor that are meant: user, used, and why.
const SIDEWAYS: [(&str, &str, &str); 9] = [
    ("config", "redact", "secrets are a type of `redact`, so that no setting can print one"),
    ("kafka_client", "config", "takes its own settings"),
    ("kafka_client", "redact", "what librdkafka says may have a password in it"),
    ("kafka_client", "tls", "reads certificates of one's own for the requests for tokens"),
    ("model", "picture", "what a directory says of preprocessing is read by what will preprocess"),
    ("model", "tokenize", "a vocabulary is read by what will tokenize with it"),
    ("telemetry", "config", "takes its own settings"),
    ("telemetry", "redact", "shows a filter that is wrong, cut"),
    ("exhaustion", "redact", "walks the causes of an error"),
];

/// Folders whose modules have an order: each uses only those before it.
const ORDERS: [(&[&str], &[&str]); 7] = [
    (&["picture"], &["area", "format", "error", "samples", "need", "decode", "preprocess"]),
    (&["tokenize"], &["error", "settings", "outline", "clean", "open_clip", "hugging_face", "fuzzing"]),
    (&["tokenize", "clean"], &["python", "windows_1252", "entities", "ftfy"]),
    (&["tokenize", "hugging_face"], &["cleaned", "guard", "config", "parts", "special", "language"]),
    (&["tokenize", "open_clip"], &["pieces", "vocabulary", "merges"]),
    (
        &["model"],
        &[
            "error",
            "layouts",
            "inputs",
            "outputs",
            "onnx",
            "combined",
            "directory",
            "manifest",
            "facts",
            "consistency",
            "vocabulary",
            "golden",
        ],
    ),
    (
        &["clip"],
        &[
            "error",
            "slot",
            "picture_pool",
            "graph",
            "runtime",
            "providers",
            "runs",
            "tower",
            "probes",
            "blame",
            "session",
            "running_threads",
            "engine",
            "opener",
            "open",
            "compare",
            "load",
            "labels",
            "inspect",
            "verify",
            "alone",
        ],
    ),
];

fn modules() -> Modules {
    Modules::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn floor_of(folder: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, folders)| folders.contains(&folder)).map(|(floor, _)| *floor)
}

#[test]
fn nobody_looks_up_or_sideways() {
    let (mut wrong, mut unknown, mut sideways) = (Vec::new(), BTreeMap::new(), BTreeSet::<(&str, &str, &str)>::new());
    let modules = modules();
    for (name, module) in modules.iter() {
        let first = name[0].as_str();
        let Some(floor) = floor_of(first) else {
            unknown.insert(first, module.file.display().to_string());
            continue;
        };
        // Tests as well.
        for (line, path) in paths(&module.code).into_iter().filter(|(_, path)| path[0] == "crate") {
            let used = path.get(1).map_or("", String::as_str);
            let meant = SIDEWAYS.iter().find(|(user, other, _)| (*user, *other) == (first, used));
            sideways.extend(meant);
            if used != first && meant.is_none() && floor_of(used).is_none_or(|below| below >= floor) {
                wrong.push(format!("src/{}:{line}: {first} (floor {floor}) uses {used}", module.file.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "folders without a floor: {unknown:?}; add them to FLOORS");
    assert!(wrong.is_empty(), "upward or sideways imports:\n{}", wrong.join("\n"));
    let unused: Vec<_> = SIDEWAYS.iter().filter(|meant| !sideways.contains(meant)).collect();
    assert!(unused.is_empty(), "nobody looks sideways like this any more: {unused:?}");
}

/// Pictures, tokens and model files are tried and fuzzed without ONNX Runtime.
#[test]
fn only_clip_knows_the_runtime() {
    let modules = modules();
    let knows = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "ort");
    let users = modules.iter().filter(|(name, module)| name[0] != "clip" && knows(&module.code));
    assert_eq!(users.map(|(_, module)| module.file.display().to_string()).collect::<Vec<_>>(), [""; 0]);
}

/// A use of one module of a folder by another, with the line that has it.
fn within(modules: &Modules, folder: &[String]) -> BTreeMap<(String, String), String> {
    let mut uses = BTreeMap::new();
    for (name, module, imports) in modules.imports().filter(|(name, ..)| name.starts_with(folder)) {
        for import in imports.iter().filter(|import| import.to.starts_with(folder)) {
            if let (Some(user), Some(used)) = (name.get(folder.len()), import.to.get(folder.len()))
                && user != used
            {
                let line = || format!("  src/{}:{}: {}", module.file.display(), import.line, import.written);
                uses.entry((user.clone(), used.clone())).or_insert_with(line);
            }
        }
    }
    uses
}

/// Circles between the modules of each folder; a folder in it counts as one module. What the folder's own `mod.rs` declares is
/// for all of them to use: the folder is made of them.
fn circles_of(modules: &Modules) -> Vec<String> {
    let mut found = Vec::new();
    for folder in modules.folders() {
        let uses = within(modules, &folder);
        let mut edges = BTreeMap::<_, BTreeSet<_>>::new();
        for (user, used) in uses.keys() {
            edges.entry(user.clone()).or_default().insert(used.clone());
        }
        for circle in circles(&edges) {
            let lines = uses.iter().filter(|((user, used), _)| circle.contains(user) && circle.contains(used));
            let lines: Vec<_> = lines.map(|(_, line)| line.as_str()).collect();
            found.push(format!("{}: {circle:?}\n{}", folder.join("/"), lines.join("\n")));
        }
    }
    found
}

#[test]
fn nobody_imports_in_a_circle() {
    let found = circles_of(&modules());
    assert!(found.is_empty(), "circles of imports; move what both need to a file of its own:\n{}", found.join("\n"));
}

#[test]
fn folders_with_an_order_keep_it() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (folder, order) in ORDERS {
        let folder: Vec<String> = folder.iter().map(ToString::to_string).collect();
        let listed = order.iter().map(ToString::to_string).collect();
        assert_eq!(modules.children(&folder), listed, "the modules of {}", folder.join("/"));
        let place = |module: &str| order.iter().position(|other| *other == module);
        let uses = within(&modules, &folder);
        wrong.extend(uses.into_iter().filter(|((user, used), _)| place(used) > place(user)).map(|(_, line)| line));
    }
    assert!(wrong.is_empty(), "uses of what comes later in its folder:\n{}", wrong.join("\n"));
}

fn modules_of(sources: &[(&str, &str)]) -> Modules {
    Modules::of(sources.iter().map(|(file, source)| (file.into(), (*source).to_owned())))
}

#[test]
fn paths_are_found_in_every_form() {
    let source = "use crate::a::B;\nlet x = crate::b::f(crate::c::G);\nuse crate::{\n    d,\n    e::{F, self as g},\n};\n\
                  pub use super::h as i; self::j::<crate::k::L>(); other::crate::no();";
    let mut found: Vec<String> =
        paths(source).into_iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect();
    found.sort();
    let expected = [
        "1 crate::a::B",
        "2 crate::b::f",
        "2 crate::c::G",
        "3 crate::d",
        "3 crate::e",
        "3 crate::e::F",
        "7 crate::k::L",
        "7 self::j",
        "7 super::h",
    ];
    assert_eq!(found, expected);
}

#[test]
fn circles_are_found_through_folders_and_their_names() {
    let found = |sources: &[(&str, &str)]| circles_of(&modules_of(sources));
    // By the name that the folder gives on; `b` stands for what is in it.
    let circle = [
        ("a/mod.rs", "mod b;\nmod c;\npub use c::Thing;\npub const SHARED: u8 = 1;"),
        ("a/b/mod.rs", "mod d;"),
        ("a/b/d.rs", "use crate::a::{SHARED, Thing};"),
        ("a/c.rs", "// use super::no;\nfn f() { super::b::g() }"),
    ];
    let circles = found(&circle);
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert!(
        circles[0].contains("a/b/d.rs:1: crate::a::Thing") && circles[0].contains("a/c.rs:2: super::b::g"),
        "{circles:?}"
    );
    // Of three; and what is in tests does not count.
    let circle = [("a/b.rs", "use super::c::C;"), ("a/c.rs", "use super::d::D;"), ("a/d.rs", "use super::b::B;")];
    assert_eq!(found(&circle).len(), 1);
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::a::b::B;\n}";
    assert_eq!(found(&[circle[0], circle[1], ("a/d.rs", tests)]), [""; 0]);
    let apart = [
        circle[0],
        circle[1],
        ("a/d.rs", "#[cfg(test)]\n#[path = \"e.rs\"]\nmod tests;"),
        ("a/e.rs", "use super::b::B;"),
    ];
    assert_eq!(found(&apart), [""; 0]);
}
