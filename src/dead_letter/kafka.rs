use std::time::Duration;

use async_trait::async_trait;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::letter::{Reporter, error_headers, is_error_header};
use super::{DeadLetter, DeadLetterError, DeadLetters};
use crate::config::{DeadLetterSettings, KafkaSettings};
use crate::kafka_client::{self, Quiet};
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
#[derive(Clone)]
pub struct KafkaDeadLetters {
    producer: FutureProducer<Quiet>,
    topics: DeadLetterSettings,
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
        Ok(Self { producer, topics: topics.clone(), reporter })
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let message = &letter.message;
        let mut headers = OwnedHeaders::new();
        for (name, value) in message.headers.iter().filter(|(name, _)| !is_error_header(name)) {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        for (name, value) in error_headers(letter, &self.reporter) {
            headers = headers.insert(Header { key: &name, value: Some(&value) });
        }
        let topic = self.topics.topic_of(&message.position.topic);
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.timestamp = message.timestamp_ms;
        match self.producer.send(record, Timeout::After(QUEUE_TIMEOUT)).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(refused(&topic, message.bytes(), &error)),
        }
    }
}

fn refused(topic: &str, bytes: usize, error: &KafkaError) -> DeadLetterError {
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
    DeadLetterError(format!(
        "the dead-letter topic {topic:?} does not take a letter: {}; {next}",
        redact::cut(&what, 300)
    ))
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
