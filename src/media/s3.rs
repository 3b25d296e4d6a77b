//! `s3://bucket/key` and `s3://bucket/key?versionId=…`.
//!
//! The key is taken as it is, not percent-decoded, because S3 keys may contain any character: `a%20b` and `a b` are two
//! keys, and `?` belongs to the key unless `versionId=` follows. Access-point ARNs are not accepted as buckets (their
//! aliases are).
//!
//! The endpoint is configured or AWS itself, never from a message, so it is exempt from the address policy.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::types::RequestPayer;
use futures::TryStreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;

use super::body::{Announced, Body, Bounds};
use super::deadline::Deadline;
use super::hosts::Hosts;
use super::s3_error::{self, Endpoint};
use super::s3_trust;
use super::unpack::Unpacker;
use super::{Answer, Fetched, MediaError, Validators};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::{Class, MediaReason, UnchangedBy};
use crate::redact;

/// Region for signatures if an endpoint is configured and no region is found: what MinIO and similar servers expect.
const REGION_OF_ENDPOINTS: &str = "us-east-1";

/// Minimum age before a client with refused credentials is replaced. So while they are refused, a credentials file is
/// read again at this interval.
const REFUSED_CLIENT_AGE_MIN: Duration = Duration::from_secs(10);

/// If a bucket was read within this time, this process's account is fine.
const SERVED_AGE_MAX: Duration = Duration::from_secs(60);

/// Version id of objects written while their bucket had no versioning. Such objects can be overwritten.
const NULL_VERSION: &str = "null";

#[derive(Debug)]
pub(super) struct S3Fetcher {
    settings: MediaSettings,
    credentials: Option<SharedCredentialsProvider>,
    /// The client and when it was built. Built for the first `s3://` URL: finding region and credentials may read files
    /// and ask the instance metadata service, which must not delay those who do not use S3.
    client: Mutex<Option<(Client, Instant)>>,
    refused_client_age_min: Duration,
    /// The bucket last read, and when.
    served: std::sync::Mutex<Option<(String, Instant)>>,
    hosts: Hosts,
    budget: Budget,
}

/// A bucket's identity among hosts.
pub(super) fn origin(bucket: &str) -> String {
    format!("s3://{bucket}")
}

/// Whether messages may name any bucket: those of a configured endpoint, or public ones.
pub(super) fn is_open_to_all(settings: &MediaSettings) -> bool {
    settings.s3_endpoint.is_some() || settings.s3_anonymous
}

impl S3Fetcher {
    pub(super) fn new(
        settings: &MediaSettings,
        credentials: Option<SharedCredentialsProvider>,
        budget: Budget,
        hosts: Hosts,
    ) -> Self {
        Self {
            settings: settings.clone(),
            credentials,
            client: Mutex::default(),
            refused_client_age_min: REFUSED_CLIENT_AGE_MIN,
            served: std::sync::Mutex::default(),
            hosts,
            budget,
        }
    }

    /// `known`: validators of an earlier fetch of the same URL. The object is only sent if they no longer match.
    pub(super) async fn fetch(
        &self,
        url: &str,
        known: Option<&Validators>,
        deadline: &mut Deadline,
    ) -> Result<Answer, MediaError> {
        let shown = redact::url(url);
        let object = Object::parse(url).map_err(|why| {
            let message = format!("{shown}: {why}; expected s3://bucket/key or s3://bucket/key?versionId=VERSION");
            MediaError::new(MediaReason::UrlInvalid, message)
        })?;
        self.admit(&object, &shown)?;
        let known_version = known.and_then(|known| known.version_id.as_deref());
        if object.version.is_some_and(|version| version != NULL_VERSION && known_version == Some(version)) {
            // A version never changes, so no request is needed.
            return Ok(Answer::Unchanged(UnchangedBy::VersionId));
        }
        let known_etag = known.and_then(|known| known.etag.clone());
        let slot = deadline.paused(self.hosts.acquire(&origin(object.bucket))).await;
        let result = Box::pin(self.get(&object, known_etag, &shown, deadline)).await;
        let result = slot.done(url, result.map_err(|error| self.explain(&object, error)));
        match &result {
            Ok(_) => *self.served() = Some((object.bucket.to_owned(), Instant::now())),
            Err(error) => self.reconsider(error).await,
        }
        result
    }

    pub(super) fn warning(&self) -> Option<&'static str> {
        let open =
            self.settings.s3_buckets.is_empty() && self.settings.s3_endpoint.is_some() && !self.settings.s3_anonymous;
        open.then_some(
            "media.s3_buckets is not set: messages may name any bucket of media.s3_endpoint that this worker's credentials can read",
        )
    }

    /// Whether messages may name this object.
    fn admit(&self, object: &Object<'_>, shown: &str) -> Result<(), MediaError> {
        let settings = &self.settings;
        if settings.s3_buckets.iter().any(|allowed| allowed.covers(object.bucket, object.key)) {
            return Ok(());
        }
        let error = match (settings.s3_buckets.is_empty(), is_open_to_all(settings)) {
            (true, true) => return Ok(()),
            (true, false) => MediaError::new(
                MediaReason::S3BucketForbidden,
                format!("{shown}: messages may name no bucket of AWS, because media.s3_buckets is not set"),
            )
            .hint("list the buckets there that may be read with this worker's credentials (\"*\": every one)"),
            (false, _) => MediaError::new(MediaReason::S3BucketForbidden, format!("{shown}: not in media.s3_buckets"))
                .hint("add its bucket, or bucket/prefix/*, if it is meant to be read"),
        };
        Err(error)
    }

    /// Adds what is known from elsewhere to an error.
    fn explain(&self, object: &Object<'_>, error: MediaError) -> MediaError {
        match error.reason {
            MediaReason::S3NoSuchKey => match object.decoded() {
                Some(decoded) => MediaError {
                    message: format!(
                        "{}. Keys are taken as they stand and not decoded; as one of a form or an event it would be {}",
                        error.message,
                        redact::url(&format!("s3://{}/{decoded}", object.bucket))
                    ),
                    ..error
                },
                None => error,
            },
            // S3's documentation says "your account". If it were ours, no bucket could be read.
            MediaReason::S3AccountRefused => {
                let others =
                    |(bucket, at): &(String, Instant)| bucket != object.bucket && at.elapsed() < SERVED_AGE_MAX;
                let is_ours = !self.settings.s3_anonymous && !self.served().as_ref().is_some_and(others);
                error.class(if is_ours { Class::Outage } else { Class::Permanent })
            }
            _ => error,
        }
    }

    fn served(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(
        &self,
        object: &Object<'_>,
        known_etag: Option<String>,
        shown: &str,
        deadline: &mut Deadline,
    ) -> Result<Answer, MediaError> {
        let client = deadline.run(shown, "setting up S3", Box::pin(self.client())).await??;
        let request = client
            .get_object()
            .bucket(object.bucket)
            .key(object.key)
            .set_version_id(object.version.map(str::to_owned))
            .set_if_none_match(known_etag.clone())
            .set_request_payer(self.settings.s3_requester_pays.then_some(RequestPayer::Requester));
        let endpoint = match (&self.settings.s3_endpoint, self.settings.s3_path_style) {
            (Some(_), true) => Endpoint::Fixed,
            _ => Endpoint::PerBucket,
        };
        let output = match deadline.run(shown, "waiting for the answer", Box::pin(request.send())).await? {
            Ok(output) => output,
            Err(error) if known_etag.is_some() && s3_error::is_not_modified(&error) => {
                return Ok(Answer::Unchanged(UnchangedBy::Etag));
            }
            Err(error) => return Err(s3_error::of_request(shown, &error, endpoint)),
        };
        let announced = Announced {
            bytes: output.content_length.and_then(|n| u64::try_from(n).ok()),
            unpacker: Unpacker::new(output.content_encoding.iter().map(String::as_bytes)),
        };
        let body =
            Body::begin(shown, Some(&origin(object.bucket)), announced, self.bounds(), &self.budget, deadline).await?;
        let version = object.version.map(str::to_owned).or(output.version_id);
        let validators = Validators {
            etag: output.e_tag,
            last_modified: None,
            version_id: version.filter(|version| version != NULL_VERSION),
        };
        let mut stream = output.body;
        let content = futures::stream::poll_fn(move |context| Pin::new(&mut stream).poll_next(context));
        let content = content.map_err(|error| s3_error::of_body(shown, &error));
        let (bytes, reservation) = body.read(deadline, content).await?;
        Ok(Answer::Fetched(Fetched { bytes, validators, reservation }))
    }

    fn bounds(&self) -> Bounds {
        let idle = Duration::from_millis(self.settings.idle_timeout_ms);
        Bounds::new(self.settings.media_bytes_max, idle)
    }

    async fn client(&self) -> Result<Client, MediaError> {
        let mut connected = self.client.lock().await;
        if let Some((client, _)) = &*connected {
            return Ok(client.clone());
        }
        let client = self.connect().await?;
        *connected = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    /// Drops a client whose credentials are refused: the SDK reads a profile's file once, and caches other credentials
    /// until they expire. So replacing them ends the outage without a restart. Also drops a client that cannot reach
    /// the endpoint: `media.ca_file` may have been wrong when it was built.
    async fn reconsider(&self, error: &MediaError) {
        let is_cut_off = error.reason == MediaReason::S3Unreachable
            && error.class == Class::Outage
            && self.settings.ca_file.is_some();
        if is_cut_off || matches!(error.reason, MediaReason::S3CredentialsRefused | MediaReason::S3CredentialsMissing) {
            self.client.lock().await.take_if(|(_, since)| since.elapsed() >= self.refused_client_age_min);
        }
    }

    /// Finds region and credentials as the first `s3://` URL would, without a request to the endpoint.
    pub(super) async fn check(&self) -> Result<String, MediaError> {
        let found = self.find().await?;
        let region = found.region().map_or("", |region| region.as_ref());
        if self.settings.s3_anonymous {
            return Ok(format!("region {region}, unsigned requests"));
        }
        let missing = |why: String| {
            let message = format!("no S3 credentials: {}", redact::cut(&why, 300));
            MediaError::new(MediaReason::S3CredentialsMissing, message)
        };
        let provider = found.credentials_provider().ok_or_else(|| missing("no provider is configured".to_owned()))?;
        // The chain's own error has no details; its source says what was tried.
        let why = |e: CredentialsError| e.source().map_or_else(|| e.to_string(), ToString::to_string);
        provider.provide_credentials().await.map_err(|e| missing(why(e)))?;
        Ok(format!("region {region}, credentials found"))
    }

    async fn connect(&self) -> Result<Client, MediaError> {
        let found = self.find().await?;
        let config = aws_sdk_s3::config::Builder::from(&found).force_path_style(self.settings.s3_path_style).build();
        Ok(Client::from_conf(config))
    }

    /// Region, credentials and endpoint.
    async fn find(&self) -> Result<SdkConfig, MediaError> {
        let settings = &self.settings;
        let mut regions = RegionProviderChain::first_try(settings.s3_region.clone().map(Region::new));
        regions = match settings.s3_endpoint {
            // Skips the last link of the default chain, the metadata service, which stalls where none exists.
            Some(_) => regions
                .or_else(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
                .or_else(Region::from_static(REGION_OF_ENDPOINTS)),
            None => regions.or_default_provider(),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(regions)
            // The pipeline retries, with its own backoff and bounds.
            .retry_config(RetryConfig::disabled())
            // One deadline covers the whole fetch.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder().connect_timeout(Duration::from_millis(settings.connect_timeout_ms)).build(),
            );
        if let Some(endpoint) = &settings.s3_endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if settings.s3_anonymous {
            loader = loader.no_credentials();
        } else if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        let is_plain = settings.s3_endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        loader = loader.http_client(s3_trust::http_client(settings.ca_file.as_deref(), !is_plain)?);
        let found = loader.load().await;
        if found.region().is_none() {
            let message = "no AWS region found in the environment, the profile or the instance";
            return Err(MediaError::new(MediaReason::S3RegionMissing, message));
        }
        Ok(found)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Object<'a> {
    bucket: &'a str,
    key: &'a str,
    version: Option<&'a str>,
}

impl<'a> Object<'a> {
    /// The key decoded like a form, which is how event notifications encode it; `None` if that changes nothing.
    fn decoded(&self) -> Option<String> {
        let spaced = self.key.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
        (decoded != self.key).then(|| decoded.into_owned())
    }

    /// `url` begins with `s3:`, in any case.
    fn parse(url: &'a str) -> Result<Self, String> {
        let rest = url["s3:".len()..].strip_prefix("//").ok_or("no // after s3:")?;
        let (bucket, rest) = rest.split_once('/').ok_or("no key")?;
        // Looser than today's rules (3 to 63 characters, no upper case), because old buckets and other servers have
        // such names. But nothing may change the host or the path of the request.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let edges = [bucket.chars().next(), bucket.chars().last()];
        if bucket.len() > 255
            || !bucket.chars().all(plain)
            || !edges.iter().all(|c| c.is_some_and(|c| c.is_ascii_alphanumeric()))
        {
            // Misplaced user info is not shown.
            let shown = bucket.rsplit('@').next().unwrap_or_default();
            return Err(format!("\"{}\" is not a bucket name", redact::cut(shown, 80)));
        }
        let (key, version) = match rest.rsplit_once("?versionId=") {
            Some((key, version)) => (key, Some(version)),
            None => (rest, None),
        };
        if key.is_empty() {
            return Err("no key".into());
        }
        if version == Some("") {
            return Err("the version is empty".into());
        }
        Ok(Self { bucket, key, version })
    }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
