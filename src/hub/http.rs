//! Requests to the hub: token, redirects, and the meaning of each answer.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::HubError;
use super::hex::hex;
use crate::config::HubSettings;
use crate::domain::{Class, HubReason};
use crate::redact;
use crate::retry::{Backoff, retry_after};

/// Hops of one request; the hub itself needs two (its own, then its CDN).
const REDIRECTS_MAX: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Hugging Face's rate limits are counted in windows of five minutes.
const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// Larger answers are not from the API.
const API_BYTES_MAX: usize = 16 << 20;

/// Creating it opens no connection.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    pub(super) offline: bool,
    attempts_max: u32,
}

impl Hub {
    /// # Errors
    /// `hub_settings_invalid` for an invalid endpoint or token, `hub_client_failed` if TLS cannot be set up.
    pub fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let invalid = |message: String| HubError::new(HubReason::SettingsInvalid, message);
        let endpoint = Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| {
                invalid(format!(
                    "HF_ENDPOINT (or hub.endpoint, which overrides it) is {:?}, expected http(s)://host[/path]",
                    redact::url(&settings.endpoint)
                ))
                .hint("unset it, or correct it, for example to https://huggingface.co")
            })?;
        let authorization = match &settings.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).map_err(|_| {
                    invalid("HF_TOKEN (or hub.token) has characters that are not allowed in a header".into())
                        .hint("copy it again")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let client = Client::builder()
            .user_agent(concat!("clipstream/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Between two reads. A whole download has no deadline.
            .read_timeout(Duration::from_millis(settings.read_timeout_ms))
            // Redirects are handled here, because the token must not be sent to another host.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                let cause = redact::root_cause(&error);
                HubError::new(HubReason::ClientFailed, format!("cannot set up the HTTP client: {cause}"))
            })?;
        Ok(Self {
            client,
            endpoint,
            authorization,
            offline: settings.offline,
            attempts_max: settings.attempts_max.max(1),
        })
    }

    /// The endpoint, redacted.
    pub fn endpoint(&self) -> String {
        redact::url(self.endpoint.as_str()).trim_end_matches('/').to_owned()
    }

    /// A URL below the endpoint; every segment is escaped, including its slashes.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Follows redirects. Returns an answer with status 200, or 206 to a `Range`, and the SHA-256 that the hub sends when it
    /// redirects to large file storage (`X-Linked-Etag`).
    ///
    /// # Errors
    /// Any other answer of the hub, described with `what` (the repository, or a file of it).
    pub(super) async fn get(
        &self,
        url: Url,
        headers: HeaderMap,
        what: &str,
    ) -> Result<(Response, Option<String>), HubError> {
        let (mut at, mut linked) = (url, None);
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.client.get(at.clone()).headers(headers.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(authorization) = self.authorization.as_ref().filter(|_| at.origin() == self.endpoint.origin()) {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = request.send().await.map_err(|error| self.unreachable(&at, &error))?;
            if at.origin() == self.endpoint.origin()
                && let Some(etag) = response.headers().get("x-linked-etag").and_then(|v| v.to_str().ok())
            {
                linked = hex(etag.trim_matches('"'), 64);
            }
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok((response, linked)),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => at = redirected(&at, response.headers())?,
                _ => return Err(self.refused(&at, &response, what)),
            }
        }
        let message = format!("{what}: more than {REDIRECTS_MAX} redirects");
        Err(HubError::new(HubReason::Redirect, message))
    }

    /// Like [`Hub::get`], with a JSON body.
    pub(super) async fn json(&self, url: Url, what: &str) -> Result<serde_json::Value, HubError> {
        let (mut response, _) = self.get(url.clone(), HeaderMap::new(), what).await?;
        let invalid = |why: String| {
            let shown = redact::url(url.as_str());
            HubError::new(HubReason::AnswerInvalid, format!("{shown} answered {why}"))
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&url, &error))? {
            body.extend_from_slice(&chunk);
            if body.len() > API_BYTES_MAX {
                let bytes = response.content_length().map_or(format!("over {}", body.len()), |bytes| bytes.to_string());
                return Err(invalid(format!("with {bytes} bytes, expected at most {API_BYTES_MAX}")));
            }
        }
        serde_json::from_slice(&body).map_err(|error| invalid(format!("what is not JSON ({error})")))
    }

    /// Runs `attempt` until it succeeds, fails permanently, or has failed `attempts_max` times in a row without progress.
    /// `position` returns the progress; `note` is called for each wait.
    pub(super) async fn retrying<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, HubError>,
        position: impl Fn() -> u64,
        note: &(dyn Fn(&str) + Sync),
    ) -> Result<T, HubError> {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        loop {
            let before = position();
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if position() > before {
                backoff.reset();
            }
            if error.class != Class::Transient || backoff.attempts() + 1 >= self.attempts_max {
                return Err(error);
            }
            let wait = backoff.next_wait(error.retry_after);
            note(&format!("{error}; trying again in {:.1} s", wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
        }
    }

    /// No answer, or an interrupted one.
    pub(super) fn unreachable(&self, at: &Url, error: &reqwest::Error) -> HubError {
        let (shown, cause) = (redact::url(at.as_str()), redact::root_cause(error));
        let (what, hint) = if error.is_timeout() {
            ("silent for too long", "raise hub.read_timeout_ms if the connection is that slow")
        } else if error.is_connect() {
            ("cannot connect", "check the network, hub.endpoint and proxy variables")
        } else {
            ("interrupted", "run it again, it resumes")
        };
        HubError::new(HubReason::Unreachable, format!("{shown}: {what} ({cause})")).hint(hint)
    }

    fn refused(&self, at: &Url, response: &Response, what: &str) -> HubError {
        let (status, headers) = (response.status(), response.headers());
        let code = headers.get("x-error-code").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let shown = format!("{what}: HTTP {status} from {}", redact::url(at.as_str()));
        let of = |reason, why: &str| HubError::new(reason, format!("{shown}{why}"));
        let has_token = self.authorization.is_some();
        match (status.as_u16(), code) {
            (_, "GatedRepo") => of(HubReason::Gated, "; the repository is gated").hint(match has_token {
                true => "accept its conditions on its page with the account of the token",
                false => "accept its conditions on its page and set HF_TOKEN or hub.token",
            }),
            (_, "RevisionNotFound") => of(HubReason::RevisionMissing, "; there is no such revision"),
            (_, "EntryNotFound") => {
                of(HubReason::FileMissing, "; the file is not in the repository").hint("run it again")
            }
            // Hugging Face also answers 401 for names that do not exist, so as not to reveal private ones.
            (401, _) if has_token => {
                let why = "; no such repository, or the token (HF_TOKEN, hub.token) may not read it";
                of(HubReason::Unauthorized, why).hint("check both")
            }
            (401, _) => of(HubReason::Unauthorized, "; no such repository, or a private one")
                .hint("check the name, and set HF_TOKEN or hub.token if it is private"),
            (403, _) => of(HubReason::Forbidden, ""),
            (404 | 410, _) => of(HubReason::NotFound, ""),
            (416, _) => of(HubReason::RangeInvalid, "; starting over"),
            (408 | 425 | 429 | 500..=599, _) => of(HubReason::Busy, "").retry_after(wait_asked_for(headers)),
            _ => of(HubReason::Status, "; expected 200"),
        }
    }
}

fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, HubError> {
    let location = headers.get(LOCATION).map(|l| String::from_utf8_lossy(l.as_bytes()).into_owned());
    let next = location.as_deref().and_then(|location| from.join(location).ok());
    match next {
        Some(next) if next.scheme() == from.scheme() || next.scheme() == "https" => Ok(next),
        _ => {
            let to = location.map_or("nowhere".to_owned(), |location| redact::url(&location));
            let message = format!(
                "{} redirects to {to}; expected a URL with the same or a safer scheme",
                redact::url(from.as_str())
            );
            Err(HubError::new(HubReason::Redirect, message))
        }
    }
}
