//! `docs/reliability.md` says which tests show that each kind of failure is dealt with: they are there, and so are the faults of the
//! campaign.

use std::path::{Path, PathBuf};

use crate::floors::rust_files;

/// The kinds of failures, as the audit numbered them.
const KINDS: usize = 11;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The cells of the table whose header this is, without its first two lines.
fn table(header: &str) -> Vec<Vec<String>> {
    let text = read(&root().join("docs/reliability.md"));
    let rows = text.lines().skip_while(|line| *line != header).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands in backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether the file has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let begins = format!("fn {name}(");
    let at = lines.iter().position(|line| line.trim_start().trim_start_matches("async ").starts_with(&begins));
    let before = lines.get(..at.unwrap_or_default()).unwrap_or_default().iter().rev();
    let mut attributes =
        before.map(|line| line.trim_start()).take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn every_kind_of_failure_has_tests_and_faults_that_exist() {
    let rows = table("| kind | tests | in the campaign |");
    assert_eq!(rows.len(), KINDS, "{rows:?}");
    let mut files = Vec::new();
    rust_files(&root().join("tests/chaos"), &mut files);
    let campaign: Vec<String> = files.iter().map(|file| read(file)).collect();
    for row in rows {
        let [kind, tests, faults] = row.as_slice() else { panic!("{row:?}") };
        assert!(named(tests).next().is_some(), "no test: {kind}");
        for test in named(tests) {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}: expected file::test"));
            assert!(has_test(&read(&root().join(file)), name), "{kind}: there is no test {test}");
        }
        for fault in named(faults) {
            let literal = format!("\"{fault}\"");
            assert!(campaign.iter().any(|text| text.contains(&literal)), "{kind}: the campaign has no {literal}");
        }
    }
}

#[test]
fn only_what_is_marked_as_a_test_is_one() {
    let text = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn one() {}\n\nfn helper() {}\n\n#[test]\n#[cfg(unix)]\nfn two() {}\n";
    assert!(has_test(text, "one") && has_test(text, "two"));
    assert!(!has_test(text, "helper") && !has_test(text, "tw") && !has_test(text, "three"));
}
