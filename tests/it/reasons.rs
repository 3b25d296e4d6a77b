//! The documents list every reason, and no others, where readers look for it.

use std::collections::BTreeSet;

use clipstream::domain::{AnyReason, Class, Reason as _, Stage};

fn document(name: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Of each table whose header ends with "reasons": what stands in backticks in its last column.
fn tables(name: &str) -> Vec<BTreeSet<String>> {
    let (mut tables, mut is_table) = (Vec::<BTreeSet<String>>::new(), false);
    for line in document(name).lines() {
        if line.ends_with("| reasons |") {
            is_table = true;
            tables.push(BTreeSet::new());
        }
        is_table = is_table && line.starts_with('|');
        let last = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        if let Some(codes) = tables.last_mut().filter(|_| is_table) {
            codes.extend(last.split('`').skip(1).step_by(2).filter(|code| is_code(code)).map(str::to_owned));
        }
    }
    tables
}

/// Links to files stand in backticks, too.
fn is_code(text: &str) -> bool {
    text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Reasons of letters, of outages, and of the end of a verb.
fn listed() -> [BTreeSet<String>; 3] {
    let (messages, operations) = (tables("messages.md"), tables("operations.md"));
    let all: Vec<_> = messages.into_iter().chain(operations).collect();
    all.try_into().expect("one table in docs/messages.md and two in docs/operations.md")
}

fn class(reason: AnyReason) -> Class {
    match reason {
        AnyReason::Decode(reason) => reason.class(),
        AnyReason::Media(reason) => reason.class(),
        AnyReason::Picture(reason) => reason.class(),
        AnyReason::Model(reason) => reason.class(),
        AnyReason::Clip(reason) => reason.class(),
        AnyReason::Store(reason) => reason.class(),
        AnyReason::Source(reason) => reason.class(),
        AnyReason::DeadLetter(reason) => reason.class(),
        AnyReason::Pipeline(reason) => reason.class(),
    }
}

#[test]
fn every_reason_is_in_a_document_and_every_code_there_is_a_reason() {
    let known: BTreeSet<String> = AnyReason::all().map(|reason| reason.to_string()).collect();
    let listed: BTreeSet<String> = listed().into_iter().flatten().collect();
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "reasons that neither docs/messages.md nor docs/operations.md lists: {missing:?}");
    let strange: Vec<_> = listed.difference(&known).collect();
    assert!(strange.is_empty(), "codes in docs/ that are no reasons: {strange:?}");
}

/// A permanent failure ends a message or a verb, and a transient one a message, unless the store is merely busy: then messages are
/// held.
#[test]
fn the_reason_of_a_dead_letter_is_not_listed_as_an_outage_alone() {
    let [letters, _, ends] = listed();
    let misplaced = AnyReason::all().filter(|reason| {
        let code = reason.as_str();
        let is_explained = match class(*reason) {
            Class::Permanent => letters.contains(code) || ends.contains(code),
            Class::Transient => letters.contains(code) || matches!(reason, AnyReason::Store(_)),
            Class::Outage => true,
        };
        !is_explained
    });
    let misplaced: Vec<_> = misplaced.map(AnyReason::as_str).collect();
    assert!(misplaced.is_empty(), "reasons of dead letters that docs/messages.md does not list: {misplaced:?}");
}

#[test]
fn every_stage_of_a_letter_is_documented_and_no_other() {
    let text = document("messages.md");
    let row = text.lines().find_map(|line| line.strip_prefix("| `__connect.errors.stage` |")).unwrap();
    let documented: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
    let stages = Stage::ALL.into_iter().filter(|stage| stage.has_letters()).map(Stage::as_str);
    assert_eq!(documented, stages.collect::<Vec<_>>());
}
