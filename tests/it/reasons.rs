//! The documents list every reason, and no others.

use std::collections::BTreeSet;

use clipstream::domain::AnyReason;

/// What stands in backticks in the last column of tables whose header ends with "reasons".
fn listed(document: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("{}/docs/{document}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut codes = BTreeSet::new();
    let mut is_table = false;
    for line in text.lines() {
        is_table = line.ends_with("| reasons |") || (is_table && line.starts_with('|'));
        let last = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        if is_table {
            codes.extend(last.split('`').skip(1).step_by(2).filter(|code| is_code(code)).map(str::to_owned));
        }
    }
    codes
}

/// Links to files stand in backticks, too.
fn is_code(text: &str) -> bool {
    text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[test]
fn every_reason_is_in_a_document_and_every_code_there_is_a_reason() {
    let known: BTreeSet<String> = AnyReason::all().map(|reason| reason.to_string()).collect();
    let listed = &listed("messages.md") | &listed("operations.md");
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "reasons that neither docs/messages.md nor docs/operations.md lists: {missing:?}");
    let strange: Vec<_> = listed.difference(&known).collect();
    assert!(strange.is_empty(), "codes in docs/ that are no reasons: {strange:?}");
}
