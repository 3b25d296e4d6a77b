//! The headers that describe a message's failure, in its dead letter and in retry topics.

use bytes::Bytes;

use crate::domain::{Origin, Position, Retry};

/// Headers of this prefix are Kafka Connect's (KIP-298, `DeadLetterQueueReporter`), so that its tools read our dead
/// letters. All values are text.
pub const CONNECT_PREFIX: &str = "__connect.errors.";
/// Prefix of headers that Kafka Connect does not define.
pub const OWN_PREFIX: &str = "clipstream.errors.";
/// The message's own timestamp, milliseconds since the Unix epoch. Its record has the time of the failure.
pub const MESSAGE_TIMESTAMP: &str = "message_timestamp";
/// The value if the message has none, as in Kafka's own records.
pub const NO_TIMESTAMP: i64 = -1;
/// The id of the message's source topic, which distinguishes it from a recreated topic of the same name.
pub const TOPIC_ID: &str = "topic_id";
/// Epoch of the partition's leader that accepted the message there.
pub const LEADER_EPOCH: &str = "leader_epoch";
/// Numbers, from 1, of the failed requests, if the message has several: `2,5`.
pub const REQUESTS: &str = "requests";

/// The header's value. `requests`: from 0.
pub fn request_numbers(requests: &[usize]) -> String {
    requests.iter().map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(",")
}

/// The inverse of [`request_numbers`]; empty for other text.
pub fn read_request_numbers(text: &str) -> Vec<usize> {
    let index = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
    let mut requests = text.split(',').map(index).collect::<Option<Vec<usize>>>().unwrap_or_default();
    requests.sort_unstable();
    requests.dedup();
    requests
}

/// Whether a header describes an earlier failure. A message that fails again has only the headers of its last failure.
pub fn is_failure_header(name: &str) -> bool {
    name.starts_with(CONNECT_PREFIX) || name.starts_with(OWN_PREFIX)
}

/// Position of the failed message. `header`: returns a Kafka Connect header's text by its name without the prefix.
pub fn position<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Position> {
    Some(Position {
        topic: header("topic")?.into(),
        partition: header("partition")?.parse().ok()?,
        offset: header("offset")?.parse().ok()?,
    })
}

/// The retry information of a message in a retry topic of `source`. `None` if another program wrote it: then it is an ordinary
/// message.
pub fn retry(source: &str, headers: &[(String, Option<Bytes>)]) -> Option<Retry> {
    let find = |prefix: &str, name: &str| {
        let found = headers.iter().find(|(key, _)| key.strip_prefix(prefix) == Some(name));
        std::str::from_utf8(found?.1.as_deref()?).ok()
    };
    let position = position(|name| find(CONNECT_PREFIX, name)).filter(|position| &*position.topic == source)?;
    let topic_id = find(OWN_PREFIX, TOPIC_ID).filter(|id| !id.is_empty()).map(Into::into);
    let leader_epoch = find(OWN_PREFIX, LEADER_EPOCH).and_then(|epoch| epoch.parse().ok());
    let timestamp_ms =
        find(OWN_PREFIX, MESSAGE_TIMESTAMP).and_then(|ms| ms.parse().ok()).filter(|ms| *ms != NO_TIMESTAMP);
    Some(Retry {
        origin: Origin { position, request: 0, topic_id, successor: None, leader_epoch, timestamp_ms },
        attempts: find(OWN_PREFIX, "attempts").and_then(|n| n.parse().ok()).unwrap_or(0),
        requests: find(OWN_PREFIX, REQUESTS).map(read_request_numbers).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> Vec<(String, Option<Bytes>)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), Some(Bytes::copy_from_slice(value.as_bytes())))).collect()
    }

    const WHOLE: [(&str, &str); 7] = [
        ("__connect.errors.topic", "assets"),
        ("__connect.errors.partition", "3"),
        ("__connect.errors.offset", "42"),
        ("clipstream.errors.attempts", "5"),
        ("clipstream.errors.message_timestamp", "1700000000123"),
        ("clipstream.errors.topic_id", "lUTB1pK1RMOz9L5Qb7x1Zw"),
        ("clipstream.errors.leader_epoch", "7"),
    ];

    #[test]
    fn a_message_of_a_retry_topic_keeps_its_place() {
        let retry = retry("assets", &headers(&WHOLE)).unwrap();
        let origin = Origin {
            position: Position { topic: "assets".into(), partition: 3, offset: 42 },
            request: 0,
            topic_id: Some("lUTB1pK1RMOz9L5Qb7x1Zw".into()),
            successor: None,
            leader_epoch: Some(7),
            timestamp_ms: Some(1_700_000_000_123),
        };
        assert_eq!(retry, Retry { origin: origin.clone(), attempts: 5, requests: Vec::new() });
        // Scheduled by an older release.
        let retry = super::retry("assets", &headers(&WHOLE[..5])).unwrap();
        assert_eq!(retry.origin, Origin { topic_id: None, leader_epoch: None, ..origin });
    }

    #[test]
    fn a_message_of_a_retry_topic_says_which_of_its_requests_failed() {
        let requests = |text: &str| {
            let own = [("clipstream.errors.requests", text)];
            retry("assets", &headers(&[&WHOLE[..], &own].concat())).unwrap().requests
        };
        assert_eq!(requests(&request_numbers(&[1, 4, 11])), [1, 4, 11]);
        assert_eq!(requests("5,2,2"), [1, 4]);
        for text in ["", "0", "1,x", "1,,2", "-1"] {
            assert!(requests(text).is_empty(), "{text:?} names none, so that all are done");
        }
    }

    #[test]
    fn what_is_not_from_us_is_an_ordinary_message() {
        assert_eq!(retry("assets", &[]), None);
        assert_eq!(retry("others", &headers(&WHOLE)), None);
        for (missing, _) in &WHOLE[..3] {
            let some: Vec<_> = WHOLE.iter().filter(|(name, _)| name != missing).copied().collect();
            assert_eq!(retry("assets", &headers(&some)), None, "without {missing}");
        }
        assert_eq!(retry("assets", &[("__connect.errors.topic".to_owned(), None)]), None);
    }
}
