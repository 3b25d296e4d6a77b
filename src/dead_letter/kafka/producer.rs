//! A producer that is recreated after a fatal error of librdkafka.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;

use crate::dead_letter::DeadLetterError;
use crate::domain::DeadLetterReason;
use crate::kafka_client::{self, Quiet};

const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Some errors are fatal for an idempotent producer although their cause may be temporary, such as a permission that is
/// granted a minute later (librdkafka: `rd_kafka_fatal_error`). Only a new client recovers from them.
#[derive(Clone)]
pub(super) struct Producer {
    config: ClientConfig,
    current: Arc<Mutex<FutureProducer<Quiet>>>,
}

/// Why a record was not accepted.
#[derive(Debug)]
pub(super) struct Refusal {
    pub code: Option<RDKafkaErrorCode>,
    /// In librdkafka's words; after a fatal error, the reason for that.
    pub what: String,
}

impl Producer {
    /// # Errors
    /// A refused property. Brokers are not contacted yet.
    pub fn new(config: ClientConfig) -> Result<Self, DeadLetterError> {
        let current = Arc::new(Mutex::new(create(&config)?));
        Ok(Self { config, current })
    }

    fn current(&self) -> FutureProducer<Quiet> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the record's partition, once all in-sync replicas have the record.
    pub async fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<i32, Refusal> {
        let producer = self.current();
        let error = match producer.send(record, Timeout::After(QUEUE_TIMEOUT)).await {
            Ok(delivery) => return Ok(delivery.partition),
            Err((error, _)) => error,
        };
        Err(match producer.client().fatal_error() {
            Some((code, reason)) => {
                self.replace(&producer);
                Refusal { code: Some(code), what: reason }
            }
            None => {
                let code = error.rdkafka_error_code();
                Refusal { code, what: code.map_or_else(|| error.to_string(), |code| code.to_string()) }
            }
        })
    }

    /// Replaces `spent` by a new client, unless it was replaced already.
    fn replace(&self, spent: &FutureProducer<Quiet>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.client().native_ptr() != spent.client().native_ptr() {
            return;
        }
        match create(&self.config) {
            Ok(fresh) => {
                let old = std::mem::replace(&mut *current, fresh);
                // Closing a client waits for its threads.
                drop(tokio::task::spawn_blocking(move || drop(old)));
            }
            // It could be created before, so file descriptors or threads are exhausted. The next attempt tries again.
            Err(error) => tracing::warn!(%error, "the producer of dead letters cannot be recreated"),
        }
    }
}

fn create(config: &ClientConfig) -> Result<FutureProducer<Quiet>, DeadLetterError> {
    FutureProducer::from_config_and_context(config, Quiet).map_err(|error: KafkaError| {
        DeadLetterError::found(DeadLetterReason::Unavailable, kafka_client::creation_error(&error))
    })
}
