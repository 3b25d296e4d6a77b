//! The entry point of the port: chooses the adapter by the scheme of a URL, and applies what all schemes have in common.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use url::Url;

use super::body::Bounds;
use super::deadline::Deadline;
use super::file::FileFetcher;
use super::hosts::{Hosts, Rules, Standing};
use super::http::{self, HttpFetcher};
use super::resolver::{Lookup, SystemLookup};
use super::s3::{self, S3Fetcher};
use super::{Answer, Fetch, Media, MediaError, Validators, conditional, data_url};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::{MediaReason, MediaRecord, MediaUrl};
use crate::redact;
use crate::telemetry::Metrics;

/// Fetches pictures by URL. Cheap to clone; clones share connections and limits.
#[derive(Clone, Debug)]
pub struct MediaClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: HttpFetcher,
    s3: S3Fetcher,
    file: FileFetcher,
    hosts: Hosts,
    budget: Budget,
    metrics: Arc<Metrics>,
    fetch_timeout: Duration,
    bytes_max: u64,
}

impl MediaClient {
    /// Does not connect yet. The first `s3://` URL looks up S3 credentials (AWS's default chain).
    ///
    /// # Errors
    /// `media_settings_invalid` for an entry of `allow_hosts` or `deny_hosts` that is not a host, or a missing folder
    /// of `allow_file_roots`; `media_client_failed` if TLS cannot be set up.
    pub async fn new(settings: &MediaSettings, budget: Budget, metrics: Arc<Metrics>) -> Result<Self, MediaError> {
        Self::build(settings, budget, metrics, None, Arc::new(SystemLookup))
    }

    /// Like [`MediaClient::new`], with the given S3 credentials instead of AWS's default chain. `s3_anonymous`
    /// overrides them.
    ///
    /// # Errors
    /// As [`MediaClient::new`].
    pub async fn with_s3_credentials(
        settings: &MediaSettings,
        budget: Budget,
        metrics: Arc<Metrics>,
        credentials: impl ProvideCredentials + 'static,
    ) -> Result<Self, MediaError> {
        let credentials = SharedCredentialsProvider::new(credentials);
        Self::build(settings, budget, metrics, Some(credentials), Arc::new(SystemLookup))
    }

    pub(super) fn build(
        settings: &MediaSettings,
        budget: Budget,
        metrics: Arc<Metrics>,
        credentials: Option<SharedCredentialsProvider>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, MediaError> {
        let rules = Rules {
            concurrency_max: settings.per_host_concurrency,
            outage_hold: Duration::from_millis(settings.host_outage_hold_ms),
        };
        let hosts = Hosts::new(rules, metrics.clone());
        let bounds = Bounds::new(settings.media_bytes_max, Duration::from_millis(settings.idle_timeout_ms));
        // Reserve enough to read one file to its end, whatever the others hold.
        budget.keep_for_one(settings.media_bytes_max);
        let inner = Inner {
            http: HttpFetcher::new(settings, budget.clone(), hosts.clone(), lookup)?,
            s3: S3Fetcher::new(settings, credentials, budget.clone(), hosts.clone()),
            hosts,
            file: FileFetcher::new(&settings.allow_file_roots, budget.clone(), bounds)?,
            budget,
            metrics,
            fetch_timeout: Duration::from_millis(settings.fetch_timeout_ms),
            bytes_max: settings.media_bytes_max,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The longest pause of all requests that a host may ask for with `Retry-After`; 30 s by default. Set it once,
    /// before the first fetch; it applies to all clones.
    pub fn with_pause_max(self, pause_max: Duration) -> Self {
        self.inner.hosts.set_pause_max(pause_max);
        self
    }

    /// Finds the S3 region and credentials as the first `s3://` URL would, and describes them. Sends nothing to the
    /// endpoint, which may only allow reads.
    ///
    /// # Errors
    /// An outage: no region, or no credentials.
    pub async fn check_s3(&self) -> Result<String, MediaError> {
        self.inner.s3.check().await
    }

    /// The identity of the host that `url` is fetched from first; `None` if no host is involved.
    pub fn host_of(&self, url: &MediaUrl) -> Option<String> {
        origin(trimmed(url.expose()))
    }

    /// What to expect of a host (as of [`Self::host_of`]) now.
    pub fn standing(&self, host: &str) -> Standing {
        self.inner.hosts.standing(host)
    }

    /// A one-line warning about the settings for startup, if any.
    pub fn warning(&self) -> Option<&'static str> {
        self.inner.s3.warning()
    }

    /// One fetch with one deadline (`fetch_timeout_ms` for resolution, connection, redirects and body). Waiting for
    /// memory or for a slot of a busy host does not count. Safe to cancel.
    ///
    /// # Errors
    /// Permanent if it will fail again (not found, forbidden, too large, empty, address or scheme not allowed);
    /// transient if it may succeed later (5xx, throttling, timeouts, broken connections); outage if S3 refuses our
    /// credentials, its configured endpoint is missing, or a host is down.
    pub async fn fetch(&self, url: &MediaUrl) -> Result<Media, MediaError> {
        match self.answer(url, None).await? {
            Fetch::Media(media) => Ok(media),
            // Adapters only answer so when they were given validators.
            Fetch::Unchanged(_) => {
                Err(MediaError::new(MediaReason::NotModifiedUnexpected, "not modified, which was not asked for"))
            }
        }
    }

    /// Like [`MediaClient::fetch`], but skips the transfer if the file is still that of `known` and the server can
    /// tell: by ETag or Last-Modified over HTTP, by ETag or version in S3.
    ///
    /// # Errors
    /// As [`MediaClient::fetch`].
    pub async fn fetch_if_changed(&self, url: &MediaUrl, known: &MediaRecord) -> Result<Fetch, MediaError> {
        if let Some(host) = origin(&known.url) {
            self.inner.hosts.note_served(&host);
        }
        self.answer(url, conditional::known_of(known, url.expose()).as_ref()).await
    }

    async fn answer(&self, url: &MediaUrl, known: Option<&Validators>) -> Result<Fetch, MediaError> {
        let inner = &*self.inner;
        let url = trimmed(url.expose());
        let mut deadline = Deadline::after(inner.fetch_timeout);
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        // A relative path, if file access is allowed: catalogs on disk name their pictures like this.
        let relative = match &*scheme {
            "" => inner.file.resolve(url),
            "http" | "https" | "s3" | "data" | "file" => None,
            // A file name with a colon: "12:30.png".
            _ => inner.file.existing(url).await,
        };
        let (url, scheme) = relative.as_deref().map_or((url, scheme), |url| (url, "file".to_owned()));
        let answer = match scheme.as_str() {
            "http" | "https" => Box::pin(inner.http.fetch(url, known, &mut deadline)).await,
            "s3" => Box::pin(inner.s3.fetch(url, known, &mut deadline)).await,
            "data" => data_url::fetch(url, inner.bytes_max, &inner.budget, &mut deadline).await.map(Answer::Fetched),
            "file" => inner.file.fetch(url, &mut deadline).await.map(Answer::Fetched),
            _ => Err(unsupported(url, &scheme)),
        }?;
        let fetched = match answer {
            Answer::Fetched(fetched) => fetched,
            Answer::Unchanged(by) => return Ok(Fetch::Unchanged(by)),
        };
        inner.metrics.fetched(fetched.bytes.len());
        let shown = redact::url(url);
        Ok(Fetch::Media(Media {
            bytes: fetched.bytes,
            validators: conditional::to_keep(fetched.validators, url),
            url: shown,
            reservation: Some(fetched.reservation),
        }))
    }
}

/// The identity of the host of `url`.
fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    match url.scheme() {
        "http" | "https" => Some(http::origin(&url)),
        "s3" => Some(s3::origin(url.host_str()?)),
        _ => None,
    }
}

/// Strips blanks, line ends and invisible characters that come with copied URLs. An S3 key may end with a blank, so
/// there only line ends are stripped.
fn trimmed(url: &str) -> &str {
    let blank = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{FEFF}' | '\u{200B}'..='\u{200F}');
    let url = url.trim_start_matches(blank);
    let is_s3 = url.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3:"));
    if is_s3 { url.trim_end_matches(['\r', '\n']) } else { url.trim_end_matches(blank) }
}

fn unsupported(url: &str, scheme: &str) -> MediaError {
    if scheme.len() == 1 && url.as_bytes().get(2).is_some_and(|b| matches!(b, b'\\' | b'/')) {
        let message = format!(
            "\"{}\" is a path on a Windows drive; expected a URL, or a path relative to the file of messages",
            redact::url(url)
        );
        return MediaError::new(MediaReason::SchemeUnsupported, message);
    }
    let found = if scheme.is_empty() { "no scheme".into() } else { format!("scheme \"{}\"", redact::cut(scheme, 20)) };
    let message = format!("{}: {found}; expected http, https, s3, data or file", redact::url(url));
    MediaError::new(MediaReason::SchemeUnsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Class;

    #[tokio::test]
    async fn schemes_are_recognised_in_any_case() {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(1 << 20);
        let client = MediaClient::new(&MediaSettings::default(), budget.clone(), metrics.clone()).await.unwrap();
        let cases = [
            (
                "ftp://joe:pw@host/a.jpg",
                MediaReason::SchemeUnsupported,
                "scheme \"ftp\"; expected http, https, s3, data or file",
            ),
            ("/a.jpg", MediaReason::SchemeUnsupported, "no scheme"),
            ("", MediaReason::SchemeUnsupported, "no scheme"),
            ("File:///etc/passwd", MediaReason::FileForbidden, "allow_file_roots"),
            ("S3://bucket", MediaReason::UrlInvalid, "no key"),
            ("HTTP://127.0.0.1/", MediaReason::AddressForbidden, "loopback"),
            ("https://", MediaReason::UrlInvalid, "expected http(s)://host/path"),
        ];
        for (url, reason, part) in cases {
            let error = client.fetch(&MediaUrl::new(url)).await.unwrap_err();
            assert_eq!((error.reason, error.class), (reason, Class::Permanent), "{url}");
            assert!(error.to_string().contains(part) && !error.to_string().contains("pw"), "{}", error.message);
        }
        // With characters that come with a copied URL.
        let media = client.fetch(&MediaUrl::new("\u{FEFF} \tdata:image/png;base64,aGVsbG8= \r\n")).await.unwrap();
        assert_eq!(&media.bytes[..], b"hello");
        drop(media);
        assert_eq!(trimmed(" s3://bucket/key \n"), "s3://bucket/key ", "a key may end with a blank");
        let error = client.fetch(&MediaUrl::new("C:\\pics\\a.png")).await.unwrap_err();
        assert!(
            error.reason == MediaReason::SchemeUnsupported && error.to_string().contains("Windows drive"),
            "{}",
            error.message
        );
        let media = client.fetch(&MediaUrl::new("DATA:image/png;base64,aGVsbG8=")).await.unwrap();
        assert_eq!((&media.bytes[..], media.url.as_str()), (&b"hello"[..], "DATA:image/png,…(30 bytes)"));
        assert!(metrics.encode().contains("clipstream_media_bytes_total 10"), "{}", metrics.encode());
        assert!(budget.bytes_held() > 0);
        drop(media);
        assert_eq!(budget.bytes_held(), 0);
    }

    #[tokio::test]
    async fn a_colon_in_the_name_of_an_existing_file_is_not_a_scheme() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["12:30.png", "Screenshot 2026-11-29 at 10:20:30.png", "a:b/c.png", "C:x.png"];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let roots = vec![folder.path().to_str().unwrap().to_owned()];
        let settings = MediaSettings { allow_file_roots: roots, ..Default::default() };
        let client = MediaClient::new(&settings, Budget::new(1 << 20), Arc::default()).await.unwrap();
        for name in names {
            let media = client.fetch(&MediaUrl::new(name)).await.unwrap_or_else(|e| panic!("{name}: {}", e.message));
            assert_eq!(&media.bytes[..], name.as_bytes());
        }
        for (url, reason) in
            [("ftp://host/a.jpg", MediaReason::SchemeUnsupported), ("12:31.png", MediaReason::SchemeUnsupported)]
        {
            assert_eq!(client.fetch(&MediaUrl::new(url)).await.unwrap_err().reason, reason, "{url}");
        }
    }
}
