//! Tokens for the mechanism `OAUTHBEARER` (KIP-255), from a file or from an authorization server.
//!
//! librdkafka can query such a server itself (KIP-768), but only if it is built with libcurl, which ours is not. Instead it
//! calls us, whenever a client is created and after 80 % of a token's lifetime.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;
use url::form_urlencoded;

use crate::config::OauthSettings;
use crate::domain::Finding;
use crate::redact::{self, Secret};
use crate::tls;

/// Timeout of a whole token request. It blocks a consumer's thread.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Lifetime of a token without an expiry: how often a file is read again, or a server queried.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);
/// The next step if what answers is not a token endpoint.
const CHECK_URL: &str = "check kafka.oauth.token_url";
/// The next step if this process gets no thread.
const LIMITS: &str = "raise the limits on processes and open files";

/// Why there is no token: the setting, what was found and the next step; never the token or the secret.
fn finding<T>(message: impl Into<String>, hint: impl Into<Cow<'static, str>>) -> Result<T, Finding> {
    Err(Finding::new(message).hint(hint))
}

/// A consumer's current token. While it is valid, a failed renewal is only logged, and does not make the worker unready.
#[derive(Debug, Default)]
pub struct Current {
    /// Milliseconds since the Unix epoch; 0 before the first token.
    until_ms: AtomicI64,
    is_failing: AtomicBool,
}

impl Current {
    pub fn had(&self, token: &OAuthToken) {
        self.until_ms.store(token.lifetime_ms, Ordering::Relaxed);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("new tokens for Kafka are available again");
        }
    }

    /// Whether the token has expired. Logs a failed renewal once.
    pub fn failed(&self, why: &dyn fmt::Display) -> bool {
        let left = Duration::from_millis(u64::try_from(self.until_ms.load(Ordering::Relaxed)).unwrap_or_default());
        let Ok(left) = (UNIX_EPOCH + left).duration_since(SystemTime::now()) else { return true };
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(left_s = left.as_secs(), "no new token for Kafka: {why}; the last one is still valid");
        }
        false
    }
}

/// Gets a new token according to `sasl.oauthbearer.config`. Blocks for at most 5 s; may be called from any thread.
///
/// # Errors
/// No token file, an expired token, a server that is unavailable or refuses.
pub fn blocking(property: Option<&str>) -> Result<OAuthToken, Finding> {
    let Some(settings) = property.and_then(OauthSettings::from_property) else {
        return finding(
            "sasl.oauthbearer.config is set under [kafka.properties]",
            "remove it, and configure the token source under [kafka.oauth]",
        );
    };
    // On a separate thread, because some of librdkafka's callbacks run inside a runtime.
    let made = std::thread::Builder::new().name("kafka-token".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(new(&settings)),
            Err(why) => finding(format!("no runtime for the token request: {why}"), LIMITS),
        }
    });
    match made.map(std::thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => finding("the token request panicked, which is a bug", "report it, with the line before this one"),
        Err(why) => finding(format!("no thread for the token request: {why}"), LIMITS),
    }
}

/// Gets a new token.
///
/// # Errors
/// See [`blocking`].
pub async fn new(settings: &OauthSettings) -> Result<OAuthToken, Finding> {
    let now = SystemTime::now();
    let (found, lifetime) = match (&settings.token_file, &settings.token_url) {
        (Some(file), _) => (of_file(file).await?, None),
        (None, Some(url)) => {
            let granted = request(settings, url).await?;
            (granted.access_token, granted.expires_in.map(Duration::from_secs))
        }
        (None, None) => return finding("no source of tokens", "set kafka.oauth.token_url or kafka.oauth.token_file"),
    };
    let claims = Claims::of(&found);
    let end = match (lifetime, claims.expires()) {
        // A token that was just issued has not expired: this machine's clock is ahead.
        (Some(lifetime), Some(expires)) if expires > now => expires.min(now + lifetime),
        (Some(lifetime), _) => now + lifetime,
        (None, Some(expires)) => expires,
        (None, None) => now + LIFETIME_DEFAULT,
    };
    if end <= now {
        let ago = now.duration_since(end).unwrap_or_default().as_secs();
        return match &settings.token_file {
            Some(file) => finding(
                format!("the token in kafka.oauth.token_file {file} expired {ago} s ago"),
                "renew the file, and check this machine's clock",
            ),
            None => finding(
                format!("the token from kafka.oauth.token_url expired {ago} s ago"),
                "check the server, and this machine's clock",
            ),
        };
    }
    let principal = claims.sub.or_else(|| settings.client_id.clone()).unwrap_or_default();
    let lifetime_ms = end.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    // librdkafka multiplies by a thousand.
    let lifetime_ms = lifetime_ms.min(i64::MAX / 1000);
    Ok(OAuthToken { token: found, principal_name: principal, lifetime_ms })
}

async fn of_file(file: &str) -> Result<String, Finding> {
    let text = match tokio::fs::read_to_string(file).await {
        Ok(text) => text,
        Err(why) => {
            let message = format!("kafka.oauth.token_file {file} cannot be read: {why}");
            return finding(message, "check the path and its permissions");
        }
    };
    let renew = "check what writes the file";
    match text.trim() {
        "" => finding(format!("kafka.oauth.token_file {file} is empty; expected one token"), renew),
        token if token.len() > ANSWER_BYTES_MAX || token.contains(|c: char| !c.is_ascii_graphic()) => {
            let message = format!(
                "kafka.oauth.token_file {file} contains no token: found {} bytes with white space or other characters, \
                expected one token (RFC 6750 §2.1)",
                text.len()
            );
            finding(message, renew)
        }
        token => Ok(token.to_owned()),
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    error_description: Option<String>,
}

/// The client-credentials grant, RFC 6749 §4.4, with the client's password in the header (§2.3.1).
async fn request(settings: &OauthSettings, url: &str) -> Result<Granted, Finding> {
    let shown = redact::url(url);
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let id = settings.client_id.as_deref().unwrap_or_default();
    let secret = settings.client_secret.as_ref().map_or("", Secret::expose);
    let basic = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
    let Ok(mut authorization) = HeaderValue::from_str(&format!("Basic {basic}")) else {
        let message = "kafka.oauth.client_id and kafka.oauth.client_secret cannot be sent in a header";
        return finding(message, "check both values");
    };
    authorization.set_sensitive(true);
    let form = {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &settings.scope {
            form.append_pair("scope", scope);
        }
        form.finish()
    };
    let request = client(settings)?
        .post(url)
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form);
    let unreachable = |why: reqwest::Error| {
        Finding::new(format!("the token endpoint {shown} cannot be reached: {}", redact::root_cause(&why)))
            .hint("check kafka.oauth.token_url, kafka.oauth.ca_file and the network")
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            let message = format!("the token endpoint {shown} answers with more than {ANSWER_BYTES_MAX} bytes");
            return finding(message, CHECK_URL);
        }
    }
    if !status.is_success() {
        let said = match serde_json::from_slice::<Refused>(&body) {
            Ok(Refused { error, error_description: Some(why) }) => format!(" {error}: {why}"),
            Ok(Refused { error, .. }) => format!(" {error}"),
            Err(_) => String::new(),
        };
        // The server may repeat what it was sent.
        let said = if secret.is_empty() { said } else { said.replace(secret, "REDACTED").replace(&basic, "REDACTED") };
        return finding(
            format!("the token endpoint {shown} answers HTTP {}{}", status.as_u16(), redact::cut(&said, 200)),
            "check kafka.oauth.client_id, kafka.oauth.client_secret and kafka.oauth.scope",
        );
    }
    // The parser's error may quote the token.
    serde_json::from_slice(&body).or_else(|_| {
        let message = "bytes without an access_token in JSON (RFC 6749 §5.1)";
        finding(format!("the token endpoint {shown} answers {} {message}", body.len()), CHECK_URL)
    })
}

fn client(settings: &OauthSettings) -> Result<Client, Finding> {
    let mut builder = Client::builder()
        .user_agent(concat!("clipstream/", env!("CARGO_PKG_VERSION")))
        .timeout(REQUEST_TIMEOUT)
        // The secret is sent only to the configured server.
        .redirect(redirect::Policy::none());
    if let Some(file) = &settings.ca_file {
        let pem = tls::authority("kafka.oauth.ca_file", file)?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|why| {
            Finding::new(format!("kafka.oauth.ca_file {file}: {}", redact::root_cause(&why))).hint("export it again")
        })?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|why| {
        let why = redact::root_cause(&why);
        Finding::new(format!("no HTTP client for tokens: {why}"))
            .hint("check kafka.oauth.ca_file and the system's certificates")
    })
}

/// Claims of a JWT (RFC 7519); empty for other tokens. The broker verifies the token, we do not.
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since the Unix epoch; fractions are allowed.
    exp: Option<f64>,
}

impl Claims {
    fn of(token: &str) -> Self {
        let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    fn expires(&self) -> Option<SystemTime> {
        // Beyond the range of the clock: it never expires.
        let seconds = self.exp?.clamp(0.0, 4e9);
        Some(UNIX_EPOCH + Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
