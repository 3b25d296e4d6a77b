use std::sync::Arc;

use bytes::Bytes;

use super::{Origin, Position};

/// One message as it came, before anyone looks into it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Message {
    pub position: Position,
    /// Which assignment of its partition it belongs to; settled work of an older epoch is not committed.
    pub epoch: u64,
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// See [`Origin::topic_id`].
    pub topic_id: Option<Arc<str>>,
    /// Set where it has failed before and was put off: `position` is then that of a retry topic.
    pub retry: Option<Retry>,
}

/// What a message brings along that has failed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Where it was first. It keeps this place among the writes of its asset, however late it comes.
    pub origin: Origin,
    /// How often it was tried before it was put off.
    pub attempts: u32,
}

impl Message {
    /// Where what it writes comes from.
    pub fn origin(&self) -> Origin {
        match &self.retry {
            Some(retry) => retry.origin.clone(),
            None => Origin {
                position: self.position.clone(),
                topic_id: self.topic_id.clone(),
                timestamp_ms: self.timestamp_ms,
            },
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Bytes of key, value and headers.
    pub fn memory_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len));
        self.bytes() + headers.sum::<usize>()
    }
}

#[cfg(test)]
impl Message {
    /// A tombstone without key, in epoch 1.
    pub fn empty(topic: &str, partition: i32, offset: i64) -> Self {
        let position = Position { topic: topic.into(), partition, offset };
        Self {
            position,
            epoch: 1,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
            topic_id: None,
            retry: None,
        }
    }
}
