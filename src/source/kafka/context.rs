//! Callbacks of librdkafka, recorded as events for the polling thread.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, bindings};

use crate::kafka_client::{self, CurrentToken};

/// Events from librdkafka's callbacks. The callbacks run inside `poll` and only record events; the thread handles them
/// after `poll` has returned.
#[derive(Debug)]
pub(super) enum ClientEvent {
    Rebalance(Rebalance),
    Committed { result: KafkaResult<()>, offsets: TopicPartitionList },
    Statistics(Box<Statistics>),
    Error { code: RDKafkaErrorCode, reason: String },
}

/// One step of a rebalance that librdkafka delegates to us. It waits, while heartbeats continue, until we call
/// [`apply`]; the partitions are not given to other members before that
/// (`rd_kafka_cgrp_join_state_serve`, states `WAIT_ASSIGN_CALL` and `WAIT_UNASSIGN_CALL`, in librdkafka 2.12).
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// Carries out a step that librdkafka requested.
pub(super) fn apply<C: ConsumerContext>(consumer: &BaseConsumer<C>, rebalance: &Rebalance) -> KafkaResult<()> {
    let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    match rebalance {
        Rebalance::Assign(partitions) if cooperative => consumer.incremental_assign(partitions),
        Rebalance::Assign(partitions) => consumer.assign(partitions),
        Rebalance::Revoke(partitions) if cooperative => consumer.incremental_unassign(partitions),
        Rebalance::Revoke(_) => consumer.unassign(),
    }
}

/// Sends a commit. Its answer comes as [`ClientEvent::Committed`] from a later poll.
///
/// rdkafka 0.39's own asynchronous commit never reports an answer (rust-rdkafka issue 856): librdkafka needs a queue for it,
/// and `poll` serves the consumer's own queue.
pub(super) fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>, offsets: &TopicPartitionList) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    // SAFETY: `client` and `offsets` outlive these calls, which copy the offsets. The queue is a counted reference:
    // the pending answer holds its own, ours is given back. No callback is passed, so nothing is called later.
    let error = unsafe {
        let queue = bindings::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownGroup));
        }
        let error = bindings::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, std::ptr::null_mut());
        bindings::rd_kafka_queue_destroy(queue);
        error
    };
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::ConsumerCommit(error.into())),
    }
}

pub(super) struct Context {
    events: Sender<ClientEvent>,
    /// Set once the consumer is leaving. Then `events` are no longer read, so rebalances are carried out at once.
    leaving: Arc<AtomicBool>,
    token: CurrentToken,
}

impl Context {
    pub fn new(events: Sender<ClientEvent>, leaving: Arc<AtomicBool>) -> Self {
        Self { events, leaving, token: CurrentToken::default() }
    }

    fn note(&self, event: ClientEvent) {
        // The receiver lives in the polling thread, and is dropped only after the last relevant poll.
        let _ = self.events.send(event);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, property: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka_client::oauth_token(property).inspect(|token| self.token.had(token))
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka_client::log_line(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        self.note(ClientEvent::Statistics(Box::new(statistics)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if kafka_client::is_about_token(reason) && !self.token.failed(&reason) {
            return;
        }
        if let Some(code) = error.rdkafka_error_code() {
            self.note(ClientEvent::Error { code, reason: reason.to_owned() });
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let rebalance = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions.clone()),
            // librdkafka sends only these two.
            _ => Rebalance::Revoke(partitions.clone()),
        };
        if self.leaving.load(Ordering::Acquire) {
            if let Err(error) = apply(consumer, &rebalance) {
                tracing::debug!(%error, "a rebalance while leaving the group was not carried out");
            }
        } else {
            self.note(ClientEvent::Rebalance(rebalance));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.note(ClientEvent::Committed { result, offsets: offsets.clone() });
    }
}
