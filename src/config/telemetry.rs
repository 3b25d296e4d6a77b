use std::net::SocketAddr;

/// `[telemetry]`: logs, metrics, health.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Address of `/metrics`, `/livez`, `/readyz`; none: not served.
    pub listen: Option<SocketAddr>,
    /// `tracing` filter, for example `info,clipstream=debug`.
    pub log_filter: String,
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
            log_filter: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}
