//! What a failure's reason says about its host: whether it can be reached and serves, and how loaded it is.

use super::MediaError;
use crate::adaptive::Load;
use crate::domain::{Class, MediaReason};

/// What one answer says about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It serves, even if only "not found".
    Serves,
    /// It answers with something unusable: a broken head, a part, a body that cannot be unpacked.
    Answers,
    /// It could not be reached.
    Unreachable,
    /// It says that it is busy or broken.
    SaysSo,
    /// It was reached, but the fetch failed.
    Fails,
    /// Nothing: the host was not asked, or the refusal has other causes.
    None,
}

pub(super) fn sign(error: &MediaError) -> Sign {
    use MediaReason as R;
    match error.reason {
        R::ConnectFailed
        | R::ConnectTimeout
        | R::DnsFailed
        | R::DnsUnanswered
        | R::S3Unreachable
        | R::TlsCertificateUntrusted => Sign::Unreachable,
        R::HttpMalformed | R::HttpPartial | R::HttpEncodingUnsupported | R::ContentEncodingInvalid => Sign::Answers,
        R::HttpNotFound
        | R::HttpGone
        | R::HttpForbidden
        | R::S3NoSuchKey
        | R::S3NoSuchVersion
        | R::S3Archived
        | R::S3AccessDenied
        | R::Empty
        | R::TooLarge => Sign::Serves,
        R::HttpServerError | R::HttpThrottled | R::HttpUnavailable | R::S3ServerError | R::S3Throttled => Sign::SaysSo,
        _ if error.class == Class::Transient => Sign::Fails,
        _ => Sign::None,
    }
}

/// What an answer says about its host's load.
pub(super) fn load<T>(result: &Result<T, MediaError>) -> Load {
    use MediaReason as R;
    let Err(error) = result else { return Load::Fine };
    match error.reason {
        R::HttpThrottled | R::HttpUnavailable | R::S3Throttled => Load::Over { pause: error.retry_after },
        R::FetchTimeout | R::BodyStalled | R::ConnectTimeout | R::ConnectFailed | R::S3Timeout | R::S3Unreachable => {
            Load::Over { pause: None }
        }
        _ if matches!(sign(error), Sign::Serves | Sign::Answers) => Load::Fine,
        _ => Load::Unknown,
    }
}

/// Whether a result shows that the network works (`true`) or that this host is unreachable (`false`).
pub(super) fn reached<T>(result: &Result<T, MediaError>) -> Option<bool> {
    match result.as_ref().map_or_else(sign, |_| Sign::Serves) {
        Sign::Serves | Sign::Answers | Sign::SaysSo | Sign::Fails => Some(true),
        Sign::Unreachable => Some(false),
        Sign::None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Reason;

    /// What every reason says about a host. New reasons must be added here.
    #[test]
    fn every_reason_says_something_of_its_host_or_nothing() {
        use MediaReason as R;
        let signs = [
            (
                Sign::Unreachable,
                vec![
                    R::DnsFailed,
                    R::DnsUnanswered,
                    R::ConnectFailed,
                    R::ConnectTimeout,
                    R::TlsCertificateUntrusted,
                    R::S3Unreachable,
                ],
            ),
            (
                Sign::Answers,
                vec![R::HttpPartial, R::HttpMalformed, R::HttpEncodingUnsupported, R::ContentEncodingInvalid],
            ),
            (
                Sign::Serves,
                vec![
                    R::HttpNotFound,
                    R::HttpGone,
                    R::HttpForbidden,
                    R::Empty,
                    R::TooLarge,
                    R::S3NoSuchKey,
                    R::S3NoSuchVersion,
                    R::S3Archived,
                    R::S3AccessDenied,
                ],
            ),
            (
                Sign::SaysSo,
                vec![R::HttpThrottled, R::HttpUnavailable, R::HttpServerError, R::S3Throttled, R::S3ServerError],
            ),
            (
                Sign::Fails,
                vec![
                    R::HttpFailed,
                    R::BodyIncomplete,
                    R::BodyStalled,
                    R::FetchTimeout,
                    R::NotModifiedUnexpected,
                    R::FileFailed,
                    R::S3Timeout,
                    R::S3Failed,
                ],
            ),
            (
                Sign::None,
                vec![
                    R::SchemeUnsupported,
                    R::UrlInvalid,
                    R::DataUrlInvalid,
                    R::AddressForbidden,
                    R::AddressDenied,
                    R::HostDenied,
                    R::RedirectForbidden,
                    R::RedirectsExceeded,
                    R::HttpStatus,
                    R::FileForbidden,
                    R::FileNotFound,
                    R::FileNotRegular,
                    R::S3BucketForbidden,
                    R::S3NoSuchBucket,
                    R::S3WrongRegion,
                    R::S3Status,
                    R::S3CredentialsMissing,
                    R::S3CredentialsRefused,
                    R::S3AccountRefused,
                    R::S3RegionMissing,
                    R::ResolverUnavailable,
                    R::TlsTrustBroken,
                    R::SettingsInvalid,
                    R::ClientFailed,
                    R::FileDescriptorsExhausted,
                    R::PortsExhausted,
                    R::MemoryExhausted,
                    R::DiskFull,
                    R::DiskReadOnly,
                ],
            ),
        ];
        let listed = |reason: &R| signs.iter().find(|(_, reasons)| reasons.contains(reason)).map(|(sign, _)| *sign);
        for reason in R::ALL {
            assert_eq!(listed(reason), Some(sign(&MediaError::new(*reason, "x"))), "{reason}");
        }
        let later = MediaError::new(R::HttpStatus, "425").class(Class::Transient);
        assert_eq!(sign(&later), Sign::Fails);
    }

    #[test]
    fn every_reason_says_how_busy_its_host_is_or_nothing() {
        use MediaReason as R;
        let wait = Some(Duration::from_secs(7));
        let asks_to_wait = [R::HttpThrottled, R::HttpUnavailable, R::S3Throttled];
        let is_late =
            [R::ConnectFailed, R::ConnectTimeout, R::BodyStalled, R::FetchTimeout, R::S3Timeout, R::S3Unreachable];
        let answers = [
            R::HttpNotFound,
            R::HttpGone,
            R::HttpForbidden,
            R::HttpPartial,
            R::HttpMalformed,
            R::HttpEncodingUnsupported,
            R::ContentEncodingInvalid,
            R::Empty,
            R::TooLarge,
            R::S3NoSuchKey,
            R::S3NoSuchVersion,
            R::S3Archived,
            R::S3AccessDenied,
        ];
        for reason in R::ALL {
            let expected = match reason {
                reason if asks_to_wait.contains(reason) => Load::Over { pause: wait },
                reason if is_late.contains(reason) => Load::Over { pause: None },
                reason if answers.contains(reason) => Load::Fine,
                // A single broken item must not slow its host down.
                _ => Load::Unknown,
            };
            let error = MediaError::new(*reason, "x").retry_after(wait);
            assert_eq!(load(&Err::<(), _>(error)), expected, "{reason}");
        }
        assert_eq!(load(&Ok(())), Load::Fine);
    }
}
