//! `clipstream run`: the worker.

use std::sync::Arc;
use std::time::Duration;

use super::{CliError, Exit, Global, stop_on_signals};
use crate::config::{HUNG_AFTER_MS, Settings};
use crate::pipeline::Progress;
use crate::telemetry::{self, Component, Health, Metrics};
use crate::worker::{TrialCommand, TrialProcesses, TrialSettings, Worker, answer_trials};

/// Consumes Kafka topics, embeds, and upserts to the store, until it is stopped
///
/// The first SIGTERM or SIGINT drains messages in flight (pipeline.drain_deadline_ms); the process ends at most 31 s after that.
/// The second signal skips the drain, the third ends the process at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream run --config worker.toml")]
pub struct Args {
    /// Runs trials of the messages on standard input; used internally by workers
    #[arg(long, hide = true)]
    trial: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    if args.trial {
        return Ok(answer_trials(&global.start_quiet()?).await?);
    }
    let settings = global.start()?;
    for (key, missing) in
        [("kafka.brokers", settings.kafka.brokers.is_empty()), ("kafka.topics", settings.kafka.topics.is_empty())]
    {
        if missing {
            return Err(CliError::new(Exit::Usage, format!("{key} is not set; the worker needs it"))
                .hint("set it in the file that --config names, or with --set"));
        }
    }
    let shutdown = stop_on_signals(Some(Duration::from_millis(settings.pipeline.drain_deadline_ms)))?;
    // `/livez` reports when something makes no progress.
    let hung_after = Duration::from_millis(settings.telemetry.hung_after_ms);
    let (health, metrics) = (Health::new().hung_after(hung_after), Arc::new(Metrics::default()));
    // Before the endpoints are served, so that the worker is not reported as ready before it starts.
    health.unready(Component::Worker, "starting");
    if let Some(address) = settings.telemetry.listen {
        let forever = std::future::pending();
        let (address, _served_until_exit) = telemetry::serve(address, metrics.clone(), health.clone(), forever).await?;
        tracing::info!(%address, "serving /metrics, /livez and /readyz");
    }
    let mut worker = Worker::assemble(&settings, health, metrics.clone()).await?;
    if settings.pipeline.crashes_max > 0 {
        let trials = trials(&settings, metrics);
        let trials =
            trials.map_err(|e| CliError::new(Exit::Failed, format!("cannot prepare trials of messages: {e}")))?;
        worker = worker.with_trials(Arc::new(trials));
    }
    worker.prove_models().await?;
    for (clip, collection) in worker.models() {
        tracing::info!(model = %clip.id(), collection, runs = %clip.runs(), "model is ready");
    }
    let ended = worker.consume(shutdown, Arc::new(Progress::default())).await;
    let closed = worker.close().await;
    let summary = ended?;
    closed?;
    tracing::info!(
        settled = summary.settled,
        dead_lettered = summary.dead_lettered,
        abandoned = summary.abandoned,
        "stopped"
    );
    Ok(())
}

/// Processes that run trials.
fn trials(settings: &Settings, metrics: Arc<Metrics>) -> std::io::Result<TrialProcesses> {
    // A worker's hang timeout, plus the time of a fetch.
    let hung_after_ms = match settings.telemetry.hung_after_ms {
        0 => HUNG_AFTER_MS,
        bound => bound,
    };
    let settings = TrialSettings {
        command: TrialCommand::this_program("--trial")?,
        crashes_max: settings.pipeline.crashes_max,
        answer_max: Duration::from_millis(hung_after_ms.saturating_add(settings.media.fetch_timeout_ms)),
    };
    TrialProcesses::new(settings, metrics)
}
