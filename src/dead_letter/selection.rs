//! Conditions that select dead letters.

use chrono::{DateTime, Utc};

use super::StoredLetter;

/// Selects the letters that meet every condition. An empty list sets no condition.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub classes: Vec<String>,
    pub stages: Vec<String>,
    pub reasons: Vec<String>,
    /// Topics that the messages came from.
    pub source_topics: Vec<String>,
    /// Failed at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Failed before this time.
    pub until: Option<DateTime<Utc>>,
}

impl Selection {
    /// A letter without a value for a condition does not match.
    pub fn matches(&self, letter: &StoredLetter) -> bool {
        let one_of = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|w| w == found))
        };
        let time = letter.time();
        one_of(&self.classes, letter.class.as_deref())
            && one_of(&self.stages, letter.stage.as_deref())
            && one_of(&self.reasons, letter.reason.as_deref())
            && one_of(&self.source_topics, letter.source.as_ref().map(|source| &*source.topic))
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Position;

    fn letter() -> StoredLetter {
        let position = Position { topic: "t".into(), partition: 0, offset: 0 };
        StoredLetter {
            position: position.clone(),
            source: Some(position),
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: Some(1_000),
            stage: Some("fetch".into()),
            class: Some("permanent".into()),
            reason: Some("http_not_found".into()),
            message: None,
            attempts: None,
            requests: Vec::new(),
            failed_at: DateTime::from_timestamp(100, 0),
        }
    }

    #[test]
    fn every_condition_must_hold_and_one_of_its_words() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert!(Selection::default().matches(&letter()));
        let fits = Selection {
            classes: words(&["permanent"]),
            stages: words(&["decode", "fetch"]),
            reasons: words(&["http_not_found"]),
            source_topics: words(&["t"]),
            ..Selection::default()
        };
        assert!(fits.matches(&letter()));
        assert!(!Selection { reasons: words(&["http_forbidden"]), ..fits.clone() }.matches(&letter()));
        assert!(!Selection { source_topics: words(&["u"]), ..fits.clone() }.matches(&letter()));
        assert!(!fits.matches(&StoredLetter { class: None, ..letter() }), "it does not say");
    }

    #[test]
    fn times_are_those_of_the_failure_and_the_end_is_left_out() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let between = |since, until| Selection { since: at(since), until: at(until), ..Selection::default() };
        assert!(between(100, 101).matches(&letter()));
        assert!(!between(101, 200).matches(&letter()));
        assert!(!between(0, 100).matches(&letter()));
        let foreign = StoredLetter { failed_at: None, ..letter() };
        assert!(between(1, 2).matches(&foreign), "the message's own time stands in");
        assert!(!between(1, 2).matches(&StoredLetter { timestamp_ms: None, ..foreign }));
    }
}
