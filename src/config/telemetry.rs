//! Settings of `[telemetry]`.

use std::net::SocketAddr;

use tracing_subscriber::EnvFilter;

use super::problem::nearest;
use super::reader::{Reader, Review};
use super::text::{Expected, Text, choice};

/// The default of `telemetry.hung_after_ms`.
pub const HUNG_AFTER_MS: u64 = 600_000;
const HUNG_AFTER_LEAST_MS: u64 = 3_000;

/// `[telemetry]`: logs, metrics, health.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Address of `/metrics`, `/livez`, `/readyz`; `None`: not served.
    pub listen: Option<SocketAddr>,
    /// A thread or task that makes no progress for this many milliseconds makes `/livez` answer 503; 0: never.
    pub hung_after_ms: u64,
    /// `tracing` filter: a level, then `target=level` for parts, for example `info,clipstream=debug`.
    pub log_filter: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            hung_after_ms: HUNG_AFTER_MS,
            // Excludes the engine's own messages, and the AWS SDK's about missing credentials, which come with every fetch
            // during an outage that we report ourselves.
            log_filter: "info,qdrant_edge=error,aws_config=error".into(),
            log_format: LogFormat::Text,
        }
    }
}

impl Text for SocketAddr {
    fn parse(text: &str) -> Result<Self, Expected> {
        text.parse().map_err(|_| {
            let expected = Expected::new("IP address:port, for example 0.0.0.0:9090");
            match text.rsplit_once(':') {
                Some(("localhost", port)) => expected.hint(format!("127.0.0.1:{port}")),
                Some(("" | "*", port)) => expected.hint(format!("all interfaces: 0.0.0.0:{port}")),
                _ => expected,
            }
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for LogFormat {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, [("text", Self::Text), ("json", Self::Json)])
    }

    fn text(&self) -> String {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}

impl TelemetrySettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            listen: section.optional("listen", default.listen),
            hung_after_ms: section.number("hung_after_ms", default.hung_after_ms, 0..=86_400_000),
            log_filter: section.value("log_filter", default.log_filter),
            log_format: section.value("log_format", default.log_format),
        }
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        let is_enough = self.hung_after_ms == 0 || self.hung_after_ms >= HUNG_AFTER_LEAST_MS;
        review.expect(is_enough, "telemetry.hung_after_ms", || {
            Expected::new(format!("0, or {HUNG_AFTER_LEAST_MS} or more: progress is checked once a second"))
        });
        if let Err(expected) = log_filter(&self.log_filter) {
            review.wrong("telemetry.log_filter", expected);
        }
    }
}

/// Parses a `log_filter`. To `tracing`, a bare word that is not a level means "everything of that target and nothing
/// else". Here it is an error, because it is nearly always a misspelt level.
pub fn log_filter(text: &str) -> Result<EnvFilter, Expected> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let expected = || Expected::new(format!("a level ({}), then target=level, separated by commas", LEVELS.join(", ")));
    for part in text.split(',').map(str::trim) {
        if !part.contains(['=', '[', ':']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()) {
            return Err(match nearest(part, LEVELS) {
                Some(level) => expected().hint(format!("did you mean {level}?")),
                None => expected().hint("for example info,clipstream=debug"),
            });
        }
    }
    EnvFilter::try_new(text).map_err(|error| expected().hint(error.to_string()))
}
