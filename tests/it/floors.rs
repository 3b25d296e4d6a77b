//! The floors of the code: a folder of `src/` uses itself and lower floors only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Floor, and the folders on it. Floors exist before the folders on them do.
const FLOORS: [(u8, &[&str]); 7] = [
    (0, &["domain"]),
    (
        1,
        &["adaptive", "budget", "config", "encoding", "kafka_client", "redact", "retry", "shutdown", "telemetry", "tls", "used_up"],
    ),
    (2, &["source", "format", "media", "clip", "store", "dead_letter", "hub"]),
    (3, &["pipeline"]),
    (4, &["worker", "api"]),
    (5, &["demo", "bench"]),
    (6, &["cli"]),
];

/// Uses on the same floor that are meant: (user, used). Tools that hold nothing and start nothing, and the settings of
/// the tool itself.
const SIDEWAYS: [(&str, &str); 7] = [
    ("config", "redact"),
    ("kafka_client", "config"),
    ("kafka_client", "redact"),
    ("kafka_client", "tls"),
    ("telemetry", "config"),
    ("telemetry", "redact"),
    ("used_up", "redact"),
];

fn floor_of(folder: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, folders)| folders.contains(&folder)).map(|(floor, _)| *floor)
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src/ is readable") {
        let path = entry.expect("src/ is readable").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The folders that a file mentions as `crate::folder`, each with its line. Comments do not count.
fn uses(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for part in code.split("crate::").skip(1) {
            let names = match part.strip_prefix('{') {
                // `use crate::{a::B, c}` names folders at the top level of the braces.
                Some(group) => top_level(group),
                None => vec![part],
            };
            for name in names {
                let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((n + 1, name));
            }
        }
    }
    found
}

fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 0) || depth < 0 {
            names.push(&group[start..at]);
            start = at + 1;
        }
        if depth < 0 {
            break;
        }
    }
    names
}

#[test]
fn nobody_looks_up_or_sideways() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    let mut unknown = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&src).expect("it was found below src/");
        let first = inside.iter().next().expect("a file has a name").to_string_lossy().into_owned();
        // lib.rs and main.rs stand above everything.
        if first == "lib.rs" || first == "main.rs" {
            continue;
        }
        let Some(floor) = floor_of(&first) else {
            unknown.insert(first, inside.display().to_string());
            continue;
        };
        let source = std::fs::read_to_string(&file).expect("src/ is readable");
        for (line, used) in uses(&source) {
            let allowed = used == first || SIDEWAYS.contains(&(&first, &used));
            if !allowed && floor_of(&used).is_none_or(|below| below >= floor) {
                wrong.push(format!("src/{}:{line}: {first} (floor {floor}) uses {used}", inside.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "folders without a floor: {unknown:?}; add them to FLOORS");
    assert!(wrong.is_empty(), "upward or sideways imports:\n{}", wrong.join("\n"));
}

#[test]
fn uses_are_found_in_every_form() {
    let source =
        "use crate::a::B;\n// crate::no\nlet x = crate::b::f(crate::c::G);\nuse crate::{d, e::{F, G}, h::I};\n";
    let found: Vec<String> = uses(source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["a", "b", "c", "d", "e", "h"]);
}
