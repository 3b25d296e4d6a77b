//! Metrics, health and logs. Names and labels are a contract (`docs/operations.md`).

mod component;
mod health;
mod http;
pub mod labels;
mod liveness;
#[cfg(test)]
pub(crate) mod log_lines;
mod logs;
mod metrics;

pub use component::Component;
pub use health::Health;
pub use http::{ListenError, SERVER, serve};
pub use liveness::{Pulse, Working};
pub use logs::{LogError, init, init_to};
pub use metrics::{Metrics, TowerInfo};
