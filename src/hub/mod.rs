//! Client of a hub for models (Hugging Face's, or a mirror that answers alike): lists a repository at one commit, downloads
//! what a model needs of it, and puts it in place whole or not at all.
//!
//! Unlike the ports of its floor it retries by itself: no pipeline stands behind it, only an operator who waits.
//!
//! The operator names the hub, so the rules for addresses in messages (`media`) do not apply here; proxies of the
//! environment do.

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
