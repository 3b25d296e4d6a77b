//! The HTTP client: `GET` requests over connections that are pooled, checked and repaired.

mod answer;
mod connection;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower_service::Service as _;
use url::Url;

pub(super) use answer::Malformed;
pub(super) use connection::{BoxError, ConnectTimeout};
use connection::{Connector, Stale};

use super::MediaError;
use super::resolver::CheckedResolver;
use crate::config::MediaSettings;
use crate::domain::MediaReason;
use crate::redact;

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(90);
/// How often a request is repeated because its pooled connection was closed.
const STALE_MAX: usize = 3;
/// TCP keep-alive: after this long without data the system probes the peer.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes of an answer's header fields over HTTP/2: the same as over HTTP/1.
const HEAD_BYTES_MAX: u32 = 300 * 1024;

#[derive(Clone)]
pub(super) struct HttpClient {
    connector: Connector,
    client: legacy::Client<Connector, Empty<Bytes>>,
    user_agent: HeaderValue,
}

impl HttpClient {
    /// # Errors
    /// `media_settings_invalid` for a `user_agent` that is not a valid header.
    pub(super) fn new(
        settings: &MediaSettings,
        resolver: CheckedResolver,
        tls: &ClientConfig,
    ) -> Result<Self, MediaError> {
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(|_| {
            let message = "media.user_agent: expected printable ASCII, as a header needs";
            MediaError::new(MediaReason::SettingsInvalid, message)
        })?;
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // No proxy from the environment: it would resolve names and connect by itself, without our checks.
        let inner = HttpsConnector::from((tcp, tls));
        let connector = Connector { inner, timeout: Duration::from_millis(settings.connect_timeout_ms) };
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(settings.per_host_concurrency)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .build(connector.clone());
        Ok(Self { connector, client, user_agent })
    }

    /// Connects to `at`, TLS included, without a request.
    pub(super) async fn shake_hands(&self, at: &Url) -> Result<(), BoxError> {
        let to = target(at)?;
        self.connector.clone().call(to).await.map(drop)
    }

    /// `Err(Ok(..))`: why no request can be built from `at`.
    pub(super) async fn get(
        &self,
        at: &Url,
        mut headers: HeaderMap,
    ) -> Result<Response<Incoming>, Result<String, legacy::Error>> {
        let target = target(at).map_err(Ok)?;
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(value) = authorization(at) {
            headers.insert(AUTHORIZATION, value);
        }
        let mut again = STALE_MAX;
        loop {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = target.clone();
            *request.headers_mut() = headers.clone();
            match self.client.request(request).await {
                // Servers close idle connections without notice, perhaps several of the pool at once.
                Err(error) if again > 0 && redact::causes(&error).any(|cause| cause.is::<Stale>()) => again -= 1,
                result => return result.map_err(Err),
            }
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("client", &self.client).finish_non_exhaustive()
    }
}

/// `at` without user info and fragment, which are not part of a request target.
fn target(at: &Url) -> Result<Uri, String> {
    let mut plain = at.clone();
    plain.set_fragment(None);
    // Both fail only for URLs that cannot have user info.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain.as_str().parse().map_err(|error: http::uri::InvalidUri| error.to_string())
}

/// User info as Basic authentication (RFC 7617).
fn authorization(at: &Url) -> Option<HeaderValue> {
    if at.username().is_empty() && at.password().is_none() {
        return None;
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let pair = [decoded(at.username()), decoded(at.password().unwrap_or_default())].join(&b':');
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
