use std::sync::{Arc, Mutex};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Future;
use aws_credential_types::{Credentials, provider::ProvideCredentials};

use super::*;
use crate::config::S3Allowed;
use crate::domain::MediaReason;
use crate::media::test_server::{Reply, Server, Then, raw, reply};

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> Future<'a>
    where
        Self: 'a,
    {
        Future::ready(Err(CredentialsError::not_loaded("none here")))
    }
}

fn settings(port: u16) -> MediaSettings {
    MediaSettings {
        s3_endpoint: Some(format!("http://127.0.0.1:{port}")),
        s3_region: Some("eu-central-1".into()),
        s3_path_style: true,
        media_bytes_max: 10_000,
        ..MediaSettings::default()
    }
}

async fn get(settings: &MediaSettings, url: &str) -> Result<Fetched, MediaError> {
    let credentials = Credentials::new("KEYID", "hush", None, None, "test");
    get_with(settings, credentials, url).await
}

async fn get_with(
    settings: &MediaSettings,
    credentials: impl ProvideCredentials + 'static,
    url: &str,
) -> Result<Fetched, MediaError> {
    let credentials = Some(SharedCredentialsProvider::new(credentials));
    let fetcher = S3Fetcher::new(settings, credentials, Budget::new(1 << 20), Hosts::for_tests(4));
    let mut deadline = Deadline::after(Duration::from_millis(settings.fetch_timeout_ms));
    match fetcher.fetch(url, None, &mut deadline).await? {
        Answer::Fetched(fetched) => Ok(fetched),
        Answer::Unchanged(by) => panic!("unchanged by {by:?}, which was not asked for"),
    }
}

fn refusal(status: &str, code: &str, headers: &[&str]) -> Reply {
    reply(status, headers, &format!("<Error><Code>{code}</Code><Message>Said so</Message></Error>"))
}

#[test]
fn keys_are_taken_as_they_stand() {
    let cases = [
        ("s3://b-1.x/k", ("b-1.x", "k", None)),
        ("S3://b-1/a/b c%20d?e#f", ("b-1", "a/b c%20d?e#f", None)),
        ("s3://b-1/k?versionId=v1", ("b-1", "k", Some("v1"))),
        ("s3://b-1/k?x=1?versionId=v/+=", ("b-1", "k?x=1", Some("v/+="))),
        ("s3://b-1//k", ("b-1", "/k", None)),
    ];
    for (url, (bucket, key, version)) in cases {
        assert_eq!(Object::parse(url), Ok(Object { bucket, key, version }), "{url}");
    }
    for url in
        ["s3:b/k", "s3://", "s3://b", "s3://b/", "s3:///k", "s3://../k", "s3://a@b/k", "s3://b:80/k", "s3://b?c/k"]
    {
        assert!(Object::parse(url).is_err(), "{url}");
    }
    for url in ["s3://b/?versionId=1", "s3://b/k?versionId="] {
        assert!(Object::parse(url).is_err(), "{url}");
    }
}

#[tokio::test]
async fn requests_carry_what_configuration_says() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Server::start(move |head: String| {
        seen.lock().unwrap().push(head);
        std::future::ready(reply("200 OK", &["ETag: \"abc\""], "picture"))
    })
    .await;
    let signed = MediaSettings { s3_requester_pays: true, ..settings(server.port) };
    let fetched = get(&signed, "s3://bucket/a b%20c.jpg?versionId=v1").await.unwrap();
    assert_eq!((&fetched.bytes[..], fetched.validators.etag.as_deref()), (&b"picture"[..], Some("\"abc\"")));
    assert_eq!(fetched.validators.version_id.as_deref(), Some("v1"));
    let anonymous = MediaSettings { s3_anonymous: true, ..settings(server.port) };
    get(&anonymous, "s3://bucket/k").await.unwrap();

    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("GET /bucket/a%20b%2520c.jpg?"), "{}", heads[0]);
    for part in ["versionId=v1", "x-amz-request-payer: requester", "Credential=KEYID/", "/eu-central-1/s3/"] {
        assert!(heads[0].contains(part), "{part} in {}", heads[0]);
    }
    assert!(!heads[1].to_ascii_lowercase().contains("authorization"), "{}", heads[1]);
}

#[tokio::test]
async fn answers_have_a_class_and_a_reason() {
    use Class::{Outage, Permanent, Transient};
    let cases = [
        (refusal("404 Not Found", "NoSuchKey", &[]), Permanent, MediaReason::S3NoSuchKey),
        (refusal("404 Not Found", "NoSuchBucket", &[]), Permanent, MediaReason::S3NoSuchBucket),
        (refusal("404 Not Found", "NoSuchVersion", &[]), Permanent, MediaReason::S3NoSuchVersion),
        (refusal("403 Forbidden", "AccessDenied", &[]), Permanent, MediaReason::S3AccessDenied),
        (refusal("403 Forbidden", "InvalidObjectState", &[]), Permanent, MediaReason::S3Archived),
        (refusal("405 Method Not Allowed", "MethodNotAllowed", &[]), Permanent, MediaReason::S3Status),
        (
            refusal("301 Moved Permanently", "PermanentRedirect", &["x-amz-bucket-region: us-west-2"]),
            Permanent,
            MediaReason::S3WrongRegion,
        ),
        (refusal("400 Bad Request", "AuthorizationHeaderMalformed", &[]), Permanent, MediaReason::S3WrongRegion),
        (refusal("403 Forbidden", "InvalidAccessKeyId", &[]), Outage, MediaReason::S3CredentialsRefused),
        (refusal("403 Forbidden", "SignatureDoesNotMatch", &[]), Outage, MediaReason::S3CredentialsRefused),
        (refusal("404 Not Found", "XAdminUserNotFound", &[]), Outage, MediaReason::S3CredentialsRefused),
        (refusal("400 Bad Request", "ExpiredToken", &[]), Outage, MediaReason::S3CredentialsRefused),
        (refusal("403 Forbidden", "RequestTimeTooSkewed", &[]), Outage, MediaReason::S3CredentialsRefused),
        (refusal("503 Slow Down", "SlowDown", &["Retry-After: 7"]), Transient, MediaReason::S3Throttled),
        (refusal("500 Internal Server Error", "InternalError", &[]), Transient, MediaReason::S3ServerError),
        (refusal("400 Bad Request", "RequestTimeout", &[]), Transient, MediaReason::S3ServerError),
        (reply("502 Bad Gateway", &[], "<html>"), Transient, MediaReason::S3ServerError),
        // Truncated by a proxy: it may have been about the credentials.
        (reply("403 Forbidden", &[], "<Error><Code>RequestTimeTooSk"), Transient, MediaReason::S3Failed),
        (reply("404 Not Found", &[], ""), Transient, MediaReason::S3Failed),
        (reply("200 OK", &[], ""), Permanent, MediaReason::Empty),
        (raw(&["HTTP/1.1 200 OK", "Content-Length: 10001"], "", Then::Stall), Permanent, MediaReason::TooLarge),
        (raw(&["HTTP/1.1 200 OK"], "", Then::Endless), Permanent, MediaReason::TooLarge),
        (raw(&["HTTP/1.1 200 OK", "Content-Length: 9"], "short", Then::Close), Transient, MediaReason::BodyIncomplete),
    ];
    for (answer, class, reason) in cases {
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        let server = Server::start(move |_| std::future::ready(answer.clone())).await;
        let error = get(&settings(server.port), "s3://bucket/key").await.unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{text}: {}", error.message);
        assert_eq!(server.requests(), 1, "the pipeline retries, not the SDK");
        assert_eq!(error.retry_after, text.contains("Retry-After").then_some(Duration::from_secs(7)));
        if let Some((_, region)) = text.split_once("x-amz-bucket-region: ") {
            assert!(error.to_string().contains(&region[..9]), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn no_credentials_and_no_endpoint_are_outages() {
    let error = get_with(&settings(9), NoCredentials, "s3://bucket/key").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::S3CredentialsMissing), "{}", error.message);
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = get(&settings(port), "s3://bucket/key").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::S3Unreachable), "{}", error.message);
}

#[tokio::test]
async fn messages_may_name_what_is_listed() {
    let server = Server::start(|_| std::future::ready(reply("200 OK", &[], "picture"))).await;
    let settings = MediaSettings {
        s3_buckets: vec![
            S3Allowed::Bucket("open".into()),
            S3Allowed::Prefix("shared".into(), "public/".into()),
            S3Allowed::Key("shared".into(), "one.jpg".into()),
        ],
        ..settings(server.port)
    };
    for url in ["s3://open/a/b.jpg", "s3://shared/public/a.jpg", "s3://shared/one.jpg?versionId=1"] {
        assert_eq!(&get(&settings, url).await.unwrap().bytes[..], b"picture", "{url}");
    }
    let asked = server.requests();
    for url in [
        "s3://closed/a.jpg",
        "s3://Open/a.jpg",
        "s3://open.evil/a.jpg",
        "s3://shared/private/a.jpg",
        "s3://shared/public/../private/a.jpg",
        "s3://shared/publicity.jpg",
        "s3://shared/one.jpg/x",
        // An access point's alias is its own bucket name; its ARN is refused.
        "s3://open-abc123-s3alias/a.jpg",
        "s3://arn:aws:s3:eu-central-1:1:accesspoint/open/a.jpg",
    ] {
        let error = get(&settings, url).await.unwrap_err();
        assert_eq!(error.class, Class::Permanent, "{url}: {}", error.message);
        if error.reason != MediaReason::UrlInvalid {
            assert_eq!(error.reason, MediaReason::S3BucketForbidden, "{url}");
            assert!(
                error.to_string().contains("media.s3_buckets") && !error.to_string().contains("one.jpg\""),
                "{}",
                error.message
            );
        }
    }
    // Not even where no request would be needed.
    let known = Validators { version_id: Some("1".into()), ..Validators::default() };
    let fetcher = S3Fetcher::new(&settings, None, Budget::new(1 << 20), Hosts::for_tests(4));
    let mut deadline = Deadline::after(Duration::from_secs(9));
    let error = fetcher.fetch("s3://closed/a?versionId=1", Some(&known), &mut deadline).await.unwrap_err();
    assert_eq!((error.reason, server.requests()), (MediaReason::S3BucketForbidden, asked), "nobody was asked");
}

#[tokio::test]
async fn without_a_list_the_machines_own_credentials_are_lent_to_nobody() {
    let aws = MediaSettings { s3_region: Some("eu-central-1".into()), ..MediaSettings::default() };
    let error = get(&aws, "s3://bucket/key").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, MediaReason::S3BucketForbidden), "{}", error.message);
    assert!(error.to_string().contains("media.s3_buckets is not set"), "{}", error.message);
    for (open, warns) in [
        (settings(1), true),
        (MediaSettings { s3_anonymous: true, ..aws.clone() }, false),
        (MediaSettings { s3_buckets: vec![S3Allowed::Everything], ..aws }, false),
    ] {
        let fetcher = S3Fetcher::new(&open, None, Budget::new(1), Hosts::for_tests(1));
        let object = Object::parse("s3://bucket/key").unwrap();
        assert!(fetcher.admit(&object, "s3://bucket/key").is_ok());
        assert_eq!(fetcher.warning().is_some(), warns);
    }
}

#[tokio::test]
async fn objects_that_were_stored_packed_are_unpacked() {
    let mut packed = Vec::new();
    let picture = b"picture".repeat(1000);
    let mut encoder = flate2::read::GzEncoder::new(&picture[..], flate2::Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    for head in ["Content-Encoding: gzip", "Content-Encoding: GZIP,aws-chunked", "X-A: b"] {
        let mut answer = raw(&["HTTP/1.1 200 OK", head, &format!("Content-Length: {}", packed.len())], "", Then::Stall);
        answer.bytes.extend_from_slice(&packed);
        let server = Server::start(move |_| std::future::ready(answer.clone())).await;
        let fetched = get(&settings(server.port), "s3://bucket/key").await.unwrap();
        assert!(fetched.bytes[..] == picture[..], "{head}");
        let small = MediaSettings { media_bytes_max: 6999, ..settings(server.port) };
        assert_eq!(get(&small, "s3://bucket/key").await.unwrap_err().reason, MediaReason::TooLarge, "{head}");
    }
}

#[tokio::test]
async fn a_key_that_is_encoded_is_named_as_the_reason() {
    let server = Server::start(|_| std::future::ready(refusal("404 Not Found", "NoSuchKey", &[]))).await;
    for (url, hint) in [
        ("s3://bucket/users%2FA+b.png", Some("s3://bucket/users/A%20b.png")),
        ("s3://bucket/caf%C3%A9.png", Some("s3://bucket/caf%C3%A9.png")),
        ("s3://bucket/a%zz.png", None),
        ("s3://bucket/a.png", None),
    ] {
        let error = get(&settings(server.port), url).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, MediaReason::S3NoSuchKey));
        match hint {
            Some(decoded) => {
                assert!(
                    error.to_string().contains("not decoded") && error.message.ends_with(decoded),
                    "{}",
                    error.message
                )
            }
            None => assert!(!error.to_string().contains("decoded"), "{}", error.message),
        }
    }
}

/// The documentation says "your account"; but while other buckets can be read, it cannot be ours.
#[tokio::test]
async fn the_account_of_a_buckets_owner_holds_nobody_else_up() {
    let server = Server::start(|head: String| {
        std::future::ready(match head.contains("/closed/") {
            true => refusal("403 Forbidden", "AccountProblem", &[]),
            false => reply("200 OK", &[], "picture"),
        })
    })
    .await;
    let credentials = Some(SharedCredentialsProvider::new(Credentials::new("KEYID", "hush", None, None, "test")));
    let fetcher = S3Fetcher::new(&settings(server.port), credentials, Budget::new(1 << 20), Hosts::for_tests(4));
    for (url, expected) in
        [("s3://closed/a", Err(Class::Outage)), ("s3://open/a", Ok(())), ("s3://closed/a", Err(Class::Permanent))]
    {
        let found = fetcher.fetch(url, None, &mut Deadline::after(Duration::from_secs(9))).await;
        assert_eq!(found.map(drop).map_err(|error| error.class), expected, "{url}");
    }
}

#[tokio::test]
async fn slow_servers_meet_the_deadline() {
    let server =
        Server::start(|_| std::future::ready(raw(&["HTTP/1.1 200 OK", "Content-Length: 9"], "slow", Then::Stall)))
            .await;
    let settings = MediaSettings { fetch_timeout_ms: 500, ..settings(server.port) };
    let error = get(&settings, "s3://bucket/key").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::FetchTimeout), "{}", error.message);
}

/// Returns a new key each time, as when a credentials file is replaced.
#[derive(Debug, Default)]
struct Replaced(std::sync::atomic::AtomicUsize);

impl ProvideCredentials for Replaced {
    fn provide_credentials<'a>(&'a self) -> Future<'a>
    where
        Self: 'a,
    {
        let n = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Future::ready(Ok(Credentials::new(format!("KEY{n}"), "hush", None, None, "test")))
    }
}

#[tokio::test]
async fn refused_credentials_are_read_again_when_they_are_replaced() {
    let server = Server::start(|head: String| {
        let refused = head.contains("Credential=KEY0/");
        std::future::ready(if refused {
            refusal("403 Forbidden", "InvalidAccessKeyId", &[])
        } else {
            reply("200 OK", &[], "picture")
        })
    });
    let server = server.await;
    let credentials = Some(SharedCredentialsProvider::new(Replaced::default()));
    let mut fetcher = S3Fetcher::new(&settings(server.port), credentials, Budget::new(1 << 20), Hosts::for_tests(4));
    let fetch = async |fetcher: &S3Fetcher| {
        let deadline = &mut Deadline::after(Duration::from_secs(10));
        fetcher.fetch("s3://bucket/key", None, deadline).await.map_err(|e| e.reason)
    };
    // The SDK caches credentials.
    for _ in 0..2 {
        assert_eq!(fetch(&fetcher).await.err(), Some(MediaReason::S3CredentialsRefused));
    }
    fetcher.refused_client_age_min = Duration::ZERO;
    assert_eq!(fetch(&fetcher).await.err(), Some(MediaReason::S3CredentialsRefused));
    assert!(matches!(fetch(&fetcher).await, Ok(Answer::Fetched(fetched)) if &fetched.bytes[..] == b"picture"));
}
