//! Logs on standard error, one line per event. librdkafka (target `librdkafka`), ONNX Runtime (target `ort`) and crates
//! that use `log` share the same filter and format.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, TelemetrySettings, log_filter};
use crate::domain::{Explain, Finding};

/// Crates that log network traffic such as requests, headers or signatures. Nothing below `info` is logged for them,
/// whatever the filter says, because their texts may contain secrets.
const WIRE: [&str; 8] = ["h2", "hyper", "opentelemetry", "reqwest", "rustls", "tonic", "tower", "rdkafka"];
/// AWS crates, limited to `error`: while credentials are missing they warn at every attempt, and our own code reports that
/// outage.
const AWS: &str = "aws_";

/// Logging cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LogError(Finding);

impl Explain for LogError {
    fn explain(&self) -> Finding {
        self.0.clone()
    }
}

/// Starts logging to standard error. Call it once, before the first Kafka client is created, because librdkafka takes its
/// level from the filter at that time. Colours only on terminals, and not if `NO_COLOR` is set (<https://no-color.org>).
pub fn init(settings: &TelemetrySettings) -> Result<(), LogError> {
    init_to(settings, std::io::stderr)
}

/// Like [`init`], but lines go to `writer`, for example standard error beside a progress bar.
pub fn init_to<W>(settings: &TelemetrySettings, writer: W) -> Result<(), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = log_filter(&settings.log_filter).map_err(|e| {
        let found = crate::redact::cut(&settings.log_filter, 80);
        let message = format!("telemetry.log_filter is {found:?}; expected {}", e.expected);
        LogError(Finding { message, hint: e.hint.map(Into::into) })
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // Added only if it can matter, because it is evaluated for every event.
    let is_asked = filter.max_level_hint().is_none_or(|most| most > LevelFilter::ERROR);
    let wire = is_asked.then(|| filter_fn(is_fit_to_log));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    let started = match settings.log_format {
        LogFormat::Text => logs.finish().with(wire).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).finish().with(wire).try_init(),
    };
    started.map_err(|error| {
        LogError(Finding::new(format!("logging cannot be started: {error}; it can be started only once")))
    })
}

fn is_fit_to_log(event: &Metadata<'_>) -> bool {
    let most = match event.target() {
        target if target.starts_with(AWS) => Level::ERROR,
        target if WIRE.iter().any(|wire| target.starts_with(wire)) => Level::INFO,
        _ => return true,
    };
    *event.level() <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_explained() {
        let settings = TelemetrySettings { log_filter: "infoo".into(), ..TelemetrySettings::default() };
        let error = init(&settings).unwrap_err().to_string();
        assert!(error.starts_with("telemetry.log_filter is \"infoo\"; expected a level"), "{error}");
        assert!(error.ends_with("did you mean info?"), "{error}");
    }
}
