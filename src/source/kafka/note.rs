//! The metadata stored with committed offsets.

use std::sync::Arc;

use serde_json::{Map, Value};

const TOPIC_ID: &str = "topic_id";
const STARTS: &str = "starts";

/// The metadata that this group stores with a committed offset, as a JSON object. Other or missing metadata (from another tool,
/// or an older release) is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The id of the topic of the offset. If the topic with that name has another id now, the offset is meaningless.
    pub topic_id: Option<Arc<str>>,
    /// How often processing started at the offset and settled nothing, each time except perhaps the last because the process
    /// crashed or lost the partition.
    pub starts: u32,
}

impl Note {
    pub fn parse(metadata: &str) -> Self {
        let found: Map<String, Value> = serde_json::from_str(metadata).unwrap_or_default();
        let starts = found.get(STARTS).and_then(Value::as_u64).unwrap_or(0);
        Self {
            topic_id: found.get(TOPIC_ID).and_then(Value::as_str).map(Into::into),
            starts: u32::try_from(starts).unwrap_or(u32::MAX),
        }
    }

    /// Empty if there is nothing to store. Brokers accept 4096 bytes by default (`offset.metadata.max.bytes`).
    pub fn to_metadata(&self) -> String {
        let mut fields = Map::new();
        fields.extend(self.topic_id.as_ref().map(|id| (TOPIC_ID.to_owned(), Value::from(&**id))));
        if self.starts > 0 {
            fields.insert(STARTS.to_owned(), self.starts.into());
        }
        if fields.is_empty() { String::new() } else { Value::from(fields).to_string() }
    }

    /// Whether it belongs to another topic than the one with this id; `false` if either id is unknown.
    pub fn is_of_another(&self, topic_id: Option<&Arc<str>>) -> bool {
        matches!((&self.topic_id, topic_id), (Some(then), Some(now)) if then != now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_ids_that_differ_are_two_topics() {
        let (one, two): (Arc<str>, Arc<str>) = ("Iuh2mXFDTiGGhAg3V5GHiA".into(), "qy0rw0yCRfWKyvzIk2pnZw".into());
        let note = Note { topic_id: Some(one.clone()), starts: 0 };
        assert_eq!(Note::parse(&note.to_metadata()), note);
        assert!(note.is_of_another(Some(&two)));
        assert!(!note.is_of_another(Some(&one)) && !note.is_of_another(None));
        assert_eq!(Note::default().to_metadata(), "");
        for other in ["", "{}", "[1]", "\"x\"", "kafka", "{\"topic_id\":7}", "{\"topic_id\""] {
            assert_eq!(Note::parse(other), Note::default(), "{other}");
            assert!(!Note::parse(other).is_of_another(Some(&two)));
        }
    }

    #[test]
    fn starts_are_noted_beside_the_topic_and_only_where_there_are_any() {
        let note = Note { topic_id: Some("a".into()), starts: 3 };
        assert_eq!(note.to_metadata(), r#"{"topic_id":"a","starts":3}"#);
        assert_eq!(Note::parse(&note.to_metadata()), note);
        assert_eq!(Note { starts: 0, ..note }.to_metadata(), r#"{"topic_id":"a"}"#, "as the release before wrote it");
        assert_eq!(Note { topic_id: None, starts: 2 }.to_metadata(), r#"{"starts":2}"#);
        for other in [r#"{"starts":-1}"#, r#"{"starts":"2"}"#, r#"{"starts":1.5}"#, r#"{"topic_id":"a"}"#] {
            assert_eq!(Note::parse(other).starts, 0, "{other}");
        }
        assert_eq!(Note::parse(r#"{"starts":99999999999}"#).starts, u32::MAX);
    }
}
