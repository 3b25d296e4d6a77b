use std::sync::Arc;

use serde_json::{Map, Value, json};

const TOPIC_ID: &str = "topic_id";

/// What this group keeps beside a committed offset, as a JSON object. Whatever else is there, or nothing (an offset that another
/// tool has set, or an older release), says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Of the topic that the offset counts in. Where the topic of that name has another one by now, the offset means nothing.
    pub topic_id: Option<Arc<str>>,
}

impl Note {
    pub fn parse(metadata: &str) -> Self {
        let found: Map<String, Value> = serde_json::from_str(metadata).unwrap_or_default();
        Self { topic_id: found.get(TOPIC_ID).and_then(Value::as_str).map(Into::into) }
    }

    /// Empty where there is nothing to say. Brokers take 4096 bytes by default (`offset.metadata.max.bytes`).
    pub fn to_metadata(&self) -> String {
        match &self.topic_id {
            Some(id) => json!({ TOPIC_ID: **id }).to_string(),
            None => String::new(),
        }
    }

    /// Whether it is of another topic than the one with this id. What is not known on either side differs from nothing.
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
        let note = Note { topic_id: Some(one.clone()) };
        assert_eq!(Note::parse(&note.to_metadata()), note);
        assert!(note.is_of_another(Some(&two)));
        assert!(!note.is_of_another(Some(&one)) && !note.is_of_another(None));
        assert_eq!(Note::default().to_metadata(), "");
        for other in ["", "{}", "[1]", "\"x\"", "kafka", "{\"topic_id\":7}", "{\"topic_id\""] {
            assert_eq!(Note::parse(other), Note::default(), "{other}");
            assert!(!Note::parse(other).is_of_another(Some(&two)));
        }
    }
}
