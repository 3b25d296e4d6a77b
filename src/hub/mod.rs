//! Client of a model hub (Hugging Face's, or a compatible mirror): lists a repository at one commit, downloads the files that a
//! model needs, and installs them atomically.
//!
//! Unlike other ports it retries by itself, because it is used interactively and not by the pipeline.
//!
//! The operator configures the hub, so the address rules for messages (`media`) do not apply here. Proxies of the environment
//! are used.

mod download;
mod error;
mod hex;
mod http;
mod listing;
mod place;
mod pull;
mod record;
mod select;

pub use error::HubError;
pub use http::Hub;
pub use pull::{Origin, Progress, Pull, Pulled};
pub use record::{Record, SourceRecord};
