//! What the process says about itself: metrics, health, logs. Names and labels are a contract (`docs/operations.md`).

mod health;
mod metrics;

pub use health::Health;
pub use metrics::Metrics;
