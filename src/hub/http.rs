//! Requests to the hub: token, redirects, and what each answer means.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::HubError;
use super::hex::hex;
use crate::config::HubSettings;
use crate::redact;
use crate::retry::{Backoff, retry_after};

/// Hops of one request; the hub itself needs two (its own, then its CDN).
const REDIRECTS_MAX: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Hugging Face's rate limits are counted in windows of five minutes.
const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// Answers of the API beyond this are not its.
const API_BYTES_MAX: usize = 16 << 20;

/// Connects to nothing by itself.
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
    /// `hub_settings_invalid` for an endpoint or a token that cannot be, `hub_client_failed` where TLS cannot be set up.
    pub fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let invalid = |message: String| HubError::permanent("hub_settings_invalid", message);
        let endpoint = Url::parse(&settings.endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| {
                invalid(format!(
                    "HF_ENDPOINT (or hub.endpoint, which wins over it) is {:?}, expected http(s)://host[/path]; unset it, or \
                     correct it, for example to https://huggingface.co",
                    redact::url(&settings.endpoint)
                ))
            })?;
        let authorization = match &settings.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).map_err(|_| {
                    invalid("HF_TOKEN (or hub.token) has characters that no header can carry; copy it again".into())
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let client = Client::builder()
            .user_agent(concat!("clipstream/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Between two reads. A whole download takes as long as it takes.
            .read_timeout(Duration::from_millis(settings.read_timeout_ms))
            // By hand, because the token must not follow to another host.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                let cause = redact::root_cause(&error);
                HubError::permanent(
                    "hub_client_failed",
                    format!(
                        "cannot set up the HTTP client: {cause}; check the system's CA certificates and proxy variables"
                    ),
                )
            })?;
        Ok(Self {
            client,
            endpoint,
            authorization,
            offline: settings.offline,
            attempts_max: settings.attempts_max.max(1),
        })
    }

    /// The endpoint as it may be shown.
    pub fn endpoint(&self) -> String {
        redact::url(self.endpoint.as_str()).trim_end_matches('/').to_owned()
    }

    /// A URL below the endpoint; every segment is escaped, slashes in it included.
    pub(super) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Follows redirects. Answers are 200, or 206 to a `Range`. Beside it the SHA-256 that the hub names where it redirects
    /// to large file storage (`X-Linked-Etag`).
    ///
    /// # Errors
    /// Whatever else the hub says, in terms of `what` (the repository, or a file of it).
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
        let message = format!("{what}: more than {REDIRECTS_MAX} redirects; check hub.endpoint");
        Err(HubError::permanent("hub_redirect", message))
    }

    /// As [`Hub::get`], with a body of JSON.
    pub(super) async fn json(&self, url: Url, what: &str) -> Result<serde_json::Value, HubError> {
        let (mut response, _) = self.get(url.clone(), HeaderMap::new(), what).await?;
        let invalid = |why: String| {
            let shown = redact::url(url.as_str());
            let message = format!("{shown} answered {why}; check that hub.endpoint is a hub's address");
            HubError::permanent("hub_answer_invalid", message)
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

    /// Runs `attempt` until it succeeds, fails for good, or has failed `attempts_max` times in a row without a byte
    /// more. `position` tells how far it is; `note` is told of each wait.
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
            if !error.transient || backoff.attempts() + 1 >= self.attempts_max {
                return Err(error);
            }
            let wait = backoff.next_wait(error.retry_after);
            note(&format!("{}; trying again in {:.1} s", error.message, wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
        }
    }

    /// No answer, or one that broke off.
    pub(super) fn unreachable(&self, at: &Url, error: &reqwest::Error) -> HubError {
        let (shown, cause) = (redact::url(at.as_str()), redact::root_cause(error));
        let message = if error.is_timeout() {
            format!("{shown}: silent for too long ({cause}); raise hub.read_timeout_ms if the line is that slow")
        } else if error.is_connect() {
            format!("{shown}: cannot connect ({cause}); check the network, hub.endpoint and proxy variables")
        } else {
            format!("{shown}: broke off ({cause}); run it again, it resumes")
        };
        HubError::transient("hub_unreachable", message)
    }

    fn refused(&self, at: &Url, response: &Response, what: &str) -> HubError {
        let (status, headers) = (response.status(), response.headers());
        let code = headers.get("x-error-code").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let shown = format!("{what}: HTTP {status} from {}", redact::url(at.as_str()));
        let permanent = |reason, next: &str| HubError::permanent(reason, format!("{shown}; {next}"));
        let has_token = self.authorization.is_some();
        match (status.as_u16(), code) {
            (_, "GatedRepo") if has_token => permanent(
                "hub_gated",
                "the repository is gated: accept its conditions on its page with the account of the token",
            ),
            (_, "GatedRepo") => permanent(
                "hub_gated",
                "the repository is gated: accept its conditions on its page and set HF_TOKEN or hub.token",
            ),
            (_, "RevisionNotFound") => permanent("hub_revision_missing", "there is no such revision; check --revision"),
            (_, "EntryNotFound") => permanent("hub_file_missing", "the file is not in the repository; run it again"),
            // Hugging Face answers 401 for names that do not exist, too, so as not to tell which private ones do.
            (401, _) if has_token => permanent(
                "hub_unauthorized",
                "no such repository, or the token (HF_TOKEN, hub.token) may not read it; check both",
            ),
            (401, _) => permanent(
                "hub_unauthorized",
                "no such repository, or a private one; check the name, and set HF_TOKEN or hub.token if it is private",
            ),
            (403, _) => permanent("hub_forbidden", "check what the token (HF_TOKEN, hub.token) may read"),
            (404 | 410, _) => permanent("hub_not_found", "check the repository's name, --revision and hub.endpoint"),
            (416, _) => HubError::transient("hub_range_invalid", format!("{shown}; starting over")),
            (408 | 425 | 429 | 500..=599, _) => HubError {
                retry_after: wait_asked_for(headers),
                ..HubError::transient("hub_busy", format!("{shown}; try again later"))
            },
            _ => permanent("hub_status", "expected 200; check hub.endpoint"),
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
                "{} redirects to {to}; expected an address of the same or a safer kind; check hub.endpoint",
                redact::url(from.as_str())
            );
            Err(HubError::permanent("hub_redirect", message))
        }
    }
}
