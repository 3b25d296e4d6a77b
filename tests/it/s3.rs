//! S3 fetches against a real S3 server: signed requests, versions, refusals.

use std::sync::Arc;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use clipstream::budget::Budget;
use clipstream::config::{MediaSettings, S3Allowed};
use clipstream::domain::{Class, MediaReason, MediaRecord, MediaUrl, UnchangedBy};
use clipstream::media::{Fetch, Media, MediaClient, MediaError};
use clipstream::telemetry::Metrics;
use clipstream_test_support::needs::{self, Need};

struct S3 {
    endpoint: String,
    access_key: String,
    secret_key: String,
}

impl S3 {
    fn from_env() -> Option<Self> {
        let needs::S3 { endpoint, access_key, secret_key } = needs::s3("what a server says is not tried")?;
        Some(Self { endpoint, access_key, secret_key })
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.access_key, &self.secret_key, None, None, "test")
    }

    fn admin(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .credentials_provider(self.credentials())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    async fn client(&self, credentials: Credentials) -> MediaClient {
        let settings = MediaSettings {
            s3_endpoint: Some(self.endpoint.clone()),
            s3_region: Some("us-east-1".into()),
            s3_path_style: true,
            // One that is there, and one that is not.
            s3_buckets: vec![S3Allowed::Everything],
            media_bytes_max: 1000,
            ..MediaSettings::default()
        };
        let (budget, metrics) = (Budget::new(1 << 20), Arc::new(Metrics::default()));
        MediaClient::with_s3_credentials(&settings, budget, metrics, credentials).await.unwrap()
    }

    async fn fetch(&self, credentials: Credentials, url: &str) -> Result<Media, MediaError> {
        self.client(credentials).await.fetch(&MediaUrl::new(url)).await
    }

    /// What tells that the object at `url` is still the one that `media` was fetched from.
    async fn unchanged(&self, url: &str, media: &Media) -> Option<UnchangedBy> {
        let known = MediaRecord {
            url: media.url.clone(),
            etag: media.validators.etag.clone(),
            last_modified: media.validators.last_modified.clone(),
            version_id: media.validators.version_id.clone(),
            sha256: String::new(),
            width: 1,
            height: 1,
            mime: "image/png".into(),
        };
        match self.client(self.credentials()).await.fetch_if_changed(&MediaUrl::new(url), &known).await.unwrap() {
            Fetch::Unchanged(by) => Some(by),
            Fetch::Media(_) => None,
        }
    }
}

#[tokio::test]
async fn objects_versions_and_refusals() {
    let Some(s3) = S3::from_env() else { return };
    let admin = s3.admin();
    let bucket = format!("media-{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &std::process::id().to_be_bytes()));
    admin.create_bucket().bucket(&bucket).send().await.unwrap();
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let versioned = admin.put_bucket_versioning().bucket(&bucket).versioning_configuration(on).send().await;
    let key = "folder/a b%20c+d.jpg";
    let put = async |key: &str, body: &'static [u8]| {
        admin.put_object().bucket(&bucket).key(key).body(body.to_vec().into()).send().await.unwrap()
    };
    let first = put(key, b"first").await;
    let second = put(key, b"second").await;
    put("large", &[7; 1001]).await;
    put("empty", b"").await;

    let url = format!("s3://{bucket}/{key}");
    let media = s3.fetch(s3.credentials(), &url).await.unwrap();
    assert_eq!((&media.bytes[..], &media.validators.etag), (&b"second"[..], &second.e_tag));
    assert_eq!(s3.unchanged(&url, &media).await, Some(UnchangedBy::Etag));
    match (versioned, first.version_id) {
        (Ok(_), Some(version)) => {
            let pinned = format!("{url}?versionId={version}");
            let media = s3.fetch(s3.credentials(), &pinned).await.unwrap();
            assert_eq!((&media.bytes[..], &media.validators.etag), (&b"first"[..], &first.e_tag));
            assert_eq!(media.validators.version_id, Some(version));
            assert_eq!(s3.unchanged(&pinned, &media).await, Some(UnchangedBy::VersionId));
        }
        _ => needs::go_without(Need::S3, "this server keeps no versions, so none are read"),
    }

    put(key, b"third").await;
    assert_eq!(s3.unchanged(&url, &media).await, None, "the object is another one now");

    let wrong_key = Credentials::new("nobody", &s3.secret_key, None, None, "test");
    let wrong_secret = Credentials::new(&s3.access_key, "wrong", None, None, "test");
    let cases = [
        (s3.credentials(), format!("s3://{bucket}/absent"), Class::Permanent, MediaReason::S3NoSuchKey),
        (s3.credentials(), format!("s3://{bucket}-absent/x"), Class::Permanent, MediaReason::S3NoSuchBucket),
        (s3.credentials(), format!("s3://{bucket}/large"), Class::Permanent, MediaReason::TooLarge),
        (s3.credentials(), format!("s3://{bucket}/empty"), Class::Permanent, MediaReason::Empty),
        (wrong_key, url.clone(), Class::Outage, MediaReason::S3CredentialsRefused),
        (wrong_secret, url.clone(), Class::Outage, MediaReason::S3CredentialsRefused),
    ];
    for (credentials, url, class, reason) in cases {
        let error = s3.fetch(credentials, &url).await.unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{url}: {}", error.message);
        assert!(!error.message.contains(&s3.secret_key), "{}", error.message);
    }
}

/// With the real server, whose credentials open both.
#[tokio::test]
async fn messages_read_what_is_listed_and_what_was_stored_packed() {
    let Some(s3) = S3::from_env() else { return };
    let admin = s3.admin();
    let bucket =
        format!("listed-{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &std::process::id().to_be_bytes()));
    admin.create_bucket().bucket(&bucket).send().await.unwrap();
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(&b"picture"[..], flate2::Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    for key in ["public/a.png", "private/a.png"] {
        let body = packed.clone().into();
        admin.put_object().bucket(&bucket).key(key).content_encoding("gzip").body(body).send().await.unwrap();
    }
    let settings = MediaSettings {
        s3_endpoint: Some(s3.endpoint.clone()),
        s3_region: Some("us-east-1".into()),
        s3_path_style: true,
        s3_buckets: vec![S3Allowed::Prefix(bucket.clone(), "public/".into())],
        ..MediaSettings::default()
    };
    let budget = Budget::new(1 << 20);
    let client = MediaClient::with_s3_credentials(&settings, budget, Arc::new(Metrics::default()), s3.credentials());
    let client = client.await.unwrap();
    let fetch = async |key: &str| client.fetch(&MediaUrl::new(format!("s3://{bucket}/{key}"))).await;
    assert_eq!(&fetch("public/a.png").await.unwrap().bytes[..], b"picture");
    for key in ["private/a.png", "public/../private/a.png", "public/./../private/a.png"] {
        let error = fetch(key).await.unwrap_err();
        assert_eq!(
            (error.class, error.reason),
            (Class::Permanent, MediaReason::S3BucketForbidden),
            "{key}: {}",
            error.message
        );
    }
    let absent = fetch("public/a%2Fb.png").await.unwrap_err();
    assert_eq!(absent.reason, MediaReason::S3NoSuchKey);
    assert!(absent.message.ends_with(&format!("s3://{bucket}/public/a/b.png")), "{}", absent.message);
}
