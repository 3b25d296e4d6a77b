//! Reads dead letters back, without joining a consumer group and without commits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::Metadata;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use regex::Regex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

pub use super::found::{Found, Unreadable};
use super::parts::Assembly;
use super::{DeadLetterError, StoredLetter};
use crate::config::{DeadLetterSettings, KafkaSettings, is_pattern};
use crate::domain::{DeadLetterReason, Finding, Position};
use crate::kafka_client;
use crate::redact;

/// How long the brokers may be unavailable before reading gives up; the verbs are interactive.
const REACH_MAX: Duration = Duration::from_secs(15);
/// One metadata request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Without a message or an end of a partition for this long, the brokers count as unavailable.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A topic that was just created may still be unknown to the queried broker.
const TOPIC_GRACE: Duration = Duration::from_secs(3);
/// Letters that are prefetched.
const AHEAD_MAX: usize = 64;
/// Enough for a message of 16 MiB (the maximum of `index`), in base64 or escaped, and its headers.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where to start: the first offset (or line) per topic (or file) and partition; by default the beginning.
pub type Start = BTreeMap<(String, i32), i64>;

/// Letters in the order of their partition, then the end of the channel; an error is the last item.
pub type Letters = Receiver<Result<Found, DeadLetterError>>;

/// Reads dead-letter topics one after the other, each up to its end at that time. Only committed transactions are read.
///
/// `topic`: only this topic, which must exist. `None`: the existing dead-letter topics of `kafka.topics`.
pub fn from_topics(
    kafka: &KafkaSettings,
    dead_letters: &DeadLetterSettings,
    topic: Option<String>,
    start: Start,
) -> Letters {
    let (send, letters) = channel(AHEAD_MAX);
    let (kafka, dead_letters) = (kafka.clone(), dead_letters.clone());
    tokio::task::spawn_blocking(move || {
        let read = || {
            let reader = Reader::new(&kafka)?;
            let topics = match topic {
                Some(topic) => BTreeSet::from([topic]),
                None => reader.topics(&kafka, &dead_letters)?,
            };
            topics.iter().try_for_each(|topic| reader.read(topic, &start, &send))
        };
        if let Err(Stopped::Failed(error)) = read() {
            // The receiver may have been dropped.
            let _ = send.blocking_send(Err(error));
        }
    });
    letters
}

/// Reads a file of dead letters (`dead_letter.file`); `-` is standard input.
pub fn from_file(path: &Path, start: Start) -> Letters {
    let (send, letters) = channel(AHEAD_MAX);
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(Stopped::Failed(error)) = read_file(&path, &start, &send) {
            let _ = send.blocking_send(Err(error));
        }
    });
    letters
}

/// Why reading ended early.
enum Stopped {
    /// The receiver was dropped.
    Unwanted,
    Failed(DeadLetterError),
}

impl From<Finding> for Stopped {
    fn from(finding: Finding) -> Self {
        Self::Failed(DeadLetterError::found(DeadLetterReason::Unavailable, finding))
    }
}

type Sending = Sender<Result<Found, DeadLetterError>>;

fn hand_over(found: impl IntoIterator<Item = Found>, send: &Sending) -> Result<(), Stopped> {
    found.into_iter().try_for_each(|found| send.blocking_send(Ok(found)).map_err(|_| Stopped::Unwanted))
}

fn read_file(path: &Path, start: &Start, send: &Sending) -> Result<(), Stopped> {
    let name = path.to_string_lossy();
    let unreadable =
        |error: std::io::Error| Finding::new(format!("{name:?} cannot be read: {error}")).hint("check the path");
    let mut reader: Box<dyn BufRead> = if name == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(std::fs::File::open(path).map_err(unreadable)?))
    };
    let topic: Arc<str> = Arc::from(&*name);
    let first = start.get(&(name.to_string(), 0)).copied().unwrap_or(0);
    let (mut line, mut letters, mut torn) = (Vec::new(), 0_u64, None);
    for number in 0.. {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let line = line.trim_ascii();
        if number < first || line.is_empty() {
            continue;
        }
        let position = Position { topic: topic.clone(), partition: 0, offset: number };
        let (letter, why) = match StoredLetter::from_line(line, position.clone()) {
            Ok(letter) => (Some(letter), None),
            Err(error) => {
                let found = redact::cut(&String::from_utf8_lossy(line), 80);
                let why = format!("{name:?}, line {}: not a dead letter: {error}; found {found}", number + 1);
                // Valid JSON that is not a letter is not a truncated line: it is another kind of file.
                if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() {
                    return Err(other_file(&why).into());
                }
                (behind_a_torn_one(line, &position), Some(why))
            }
        };
        letters += u64::from(letter.is_some());
        if let Some(why) = why {
            torn.get_or_insert_with(|| why.clone());
            hand_over([Found::Unreadable(Unreadable { position, why: Finding::new(why) })], send)?;
        }
        hand_over(letter.map(|letter| Found::Letter(Box::new(letter))), send)?;
    }
    match torn {
        Some(why) if letters == 0 => Err(other_file(&why).into()),
        _ => Ok(()),
    }
}

fn other_file(why: &str) -> Finding {
    Finding::new(format!("{why}; expected lines as written to dead_letter.file"))
}

/// Older releases appended a letter to a line that a crash had left incomplete.
fn behind_a_torn_one(line: &[u8], position: &Position) -> Option<StoredLetter> {
    // The order of a line's members depends on serde_json: as written, or by name.
    let begins = |at: &usize| [&b"{\"topic\":"[..], b"{\"attempts\":"].iter().any(|name| line[*at..].starts_with(name));
    let beginnings = (1..line.len()).filter(begins);
    beginnings.filter_map(|at| StoredLetter::from_line(&line[at..], position.clone()).ok()).next()
}

struct Reader {
    consumer: BaseConsumer<Explaining>,
    brokers: String,
}

impl Reader {
    fn new(settings: &KafkaSettings) -> Result<Self, Stopped> {
        // librdkafka needs a group name for a manual assignment, but does not join the group.
        let mut config = kafka_client::config(settings, &[("group.id", &settings.group_id)]);
        // Not configurable: reading must not commit, and must detect the end.
        for (key, value) in [
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "false"),
        ] {
            config.set(key, value);
        }
        let consumer = BaseConsumer::from_config_and_context(&config, Explaining::default())
            .map_err(|error| kafka_client::creation_error(&error))?;
        Ok(Self { consumer, brokers: redact::cut(&settings.brokers.join(", "), 200) })
    }

    /// The existing dead-letter topics of `kafka.topics`.
    fn topics(&self, kafka: &KafkaSettings, settings: &DeadLetterSettings) -> Result<BTreeSet<String>, Stopped> {
        let metadata = self.metadata(None)?;
        let existing: BTreeSet<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
        let mut wanted = BTreeSet::new();
        for topic in &kafka.topics {
            if is_pattern(topic) {
                let pattern = Regex::new(topic).map_err(|error| {
                    Finding::new(format!("the pattern {topic:?} in kafka.topics is invalid: {error}"))
                        .hint("name the topic with --topic")
                })?;
                let sources = existing.iter().filter(|topic| pattern.is_match(topic));
                wanted.extend(sources.map(|source| settings.topic_of(source)));
            } else {
                wanted.insert(settings.topic_of(topic));
            }
        }
        for absent in wanted.iter().filter(|topic| !existing.contains(topic.as_str())) {
            tracing::info!(topic = %absent, "the topic does not exist, so it has no dead letters");
        }
        Ok(wanted.into_iter().filter(|topic| existing.contains(topic.as_str())).collect())
    }

    fn read(&self, topic: &str, start: &Start, send: &Sending) -> Result<(), Stopped> {
        let mut open = self.assign(topic, start)?;
        let name: Arc<str> = topic.into();
        let (mut heard, mut assembly) = (Instant::now(), Assembly::default());
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.topic() == topic => {
                    let partition = message.partition();
                    if let Some(end) = open.get(&partition).copied() {
                        if message.offset() < end {
                            let (letter, part) = StoredLetter::from_kafka(&message, &name);
                            hand_over(assembly.add(letter, part), send)?;
                        }
                        if message.offset() + 1 >= end {
                            self.done(topic, partition, &mut open);
                        }
                    }
                    heard = Instant::now();
                }
                // The partition's last offsets may have no messages (transaction markers, compaction).
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.done(topic, partition, &mut open);
                    heard = Instant::now();
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::UnknownPartition),
                    ) => return Err(topic_error(topic, code).into()),
                    _ => tracing::debug!(topic, %error, "while reading dead letters"),
                },
                Some(Ok(_)) | None => {}
            }
            if heard.elapsed() > SILENCE_MAX {
                return Err(self.silent(SILENCE_MAX, "no message came").into());
            }
        }
        hand_over(assembly.finish(), send)
    }

    /// Starts reading, and returns the end of each partition.
    fn assign(&self, topic: &str, start: &Start) -> Result<BTreeMap<i32, i64>, Stopped> {
        let metadata = self.metadata(Some(topic))?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let (mut list, mut open) = (TopicPartitionList::new(), BTreeMap::new());
        for partition in partitions.map(|partition| partition.id()) {
            // With read_committed the end is the last stable offset.
            let (low, end) = self.consumer.fetch_watermarks(topic, partition, REACH_MAX).map_err(|error| {
                let message =
                    format!("topic {topic:?}: the brokers do not report the end of partition {partition}: {error}");
                Finding::new(message).hint("check that they are running")
            })?;
            let first = start.get(&(topic.to_owned(), partition)).copied().unwrap_or(low).max(low);
            if first < end {
                list.add_partition_offset(topic, partition, Offset::Offset(first)).map_err(|error| {
                    Finding::new(format!("topic {topic:?}: cannot read from offset {first}: {error}"))
                })?;
                open.insert(partition, end);
            }
        }
        self.consumer
            .assign(&list)
            .map_err(|error| Finding::new(format!("topic {topic:?} cannot be read: {error}")))?;
        Ok(open)
    }

    fn done(&self, topic: &str, partition: i32, open: &mut BTreeMap<i32, i64>) {
        if open.remove(&partition).is_some() {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, partition);
            // It would only continue reading, and the messages are ignored.
            if let Err(error) = self.consumer.pause(&list) {
                tracing::debug!(topic, partition, %error, "not paused");
            }
        }
    }

    /// All topics, or one that must exist.
    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Stopped> {
        let started = Instant::now();
        let mut last = "no answer".to_owned();
        loop {
            match self.consumer.fetch_metadata(topic, REQUEST_TIMEOUT) {
                Ok(metadata) => match topic.and_then(|topic| topic_problem(&metadata, topic)) {
                    None => return Ok(metadata),
                    Some(code) if is_final(code) || started.elapsed() > TOPIC_GRACE => {
                        return Err(topic_error(topic.unwrap_or_default(), code).into());
                    }
                    Some(_) => {}
                },
                Err(error) => last = error.rdkafka_error_code().map_or_else(|| error.to_string(), |c| c.to_string()),
            }
            // Serves error events, which contain more detail than "timed out". Nothing is assigned yet, so no message comes.
            let _ = self.consumer.poll(Duration::from_millis(50));
            if started.elapsed() > REACH_MAX {
                return Err(self.silent(REACH_MAX, &last).into());
            }
        }
    }

    fn silent(&self, after: Duration, what: &str) -> Finding {
        let said = self.consumer.context().last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = format!(
            "no Kafka broker of [{}] answered within {} s: {}",
            self.brokers,
            after.as_secs(),
            redact::cut(said.as_deref().unwrap_or(what), 300)
        );
        Finding::new(message).hint("check kafka.brokers, kafka.security_protocol and that the brokers are running")
    }
}

fn topic_problem(metadata: &Metadata, topic: &str) -> Option<RDKafkaErrorCode> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else { return Some(RDKafkaErrorCode::UnknownTopicOrPartition) };
    found.error().map(RDKafkaErrorCode::from)
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)
}

fn topic_error(topic: &str, code: RDKafkaErrorCode) -> Finding {
    let hint = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => "grant this user READ and DESCRIBE on the topic",
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            "check --topic, kafka.topics and dead_letter.topic"
        }
        _ => "see the broker's log",
    };
    Finding::new(format!("the dead-letter topic {topic:?} cannot be read: {code}")).hint(hint)
}

/// Keeps librdkafka's last error.
#[derive(Default)]
struct Explaining {
    last: Mutex<Option<String>>,
}

impl ClientContext for Explaining {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka_client::log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // "All brokers down" is less informative than the reason for the last one.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Explaining {}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
