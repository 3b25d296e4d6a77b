//! Port: where pictures come from, by URL scheme.
//!
//! [`MediaClient::fetch`] is the way in; it hands the URL to `http`, `s3`, `data_url` or `file` by its scheme. Whatever
//! the scheme: one deadline over everything that others make us wait for, a cap on bytes that is counted while they
//! arrive, memory reserved before it is used, and errors without secrets. What the bytes are is found out later.

mod address;
mod authorities;
mod body;
mod client;
mod conditional;
mod data_url;
mod deadline;
mod file;
mod host_health;
mod hosts;
mod http;
mod http_client;
mod http_error;
mod resolver;
mod s3;
mod s3_error;
mod s3_trust;
mod signs;
#[cfg(test)]
mod ssrf_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tls_tests;
mod trust;
mod unpack;

use bytes::Bytes;

#[cfg(feature = "fuzzing")]
pub use self::http::fuzzing;
pub use client::MediaClient;
pub use hosts::Standing;

use crate::budget::Reservation;
use crate::domain::{Fault, MediaReason, UnchangedBy};

/// A file as fetched. Its bytes are counted against the media budget until it is dropped.
#[derive(Debug)]
pub struct Media {
    pub bytes: Bytes,
    pub validators: Validators,
    /// Redacted; safe to store.
    pub url: String,
    pub reservation: Option<Reservation>,
}

/// What tells whether a file is still the one that was fetched before (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// As the server gave it, quotes included.
    pub etag: Option<String>,
    /// The header as it came.
    pub last_modified: Option<String>,
    /// S3's version of the object.
    pub version_id: Option<String>,
}

/// The answer to [`MediaClient::fetch_if_changed`].
#[derive(Debug)]
pub enum Fetch {
    Media(Media),
    /// The file is the one that was known; no byte of it was sent.
    Unchanged(UnchangedBy),
}

/// Why a picture was not fetched. Redacted.
pub type MediaError = Fault<MediaReason>;

/// What an adapter hands back; [`MediaClient`] makes it a [`Media`].
#[derive(Debug)]
struct Fetched {
    bytes: Bytes,
    validators: Validators,
    reservation: Reservation,
}

/// What an adapter hands back that was asked for a file only if it has changed.
#[derive(Debug)]
enum Answer {
    Fetched(Fetched),
    Unchanged(UnchangedBy),
}
