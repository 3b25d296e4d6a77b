//! `clipstream run`: the worker.

use std::sync::Arc;

use super::{CliError, Exit, Global};
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Health, Metrics};
use crate::worker::{Worker, WorkerError};

/// Consumes Kafka topics, embeds, and upserts to the store, until it is told to stop
///
/// The first SIGTERM or SIGINT drains what is in flight (pipeline.drain_deadline_ms), the second exits at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream run --config worker.toml")]
pub struct Args {}

pub async fn run(_args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start()?;
    for (key, missing) in
        [("kafka.brokers", settings.kafka.brokers.is_empty()), ("kafka.topics", settings.kafka.topics.is_empty())]
    {
        if missing {
            return Err(CliError::new(Exit::Usage, format!("{key} is not set; the worker needs it"))
                .hint("set it in the file that --config names, or with --set"));
        }
    }
    let shutdown = Shutdown::new();
    shutdown.listen().map_err(|e| CliError::new(Exit::Failed, format!("cannot listen for signals: {e}")))?;
    let (health, metrics) = (Health::new(), Arc::new(Metrics::default()));
    // Before the endpoints are served, so that nobody sees a worker ready that has not begun.
    health.unready("worker", "starting");
    if let Some(address) = settings.telemetry.listen {
        let forever = std::future::pending();
        let (address, _served_until_exit) =
            telemetry::serve(address, metrics.clone(), health.clone(), || Ok(()), forever).await?;
        tracing::info!(%address, "serving /metrics, /livez and /readyz");
    }
    let worker = Worker::assemble(&settings, health, metrics).await?;
    for (clip, collection) in worker.models() {
        tracing::info!(model = %clip.id(), collection, runs = %clip.runs(), "model is ready");
    }
    let ended = worker.consume(shutdown, Arc::new(Progress::default())).await;
    let closed = worker.store().close().await;
    let summary = ended?;
    closed.map_err(WorkerError::from)?;
    tracing::info!(
        settled = summary.settled,
        dead_lettered = summary.dead_lettered,
        abandoned = summary.abandoned,
        "stopped"
    );
    Ok(())
}
