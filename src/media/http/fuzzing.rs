//! The URL policy's checks that need no network, for `fuzz/fuzz_targets/url.rs`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, LOCATION};
use url::Url;

use super::{HttpFetcher, parse, redirected};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::media::MediaError;
use crate::media::hosts::{Hosts, Rules};
use crate::media::resolver::SystemLookup;

/// The checks of a fetch before it asks a resolver.
pub struct UrlPolicy(HttpFetcher);

impl UrlPolicy {
    /// # Errors
    /// See [`crate::media::MediaClient::new`].
    pub fn new(settings: &MediaSettings) -> Result<Self, MediaError> {
        let rules = Rules { concurrency_max: 1, outage_hold: Duration::ZERO };
        let hosts = Hosts::new(rules, Arc::default());
        HttpFetcher::new(settings, Budget::new(1 << 20), hosts, Arc::new(SystemLookup)).map(Self)
    }

    /// What a fetch of an `http(s)` URL connects to, unless its name resolves to a refused address.
    ///
    /// # Errors
    /// See [`crate::media::MediaClient::fetch`].
    pub fn judge(&self, url: &str) -> Result<Url, MediaError> {
        let at = parse(url)?;
        self.0.admit(&at)?;
        Ok(at)
    }

    /// Where an answer of `from` with this `Location` leads.
    ///
    /// # Errors
    /// See [`crate::media::MediaClient::fetch`].
    pub fn redirected(&self, from: &Url, location: &[u8]) -> Result<Url, MediaError> {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(location) {
            headers.insert(LOCATION, value);
        }
        redirected(from, &headers)
    }
}
