//! Checks everything that a worker needs from the brokers, without joining the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::context::Context;
use super::note::Note;
use super::{starts, startup_probe};
use crate::config::{KafkaSettings, RetryTopic};
use crate::domain::{SourceReason, TopicPartition};
use crate::kafka_client::{self, OffsetEntry};
use crate::source::{KafkaSource, SourceError};

/// Shorter than the wait of `connect`, because `check` is interactive.
const REACH_MAX: Duration = Duration::from_secs(8);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The broker's property for automatic topic creation.
const AUTO_CREATE: &str = "auto.create.topics.enable";

/// Information from the brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaFound {
    pub brokers: usize,
    /// The consumed topics with their numbers of partitions; without patterns.
    pub topics: Vec<(String, usize)>,
    /// Missing topics among those that are produced to.
    pub absent: Vec<String>,
    /// Whether the brokers create missing topics automatically; `None`: they do not report it.
    pub creates_topics: Option<bool>,
    /// Partitions whose committed offset is before the beginning of the log.
    pub removed: Vec<Removed>,
    /// Topics that were deleted and recreated since the group committed an offset.
    pub recreated: Vec<String>,
}

/// Messages that the broker removed before the group read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub partition: TopicPartition,
    /// The group's offset.
    pub from: i64,
    /// Where the log begins now.
    pub to: i64,
}

impl KafkaSource {
    /// Contacts a broker and queries `kafka.topics` and `retry_topics`, which must exist, and `targets`, topics that will be
    /// produced to. Creates nothing and joins no group.
    ///
    /// # Errors
    /// As [`KafkaSource::connect`], after 8 s.
    pub async fn check(
        settings: &KafkaSettings,
        retry_topics: &[RetryTopic],
        drain_deadline: Duration,
        targets: Vec<String>,
    ) -> Result<KafkaFound, SourceError> {
        let of_brokers = super::with_retries(settings, retry_topics);
        let config = super::consumer_config(&of_brokers, drain_deadline)?;
        let asked = tokio::task::spawn_blocking(move || {
            let (note, events) = std::sync::mpsc::channel();
            let consumer: BaseConsumer<Context> =
                BaseConsumer::from_config_and_context(&config, Context::new(note, Default::default()))
                    .map_err(|error| super::unmade(&error))?;
            startup_probe::wait_for_brokers(&consumer, &events, &of_brokers, REACH_MAX)?;
            let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|error| {
                let message = format!("the brokers do not list their topics: {error}");
                SourceError::new(SourceReason::KafkaUnreachable, message).hint("see the brokers' logs")
            })?;
            let partitions = |topic: &str| {
                let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
                Some(found.partitions().len())
            };
            let topics: Vec<(String, usize)> =
                of_brokers.topics.iter().filter_map(|t| Some((t.clone(), partitions(t)?))).collect();
            let (removed, recreated) = behind(&consumer, &topics).map_err(|error| {
                let message =
                    format!("the brokers do not report the offsets of group {:?}: {error}", of_brokers.group_id);
                SourceError::new(SourceReason::KafkaStart, message).hint(
                    "check that its coordinator is running, and that this user may DESCRIBE the group and the topics",
                )
            })?;
            let found = KafkaFound {
                brokers: metadata.brokers().len(),
                topics,
                removed,
                recreated,
                absent: targets.into_iter().filter(|topic| partitions(topic).is_none()).collect(),
                creates_topics: None,
            };
            Ok((found, metadata.brokers().first().map(|broker| broker.id())))
        });
        let (mut found, broker) =
            asked.await.map_err(|error| super::broken(format!("querying Kafka failed: {error}")))??;
        if let (false, Some(broker)) = (found.absent.is_empty(), broker) {
            found.creates_topics = creates_topics(settings, broker).await;
        }
        Ok(found)
    }
}

/// Committed offsets that are no longer valid.
fn behind(
    consumer: &BaseConsumer<Context>,
    topics: &[(String, usize)],
) -> Result<(Vec<Removed>, Vec<String>), KafkaError> {
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|(topic, count)| {
            let topic: Arc<str> = topic.as_str().into();
            (0..i32::try_from(*count).unwrap_or(0))
                .map(move |partition| TopicPartition { topic: topic.clone(), partition })
        })
        .collect();
    let names = topics.iter().map(|(topic, _)| topic.as_str()).collect();
    let ids = kafka_client::topic_ids(consumer.client(), &names, REQUEST_TIMEOUT)?;
    let (mut recreated, mut read) = (BTreeSet::new(), BTreeMap::new());
    for entry in committed(consumer, &partitions)? {
        let Offset::Offset(offset) = entry.offset else { continue };
        let topic = &*entry.partition.topic;
        if Note::parse(&entry.metadata).is_of_another(ids.get(topic).and_then(Option::as_ref)) {
            recreated.insert(topic.to_owned());
        } else {
            read.insert(entry.partition, offset);
        }
    }
    let of_read: Vec<_> = read.keys().cloned().collect();
    let begins = starts::edges(consumer, &of_read, Offset::Beginning, REQUEST_TIMEOUT)?;
    let removed = read.into_iter().filter_map(|(partition, from)| {
        let to = *begins.get(&partition)?;
        (to > from).then_some(Removed { partition, from, to })
    });
    Ok((removed.collect(), recreated.into_iter().collect()))
}

/// Like [`starts::committed`], but tolerates a coordinator that has just been elected.
fn committed(consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) -> Result<Vec<OffsetEntry>, KafkaError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        match starts::committed(consumer, partitions, REQUEST_TIMEOUT) {
            Err(_) if Instant::now() < deadline => drop(consumer.poll(Duration::from_millis(100))),
            answer => return answer,
        }
    }
}

/// `None` if the broker does not report it, for example because this user lacks the permission.
async fn creates_topics(settings: &KafkaSettings, broker: i32) -> Option<bool> {
    let admin = kafka_client::admin(settings).await.ok()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answers = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options).await.ok()?;
    let entry = answers.into_iter().find_map(Result::ok)?.get(AUTO_CREATE)?.value.clone()?;
    entry.parse().ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[tokio::test]
    async fn topics_must_be_there_and_targets_are_looked_for() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic("assets", 3, 1).expect("a topic");
        let mut settings = KafkaSettings {
            brokers: vec![cluster.bootstrap_servers()],
            topics: vec!["assets".into()],
            ..KafkaSettings::default()
        };
        let targets = vec!["assets".to_owned(), "assets.dlq".to_owned()];
        let found =
            KafkaSource::check(&settings, &[], Duration::from_secs(1), targets).await.expect("the broker is there");
        assert_eq!((found.brokers, found.topics), (1, vec![("assets".to_owned(), 3)]));
        assert_eq!(found.absent, ["assets.dlq"]);

        settings.topics.clear();
        let error = KafkaSource::check(&settings, &[], Duration::from_secs(1), Vec::new()).await.expect_err("no topic");
        assert!(error.to_string().contains("kafka.topics is empty"), "{error}");
    }
}
