//! Metrics, their labels and the values of labels are a contract: docs/operations.md lists all of them, and no others.

use std::collections::BTreeSet;
use std::time::Duration;

use clipstream::domain::{Class, Fault, MediaReason, Modality, Outcome, Precision, Stage, TopicPartition, UnchangedBy};
use clipstream::telemetry::labels::{Batch, HostState, Limited, Queue, Reopening, Trial};
use clipstream::telemetry::{Metrics, TowerInfo};

/// Name and labels of each row of the table.
fn rows() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(format!("{}/docs/operations.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `clipstream_")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.nth(1)?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// What stands in backticks among the labels of this metric. Settings have a dot.
fn documented(metric: &str) -> BTreeSet<String> {
    let (_, labels) =
        rows().into_iter().find(|(name, _)| name == metric).unwrap_or_else(|| panic!("no row of {metric}"));
    labels.split('`').skip(1).step_by(2).filter(|word| !word.contains('.')).map(str::to_owned).collect()
}

fn every_metric() -> Metrics {
    let metrics = Metrics::default();
    metrics.settled(&Outcome::Indexed);
    metrics.failed(&Fault::new(MediaReason::FetchTimeout, "late").at(Stage::Fetch));
    metrics.retried(Stage::Fetch, Class::Transient);
    metrics.stage(Stage::Fetch, Duration::from_millis(1));
    metrics.upsert_batch("catalog", 1, Duration::from_millis(1));
    metrics.fetched(1);
    metrics.unchanged(UnchangedBy::Etag, 1);
    metrics.queue_depth(Queue::InFlight, 1);
    metrics.lag(&TopicPartition { topic: "assets".into(), partition: 0 }, 1);
    metrics.uncommitted(&TopicPartition { topic: "assets".into(), partition: 0 }, 1);
    metrics.skipped(&TopicPartition { topic: "assets".into(), partition: 0 }, 1);
    metrics.reopened("demo-emoji/v1", Modality::Image, Reopening::Succeeded);
    metrics.committed();
    metrics.trial(Trial::Passed);
    metrics.media_hosts(HostState::Down, 1);
    metrics.concurrency_limit(Limited::Upsert, "catalog", 2);
    let (modality, precision, provider) = (Modality::Image, Precision::Fp32, "cpu");
    metrics.model("demo-emoji/v1", &[TowerInfo { modality, precision, provider, unavailable: vec!["cuda"] }]);
    metrics
}

#[test]
fn every_metric_and_every_label_is_documented() {
    let text = every_metric().encode();
    let mut served: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut described: Vec<String> =
        rows().into_iter().map(|(name, _)| format!("clipstream_{}", name.trim_end_matches("_total"))).collect();
    served.sort_unstable();
    described.sort_unstable();
    assert_eq!(served, described);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((sample, labels)) = line.split_once('{') else { continue };
        let metric = sample.trim_start_matches("clipstream_");
        let metric = ["_bucket", "_sum", "_count"].iter().fold(metric, |name, part| name.trim_end_matches(part));
        let labels = labels.split('}').next().unwrap_or_default();
        for label in labels.split(',').filter_map(|l| l.split_once('=')).map(|(name, _)| name) {
            assert!(label == "le" || documented(metric).contains(label), "{metric}: label {label} is not documented");
        }
    }
}

/// As many as there are: a new one does not compile until it is listed.
fn outcomes() -> Vec<&'static str> {
    let failure = || Fault::new(MediaReason::FetchTimeout, "late").at(Stage::Fetch);
    let all = [
        Outcome::Indexed,
        Outcome::Deleted,
        Outcome::Superseded,
        Outcome::Stale,
        Outcome::Empty,
        Outcome::DeadLettered(failure()),
        Outcome::RetryScheduled(failure()),
    ];
    let as_str = |outcome: &Outcome| match outcome {
        Outcome::Indexed
        | Outcome::Deleted
        | Outcome::Superseded
        | Outcome::Stale
        | Outcome::Empty
        | Outcome::DeadLettered(_)
        | Outcome::RetryScheduled(_) => outcome.as_str(),
    };
    all.iter().map(as_str).collect()
}

#[test]
fn every_value_of_a_label_is_documented_and_no_other() {
    fn values<L: Copy>(all: &[L], as_str: fn(L) -> &'static str) -> Vec<&'static str> {
        all.iter().copied().map(as_str).collect()
    }
    let towers = values(&Modality::ALL, Modality::as_str);
    let reopenings = values(Reopening::ALL, Reopening::as_str);
    for (metric, labels, values) in [
        ("messages_total", &["outcome"][..], outcomes()),
        ("failures_total", &["stage", "class", "reason"], values(&Class::ALL, Class::as_str)),
        ("batch_items", &["kind", "target"], values(Batch::ALL, Batch::as_str)),
        ("unchanged_total", &["by"], values(&UnchangedBy::ALL, UnchangedBy::as_str)),
        ("queue_depth", &["queue"], values(Queue::ALL, Queue::as_str)),
        ("concurrency_limit", &["kind", "target"], values(Limited::ALL, Limited::as_str)),
        ("media_hosts", &["state"], values(HostState::ALL, HostState::as_str)),
        ("trials_total", &["outcome"], values(Trial::ALL, Trial::as_str)),
        ("model_info", &["model", "tower", "precision", "provider", "unavailable"], towers),
        ("sessions_reopened_total", &["model", "tower", "outcome"], reopenings),
    ] {
        let expected: BTreeSet<String> = labels.iter().copied().chain(values).map(str::to_owned).collect();
        assert_eq!(documented(metric), expected, "{metric}");
    }
}
