//! A message as a source delivers it, and what is known about its earlier attempts.

use std::sync::Arc;

use bytes::Bytes;

use super::{Failure, Origin, Position};

/// One message as received, not decoded yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Message {
    pub position: Position,
    /// The assignment of its partition that it belongs to; settled work of an older epoch is not committed.
    pub epoch: u64,
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// See [`Origin::topic_id`].
    pub topic_id: Option<Arc<str>>,
    /// See [`Origin::leader_epoch`].
    pub leader_epoch: Option<i32>,
    /// Set if it has failed before and came back from a retry topic, whose position `position` is.
    pub retry: Option<Retry>,
    /// Set if processes have ended while it may have been in flight.
    pub suspicion: Option<Suspicion>,
}

/// For a message that may be what ends processes.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    /// Why it is not processed at all: it ended processes that worked on nothing else.
    pub verdict: Option<Failure>,
    /// No other message of its partition is delivered while a clone of this exists.
    pub alone: Arc<()>,
}

/// The earlier failure of a message from a retry topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Its original position, which orders it among the writes of its asset, however late it comes.
    pub origin: Origin,
    /// Attempts before it was sent to the retry topic.
    pub attempts: u32,
    /// Which of the message's requests failed, from 0, in order: the others are done. Empty if it contained only one.
    pub requests: Vec<usize>,
}

impl Retry {
    /// `topic_id`: the current id of the topic of the message's original position, if known. Another id
    /// means that the topic was recreated while the message waited.
    pub fn in_topic(mut self, topic_id: Option<&Arc<str>>) -> Self {
        let other = topic_id.filter(|now| self.origin.topic_id.as_ref().is_some_and(|then| then != *now));
        self.origin.successor = other.cloned();
        self
    }
}

impl Message {
    /// The origin that the writes of its request with this index record.
    pub fn origin_of(&self, request: usize) -> Origin {
        Origin { request, ..self.origin() }
    }

    /// The message's original position.
    pub fn origin(&self) -> Origin {
        match &self.retry {
            Some(retry) => retry.origin.clone(),
            None => Origin {
                position: self.position.clone(),
                request: 0,
                topic_id: self.topic_id.clone(),
                successor: None,
                leader_epoch: self.leader_epoch,
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
            leader_epoch: None,
            retry: None,
            suspicion: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_made_anew_succeeds_the_one_where_a_message_was_first() {
        let id = |id: &str| -> Arc<str> { id.into() };
        let waited = |topic_id: Option<Arc<str>>| {
            let origin = Origin { topic_id, ..Message::empty("t", 0, 1).origin() };
            move |now: Option<&Arc<str>>| {
                Retry { origin, attempts: 1, requests: Vec::new() }.in_topic(now).origin.successor
            }
        };
        assert_eq!(waited(Some(id("a")))(Some(&id("b"))), Some(id("b")));
        assert_eq!(waited(Some(id("a")))(Some(&id("a"))), None, "it is the same");
        assert_eq!(waited(Some(id("a")))(None), None, "nothing has taken its place, or nobody knows");
        assert_eq!(waited(None)(Some(&id("b"))), None, "an older release sent it to the retry topic");
    }
}
