//! Errors as the server answers them: code, text, and the source file that it was read in.
//!
//! All were read in Qdrant's source at v1.18.3 ([`super::IMITATES`]); v1.17.1 and v1.19.0 say the same unless a note says otherwise.
//! The texts stand here a second time on purpose. The adapter has a list of its own of the parts that it looks for
//! (`src/store/qdrant/wordings.rs`), and a test there compares the two, so that a mistake in one of them is found. What both have
//! misread is found by the tests against real servers (`make test-qdrant`). Where a server says otherwise, this file is wrong.
//!
//! Codes by lib/storage/src/content_manager/conversions.rs, beginnings (`Wrong input: `) by errors.rs beside it.

use std::fmt::Display;

use qdrant_edge::OperationError;
use tonic::Status;

/// A request that is well formed for Qdrant, but not for this endpoint: what exactly it does not do.
pub fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("the test endpoint does not support {what}"))
}

/// Refuses a field that the endpoint would otherwise ignore.
pub fn absent<T>(field: &Option<T>, what: &str) -> Result<(), Status> {
    if field.is_some() { Err(unsupported(what)) } else { Ok(()) }
}

pub fn wrong_input(message: impl Display) -> Status {
    Status::invalid_argument(format!("Wrong input: {message}"))
}

pub fn not_found(what: impl Display) -> Status {
    Status::not_found(format!("Not found: {what}"))
}

pub fn internal(error: impl Display) -> Status {
    Status::internal(format!("Service internal error: {error}"))
}

pub fn bad_request(message: impl Display) -> Status {
    Status::invalid_argument(format!("Bad request: {message}"))
}

/// Without `retry_after_s` the request will never pass.
fn rate_limited(message: impl Display, retry_after_s: Option<u64>) -> Status {
    let mut status = Status::resource_exhausted(format!("Rate limiting exceeded: {message}"));
    if let Some(seconds) = retry_after_s {
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

// Who may call: src/common/auth/mod.rs, with the codes of src/tonic/auth.rs.

pub fn no_api_key() -> Status {
    Status::unauthenticated("Must provide an API key or an Authorization bearer token")
}

pub fn wrong_api_key() -> Status {
    Status::unauthenticated("Invalid API key or JWT")
}

/// A key for some collections only, where the whole server is concerned: lib/storage/src/rbac/mod.rs.
pub fn no_global_access() -> Status {
    Status::permission_denied("Forbidden: Global manage access is required")
}

// Collections and aliases: lib/storage/src/content_manager/collections_ops.rs, toc/create_collection.rs, alias_mapping.rs.

pub fn no_collection(name: &str) -> Status {
    not_found(format_args!("Collection `{name}` doesn't exist!"))
}

pub fn collection_exists(name: &str) -> Status {
    Status::already_exists(format!("Wrong input: Collection `{name}` already exists!"))
}

pub fn name_is_an_alias(name: &str) -> Status {
    wrong_input(format_args!("Can't create collection with name {name}. Alias with the same name already exists"))
}

pub fn no_alias(name: &str) -> Status {
    not_found(format_args!("Alias {name} does not exists!"))
}

// Points: lib/collection/src/operations/types.rs.

pub fn no_point(id: impl Display) -> Status {
    not_found(format_args!("No point with id {id} found"))
}

/// A read that asks for more replicas than are alive (lib/collection/src/shards/replica_set/execute_read_operation.rs).
pub fn too_few_replicas() -> Status {
    internal("The replica set for shard 0 on peer 7 does not have enough active replicas")
}

// Limits of strict mode (`CollectionError::strict_mode` in types.rs).

fn strict(error: impl Display, help: impl Display) -> Status {
    bad_request(format_args!("{error}. Help: {help}"))
}

/// lib/collection/src/operations/verification/mod.rs.
pub fn index_required(key: &str, types: &str) -> Status {
    let error = format_args!("Index required but not found for \"{key}\" of one of the following types: [{types}]");
    strict(error, "Create an index for this key or use a different filter.")
}

/// The same file.
pub fn too_many_conditions(found: u64, max: u64) -> Status {
    let error = format_args!("Filter condition limit reached ({found} > {max})");
    strict(error, "Reduce the amount of conditions of your filter.")
}

/// The same file.
pub fn condition_too_large(found: u64, max: u64) -> Status {
    strict(format_args!("Condition size limit reached ({found} > {max})"), "Reduce the size of your condition.")
}

/// The same file. `name`: what is limited, for example `upsert limit`.
pub fn limit_exceeded(name: &str, found: u64, max: u64) -> Status {
    let help = format_args!("Reduce the \"{name}\" parameter to or below {max}.");
    strict(format_args!("Limit exceeded {found} > {max} for \"{name}\""), help)
}

/// The same file.
pub fn exact_search_disabled() -> Status {
    strict("Exact search disabled!", "Set exact=false.")
}

/// src/common/update.rs.
pub fn too_many_indexes(max: u64) -> Status {
    let error = format_args!("Collection already has the maximum number of payload indices ({max})");
    strict(error, "Please delete an existing index before creating a new one.")
}

// A full collection: lib/collection/src/operations/verification/update.rs.

pub fn points_limit(max: u64) -> Status {
    bad_request(format_args!("Max points count limit of {max} reached!"))
}

pub fn vectors_limit(max_bytes: u64) -> Status {
    bad_request(format_args!("Max vector storage size limit of {}MB reached!", megabytes(max_bytes)))
}

pub fn payload_limit(max_bytes: u64) -> Status {
    bad_request(format_args!("Max payload storage size limit of {}MB reached!", megabytes(max_bytes)))
}

/// As the server computes them.
fn megabytes(bytes: u64) -> f32 {
    bytes as f32 / (1024.0 * 1024.0)
}

// Rate limits: `CollectionError::rate_limit_error` in types.rs, lib/common/common/src/rate_limiting.rs. `kind`: Read or Write.

/// It costs more than the limit ever allows.
pub fn rate_never(kind: &str) -> Status {
    let why = "request larger than rate limiter capacity, please try to split your request";
    rate_limited(format_args!("{kind} rate limit exceeded, {why}"), None)
}

pub fn rate_later(kind: &str, cost: f64, available: f64, retry_after_s: u64) -> Status {
    let tokens = format_args!("Operation requires {cost} tokens but only {available:.1} were available");
    let message = format_args!("{kind} rate limit exceeded: {tokens}. Retry after {retry_after_s}s");
    rate_limited(message, Some(retry_after_s))
}

/// The engine's error, as the server passes it on (`From<OperationError> for CollectionError` in types.rs, and errors.rs).
pub fn from_engine(error: OperationError) -> Status {
    match error {
        OperationError::PointIdError { missed_point_id } => no_point(missed_point_id),
        OperationError::WrongSparse => wrong_input("Conversion between sparse and regular vectors failed"),
        OperationError::WrongMulti => wrong_input("Conversion between multi and regular vectors failed"),
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::MissingRangeIndexForOrderBy { .. }
        | OperationError::MissingMapIndexForFacet { .. }
        | OperationError::VariableTypeError { .. }
        | OperationError::NonFiniteNumber { .. } => wrong_input(error),
        OperationError::Timeout { description } => {
            Status::deadline_exceeded(format!("Timeout: Timeout error: {description}"))
        }
        OperationError::ServiceError { description, .. } => internal(description),
        OperationError::Cancelled { description } => internal(format_args!("Operation cancelled: {description}")),
        OperationError::InconsistentStorage { .. } | OperationError::OutOfMemory { .. } => internal(error),
    }
}
