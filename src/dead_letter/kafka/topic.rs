//! Topic settings that affect letters.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, ResourceSpecifier};

use crate::config::KafkaSettings;
use crate::domain::Finding;
use crate::kafka_client;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is cached; a topic's settings may change at any time.
const FRESH: Duration = Duration::from_secs(600);

/// Settings of one topic, as reported by the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Only the last record of a key is kept, and records without a key are refused.
    pub is_compacted: bool,
    /// Largest batch in bytes, compressed.
    pub message_bytes_max: Option<usize>,
}

/// Queries the brokers.
///
/// # Errors
/// No answer within 5 s, or a missing permission (DESCRIBE_CONFIGS on the topic).
pub async fn describe(settings: &KafkaSettings, topic: &str) -> Result<TopicFacts, Finding> {
    let admin = kafka_client::admin(settings).await?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let resource = [ResourceSpecifier::Topic(topic)];
    let answers = admin.describe_configs(&resource, &options).await.map_err(|error| Finding::new(error.to_string()))?;
    let found = answers.into_iter().next().ok_or_else(|| Finding::new("no answer"))?;
    let found = found.map_err(|code| Finding::new(code.to_string()))?;
    let entries = found.entry_map();
    let value = |name: &str| entries.get(name).and_then(|entry| entry.value.as_deref());
    Ok(TopicFacts {
        is_compacted: value("cleanup.policy").is_some_and(|policy| policy.split(',').any(|p| p.trim() == "compact")),
        message_bytes_max: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
    })
}

/// Which topics are compacted; queried before the first letter to a topic.
#[derive(Debug, Default)]
pub(super) struct Compacted {
    known: Mutex<HashMap<String, (Instant, bool)>>,
}

impl Compacted {
    /// If the brokers do not answer, the last known state is used, initially "not compacted".
    pub async fn is(&self, settings: &KafkaSettings, topic: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied();
        if let Some((_, is)) = known.filter(|(at, _)| at.elapsed() < FRESH) {
            return is;
        }
        match describe(settings, topic).await {
            Ok(facts) => facts.is_compacted,
            Err(why) => {
                tracing::debug!(topic, %why, "the topic's settings are not known");
                known.is_some_and(|(_, is)| is)
            }
        }
    }

    /// Records the form in which a letter was accepted.
    pub fn note(&self, topic: &str, is: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(topic.to_owned(), (Instant::now(), is));
    }
}
