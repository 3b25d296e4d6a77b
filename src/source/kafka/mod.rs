//! Messages from Kafka, by one member of a consumer group.
//!
//! A dedicated thread owns librdkafka's consumer (`poller`). It polls and never waits for the pipeline:
//!
//! ```text
//!             callbacks record               one lock
//! librdkafka ───── context ────▶ poller ──── handover ────▶ KafkaSource::next
//!                                  ▲            │
//!                 commits, revoking┘◀───────────┘ commit, close, Revocation::complete
//! ```
//!
//! - Backpressure: when the handover is full, the thread keeps the message, pauses its partitions, continues to poll for
//!   rebalances, and resumes when the handover is half empty.
//! - Partitions that the pipeline holds back, because they have too many unsettled messages, are paused alone (`held_back`).
//! - Revocation: librdkafka waits for us to unassign. Until then the thread continues to poll, the pipeline drains, and the
//!   last offsets are committed; then the partitions are released. librdkafka pauses every partition of this member in the
//!   meantime, including those that stay.
//! - Delays: the thread keeps a message of a retry topic until it is due, with its partition paused (`delays`).
//! - Crash loops: a partition with repeated starts that settled nothing delivers one message at a time, each after a trial in
//!   another process (`crash_loops`).
//! - Commits: the latest offset per partition, one pending commit at a time, repeated until it succeeds or the partition is
//!   revoked. Stored with the offset: the epoch of the leader that wrote the message before it, the topic's id, and the
//!   number of starts there that settled nothing.
//! - Start offsets: we decide where each partition begins (`starts`). librdkafka decides only one case: if the log no
//!   longer has the offset, it is read from its beginning.
//! - Changes without a rebalance: a recreated topic, a truncated log (`log_changes`), messages that were removed before they
//!   were read (`skipped`), offsets without messages (`positions`).

mod assigning;
mod check;
mod commits;
mod consumer_health;
mod context;
mod crash_loops;
mod delays;
mod handover;
mod held_back;
#[cfg(test)]
mod hung_tests;
mod known_topics;
mod log_changes;
#[cfg(test)]
mod log_changes_tests;
mod note;
mod poller;
mod positions;
mod revoking;
mod skipped;
mod stall;
mod starts;
mod startup_probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

pub use self::check::{KafkaFound, Removed};
use self::consumer_health::ConsumerHealth;
use self::context::{ClientEvent, Context};
use self::crash_loops::CrashLoopSettings;
use self::delays::Delays;
use self::handover::{Handover, Limits};
use self::poller::Poller;
use self::skipped::Skipped;
use self::stall::StallWatch;
use self::starts::Reset;
use super::{Demand, Source, SourceError, SourceEvent, Trials};
use crate::config::{KafkaSettings, OffsetReset, PipelineSettings, RetryTopic, is_pattern};
use crate::domain::{Class, Finding, SourceReason, TopicPartition};
use crate::kafka_client;
use crate::shutdown::LEAVE_GROUP_MAX;
use crate::telemetry::{Health, Metrics, Pulse};

/// How long `connect` waits for a broker.
const CONNECT_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For the pipeline to drain revoked partitions.
    drain: Duration,
    /// For a message of a partition that has more; zero: forever.
    stalled: Duration,
    /// For the first broker.
    connect: Duration,
}

impl Waits {
    fn of(pipeline: &PipelineSettings) -> Self {
        Self {
            drain: Duration::from_millis(pipeline.drain_deadline_ms),
            stalled: Duration::from_millis(pipeline.stalled_after_ms),
            connect: CONNECT_MAX,
        }
    }
}

/// One member of a consumer group. Dropped without `close`, it leaves the group in the background.
#[derive(Debug)]
pub struct KafkaSource {
    handover: Arc<Handover>,
    /// The thread's result when it has left the group.
    left: oneshot::Receiver<Result<(), Finding>>,
}

impl KafkaSource {
    /// Joins the group once a broker has answered and described every topic, including `retry_topics`, whose messages are
    /// delivered when they are due.
    ///
    /// `pipeline` says how long a revocation waits for the pipeline before the partitions are released anyway, and after what
    /// time a partition that delivers nothing counts as stalled. While the brokers, a topic or the group refuse to serve,
    /// `health` names `kafka`.
    ///
    /// # Errors
    /// A refused property, no broker within 15 s, refused credentials, a missing topic.
    pub async fn connect(
        settings: &KafkaSettings,
        retry_topics: Vec<RetryTopic>,
        pipeline: &PipelineSettings,
        health: Health,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        Self::start(settings, retry_topics, Waits::of(pipeline), health, metrics, Limits::default()).await
    }

    /// Like [`KafkaSource::connect`], but counts starts at an offset that settle nothing. After `pipeline.crashes_max` of them,
    /// messages that may have been in flight are tried first.
    ///
    /// # Errors
    /// See [`KafkaSource::connect`].
    pub async fn connect_with_trials(
        settings: &KafkaSettings,
        retry_topics: Vec<RetryTopic>,
        pipeline: &PipelineSettings,
        trials: Arc<dyn Trials>,
        health: Health,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        let care = CrashLoopSettings {
            trials: Some(trials),
            crashes_max: pipeline.crashes_max,
            window: i64::try_from(pipeline.in_flight_max).unwrap_or(i64::MAX),
        };
        Self::start_with(settings, retry_topics, Waits::of(pipeline), health, metrics, Limits::default(), care).await
    }

    async fn start(
        settings: &KafkaSettings,
        retry_topics: Vec<RetryTopic>,
        waits: Waits,
        health: Health,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        Self::start_with(settings, retry_topics, waits, health, metrics, limits, CrashLoopSettings::default()).await
    }

    async fn start_with(
        settings: &KafkaSettings,
        retry_topics: Vec<RetryTopic>,
        waits: Waits,
        health: Health,
        metrics: Arc<Metrics>,
        limits: Limits,
        care: CrashLoopSettings,
    ) -> Result<Self, SourceError> {
        let settings = with_retries(settings, &retry_topics);
        let config = consumer_config(&settings, waits.drain)?;
        let handover = Arc::new(Handover::new(limits));
        let (joined, wait_joined) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let thread = {
            let handover = handover.clone();
            move || {
                let result = guarded(&handover, || {
                    let (health, skips) = (health.clone(), Skipped::new(health, metrics.clone()));
                    let reached = join(&config, &settings, health, waits.connect);
                    let reached = match reached {
                        Ok(reached) => reached,
                        Err(error) => {
                            // The receiver is closed if `connect` was dropped.
                            let _ = joined.send(Err(error));
                            return Ok(());
                        }
                    };
                    let state = poller::State::new(Delays::new(retry_topics), care);
                    let mut poller = poller(reached, settings.topics, waits, &handover, metrics, skips, state);
                    if joined.send(Ok(())).is_err() {
                        return poller.leave();
                    }
                    let ran = poller.run();
                    if let Err(why) = &ran {
                        poller.handover.break_off(why.clone());
                    }
                    ran.and(poller.leave())
                });
                let _ = leave.send(result);
            }
        };
        std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(thread)
            .map_err(|error| broken(format!("no thread for the Kafka consumer: {error}")))?;
        match wait_joined.await {
            Ok(Ok(())) => Ok(Self { handover, left }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(broken(match handover.next(Demand::ControlOnly).await {
                Err(why) => why,
                Ok(_) => Finding::new("the Kafka consumer's thread ended while connecting"),
            })),
        }
    }
}

/// Runs the thread's work. A panic or an error ends the source with an error, instead of leaving it silent.
fn guarded(handover: &Handover, work: impl FnOnce() -> Result<(), Finding>) -> Result<(), Finding> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Finding::new(format!("the Kafka consumer's thread panicked, which is a bug: {text}"))
            .hint("please report it"))
    });
    if let Err(why) = &result {
        handover.break_off(why.clone());
    }
    result
}

struct Joined {
    consumer: BaseConsumer<Context>,
    events: mpsc::Receiver<ClientEvent>,
    leaving: Arc<AtomicBool>,
    reset: Reset,
    consumer_health: ConsumerHealth,
    pulse: Pulse,
}

fn join(
    config: &ClientConfig,
    settings: &KafkaSettings,
    health: Health,
    connect_max: Duration,
) -> Result<Joined, SourceError> {
    let (note, events) = mpsc::channel();
    let leaving = Arc::new(AtomicBool::new(false));
    let context = Context::new(note, leaving.clone());
    let consumer = BaseConsumer::from_config_and_context(config, context).map_err(|error| unmade(&error))?;
    startup_probe::wait_for_brokers(&consumer, &events, settings, connect_max)?;
    let reset = learn_reset(&consumer, settings, connect_max)?;
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(|error| {
        let message = format!("cannot subscribe to {topics:?}: {error}");
        SourceError::new(SourceReason::KafkaTopic, message).hint("check kafka.topics")
    })?;
    let pulse = Pulse::new("the Kafka consumer's thread");
    health.watch(pulse.clone());
    Ok(Joined { consumer, events, leaving, reset, consumer_health: ConsumerHealth::new(health), pulse })
}

fn poller(
    joined: Joined,
    topics: Vec<String>,
    waits: Waits,
    handover: &Arc<Handover>,
    metrics: Arc<Metrics>,
    skipped: Skipped,
    state: poller::State,
) -> Poller {
    let Joined { consumer, events, leaving, reset, consumer_health, pulse } = joined;
    Poller {
        consumer,
        events,
        leaving,
        handover: handover.clone(),
        metrics,
        topics,
        drain_deadline: waits.drain,
        reset,
        consumer_health,
        pulse,
        stalls: StallWatch::new(waits.stalled, Instant::now()),
        skipped,
        state,
    }
}

/// Where this worker starts in partitions without a committed offset.
fn learn_reset(
    consumer: &BaseConsumer<Context>,
    settings: &KafkaSettings,
    deadline: Duration,
) -> Result<Reset, SourceError> {
    let of = settings.offset_reset().unwrap_or(OffsetReset::Earliest);
    let start = Instant::now();
    loop {
        match Reset::learn(of, consumer, &settings.topics) {
            Ok(reset) => return Ok(reset),
            Err(error) if start.elapsed() > deadline => {
                let message = format!(
                    "the brokers do not report the end offsets of the topics, or the offsets of group {:?}, within {} s: {error}",
                    settings.group_id,
                    deadline.as_secs()
                );
                return Err(SourceError::new(SourceReason::KafkaStart, message)
                    .hint("check that every partition has a leader, and that this user may DESCRIBE the group"));
            }
            // The coordinator moves, or is being elected for a new group.
            Err(error) => tracing::debug!(target: "librdkafka", %error, "no offsets yet"),
        }
        // Nothing is subscribed yet, so no message comes.
        let _ = consumer.poll(Duration::from_millis(100));
    }
}

/// The settings with retry topics added to the consumed topics.
fn with_retries(settings: &KafkaSettings, retry_topics: &[RetryTopic]) -> KafkaSettings {
    let mut settings = settings.clone();
    settings.topics.extend(retry_topics.iter().map(|topic| topic.name.clone()));
    settings
}

/// librdkafka's property for topics that patterns never match: regular expressions, separated by commas.
const TOPIC_BLACKLIST: &str = "topic.blacklist";

/// Always excludes Kafka's own topics.
fn topic_blacklist(more: Option<&String>) -> String {
    let more = more.map(|more| more.trim().trim_matches(',')).filter(|more| !more.is_empty());
    more.map_or_else(|| "^__.*".to_owned(), |more| format!("^__.*,{more}"))
}

fn consumer_config(settings: &KafkaSettings, drain_deadline: Duration) -> Result<ClientConfig, SourceError> {
    let session_timeout = settings.session_timeout_ms.to_string();
    let mut config = kafka_client::config(
        settings,
        &[
            ("group.id", &settings.group_id),
            ("session.timeout.ms", &session_timeout),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("statistics.interval.ms", "5000"),
            // librdkafka's own prefetch, in addition to the handover. Its default of 64 MiB is more than image URLs need.
            ("queued.max.messages.kbytes", "16384"),
        ],
    );
    // Not configurable: at-least-once delivery depends on what is committed, and when.
    for (key, value) in
        [("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"), ("enable.partition.eof", "false")]
    {
        config.set(key, value);
    }
    let reset = match settings.offset_reset() {
        Some(OffsetReset::Refuse) => "error",
        // Without a committed offset we set the start ourselves. The remaining case is an offset that the log no longer has:
        // continuing at the end would skip what is there.
        _ => "earliest",
    };
    config.set("auto.offset.reset", reset);
    if settings.topics.iter().any(|topic| is_pattern(topic)) {
        config.set(TOPIC_BLACKLIST, topic_blacklist(settings.properties.get(TOPIC_BLACKLIST)));
    }
    if settings.topics.is_empty() {
        let empty = SourceError::new(SourceReason::KafkaSettingsInvalid, "kafka.topics is empty");
        return Err(empty.hint("name at least one topic"));
    }
    let drain_ms = u64::try_from(drain_deadline.as_millis()).unwrap_or(u64::MAX);
    settings.check_drain(drain_ms).map_err(|wrong| {
        let message = format!("pipeline.drain_deadline_ms is {drain_ms}; expected {}", wrong.expected);
        let finding = Finding { message, hint: wrong.hint.map(Into::into) };
        SourceError::found(SourceReason::KafkaSettingsInvalid, finding)
    })?;
    Ok(config)
}

#[async_trait]
impl Source for KafkaSource {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        self.handover.next(demand).await.map_err(broken)
    }

    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError> {
        self.handover.commit(offsets).map_err(broken)
    }

    fn hold_back(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.handover.hold_back(partitions);
    }

    fn lag(&self) -> Vec<(TopicPartition, i64)> {
        self.handover.lag()
    }

    fn failed(&mut self) {
        self.handover.fail();
    }

    async fn close(mut self: Box<Self>) -> Result<(), SourceError> {
        self.handover.close();
        let left = match tokio::time::timeout(LEAVE_GROUP_MAX, &mut self.left).await {
            Ok(Ok(result)) => result,
            // The thread always answers before it ends.
            Ok(Err(_)) => Err(Finding::new("the Kafka consumer's thread ended without a word")),
            Err(_) => Err(Finding::new(format!(
                "the Kafka consumer did not leave the group within {} s; the broker will notice by its session timeout",
                LEAVE_GROUP_MAX.as_secs()
            ))),
        };
        left.map_err(|why| broken(why).class(Class::Transient))
    }
}

fn unmade(error: &KafkaError) -> SourceError {
    SourceError::found(SourceReason::KafkaSettingsInvalid, kafka_client::creation_error(error))
}

fn broken(why: impl Into<Finding>) -> SourceError {
    SourceError::found(SourceReason::ConsumerFailed, why.into())
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.handover.close();
    }
}
