//! Port: where pictures come from, by URL scheme.
//!
//! [`MediaClient::fetch`] is the way in; it hands the URL to `http`, `s3`, `data_url` or `file` by its scheme. Whatever
//! the scheme: one deadline over everything that others make us wait for, a cap on bytes that is counted while they
//! arrive, memory reserved before it is used, and errors without secrets. What the bytes are is found out later.

mod address;
mod body;
mod client;
mod data_url;
mod deadline;
mod file;
mod host_health;
mod hosts;
mod http;
mod http_error;
mod resolver;
mod s3;
mod s3_error;
#[cfg(test)]
mod test_server;

use std::time::Duration;

use bytes::Bytes;

pub use client::MediaClient;

use crate::budget::Reservation;
use crate::domain::Class;

/// A file as fetched. Its bytes are counted against the media budget until it is dropped.
#[derive(Debug)]
pub struct Media {
    pub bytes: Bytes,
    /// As the server gave it, quotes included.
    pub etag: Option<String>,
    /// Redacted; safe to store.
    pub url: String,
    pub reservation: Option<Reservation>,
}

/// Why a picture could not be had. `message` is redacted and names the next step.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct MediaError {
    pub class: Class,
    /// Short stable code: `http_not_found`, `media_too_large`, `address_forbidden`, `scheme_unsupported`, `fetch_timeout`, …
    pub reason: &'static str,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl MediaError {
    pub fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Permanent, reason, message: message.into(), retry_after: None }
    }

    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Transient, reason, message: message.into(), retry_after: None }
    }

    pub fn outage(reason: &'static str, message: impl Into<String>) -> Self {
        Self { class: Class::Outage, reason, message: message.into(), retry_after: None }
    }
}

/// What an adapter hands back; [`MediaClient`] makes it a [`Media`].
#[derive(Debug)]
struct Fetched {
    bytes: Bytes,
    etag: Option<String>,
    reservation: Reservation,
}
