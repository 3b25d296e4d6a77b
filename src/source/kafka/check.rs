//! Tries what a worker will need of the brokers, without joining the group.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Context;
use super::reach;
use crate::config::{KafkaSettings, RetryTopic};
use crate::kafka_client;
use crate::source::{KafkaSource, SourceError};

/// Shorter than `connect` waits: somebody looks on.
const REACH_MAX: Duration = Duration::from_secs(8);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The broker's property that makes it create a topic with the first message to it.
const AUTO_CREATE: &str = "auto.create.topics.enable";

/// What the brokers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaFound {
    pub brokers: usize,
    /// Those that are consumed from, each with its partitions; patterns are left out.
    pub topics: Vec<(String, usize)>,
    /// Of the topics that are to be produced to, those that are not there.
    pub absent: Vec<String>,
    /// Whether the brokers create absent topics by themselves; none: they do not say.
    pub creates_topics: Option<bool>,
}

impl KafkaSource {
    /// Reaches a broker and asks for `kafka.topics` and `retry_topics`, which must exist, and for `targets`, topics that
    /// will be produced to. Creates nothing, joins no group.
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
                    .map_err(|error| SourceError::Fatal(kafka_client::creation_error(&error)))?;
            reach::reach(&consumer, &events, &of_brokers, REACH_MAX)?;
            let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|error| {
                SourceError::Fatal(format!("the brokers do not list their topics: {error}; see their logs"))
            })?;
            let partitions = |topic: &str| {
                let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
                Some(found.partitions().len())
            };
            let found = KafkaFound {
                brokers: metadata.brokers().len(),
                topics: of_brokers.topics.iter().filter_map(|t| Some((t.clone(), partitions(t)?))).collect(),
                absent: targets.into_iter().filter(|topic| partitions(topic).is_none()).collect(),
                creates_topics: None,
            };
            Ok((found, metadata.brokers().first().map(|broker| broker.id())))
        });
        let (mut found, broker) =
            asked.await.map_err(|error| SourceError::Fatal(format!("asking Kafka broke: {error}")))??;
        if let (false, Some(broker)) = (found.absent.is_empty(), broker) {
            found.creates_topics = creates_topics(settings, broker).await;
        }
        Ok(found)
    }
}

/// None where the broker does not tell, for example because this user may not ask.
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
