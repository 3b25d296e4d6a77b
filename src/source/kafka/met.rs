use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kafka_client::TopicIds;

/// The topics as librdkafka came to know them in this process, by their ids. Of one that was made anew since it keeps the old
/// leaders' epochs, also while the partitions are others', and may take what the new one brings for old news.
#[derive(Debug, Default)]
pub struct Met {
    first: BTreeMap<String, Arc<str>>,
}

impl Met {
    pub fn meet(&mut self, ids: &TopicIds) {
        for (topic, id) in ids {
            if let Some(id) = id {
                self.first.entry(topic.clone()).or_insert_with(|| id.clone());
            }
        }
    }

    /// Whether the topic of this name is another one than the first.
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
        let mut met = Met::default();
        for (id, is_another) in
            [(None, false), (Some("a"), false), (Some("a"), false), (Some("b"), true), (None, false), (Some("c"), true)]
        {
            let ids = ids(id);
            met.meet(&ids);
            assert_eq!(met.is_another("t", &ids), is_another, "{id:?}");
        }
        assert!(!met.is_another("other", &ids(Some("a"))));
    }
}
