//! Errors of the client as ours.

use std::time::Duration;

use qdrant_client::QdrantError;
use qdrant_client::qdrant::UpdateStatus;
use tonic::{Code, Status};

use super::client::CONNECT_FAILED;
use crate::redact;
use crate::store::{STORE_CONFLICT, StoreError};

/// Message of the status that tonic gives to a request that its own timeout ended.
const CLIENT_TIMEOUT: &str = "Timeout expired";

/// `doing` says what was tried, with the collection, for example `write to catalog__a`.
pub(super) fn from_client(error: QdrantError, url: &str, doing: &str) -> StoreError {
    match error {
        QdrantError::ResponseError { status } => from_status(&status, url, doing),
        QdrantError::ResourceExhaustedError { status, retry_after_seconds } => {
            let retry_after = Some(Duration::from_secs(retry_after_seconds));
            StoreError { retry_after, ..from_status(&status, url, doing) }
        }
        QdrantError::InvalidUri(e) => invalid_url(url, &e),
        other => {
            let message = format!("Qdrant at {url}, {doing}: {}", redact::cut(&other.to_string(), 300));
            StoreError::outage("store_failed", message)
        }
    }
}

pub(super) fn invalid_url(url: &str, error: &dyn std::fmt::Display) -> StoreError {
    let message =
        format!("store.url is {url:?}: {error}; expected Qdrant's gRPC address, for example http://localhost:6334");
    StoreError::outage("store_url_invalid", message)
}

fn from_status(status: &Status, url: &str, doing: &str) -> StoreError {
    let said = redact::cut(status.message(), 300);
    let message = |hint: &str| format!("Qdrant at {url}, {doing}: {said}{hint}");
    match status.code() {
        _ if is_too_large(status) => StoreError::permanent(
            "store_too_large",
            message(
                "; where that is one point alone, make its payload smaller, or raise the server's limit or its proxy's",
            ),
        ),
        // The collection's strict mode (default in Qdrant's cloud) wants an index for every filter: no point's fault.
        Code::InvalidArgument if said.contains("Index required but not found") => StoreError::outage(
            "store_index_missing",
            message("; index that field (store.collection_definition), or set store.guard to check"),
        ),
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => {
            StoreError::permanent("store_rejected", message(""))
        }
        Code::ResourceExhausted => StoreError::transient("store_busy", message("")),
        Code::Cancelled if status.message() == CLIENT_TIMEOUT => {
            StoreError::outage("store_timeout", message("; check the server's load, or raise store.timeout_ms"))
        }
        Code::Aborted | Code::Cancelled => StoreError::transient("store_busy", message("")),
        // A point that another worker deleted between the steps of a patch; everything else that is not found is shared.
        Code::NotFound if said.contains("No point with id") => StoreError::transient(STORE_CONFLICT, message("")),
        Code::NotFound => StoreError::outage("collection_missing", message("; index something first")),
        Code::Unauthenticated | Code::PermissionDenied => {
            StoreError::outage("store_unauthorized", message("; check store.api_key and its rights"))
        }
        Code::Unimplemented => StoreError::outage(
            "store_unsupported",
            message("; check that store.url is the gRPC port of Qdrant 1.17 or newer"),
        ),
        Code::DeadlineExceeded => {
            StoreError::outage("store_timeout", message("; check the server's load, or raise store.timeout_ms"))
        }
        _ if said.starts_with(CONNECT_FAILED) => {
            // Without the system's number, which differs from one system to the next.
            let cause = said[CONNECT_FAILED.len()..].split(" (os error ").next().unwrap_or_default();
            let check = match cause.contains("certificate") {
                true => "check store.ca_file and the server's certificate",
                false => "check store.url and that the server runs",
            };
            StoreError::outage("store_unreachable", format!("cannot reach Qdrant at {url} ({doing}): {cause}; {check}"))
        }
        Code::Unavailable => {
            StoreError::outage("store_unreachable", message("; check store.url and that the server runs"))
        }
        _ => StoreError::outage("store_failed", message("; see the server's log")),
    }
}

/// Whether a read asked for more replicas than the shard has alive (`execute_and_resolve_read_operation` in Qdrant's
/// `lib/collection/src/shards/replica_set/execute_read_operation.rs`).
pub(super) fn lacks_replicas(error: &QdrantError) -> bool {
    let says = |status: &Status| status.message().contains("does not have enough active replicas");
    matches!(error, QdrantError::ResponseError { status } if says(status))
}

/// Whether the request has more bytes than somebody on the way takes; the message says how many. tonic: `OutOfRange`,
/// "decoded message length too large"; grpc-go and its proxies: `ResourceExhausted`, "received message larger than max";
/// an HTTP proxy: status 413, which tonic reports as `Unknown`.
fn is_too_large(status: &Status) -> bool {
    let says = |part: &str| status.message().contains(part);
    match status.code() {
        Code::OutOfRange => says("message length too large"),
        Code::ResourceExhausted => says("message length too large") || says("message larger than max"),
        Code::Unknown | Code::Internal => says("HTTP status code 413"),
        _ => false,
    }
}

/// Only `Completed` means durable and visible. The others are answered with success by the server.
pub(super) fn check_completed(status: i32, url: &str, doing: &str) -> Result<(), StoreError> {
    match UpdateStatus::try_from(status) {
        Ok(UpdateStatus::Completed) => Ok(()),
        Ok(status) => {
            let message =
                format!("Qdrant at {url}, {doing}: found update status {}, expected Completed", status.as_str_name());
            Err(StoreError::transient("store_update_incomplete", message))
        }
        Err(_) => {
            let message = format!("Qdrant at {url}, {doing}: found update status {status}, expected Completed (2)");
            Err(StoreError::transient("store_update_incomplete", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Class;

    fn class_of(code: Code, message: &str) -> Class {
        from_client(Status::new(code, message).into(), "http://q:6334", "write").class
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
        assert_eq!(class_of(Code::NotFound, "Not found: Collection `a` doesn't exist!"), Class::Outage);
        assert_eq!(class_of(Code::NotFound, "Not found: No point with id 1 found"), Class::Transient);
        assert_eq!(class_of(Code::Cancelled, CLIENT_TIMEOUT), Class::Outage);
        let unindexed =
            "Bad request: Index required but not found for \"clipstream.source.topic\" of one of the following types";
        assert_eq!(class_of(Code::InvalidArgument, unindexed), Class::Outage);
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
            let error = from_client(Status::new(code, message).into(), "http://q:6334", "write");
            assert_eq!((error.class, error.reason), (Class::Permanent, "store_too_large"), "{code:?}");
            assert!(error.message.contains(message), "{}", error.message);
        }
        assert_eq!(class_of(Code::ResourceExhausted, "too many requests"), Class::Transient);
    }

    #[test]
    fn retry_after_is_kept() {
        let mut status = Status::resource_exhausted("slow down");
        status.metadata_mut().insert("retry-after", "7".parse().unwrap());
        let error = from_client(status.into(), "http://q:6334", "write");
        assert_eq!((error.class, error.retry_after), (Class::Transient, Some(Duration::from_secs(7))));
    }

    #[test]
    fn only_completed_is_success() {
        assert!(check_completed(UpdateStatus::Completed.into(), "u", "d").is_ok());
        for status in [UpdateStatus::Acknowledged, UpdateStatus::ClockRejected, UpdateStatus::WaitTimeout] {
            let error = check_completed(status.into(), "u", "write").unwrap_err();
            assert_eq!(error.class, Class::Transient);
            assert!(error.message.contains(status.as_str_name()));
        }
        assert!(check_completed(99, "u", "d").is_err());
    }
}
