//! `http://` and `https://`.
//!
//! Redirects are followed by hand, so that every hop passes the same checks as the first: scheme, host, address, and
//! no step down from `https`. Bodies are asked for as they are (`Accept-Encoding: identity`), so the bytes that are
//! counted are the bytes that are kept.

#[cfg(fuzzing)]
pub mod fuzzing;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use url::{Host, Url};

use super::address::{AddressPolicy, HostTrust};
use super::body::Body;
use super::conditional::{self, Condition};
use super::deadline::Deadline;
use super::hosts::Hosts;
use super::http_error;
use super::resolver::{CheckedResolver, Lookup};
use super::{Answer, Fetched, MediaError, Validators};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::UnchangedBy;
use crate::{redact, retry, tls};

/// What we can decode, most wanted first; a server that negotiates must not send what we cannot (AVIF, SVG).
const ACCEPTED: &str = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,image/*;q=0.5,*/*;q=0.1";

#[derive(Clone, Debug)]
pub(super) struct HttpFetcher {
    /// Connects to the public internet and to `allow_networks` only.
    unlisted: Client,
    /// For hosts in `allow_hosts`. A client of its own, because a resolver is told the name but not the port.
    listed: Client,
    policy: Arc<AddressPolicy>,
    hosts: Hosts,
    budget: Budget,
    bytes_max: u64,
    redirects_max: usize,
}

enum Hop {
    Arrived(Response),
    Redirected(Url),
    NotModified(UnchangedBy),
}

enum Step {
    Done(Answer),
    Next(Url),
}

impl HttpFetcher {
    /// # Errors
    /// `media_settings_invalid`; `media_client_failed` where TLS cannot be set up.
    pub(super) fn new(
        settings: &MediaSettings,
        budget: Budget,
        hosts: Hosts,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, MediaError> {
        let policy = Arc::new(AddressPolicy::new(settings)?);
        let client =
            |trust| client(settings, CheckedResolver { lookup: lookup.clone(), policy: policy.clone(), trust });
        Ok(Self {
            unlisted: client(HostTrust::Unlisted)?,
            listed: client(HostTrust::Listed)?,
            policy,
            hosts,
            budget,
            bytes_max: settings.media_bytes_max,
            redirects_max: settings.redirects_max,
        })
    }

    /// `known`: of an earlier fetch of the same URL; the file is sent only if they no longer fit.
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
            // A hop's slot is given back before the next host's is taken: nobody waits while holding one.
            let host = at.host_str().unwrap_or_default();
            // With the scheme: a server that speaks no TLS is not down because one message asks for it.
            let slot = format!("{}://{host}:{}", at.scheme(), at.port_or_known_default().unwrap_or_default());
            let slot = deadline.paused(self.hosts.acquire(&slot)).await;
            let result = match self.hop(&at, condition.as_ref(), deadline).await {
                Ok(Hop::Arrived(response)) => {
                    let fetched = self.read(&at, response, redirected, deadline).await;
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
            "{}: more than {} redirects, the last one to {}; check for a loop, or raise media.redirects_max",
            redact::url(url),
            self.redirects_max,
            redact::url(at.as_str())
        );
        Err(MediaError::permanent("redirects_exceeded", message))
    }

    async fn hop(&self, at: &Url, condition: Option<&Condition>, deadline: &Deadline) -> Result<Hop, MediaError> {
        let shown = redact::url(at.as_str());
        let mut request = self.admit(at)?.get(at.clone()).header(ACCEPT, ACCEPTED).header(ACCEPT_ENCODING, "identity");
        if let Some(condition) = condition {
            request = request.header(condition.header.clone(), condition.value.clone());
        }
        let response = deadline
            .run(&shown, "waiting for the answer", request.send())
            .await?
            .map_err(|error| http_error::of_request(&shown, &error))?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED
            && let Some(condition) = condition
        {
            return Ok(Hop::NotModified(condition.by));
        }
        match status {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => Ok(Hop::Arrived(response)),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => redirected(at, response.headers()).map(Hop::Redirected),
            _ => Err(http_error::of_status(&shown, status, wait(response.headers()))),
        }
    }

    /// The client for this host, after the checks that need no resolution: addresses in the URL itself (which `url`
    /// has brought from decimal, octal and hexadecimal into one form) never reach the resolver.
    pub(super) fn admit(&self, at: &Url) -> Result<&Client, MediaError> {
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
        mut response: Response,
        redirected: bool,
        deadline: &mut Deadline,
    ) -> Result<Fetched, MediaError> {
        let shown = redact::url(at.as_str());
        refuse_encoding(&shown, response.headers())?;
        let validators = conditional::validators(response.headers(), redirected);
        let mut body = Body::begin(&shown, response.content_length(), self.bytes_max, &self.budget, deadline).await?;
        while let Some(chunk) = deadline
            .run(&shown, "reading the body", response.chunk())
            .await?
            .map_err(|error| http_error::of_body(&shown, &error))?
        {
            body.push(&chunk)?;
        }
        let (bytes, reservation) = body.finish()?;
        Ok(Fetched { bytes, validators, reservation })
    }
}

fn client(settings: &MediaSettings, resolver: CheckedResolver) -> Result<Client, MediaError> {
    let mut builder = Client::builder();
    if let Some(file) = &settings.ca_file {
        let invalid = |why| MediaError::permanent("media_settings_invalid", why);
        let pem = tls::authority("media.ca_file", file).map_err(invalid)?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| invalid(format!("media.ca_file {file}: {}", redact::root_cause(&error))))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .user_agent(&settings.user_agent)
        .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .pool_max_idle_per_host(settings.per_host_concurrency)
        .redirect(redirect::Policy::none())
        // A proxy from the environment would resolve names and connect on its own, beyond the reach of our checks.
        .no_proxy()
        .dns_resolver(resolver)
        .build()
        .map_err(|error| {
            let cause = redact::root_cause(&error);
            MediaError::outage(
                "media_client_failed",
                format!(
                    "cannot set up the HTTP client: {cause}; check media.user_agent and the system's CA certificates"
                ),
            )
        })
}

fn parse(url: &str) -> Result<Url, MediaError> {
    Url::parse(url).map_err(|error| http_error::invalid_url(url, &error.to_string()))
}

fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, MediaError> {
    let shown = redact::url(from.as_str());
    let refused = |why: String| MediaError::permanent("redirect_forbidden", format!("{shown}: {why}"));
    let Some(location) = headers.get(LOCATION) else {
        return Err(refused("redirects without a Location header; expected a URL".into()));
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    let next = from
        .join(&location)
        .map_err(|error| refused(format!("redirects to {}, which is no URL ({error})", redact::url(&location))))?;
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

/// Compressed although we asked for `identity`: its size and content would not be the picture's. (`aws-chunked` is a
/// framing that some S3 gateways forget to remove from the header; the body is plain.)
fn refuse_encoding(shown: &str, headers: &HeaderMap) -> Result<(), MediaError> {
    let found = headers.get(CONTENT_ENCODING).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    match found.as_deref().map(str::trim) {
        None | Some("" | "identity" | "aws-chunked") => Ok(()),
        Some(encoding) => {
            let found = redact::cut(encoding, 40);
            let message = format!("{shown}: Content-Encoding {found}; expected identity, as was asked for");
            Err(MediaError::permanent("http_encoding_unsupported", message))
        }
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    retry::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
