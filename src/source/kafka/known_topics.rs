//! Detection of topics that were recreated under librdkafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kafka_client::TopicIds;

/// The topic ids that librdkafka saw first in this process. For a topic that was recreated since, it keeps the old leader
/// epochs, even while other members own the partitions, and may treat the new topic's data as outdated.
#[derive(Debug, Default)]
pub struct KnownTopics {
    first: BTreeMap<String, Arc<str>>,
}

impl KnownTopics {
    pub fn remember(&mut self, ids: &TopicIds) {
        for (topic, id) in ids {
            if let Some(id) = id {
                self.first.entry(topic.clone()).or_insert_with(|| id.clone());
            }
        }
    }

    /// Whether the topic with this name is not the first one seen.
    pub fn is_another(&self, topic: &str, ids: &TopicIds) -> bool {
        let now = ids.get(topic).and_then(Option::as_ref);
        now.is_some_and(|now| self.first.get(topic).is_some_and(|first| first != now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_compared_with_the_first_one_of_its_name_however_often_it_is_made_anew() {
        let ids = |id: Option<&str>| TopicIds::from([("t".to_owned(), id.map(Arc::from))]);
        let mut known = KnownTopics::default();
        for (id, is_another) in
            [(None, false), (Some("a"), false), (Some("a"), false), (Some("b"), true), (None, false), (Some("c"), true)]
        {
            let ids = ids(id);
            known.remember(&ids);
            assert_eq!(known.is_another("t", &ids), is_another, "{id:?}");
        }
        assert!(!known.is_another("other", &ids(Some("a"))));
    }
}
