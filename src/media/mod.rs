//! Port: fetches pictures by URL.
//!
//! [`MediaClient::fetch`] is the entry point. It passes the URL to `http`, `s3`, `data_url` or `file` by its scheme.
//! For all schemes: one deadline for all waits for others, a limit on bytes that is checked while they arrive, memory
//! reserved before use, and errors without secrets. The type of the bytes is determined later.

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

/// A fetched file. Its bytes count against the media budget until it is dropped.
#[derive(Debug)]
pub struct Media {
    pub bytes: Bytes,
    pub validators: Validators,
    /// Redacted; safe to store.
    pub url: String,
    pub reservation: Option<Reservation>,
}

/// Identifies the version of a fetched file (RFC 9110 §8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// As sent by the server, quotes included.
    pub etag: Option<String>,
    /// The header as sent.
    pub last_modified: Option<String>,
    /// S3's version of the object.
    pub version_id: Option<String>,
}

/// The answer to [`MediaClient::fetch_if_changed`].
#[derive(Debug)]
pub enum Fetch {
    Media(Media),
    /// The known file is still current; none of it was sent.
    Unchanged(UnchangedBy),
}

/// Why a picture was not fetched. Redacted.
pub type MediaError = Fault<MediaReason>;

/// An adapter's file; [`MediaClient`] makes it a [`Media`].
#[derive(Debug)]
struct Fetched {
    bytes: Bytes,
    validators: Validators,
    reservation: Reservation,
}

/// An adapter's answer to a conditional request.
#[derive(Debug)]
enum Answer {
    Fetched(Fetched),
    Unchanged(UnchangedBy),
}
