//! How the workers are set.

use std::path::Path;

use clipstream_test_support::services::Services;

use crate::Error;
use crate::campaign::{Guard, MODEL, Plan};
use crate::clock;
use crate::faults::{Links, SESSION_TIMEOUT};
use crate::media;
use crate::plan::TENANT;
use crate::refusals::Refusals;
use crate::shared::{self, StandIn};
use crate::topics::{RETRY_DELAYS_S, Topic};
use crate::workers::{MODEL_FOLDER, WorkerSettings};

pub const GROUP: &str = "chaos";
pub const LATEST_GROUP: &str = "chaos-latest";
pub const NAMED_GROUP: &str = "chaos-named";
pub const TENANTS_GROUP: &str = "chaos-tenants";
pub const RETRY_DELAYS: &str = "dead_letter.retry_delays_s";

pub fn of_workers(
    plan: &Plan,
    services: &Services,
    links: &Links,
    catalog: &str,
    folder: &Path,
) -> Result<WorkerSettings, Error> {
    let names: Vec<&str> = Topic::ALL.iter().map(|topic| topic.name()).collect();
    let ops: Vec<String> = Topic::ALL.iter().map(|t| format!("{}={}", t.name(), t.default_op())).collect();
    let session_timeout_ms = SESSION_TIMEOUT.as_millis().to_string();
    let models = format!("{MODEL}={MODEL_FOLDER}");
    let settings = [
        ("clip.models", models.as_str()),
        // Several workers share few cores.
        ("clip.intra_op_threads", "1"),
        ("clip.preprocess_threads", "1"),
        ("clip.recovery_max_ms", &shared::RECOVERY_MAX.as_millis().to_string()),
        ("kafka.brokers", &links.kafka.address.to_string()),
        ("kafka.topics", &names.join(",")),
        ("kafka.group_id", GROUP),
        ("kafka.session_timeout_ms", &session_timeout_ms),
        // New partitions are found within seconds rather than minutes.
        ("kafka.properties.topic.metadata.refresh.interval.ms", "2000"),
        ("media.allow_hosts", "127.0.0.1"),
        ("media.fetch_timeout_ms", "4000"),
        ("media.connect_timeout_ms", "2000"),
        ("media.s3_endpoint", &format!("http://{}", links.s3.address)),
        ("media.s3_path_style", "true"),
        ("media.s3_buckets", media::BUCKET),
        ("pipeline.commit_interval_ms", "500"),
        // A storm ends: until then a good message must not become a dead letter.
        ("pipeline.attempts_max", if plan.retries { "3" } else { "1000" }),
        ("pipeline.backoff_base_ms", "50"),
        ("pipeline.backoff_cap_ms", "1000"),
        ("pipeline.drain_deadline_ms", "5000"),
        ("store.kind", "qdrant"),
        ("store.url", &format!("http://{}", links.store.address)),
        ("store.catalog", catalog),
        // In `strict`, shorter than some stalls, so that writes come late that nobody waits for any more. And small
        // batches, which the store manages in a fraction of that on a machine that is busy with all the rest: where it
        // does not, what is repeated keeps it from what is new.
        ("store.timeout_ms", if plan.guard == Guard::Strict { "6000" } else { "60000" }),
        ("store.batch_points_max", "32"),
        ("telemetry.listen", "127.0.0.1:0"),
        ("telemetry.log_format", "json"),
        ("telemetry.log_filter", "info,clipstream::pipeline=debug,qdrant_edge=error"),
    ];
    let mut settings: Vec<_> = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    if plan.guard == Guard::Strict {
        // `check` is the default, and tried as such.
        settings.push(("store.guard".to_owned(), "strict".to_owned()));
    }
    if plan.retries {
        let delays: Vec<String> = RETRY_DELAYS_S.iter().map(u64::to_string).collect();
        settings.push((RETRY_DELAYS.to_owned(), delays.join(",")));
    }
    Ok(WorkerSettings {
        program: plan.worker.clone(),
        settings,
        environment: [
            ("CLIPSTREAM__KAFKA__TOPIC_OPS", ops.join(",")),
            ("AWS_ACCESS_KEY_ID", services.s3_access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", services.s3_secret_key.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
        log_folder: folder.to_owned(),
        first: 0,
        clocks: clock::library(folder),
        runtimes: StandIn::build(folder)?,
    })
}

/// The same, of a group of its own that begins at the end of a topic of its own.
pub fn of_latest(workers: &WorkerSettings) -> WorkerSettings {
    let own = [
        ("kafka.topics", Topic::Latest.name()),
        ("kafka.group_id", LATEST_GROUP),
        ("kafka.auto_offset_reset", "latest"),
        ("pipeline.attempts_max", "1000"),
    ];
    of_another(workers, &own, 10_000)
}

/// The same, of the group whose pictures come from hosts with names.
pub fn of_named(workers: &WorkerSettings, refusals: &Refusals, ca_file: &Path) -> WorkerSettings {
    let own = [
        ("kafka.topics", Topic::Named.name()),
        ("kafka.group_id", NAMED_GROUP),
        ("media.allow_hosts", "localhost,.pictures.test"),
        ("media.ca_file", &ca_file.display().to_string()),
        // The hosts are never to blame, and the machine is busy.
        ("media.connect_timeout_ms", "5000"),
        ("media.fetch_timeout_ms", "60000"),
        ("pipeline.attempts_max", "3"),
    ];
    let mut settings = of_another(workers, &own, 20_000);
    settings.environment.extend(refusals.environment());
    settings
}

/// The same, of the group whose messages have tenants, and whose hosts are many. Good ones are never to blame, and bad ones are
/// given up soon.
pub fn of_tenants(workers: &WorkerSettings) -> WorkerSettings {
    let topics = Topic::TENANTED.map(Topic::name).join(",");
    let own = [
        ("kafka.topics", topics.as_str()),
        ("kafka.group_id", TENANTS_GROUP),
        ("kafka.tenant_header", TENANT),
        ("media.allow_networks", "127.0.0.0/8"),
        ("media.connect_timeout_ms", "5000"),
        ("media.fetch_timeout_ms", "20000"),
        ("media.idle_timeout_ms", "3000"),
        ("media.host_outage_hold_ms", "5000"),
        ("pipeline.attempts_max", "3"),
    ];
    of_another(workers, &own, 30_000)
}

/// The same, of a group with a topic of its own. `first`: what the numbers of its workers begin with.
fn of_another(workers: &WorkerSettings, own: &[(&str, &str)], first: u32) -> WorkerSettings {
    let is_others = |name: &str| name == RETRY_DELAYS || own.iter().any(|(own, _)| *own == name);
    let mut settings: Vec<_> = workers.settings.iter().filter(|(name, _)| !is_others(name)).cloned().collect();
    settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    // What the others need to know of operations is of other topics.
    let environment =
        workers.environment.iter().filter(|(name, _)| name.starts_with("AWS") || name.contains("API_KEY"));
    WorkerSettings {
        program: workers.program.clone(),
        settings,
        environment: environment.cloned().collect(),
        log_folder: workers.log_folder.clone(),
        first,
        clocks: None,
        runtimes: None,
    }
}
