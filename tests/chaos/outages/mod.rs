//! Something is away for an hour: for each part that can be, a worker of its own must stay alive, unready and quiet, lose
//! nothing, and go on by itself (`docs/reliability.md`). All at the same time, so that the hour is spent once.

mod keys;
mod outcome;
mod parts;
mod trial;
mod worker;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clipstream_test_support::services::Services;
use futures::future::try_join_all;
use tokio::sync::Mutex;

use crate::Error;
use crate::broker::Broker;
use crate::media::{self, Media};
use crate::proxy::Proxy;
use crate::store::StoreProcess;
use crate::topics::{New, Topic};
pub use outcome::Report;
use parts::{Shared, TRIALS};
use trial::Running;

/// How long everything is away, and how the workers are set.
#[derive(Clone, Debug)]
pub struct Plan {
    pub outage: Duration,
    /// The workers' `pipeline.backoff_cap_ms`; `None`: the default. Recovery takes up to that long.
    pub backoff_cap: Option<Duration>,
    /// What the workers run.
    pub worker: PathBuf,
}

impl Plan {
    /// Of how long each worker's messages are apart.
    fn pause(&self) -> Duration {
        (self.outage / 3000).clamp(Duration::from_millis(200), Duration::from_secs(1))
    }
}

/// Of the workers' messages.
pub fn topics() -> impl Iterator<Item = &'static str> {
    TRIALS.iter().map(|trial| trial.topic)
}

/// `None`: this machine has no Kafka or no S3 server.
pub async fn run(plan: &Plan, folder: &Path) -> Result<Option<Report>, Error> {
    let kafka = Proxy::bind().await?;
    let (services_folder, proxy_port) = (folder.join("services"), kafka.address.port());
    let up = move || Services::up(&services_folder, Some(proxy_port)).map_err(|e| e.to_string());
    let Some(services) = tokio::task::spawn_blocking(up).await?? else { return Ok(None) };
    kafka.lead_to(services.kafka_proxied.parse()?);
    media::fill_bucket(&services).await?;
    let broker = Broker::connect(&services.kafka)?;
    broker.create(&New::with_letters(&topics().map(Topic::Outage).collect::<Vec<_>>())).await?;
    let shared = Shared {
        services,
        broker,
        media: Media::start().await?,
        kafka,
        store: StoreProcess::start(&folder.join("store"))?,
        refusing: Mutex::new(StoreProcess::start(&folder.join("refusing"))?),
        folder: folder.to_owned(),
        http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?,
    };
    let mut workers = try_join_all(TRIALS.iter().map(|trial| Running::start(trial, plan, &shared))).await?;
    try_join_all(workers.iter_mut().map(Running::before)).await?;
    eprintln!("chaos: everything is away for {:.1} minutes", plan.outage.as_secs_f64() / 60.0);
    let began = Instant::now();
    try_join_all(workers.iter_mut().map(|worker| worker.outage(plan, began))).await?;
    eprintln!("chaos: everything is back");
    try_join_all(workers.iter_mut().map(Running::after)).await?;
    let mut outcomes = Vec::new();
    for worker in workers {
        outcomes.push(worker.judged().await?);
    }
    Ok(Some(Report { outcomes }))
}
