//! Converts the client's errors.
//!
//! Answers of Qdrant's server, 1.17 to 1.19 (errors: lib/collection/src/operations/types.rs; codes:
//! lib/storage/src/content_manager/{errors,conversions}.rs):
//!
//! | code | for | caused by |
//! |---|---|---|
//! | `InvalidArgument` | a vector of another dimension, an unknown name; also every limit of strict mode, a full collection, memory and disk of 1.18 | a point or something shared: [`super::blame`] finds out |
//! | `NotFound` | a missing point | another writer |
//! | `NotFound` | a missing collection or shard | shared |
//! | `ResourceExhausted` with `retry-after` | a rate limit | shared, transient |
//! | `ResourceExhausted` without | a request that costs more than the limit ever allows | the batch's size |
//! | the same, marked | the node's disk or memory quota (1.19) | shared |
//! | `Internal` | IO, no space for the log, memory, inactive replicas, unreachable leaders | shared |
//! | `FailedPrecondition`, `Unavailable`, `DataLoss` | shards being moved, restored or locked | shared |
//! | `PermissionDenied`, `Unauthenticated` | a key without write access, or no key | shared |
//! | `DeadlineExceeded` | the server's own timeouts | shared |

use std::time::Duration;

use qdrant_client::QdrantError;
use qdrant_client::qdrant::UpdateStatus;
use tonic::{Code, Status};

use super::wordings::{
    CERTIFICATE, CLIENT_TIMEOUT, FULL, INDEX_REQUIRED, NO_POINT, OS_ERROR, QUOTA_REACHED, RETRY_AFTER,
    TOO_FEW_REPLICAS, TOO_LARGE,
};
use crate::domain::StoreReason;
use crate::redact;
use crate::store::StoreError;

/// Start of a status message that no server sent: the connection could not be opened.
pub(super) const CONNECT_FAILED: &str = "cannot connect: ";

/// `doing` says what was tried and where, for example `write to catalog__a`.
pub(super) fn from_client(error: QdrantError, url: &str, doing: &str) -> StoreError {
    match error {
        QdrantError::ResponseError { status } => from_status(&status, url, doing),
        QdrantError::ResourceExhaustedError { status, retry_after_seconds } => {
            let retry_after = Some(Duration::from_secs(retry_after_seconds));
            from_status(&status, url, doing).retry_after(retry_after)
        }
        QdrantError::InvalidUri(e) => invalid_url(url, &e),
        other => {
            let message = format!("Qdrant at {url}, {doing}: {}", redact::cut(&other.to_string(), 300));
            StoreError::new(StoreReason::Failed, message)
        }
    }
}

pub(super) fn invalid_url(url: &str, error: &dyn std::fmt::Display) -> StoreError {
    let message =
        format!("store.url is {url:?}: {error}; expected Qdrant's gRPC address, for example http://localhost:6334");
    StoreError::new(StoreReason::UrlInvalid, message)
}

fn from_status(status: &Status, url: &str, doing: &str) -> StoreError {
    let said = redact::cut(status.message(), 300);
    let of = |reason| StoreError::new(reason, format!("Qdrant at {url}, {doing}: {said}"));
    match status.code() {
        _ if is_too_large(status) => of(StoreReason::TooLarge),
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => of(StoreReason::Rejected),
        Code::ResourceExhausted if status.metadata().contains_key(QUOTA_REACHED) => {
            of(StoreReason::Full).hint("make room on the server, or raise its quota: writes go on by themselves then")
        }
        Code::ResourceExhausted if !status.metadata().contains_key(RETRY_AFTER) => of(StoreReason::Limited),
        Code::ResourceExhausted => of(StoreReason::Busy),
        Code::Cancelled if CLIENT_TIMEOUT.is_said_by(status) => of(StoreReason::Timeout),
        Code::Aborted | Code::Cancelled => of(StoreReason::Busy),
        // Another worker deleted the point between the steps of a patch. Anything else that is missing is shared.
        Code::NotFound if is_missing_point(status) => of(StoreReason::Conflict),
        Code::NotFound => of(StoreReason::CollectionMissing),
        Code::Unauthenticated | Code::PermissionDenied => of(StoreReason::Unauthorized),
        Code::Unimplemented => of(StoreReason::Unsupported),
        Code::DeadlineExceeded => of(StoreReason::Timeout),
        _ if said.starts_with(CONNECT_FAILED) => {
            let cause = said[CONNECT_FAILED.len()..].split(OS_ERROR).next().unwrap_or_default();
            let message = format!("cannot reach Qdrant at {url} ({doing}): {cause}");
            let unreachable = StoreError::new(StoreReason::Unreachable, message);
            match CERTIFICATE.is_in(cause) {
                true => unreachable.hint("check store.ca_file and the server's certificate"),
                false => unreachable,
            }
        }
        Code::Unavailable => of(StoreReason::Unreachable),
        _ => of(StoreReason::Failed).hint("see the server's log"),
    }
}

/// Whether a read asked for more replicas than the shard has alive.
pub(super) fn lacks_replicas(error: &QdrantError) -> bool {
    matches!(error, QdrantError::ResponseError { status } if TOO_FEW_REPLICAS.is_said_by(status))
}

pub(super) fn is_missing_point(status: &Status) -> bool {
    NO_POINT.is_said_by(status)
}

/// For a request that is refused for every message. `error`: what a write of one point would fail with.
pub(super) fn refused_to_all(error: StoreError) -> StoreError {
    let said = error.message;
    // The text only decides which next step is suggested.
    let reason = if INDEX_REQUIRED.is_in(&said) {
        StoreReason::IndexMissing
    } else if FULL.iter().any(|wording| wording.is_in(&said)) {
        StoreReason::Full
    } else {
        StoreReason::WritesRefused
    };
    let message = format!("{said}; this concerns every message, so all are held");
    StoreError::new(reason, message).retry_after(error.retry_after)
}

/// Whether the request is larger than the server or a proxy accepts.
pub(super) fn is_too_large(status: &Status) -> bool {
    TOO_LARGE.iter().any(|wording| wording.is_said_by(status))
}

/// Only `Completed` means durable and visible. The server reports the other states as success, too.
pub(super) fn check_completed(status: i32, url: &str, doing: &str) -> Result<(), StoreError> {
    match UpdateStatus::try_from(status) {
        Ok(UpdateStatus::Completed) => Ok(()),
        Ok(status) => {
            let message =
                format!("Qdrant at {url}, {doing}: found update status {}, expected Completed", status.as_str_name());
            Err(StoreError::new(StoreReason::UpdateIncomplete, message))
        }
        Err(_) => {
            let message = format!("Qdrant at {url}, {doing}: found update status {status}, expected Completed (2)");
            Err(StoreError::new(StoreReason::UpdateIncomplete, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use clipstream_test_support::qdrant::{Trouble, status};

    use super::*;
    use crate::domain::Class;

    fn error_of(status: Status) -> StoreError {
        from_client(status.into(), "http://q:6334", "write")
    }

    fn class_of(code: Code, message: &str) -> Class {
        error_of(Status::new(code, message)).class
    }

    #[test]
    fn shared_failures_are_outages_and_bad_points_permanent() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Internal,
            Code::Unknown,
            Code::Unimplemented,
        ] {
            assert_eq!(class_of(code, "x"), Class::Outage, "{code:?}");
        }
        assert_eq!(error_of(status::no_collection("a")).class, Class::Outage);
        assert_eq!(error_of(status::no_point(1)).class, Class::Transient);
        assert_eq!(class_of(Code::Cancelled, &tonic::TimeoutExpired(()).to_string()), Class::Outage);
        for code in [Code::Aborted, Code::Cancelled, Code::ResourceExhausted] {
            assert_eq!(class_of(code, "x"), Class::Transient, "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::OutOfRange] {
            assert_eq!(class_of(code, "x"), Class::Permanent, "{code:?}");
        }
    }

    #[test]
    fn too_large_is_the_batchs_own_fault_however_it_is_said() {
        let said = [
            (Code::OutOfRange, "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes"),
            (Code::ResourceExhausted, "grpc: received message larger than max (9 vs. 4)"),
            (Code::Unknown, "grpc-status header missing, mapped from HTTP status code 413"),
        ];
        for (code, message) in said {
            let error = error_of(Status::new(code, message));
            assert_eq!((error.class, error.reason), (Class::Permanent, StoreReason::TooLarge), "{code:?}");
            assert!(error.to_string().contains(message), "{}", error.message);
        }
        assert_eq!(class_of(Code::ResourceExhausted, "too many requests"), Class::Transient);
    }

    #[test]
    fn what_is_refused_to_all_is_an_outage_with_a_next_step() {
        let said = [
            (status::points_limit(100), StoreReason::Full, "raise that limit"),
            (Trouble::DiskLimit.status(), StoreReason::Full, "make room"),
            (status::index_required("a", "keyword"), StoreReason::IndexMissing, "index that field"),
            (
                status::bad_request("of a kind that comes with a later version"),
                StoreReason::WritesRefused,
                "see the server's log",
            ),
        ];
        for (status, reason, next_step) in said {
            let (message, rejected) = (status.message().to_owned(), error_of(status));
            assert_eq!(rejected.class, Class::Permanent, "{message}");
            let error = refused_to_all(rejected);
            assert_eq!((error.class, error.reason), (Class::Outage, reason));
            assert!(error.to_string().contains(&message) && error.to_string().contains(next_step), "{error}");
        }
    }

    #[test]
    fn a_rate_limit_passes_and_a_quota_does_not() {
        let class_and_reason = |status| {
            let error = error_of(status);
            (error.class, error.reason)
        };
        let later = status::rate_later("Write", 8.0, 0.5, 1);
        assert_eq!(class_and_reason(later), (Class::Transient, StoreReason::Busy));
        assert_eq!(class_and_reason(status::rate_never("Write")), (Class::Transient, StoreReason::Limited));
        assert_eq!(class_and_reason(Trouble::Quota.status()), (Class::Outage, StoreReason::Full));
    }

    #[test]
    fn retry_after_is_kept() {
        let error = error_of(status::rate_later("Write", 8.0, 0.5, 7));
        assert_eq!((error.class, error.retry_after), (Class::Transient, Some(Duration::from_secs(7))));
    }

    #[test]
    fn only_completed_is_success() {
        assert!(check_completed(UpdateStatus::Completed.into(), "u", "d").is_ok());
        for status in [UpdateStatus::Acknowledged, UpdateStatus::ClockRejected, UpdateStatus::WaitTimeout] {
            let error = check_completed(status.into(), "u", "write").unwrap_err();
            assert_eq!(error.class, Class::Transient);
            assert!(error.to_string().contains(status.as_str_name()));
        }
        assert!(check_completed(99, "u", "d").is_err());
    }
}
