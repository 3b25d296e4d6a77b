//! All metrics of the process.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labels::{Batch, HostState, Limited, Queue, Reopening, Trial};
use crate::domain::{Class, Failure, Modality, Outcome, Precision, Stage, TopicPartition, UnchangedBy};

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Every metric of the process. Labels are bounded: stages, classes, outcomes, models and partitions, never ids or URLs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages: Family<Labels<1>, Counter>,
    failures: Family<Labels<3>, Counter>,
    retries: Family<Labels<2>, Counter>,
    stage_seconds: Histograms<1>,
    batch_items: Histograms<2>,
    batch_seconds: Histograms<2>,
    media_bytes: Counter,
    unchanged: Family<Labels<1>, Counter>,
    queue_depth: Family<Labels<1>, Gauge>,
    lag: Family<Labels<2>, Gauge>,
    uncommitted: Family<Labels<2>, Gauge>,
    partitions_held_back: Gauge,
    skipped: Family<Labels<2>, Counter>,
    commits: Counter,
    trials: Family<Labels<1>, Counter>,
    models: Family<Labels<5>, Gauge>,
    sessions_reopened: Family<Labels<3>, Counter>,
    media_hosts: Family<Labels<1>, Gauge>,
    concurrency_limit: Family<Labels<2>, Gauge>,
}

/// What runs one tower of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerInfo {
    pub modality: Modality,
    pub precision: Precision,
    /// The execution provider that runs it, for example `cuda`.
    pub provider: &'static str,
    /// Preferred providers that are unavailable.
    pub unavailable: Vec<&'static str>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}

fn items() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("clipstream"),
            messages: Family::default(),
            failures: Family::default(),
            retries: Family::default(),
            stage_seconds: Family::new_with_constructor(seconds),
            batch_items: Family::new_with_constructor(items),
            batch_seconds: Family::new_with_constructor(seconds),
            media_bytes: Counter::default(),
            unchanged: Family::default(),
            queue_depth: Family::default(),
            lag: Family::default(),
            uncommitted: Family::default(),
            partitions_held_back: Gauge::default(),
            skipped: Family::default(),
            commits: Counter::default(),
            trials: Family::default(),
            models: Family::default(),
            sessions_reopened: Family::default(),
            media_hosts: Family::default(),
            concurrency_limit: Family::default(),
        };
        let r = &mut this.registry;
        r.register("messages", "Messages settled, by outcome", this.messages.clone());
        r.register("failures", "Failed attempts, by stage, class and reason", this.failures.clone());
        r.register("retries", "Attempts after the first, by stage and class", this.retries.clone());
        r.register_with_unit(
            "stage_duration",
            "Time of one message in a stage",
            Unit::Seconds,
            this.stage_seconds.clone(),
        );
        r.register("batch_items", "Items in one batch, by kind and model or collection", this.batch_items.clone());
        r.register_with_unit(
            "batch_duration",
            "Time of one batch, by kind and model or collection",
            Unit::Seconds,
            this.batch_seconds.clone(),
        );
        r.register_with_unit("media", "Media fetched", Unit::Bytes, this.media_bytes.clone());
        r.register(
            "unchanged",
            "Pictures and texts not embedded again for a model, by how they were found unchanged",
            this.unchanged.clone(),
        );
        r.register("queue_depth", "Items in flight or waiting, by queue", this.queue_depth.clone());
        r.register("lag", "Messages behind the end of the partition", this.lag.clone());
        r.register(
            "uncommitted_messages",
            "Messages taken from the partition, counted from the first unsettled one",
            this.uncommitted.clone(),
        );
        r.register(
            "partitions_held_back",
            "Partitions that are paused because they have too many unsettled messages",
            this.partitions_held_back.clone(),
        );
        r.register(
            "messages_skipped",
            "Offsets that the broker removed before they were read, by retention or on demand",
            this.skipped.clone(),
        );
        r.register("commits", "Offset commits handed to the source", this.commits.clone());
        r.register(
            "trials",
            "Trials of messages that may crash the worker, in separate processes, by outcome",
            this.trials.clone(),
        );
        r.register("media_hosts", "Media hosts by state: throttled, down", this.media_hosts.clone());
        r.register(
            "concurrency_limit",
            "Concurrent requests allowed now, by kind and target",
            this.concurrency_limit.clone(),
        );
        r.register(
            "sessions_reopened",
            "Broken sessions of a tower that were reopened, by outcome",
            this.sessions_reopened.clone(),
        );
        r.register("model_info", "1 for each tower of a model, with what runs it", this.models.clone());
        this
    }
}

impl Metrics {
    pub fn settled(&self, outcome: &Outcome) {
        self.messages.get_or_create(&[("outcome", outcome.as_str().into())]).inc();
    }

    pub fn failed(&self, failure: &Failure) {
        let Failure { stage, fault } = failure;
        let labels = [
            ("stage", stage.as_str().into()),
            ("class", fault.class.as_str().into()),
            ("reason", fault.reason.as_str().into()),
        ];
        self.failures.get_or_create(&labels).inc();
    }

    pub fn retried(&self, stage: Stage, class: Class) {
        self.retries.get_or_create(&[("stage", stage.as_str().into()), ("class", class.as_str().into())]).inc();
    }

    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_seconds.get_or_create(&[("stage", stage.as_str().into())]).observe(took.as_secs_f64());
    }

    /// One run of a model's tower over `items` inputs.
    pub fn embed_batch(&self, model: &str, modality: Modality, items: usize, took: Duration) {
        let kind = match modality {
            Modality::Image => Batch::EmbedImage,
            Modality::Text => Batch::EmbedText,
        };
        self.batch(kind, model, items, took);
    }

    /// Sets what runs a model's towers.
    pub fn model(&self, model: &str, towers: &[TowerInfo]) {
        for tower in towers {
            let labels = [
                ("model", model.to_owned()),
                ("tower", tower.modality.as_str().to_owned()),
                ("precision", tower.precision.as_str().to_owned()),
                ("provider", tower.provider.to_owned()),
                ("unavailable", tower.unavailable.join(",")),
            ];
            self.models.get_or_create(&labels).set(1);
        }
    }

    /// A tower's broken session was reopened, or could not be.
    pub fn reopened(&self, model: &str, modality: Modality, outcome: Reopening) {
        let labels = [
            ("model", model.to_owned()),
            ("tower", modality.as_str().to_owned()),
            ("outcome", outcome.as_str().to_owned()),
        ];
        self.sessions_reopened.get_or_create(&labels).inc();
    }

    /// One write of `items` points to a collection.
    pub fn upsert_batch(&self, collection: &str, items: usize, took: Duration) {
        self.batch(Batch::Upsert, collection, items, took);
    }

    fn batch(&self, kind: Batch, target: &str, items: usize, took: Duration) {
        let labels = [("kind", kind.as_str().to_owned()), ("target", target.to_owned())];
        self.batch_items.get_or_create(&labels).observe(items as f64);
        self.batch_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn fetched(&self, bytes: usize) {
        self.media_bytes.inc_by(bytes as u64);
    }

    /// Changes the number of hosts in this state. Hosts are not labels, because messages can name any number of them.
    pub fn media_hosts(&self, state: HostState, change: i64) {
        self.media_hosts.get_or_create(&[("state", state.as_str().to_owned())]).inc_by(change);
    }

    /// Sets the limit of concurrent requests of this kind to `target`.
    pub fn concurrency_limit(&self, kind: Limited, target: &str, limit: usize) {
        self.concurrency_limit
            .get_or_create(&[("kind", kind.as_str().to_owned()), ("target", target.to_owned())])
            .set(limit as i64);
    }

    /// A picture or text that `models` models did not embed again.
    pub fn unchanged(&self, by: UnchangedBy, models: usize) {
        if models > 0 {
            self.unchanged.get_or_create(&[("by", by.as_str().to_owned())]).inc_by(models as u64);
        }
    }

    /// Number of pictures that models did not embed again so far.
    pub fn unchanged_pictures(&self) -> u64 {
        use UnchangedBy::{Content, Etag, LastModified, VersionId};
        let count = |by: UnchangedBy| self.unchanged.get_or_create(&[("by", by.as_str().to_owned())]).get();
        [Etag, LastModified, VersionId, Content].into_iter().map(count).sum()
    }

    pub fn queue_depth(&self, queue: Queue, depth: usize) {
        self.queue_depth.get_or_create(&[("queue", queue.as_str().to_owned())]).set(depth as i64);
    }

    pub fn lag(&self, of: &TopicPartition, messages: i64) {
        let labels = [("topic", of.topic.to_string()), ("partition", of.partition.to_string())];
        self.lag.get_or_create(&labels).set(messages);
    }

    /// Messages from the first unsettled one of the partition to the last one taken.
    pub fn uncommitted(&self, of: &TopicPartition, messages: u64) {
        let labels = [("topic", of.topic.to_string()), ("partition", of.partition.to_string())];
        self.uncommitted.get_or_create(&labels).set(messages.try_into().unwrap_or(i64::MAX));
    }

    pub fn partitions_held_back(&self, partitions: usize) {
        self.partitions_held_back.set(partitions as i64);
    }

    /// Offsets of a partition that were removed before they could be read.
    pub fn skipped(&self, of: &TopicPartition, messages: u64) {
        let labels = [("topic", of.topic.to_string()), ("partition", of.partition.to_string())];
        self.skipped.get_or_create(&labels).inc_by(messages);
    }

    pub fn committed(&self) {
        self.commits.inc();
    }

    /// The outcome of a trial of one message, or of one of its processes.
    pub fn trial(&self, outcome: Trial) {
        self.trials.get_or_create(&[("outcome", outcome.as_str().to_owned())]).inc();
    }

    /// OpenMetrics text, as Prometheus reads it.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("writing to a string cannot fail");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_shown() {
        let metrics = Metrics::default();
        metrics.settled(&Outcome::Indexed);
        metrics.embed_batch("ViT-B-32/openai", Modality::Text, 4, Duration::from_millis(3));
        let text = metrics.encode();
        assert!(text.contains(r#"clipstream_messages_total{outcome="indexed"} 1"#), "{text}");
        assert!(text.contains(r#"clipstream_batch_items_sum{kind="embed_text",target="ViT-B-32/openai"} 4"#), "{text}");
    }
}
