use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::letter::{Reporter, error_headers};
use super::{DeadLetter, DeadLetterError, DeadLetters, Sent};
use crate::config::{DeadLetterSettings, KafkaSettings, RetryTopic};
use crate::domain::Class;
use crate::kafka_client::{self, MESSAGE_TIMESTAMP, OWN_PREFIX, Quiet};
use crate::redact;

/// How long librdkafka tries before `send` returns an error. The caller tries again, for as long as it takes, but
/// wants to know (and say) that something is wrong.
const DELIVERY_TIMEOUT_MS: &str = "30000";
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// No limit of ours: the broker knows what its topic takes. (librdkafka's highest value.)
const MESSAGE_BYTES_MAX: &str = "1000000000";

/// Dead letters in a Kafka topic: the message as it was (key, value or tombstone, headers, timestamp) and the reason
/// in Kafka Connect's headers; those of an earlier failure are replaced.
///
/// A message that its topic took may be too large for the dead-letter topic, by the headers that are added. Letters
/// are compressed, which makes room for them; where that does not help, `send` fails like any outage and says which
/// limit to raise. Nothing is cut: a letter without its whole value could not be replayed.
///
/// What failed transiently goes to its next retry topic first, if there is one, in the same form. Only its timestamp is
/// that of the failure, which its delay counts from and the topic's retention too; the message's own is a header.
#[derive(Clone)]
pub struct KafkaDeadLetters {
    producer: FutureProducer<Quiet>,
    topics: DeadLetterSettings,
    retries: Retries,
    reporter: Reporter,
}

impl KafkaDeadLetters {
    /// # Errors
    /// A refused property. Brokers are not contacted yet.
    pub fn new(settings: &KafkaSettings, topics: &DeadLetterSettings) -> Result<Self, DeadLetterError> {
        let config = kafka_client::config(
            settings,
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("compression.type", "zstd"),
                ("linger.ms", "5"),
                ("message.timeout.ms", DELIVERY_TIMEOUT_MS),
                ("message.max.bytes", MESSAGE_BYTES_MAX),
            ],
        );
        let producer = FutureProducer::from_config_and_context(&config, Quiet)
            .map_err(|error| DeadLetterError(kafka_client::creation_error(&error)))?;
        let reporter = Reporter { group: settings.group_id.clone(), client: settings.client_id.clone() };
        let retries = Retries::new(topics.retry_topics(&settings.topics));
        Ok(Self { producer, topics: topics.clone(), retries, reporter })
    }
}

/// The retry topics.
#[derive(Clone, Debug, Default)]
struct Retries {
    /// Each topic's next.
    next: HashMap<String, String>,
    source: HashMap<String, String>,
}

impl Retries {
    fn new(topics: Vec<RetryTopic>) -> Self {
        let mut retries = Self::default();
        for RetryTopic { name, after, source, .. } in topics {
            retries.source.insert(name.clone(), source);
            retries.next.insert(after, name);
        }
        retries
    }

    /// Where the message is to wait, if it may succeed later.
    fn next(&self, letter: &DeadLetter) -> Option<&str> {
        let next = self.next.get(&*letter.message.position.topic).filter(|_| letter.failure.class == Class::Transient);
        next.map(String::as_str)
    }

    /// Where a message of `topic` was first.
    fn source<'a>(&'a self, topic: &'a str) -> &'a str {
        self.source.get(topic).map_or(topic, String::as_str)
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        let message = &letter.message;
        let mut headers = OwnedHeaders::new();
        for (name, value) in message.headers.iter().filter(|(name, _)| !kafka_client::is_failure_header(name)) {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        for (name, value) in error_headers(letter, &self.reporter) {
            headers = headers.insert(Header { key: &name, value: Some(&value) });
        }
        let timestamp_ms = message.origin().timestamp_ms;
        let retry = self.retries.next(letter);
        if let (Some(_), Some(at)) = (retry, timestamp_ms) {
            let name = format!("{OWN_PREFIX}{MESSAGE_TIMESTAMP}");
            headers = headers.insert(Header { key: &name, value: Some(&at.to_string()) });
        }
        let source = self.retries.source(&message.position.topic);
        let topic = retry.map_or_else(|| self.topics.topic_of(source), str::to_owned);
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.timestamp = timestamp_ms.filter(|_| retry.is_none());
        match self.producer.send(record, Timeout::After(QUEUE_TIMEOUT)).await {
            Ok(_) => Ok(if retry.is_some() { Sent::PutOff } else { Sent::DeadLetter }),
            Err((error, _)) => {
                let kind = if retry.is_some() { "retry" } else { "dead-letter" };
                Err(refused(kind, &topic, message.bytes(), &error))
            }
        }
    }
}

fn refused(kind: &str, topic: &str, bytes: usize, error: &KafkaError) -> DeadLetterError {
    let code = error.rdkafka_error_code();
    let next = match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            format!(
                "its key and value have {bytes} bytes: raise the topic's max.message.bytes above that of its source"
            )
        }
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => "create the topic".into(),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "grant this user WRITE on the topic".into(),
        _ => "check that the topic exists and has enough in-sync replicas, and that the brokers are up".into(),
    };
    let what = code.map_or_else(|| error.to_string(), |code| code.to_string());
    DeadLetterError(format!("the {kind} topic {topic:?} does not take a letter: {}; {next}", redact::cut(&what, 300)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{Headers, Message as _, OwnedMessage};
    use rdkafka::mocking::MockCluster;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    use super::*;
    use crate::domain::{Failure, Message, Position, Stage};

    fn letter(value: Option<&'static [u8]>, headers: Vec<(String, Option<Bytes>)>) -> DeadLetter {
        DeadLetter {
            message: Message {
                position: Position { topic: "assets".into(), partition: 3, offset: 42 },
                epoch: 1,
                key: Some(Bytes::from_static(b"\xff\x00key")),
                value: value.map(Bytes::from_static),
                headers,
                timestamp_ms: Some(1_700_000_000_123),
                topic_id: None,
                retry: None,
            },
            failure: Failure::permanent(Stage::Fetch, "http_not_found", "image \"https://x/a.jpg\": 404"),
            attempts: 2,
        }
    }

    fn read(brokers: &str, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reader")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("an assignment");
        let (mut out, start) = (Vec::new(), Instant::now());
        while out.len() < count {
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {count} letters arrived", out.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                out.push(message.detach());
            }
        }
        out
    }

    fn header(message: &OwnedMessage, name: &str) -> Vec<Option<Vec<u8>>> {
        let Some(headers) = message.headers() else { return Vec::new() };
        headers.iter().filter(|h| h.key == name).map(|h| h.value.map(<[u8]>::to_vec)).collect()
    }

    #[tokio::test]
    async fn a_letter_is_the_message_and_the_reason_of_its_last_failure() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("assets.dlq", 1, 1).expect("a topic");
        let settings = KafkaSettings {
            brokers: vec![cluster.bootstrap_servers()],
            group_id: "catalog".into(),
            ..KafkaSettings::default()
        };
        let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
        let text = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
        let headers = vec![
            ("traceparent".to_owned(), text("00-ab-cd-01")),
            ("empty".to_owned(), None),
            ("__connect.errors.stage".to_owned(), text("decode")),
            ("clipstream.errors.attempts".to_owned(), text("9")),
        ];
        letters.send(&letter(Some(b"{\"id\""), headers)).await.expect("the broker takes it");
        letters.send(&letter(None, Vec::new())).await.expect("the broker takes a tombstone");

        let read = read(&cluster.bootstrap_servers(), "assets.dlq", 2);
        assert_eq!(read[0].key(), Some(&b"\xff\x00key"[..]));
        assert_eq!(read[0].payload(), Some(&b"{\"id\""[..]));
        assert_eq!(read[0].timestamp().to_millis(), Some(1_700_000_000_123));
        assert_eq!(read[1].payload(), None);
        let expected = [
            ("traceparent", "00-ab-cd-01"),
            ("__connect.errors.topic", "assets"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "42"),
            ("__connect.errors.connector.name", "catalog"),
            ("__connect.errors.task.id", "clipstream"),
            ("__connect.errors.stage", "fetch"),
            ("__connect.errors.class.name", "clipstream.fetch"),
            ("__connect.errors.exception.class.name", "http_not_found"),
            ("__connect.errors.exception.message", "image \"https://x/a.jpg\": 404"),
            ("clipstream.errors.class", "permanent"),
            ("clipstream.errors.attempts", "2"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&read[0], name), [Some(value.as_bytes().to_vec())], "{name}");
        }
        assert_eq!(header(&read[0], "empty"), [None]);
        assert_eq!(header(&read[0], "clipstream.errors.timestamp").len(), 1);
    }

    #[tokio::test]
    async fn what_failed_transiently_goes_through_its_retry_topics_first() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        for topic in ["assets.retry.1", "assets.retry.2", "assets.dlq"] {
            cluster.create_topic(topic, 1, 1).expect("a topic");
        }
        let settings = KafkaSettings {
            brokers: vec![cluster.bootstrap_servers()],
            topics: vec!["assets".into()],
            ..KafkaSettings::default()
        };
        let topics = DeadLetterSettings { retry_delays_s: vec![60, 600], ..DeadLetterSettings::default() };
        let letters = KafkaDeadLetters::new(&settings, &topics).expect("a producer");
        let mut letter = letter(Some(b"{}"), vec![("traceparent".to_owned(), Some(Bytes::from_static(b"00-ab")))]);
        assert_eq!(letters.send(&letter).await.expect("taken"), Sent::DeadLetter, "it can never succeed");
        letter.failure.class = Class::Transient;
        let first = letter.message.origin();
        // As the consumer of a retry topic makes a message of what is in it.
        let back = |found: &OwnedMessage| {
            let headers = found.headers().expect("headers").iter();
            let headers: Vec<_> = headers.map(|h| (h.key.to_owned(), h.value.map(Bytes::copy_from_slice))).collect();
            let position = Position { topic: found.topic().into(), partition: 0, offset: found.offset() };
            Message {
                position,
                epoch: 1,
                key: found.key().map(Bytes::copy_from_slice),
                value: found.payload().map(Bytes::copy_from_slice),
                retry: kafka_client::retry("assets", &headers),
                headers,
                timestamp_ms: found.timestamp().to_millis(),
                topic_id: None,
            }
        };
        for (topic, attempts) in [("assets.retry.1", 2), ("assets.retry.2", 4)] {
            assert_eq!(letters.send(&letter).await.expect("taken"), Sent::PutOff);
            let found = &read(&cluster.bootstrap_servers(), topic, 1)[0];
            letter.message = back(found);
            let retry = letter.message.retry.as_ref().expect("it says where it was");
            assert_eq!((&retry.origin, retry.attempts), (&first, attempts), "{topic}");
            assert!(letter.message.timestamp_ms > first.timestamp_ms, "{topic}: of the failure");
            assert_eq!((found.key(), found.payload()), (Some(&b"\xff\x00key"[..]), Some(&b"{}"[..])));
            assert_eq!(header(found, "traceparent").len(), 1);
        }
        assert_eq!(letters.send(&letter).await.expect("taken"), Sent::DeadLetter);
        let dead = read(&cluster.bootstrap_servers(), "assets.dlq", 2);
        assert_eq!(dead[1].timestamp(), dead[0].timestamp(), "its own");
        let expected = [
            ("__connect.errors.topic", "assets"),
            ("__connect.errors.offset", "42"),
            ("clipstream.errors.attempts", "6"),
            ("clipstream.errors.class", "transient"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&dead[1], name), [Some(value.as_bytes().to_vec())], "{name}");
        }
        assert_eq!(header(&dead[1], "clipstream.errors.message_timestamp").len(), 0);
    }

    #[tokio::test]
    async fn what_the_broker_refuses_is_an_error_with_the_next_step() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("assets.dlq", 1, 1).expect("a topic");
        cluster.request_errors(
            rdkafka::types::RDKafkaApiKey::Produce,
            &[rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
        );
        let settings = KafkaSettings { brokers: vec![cluster.bootstrap_servers()], ..KafkaSettings::default() };
        let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
        let error = letters.send(&letter(Some(b"large"), Vec::new())).await.expect_err("the broker refuses it");
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
        letters.send(&letter(Some(b"large"), Vec::new())).await.expect("the next attempt succeeds");
    }
}
