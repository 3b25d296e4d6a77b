//! What each S3 failure means for the message.
//!
//! Permanent: S3 refused this object. Outage: S3 does not accept our credentials, or the configured endpoint is
//! missing, so no message is to blame. Transient: the rest.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStreamError;
use chrono::Utc;

use super::MediaError;
use super::http_error::{self, find, is_untrusted_certificate};
use crate::domain::{Class, MediaReason};
use crate::{redact, retry};

/// What a failed connection says about other objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// One host for all buckets (an endpoint with path-style requests): no other object can be fetched either.
    Fixed,
    /// The bucket is part of the host name, so a wrong bucket may be the cause.
    PerBucket,
}

/// Codes for refused credentials or signatures, whatever the object. versitygw 1.8 answers `XAdminUserNotFound` (with
/// status 404) for an unknown access key.
const CREDENTIALS_REFUSED: [&str; 12] = [
    "AuthFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "XAdminUserNotFound",
];

const THROTTLED: [&str; 6] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
];

pub(super) fn of_request(shown: &str, error: &SdkError<GetObjectError>, endpoint: Endpoint) -> MediaError {
    if let Some(response) = error.raw_response() {
        let code = error.code().unwrap_or_default();
        return of_answer(shown, code, error.message().unwrap_or_default(), response);
    }
    let cause = redact::root_cause(error);
    // Before credentials: their providers also open files and connections.
    if let Some(outage) = http_error::of_process(shown, error) {
        return outage;
    }
    if find::<CredentialsError>(error).is_some() {
        let message = format!("{shown}: no usable S3 credentials ({cause})");
        return MediaError::new(MediaReason::S3CredentialsMissing, message);
    }
    match error {
        SdkError::TimeoutError(_) => {
            MediaError::new(MediaReason::S3Timeout, format!("{shown}: no answer from S3 in time ({cause})"))
        }
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            let check = match is_untrusted_certificate(error) {
                true => "check the endpoint's certificate, or trust its authority with media.ca_file",
                false => "check media.s3_endpoint and the network",
            };
            let message = format!("{shown}: S3 cannot be reached ({cause})");
            let unreachable = MediaError::new(MediaReason::S3Unreachable, message).hint(check);
            // Certificate trust is this process's concern, and the bucket is only part of a name.
            let untrusted = is_untrusted_certificate(error) && !http_error::is_wrong_name(error);
            match endpoint {
                Endpoint::PerBucket if !untrusted => unreachable.class(Class::Transient),
                _ => unreachable,
            }
        }
        SdkError::ConstructionFailure(_) => {
            let message = format!("{shown}: no request can be made of it ({cause}); expected s3://bucket/key");
            MediaError::new(MediaReason::UrlInvalid, message)
        }
        _ => MediaError::new(MediaReason::S3Failed, format!("{shown}: the S3 request failed ({cause})")),
    }
}

/// Whether a request with `If-None-Match` found the object unchanged.
pub(super) fn is_not_modified(error: &SdkError<GetObjectError>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 304)
}

/// The body broke off, or does not match its checksum.
pub(super) fn of_body(shown: &str, error: &ByteStreamError) -> MediaError {
    let cause = redact::root_cause(error);
    MediaError::new(MediaReason::BodyIncomplete, format!("{shown}: the body broke off or is damaged ({cause})"))
}

fn of_answer(shown: &str, code: &str, text: &str, response: &HttpResponse) -> MediaError {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name);
    let said = match code {
        "" => format!("HTTP {status}"),
        _ => format!("HTTP {status} {}: {}", redact::cut(code, 60), redact::cut(text, 200)),
    };
    let of = |reason| MediaError::new(reason, format!("{shown}: {said}"));
    let later = |reason| of(reason).retry_after(wait(header("retry-after")));
    if CREDENTIALS_REFUSED.contains(&code) {
        return of(MediaReason::S3CredentialsRefused);
    }
    // "There is a problem with your AWS account", "Your account is not signed up for Amazon S3" (S3's list of error responses).
    if matches!(code, "AccountProblem" | "NotSignedUp") {
        return of(MediaReason::S3AccountRefused);
    }
    // 503 is "Slow Down" or "Service Unavailable: reduce your request rate" (S3's list of error responses).
    if THROTTLED.contains(&code) || matches!(status, 429 | 503) {
        return later(MediaReason::S3Throttled);
    }
    if matches!(status, 400..=499) && !is_whole(response) {
        let message = format!("{shown}: {said}; the answer is not an error of S3, or was cut off");
        return MediaError::new(MediaReason::S3Failed, message)
            .hint("check what is between here and S3")
            .retry_after(wait(header("retry-after")));
    }
    match (code, status) {
        ("NoSuchBucket", _) => of(MediaReason::S3NoSuchBucket),
        ("NoSuchVersion", _) => of(MediaReason::S3NoSuchVersion),
        ("NoSuchKey", _) | ("NotFound", 404) => match looks_form_encoded(shown) {
            true => of(MediaReason::S3NoSuchKey).hint(
                "check that the object is still there; keys are taken as they are: one from an event notification is \
                 form-encoded, decode it (+ is a space, %2F a slash)",
            ),
            false => of(MediaReason::S3NoSuchKey),
        },
        ("InvalidObjectState", _) => of(MediaReason::S3Archived),
        // Not an outage: a bucket in another region must not hold up the others.
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, 301 | 307) => {
            let place = match header("x-amz-bucket-region") {
                Some(region) => format!("the bucket is in {}", redact::cut(region, 40)),
                None => "the bucket is in another region".to_owned(),
            };
            MediaError::new(MediaReason::S3WrongRegion, format!("{shown}: {said}; {place}"))
        }
        ("RequestTimeout", _) | (_, 408 | 500..=599) => later(MediaReason::S3ServerError),
        (_, 401 | 403) => of(MediaReason::S3AccessDenied),
        (_, 200..=299) => {
            MediaError::new(MediaReason::S3Failed, format!("{shown}: {said}; the answer could not be read"))
        }
        _ => MediaError::new(MediaReason::S3Status, format!("{shown}: {said}; expected 200")),
    }
}

/// Whether the URL has a `+`, or an escape that only forms need (shown URLs escape blanks, controls and non-ASCII).
fn looks_form_encoded(url: &str) -> bool {
    let code = |at: usize| url.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let escaped = |at: usize| code(at).is_some_and(|byte| b"!$%&'()*+,/:;=@[]".contains(&byte));
    url.contains('+') || url.match_indices('%').any(|(at, _)| escaped(at))
}

/// Whether an error document is complete. A truncated one may be about our credentials rather than the object, whatever
/// its code seems to be.
fn is_whole(response: &HttpResponse) -> bool {
    response.body().bytes().is_some_and(|body| body.trim_ascii_end().ends_with(b"</Error>"))
}

fn wait(retry_after: Option<&str>) -> Option<Duration> {
    retry::retry_after(retry_after?, Utc::now())
}
