//! `http://` and `https://`.
//!
//! Redirects are followed here, so that every hop passes the same checks as the first: scheme, host, address, and no
//! downgrade from `https`. Bodies are requested unpacked (`Accept-Encoding: identity`). Packed ones are unpacked
//! anyway, and counted as they grow.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Response, StatusCode};
use http_body_util::BodyDataStream;
use hyper::body::{Body as _, Incoming};
use url::{Host, Url};

use super::address::{AddressPolicy, HostTrust};
use super::authorities::Authorities;
use super::body::{Announced, Body, Bounds};
use super::conditional::{self, Condition};
use super::deadline::Deadline;
use super::hosts::Hosts;
use super::http_client::HttpClient;
use super::http_error;
use super::resolver::{CheckedResolver, Lookup, Names};
use super::trust::Trusted;
use super::unpack::Unpacker;
use super::{Answer, Fetched, MediaError, Validators};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::{MediaReason, UnchangedBy};
use crate::{redact, retry};

/// Formats we can decode, by preference. A server that negotiates must not send others (AVIF, SVG).
const ACCEPTED: &str =
    "image/jpeg,image/png,image/webp,image/avif,image/gif,image/bmp,image/tiff,image/*;q=0.5,*/*;q=0.1";

#[derive(Clone, Debug)]
pub(super) struct HttpFetcher {
    /// Connects to the public internet and to `allow_networks` only.
    unlisted: HttpClient,
    /// For hosts in `allow_hosts`. A separate client, because a resolver gets the name but not the port.
    listed: HttpClient,
    policy: Arc<AddressPolicy>,
    names: Names,
    trusted: Trusted,
    hosts: Hosts,
    budget: Budget,
    bounds: Bounds,
    redirects_max: usize,
}

enum Hop {
    Arrived(Response<Incoming>),
    Redirected(Url),
    NotModified(UnchangedBy),
}

enum Step {
    Done(Answer),
    Next(Url),
}

impl HttpFetcher {
    /// # Errors
    /// `media_settings_invalid`; `media_client_failed` if TLS cannot be set up.
    pub(super) fn new(
        settings: &MediaSettings,
        budget: Budget,
        hosts: Hosts,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, MediaError> {
        let policy = Arc::new(AddressPolicy::new(settings)?);
        let authorities = Authorities::read(settings.ca_file.as_deref())?;
        let tls = authorities.client_config()?;
        let names = Names::new(lookup);
        let timeout = Duration::from_millis(settings.connect_timeout_ms.saturating_mul(4) / 5);
        let client = |trust| {
            let resolver = CheckedResolver { names: names.clone(), policy: policy.clone(), trust, timeout };
            HttpClient::new(settings, resolver, &tls)
        };
        Ok(Self {
            unlisted: client(HostTrust::Unlisted)?,
            listed: client(HostTrust::Listed)?,
            policy,
            names,
            trusted: Trusted::new(authorities, Duration::from_millis(settings.host_outage_hold_ms)),
            hosts,
            budget,
            bounds: Bounds::new(settings.media_bytes_max, Duration::from_millis(settings.idle_timeout_ms)),
            redirects_max: settings.redirects_max,
        })
    }

    /// `known`: validators of an earlier fetch of the same URL. The file is only sent if they no longer match.
    pub(super) async fn fetch(
        &self,
        url: &str,
        known: Option<&Validators>,
        deadline: &mut Deadline,
    ) -> Result<Answer, MediaError> {
        let mut condition = known.and_then(Condition::of);
        let mut at = parse(url)?;
        let mut redirected = false;
        for _ in 0..=self.redirects_max {
            // Release a hop's slot before the next host's is taken: no fetch waits while holding one.
            let origin = origin(&at);
            let slot = deadline.paused(self.hosts.acquire(&origin)).await;
            let result = match self.hop(&at, condition.as_ref(), deadline).await {
                Ok(Hop::Arrived(response)) => {
                    let fetched = self.read(&at, &origin, response, redirected, deadline).await;
                    fetched.map(|fetched| Step::Done(Answer::Fetched(fetched)))
                }
                Ok(Hop::Redirected(next)) => Ok(Step::Next(next)),
                Ok(Hop::NotModified(by)) => Ok(Step::Done(Answer::Unchanged(by))),
                Err(error) => Err(error),
            };
            match slot.done(url, result)? {
                Step::Done(answer) => return Ok(answer),
                Step::Next(next) => {
                    at = next;
                    redirected = true;
                    condition = condition.filter(Condition::holds_elsewhere);
                }
            }
        }
        let message = format!(
            "{}: more than {} redirects, the last one to {}",
            redact::url(url),
            self.redirects_max,
            redact::url(at.as_str())
        );
        Err(MediaError::new(MediaReason::RedirectsExceeded, message))
    }

    async fn hop(&self, at: &Url, condition: Option<&Condition>, deadline: &Deadline) -> Result<Hop, MediaError> {
        let shown = redact::url(at.as_str());
        let client = self.admit(at)?;
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static(ACCEPTED)),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        if let Some(condition) = condition {
            headers.insert(condition.header.clone(), condition.value.clone());
        }
        let response = match deadline.run(&shown, "waiting for the answer", client.get(at, headers)).await? {
            Ok(response) => response,
            Err(Ok(why)) => return Err(http_error::invalid_url(at.as_str(), &why)),
            Err(Err(error)) => {
                // A certificate for another host is a fault of this host, not of our trust settings.
                let clear = http_error::is_wrong_name(&error);
                let found = http_error::of_request(&shown, &error).caused_by(error);
                return Err(if clear { found } else { self.blame(at, &shown, found).await });
            }
        };
        if at.scheme() == "https" {
            self.trusted.note(at, client);
        }
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::NOT_MODIFIED
            && let Some(condition) = condition
        {
            return Ok(Hop::NotModified(condition.by));
        }
        match status {
            StatusCode::PARTIAL_CONTENT => match headers.get(CONTENT_RANGE).filter(|range| !is_whole(range)) {
                // No range was requested.
                Some(range) => Err(http_error::partial(&shown, range)),
                None => Ok(Hop::Arrived(response)),
            },
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => redirected(at, headers).map(Hop::Redirected),
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => {
                Err(http_error::of_status(&shown, status, wait(headers)))
            }
            _ if status.is_success() => Ok(Hop::Arrived(response)),
            _ => Err(http_error::of_status(&shown, status, wait(headers))),
        }
    }

    /// Before the message is blamed for what may be this process's fault, something known to be good is tried.
    async fn blame(&self, at: &Url, shown: &str, error: MediaError) -> MediaError {
        match error.reason {
            MediaReason::DnsUnanswered if self.names.is_away().await => {
                http_error::resolver_unavailable(shown, &error.message)
            }
            MediaReason::DnsFailed if self.names.denies_all().await => http_error::resolver_denies(shown),
            MediaReason::TlsCertificateUntrusted => self.trusted.blame(at, error).await,
            _ => error,
        }
    }

    /// The client for this host, after the checks that need no resolution. Addresses in the URL itself never reach the
    /// resolver; `url` has normalised decimal, octal and hexadecimal forms.
    pub(super) fn admit(&self, at: &Url) -> Result<&HttpClient, MediaError> {
        let host = at.host_str().unwrap_or_default();
        let port = at.port_or_known_default().unwrap_or_default();
        let trust = self.policy.trust(host, port);
        let named = self.policy.check_name(host, port);
        let checked = match at.host() {
            Some(Host::Ipv4(ip)) => named.and_then(|()| self.policy.check(ip.into(), trust)),
            Some(Host::Ipv6(ip)) => named.and_then(|()| self.policy.check(ip.into(), trust)),
            Some(Host::Domain(_)) => named,
            None => return Err(http_error::invalid_url(at.as_str(), "no host")),
        };
        checked.map_err(|refusal| http_error::refused(&redact::url(at.as_str()), refusal))?;
        Ok(match trust {
            HostTrust::Listed => &self.listed,
            HostTrust::Unlisted => &self.unlisted,
        })
    }

    async fn read(
        &self,
        at: &Url,
        origin: &str,
        response: Response<Incoming>,
        redirected: bool,
        deadline: &mut Deadline,
    ) -> Result<Fetched, MediaError> {
        let shown = redact::url(at.as_str());
        let (head, body) = response.into_parts();
        let validators = conditional::validators(&head.headers, redirected);
        let encodings = head.headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        let announced = Announced { bytes: body.size_hint().exact(), unpacker: Unpacker::new(encodings) };
        let reader = Body::begin(&shown, Some(origin), announced, self.bounds, &self.budget, deadline).await?;
        let content = BodyDataStream::new(body).map_err(|error| http_error::of_body(&shown, &error));
        let (bytes, reservation) = reader.read(deadline, content.boxed()).await?;
        Ok(Fetched { bytes, validators, reservation })
    }
}

/// A host's identity. It includes the scheme: a server without TLS is not down because a message asks for TLS.
pub(super) fn origin(at: &Url) -> String {
    let host = at.host_str().unwrap_or_default();
    format!("{}://{host}:{}", at.scheme(), at.port_or_known_default().unwrap_or_default())
}

fn parse(url: &str) -> Result<Url, MediaError> {
    Url::parse(url).map_err(|error| http_error::invalid_url(url, &error.to_string()))
}

fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, MediaError> {
    let shown = redact::url(from.as_str());
    let refused = |why: String| MediaError::new(MediaReason::RedirectForbidden, format!("{shown}: {why}"));
    let Some(location) = headers.get(LOCATION) else {
        return Err(refused("redirects without a Location header; expected a URL".into()));
    };
    let location = location_text(location.as_bytes());
    let next = from
        .join(&location)
        .map_err(|error| refused(format!("redirects to {}, which is not a URL ({error})", redact::url(&location))))?;
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        (_, "http") => Err(refused(format!(
            "redirects to {}; expected https, because the picture was asked for over https. Use the final URL in the message",
            redact::url(next.as_str())
        ))),
        (_, scheme) => {
            Err(refused(format!("redirects to the scheme {}; expected http or https", redact::cut(scheme, 20))))
        }
    }
}

/// A header's bytes as URL text. Bytes that are not UTF-8 are percent-encoded as they are, like curl does: only the
/// server knows their meaning.
fn location_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(String::new(), |mut text, byte| {
            match byte.is_ascii() {
                true => text.push(char::from(*byte)),
                false => text.extend(percent_encoding::percent_encode(&[*byte], percent_encoding::NON_ALPHANUMERIC)),
            }
            text
        }),
    }
}

/// Whether `Content-Range` (RFC 9110 §14.4) covers the whole file.
fn is_whole(range: &HeaderValue) -> bool {
    let read = || {
        let range = range.to_str().ok()?.trim().strip_prefix("bytes")?.trim_start_matches([' ', '=']);
        let (part, length) = range.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        Some(number(first)? == 0 && number(last)?.checked_add(1)? == number(length)?)
    };
    read().unwrap_or(false)
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    retry::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

#[cfg(test)]
mod tests;
