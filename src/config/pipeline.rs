/// `[pipeline]`: bounds, retries and drain.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// Messages between decode and settle, waiting ones of a busy key included.
    pub in_flight_max: usize,
    /// Fetched and not yet decoded media, in bytes.
    pub media_in_flight_bytes_max: u64,
    /// Attempts at a transient failure before it becomes a dead letter.
    pub attempts_max: u32,
    pub backoff_base_ms: u64,
    pub backoff_cap_ms: u64,
    /// How often settled offsets are committed.
    pub commit_interval_ms: u64,
    /// How long a stop or a revocation waits for work in flight.
    pub drain_deadline_ms: u64,
    /// This many permanent failures in a row stop the worker; 0: no limit.
    pub permanent_failures_in_row_max: u64,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            media_in_flight_bytes_max: 256 * 1024 * 1024,
            attempts_max: 5,
            backoff_base_ms: 200,
            backoff_cap_ms: 30_000,
            commit_interval_ms: 1_000,
            drain_deadline_ms: 30_000,
            permanent_failures_in_row_max: 1_000,
        }
    }
}
