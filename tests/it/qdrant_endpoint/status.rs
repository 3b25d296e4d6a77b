//! Errors as Qdrant answers them: the gRPC code and the wording of its `StorageError`, by its
//! lib/storage/src/content_manager/{errors,conversions}.rs and lib/collection/src/operations/types.rs of 1.17 to 1.19.

use qdrant_edge::OperationError;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// A request that is well formed for Qdrant, but not for this endpoint: what exactly it does not do.
pub fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("the test endpoint does not support {what}"))
}

/// Refuses a field that the endpoint would otherwise ignore.
pub fn absent<T>(field: &Option<T>, what: &str) -> Result<(), Status> {
    if field.is_some() { Err(unsupported(what)) } else { Ok(()) }
}

pub fn wrong_input(message: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("Wrong input: {message}"))
}

pub fn no_collection(name: &str) -> Status {
    Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"))
}

pub fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("Service internal error: {error}"))
}

pub fn bad_request(message: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("Bad request: {message}"))
}

/// Without `retry_after_s` the request will never pass.
pub fn rate_limited(message: &str, retry_after_s: Option<u64>) -> Status {
    let mut status = Status::resource_exhausted(format!("Rate limiting exceeded: {message}"));
    if let Some(seconds) = retry_after_s {
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

/// What a server, or its whole cluster, may be in, whatever it is asked to write. Where a wording has a number or a name that
/// is the server's own, it is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is fuller than strict mode allows (1.18).
    DiskLimit,
    /// The same of memory (1.18).
    MemoryLimit,
    /// The node's own quota (from 1.19).
    Quota,
    /// The write-ahead log has no room (`lib/collection/src/shards/local_shard/shard_ops.rs`).
    NoSpace,
    /// A key that may only read (`lib/storage/src/rbac/mod.rs`).
    ReadOnly,
    /// `lib/collection/src/shards/replica_set/update.rs`.
    NoActiveReplica,
    /// The leader of a strong ordering is away (the same file).
    NoLeader,
    /// A shard that is being moved (`lib/collection/src/collection/point_ops.rs`).
    ShardMoving,
    /// A shard that is being restored (`lib/collection/src/shards/replica_set/partial_snapshot_meta.rs`).
    ShardRestoring,
    /// A shard that could not be loaded (`lib/collection/src/shards/dummy_shard.rs`).
    ShardBroken,
}

impl Trouble {
    pub const ALL: [Self; 10] = [
        Self::DiskLimit,
        Self::MemoryLimit,
        Self::Quota,
        Self::NoSpace,
        Self::ReadOnly,
        Self::NoActiveReplica,
        Self::NoLeader,
        Self::ShardMoving,
        Self::ShardRestoring,
        Self::ShardBroken,
    ];

    pub fn status(self) -> Status {
        match self {
            Self::DiskLimit => bad_request(
                "Disk usage is at 97% of total capacity, exceeding the configured limit of 95%. Help: Reduce disk usage \
                 (e.g. delete points or drop collections) or raise `max_disk_usage_percent` in strict mode.",
            ),
            Self::MemoryLimit => bad_request(
                "Resident memory usage is at 91% of total memory, exceeding the configured limit of 90%. Help: Reduce \
                 memory usage (e.g. delete points or free segments) or raise `max_resident_memory_percent` in strict mode.",
            ),
            Self::Quota => {
                let mut status = Status::resource_exhausted("Insufficient storage: disk usage is above the quota");
                status.metadata_mut().insert("qdrant-insufficient-storage", MetadataValue::from_static("1"));
                status
            }
            Self::NoSpace => internal("No space left on device: WAL buffer size exceeds available disk space"),
            Self::ReadOnly => Status::permission_denied("Forbidden: Global manage access is required"),
            Self::NoActiveReplica => internal("The replica set for shard 0 on peer 7 has no active replica"),
            Self::NoLeader => internal(
                "Failed to apply update with Strong ordering via leader peer 7: Service internal error: Tonic transport error",
            ),
            Self::ShardMoving => Status::failed_precondition(
                "Pre-condition failure: Precondition failed: No target shard 0 found for update",
            ),
            Self::ShardRestoring => {
                Status::unavailable("Shard temporarily unavailable: partial snapshot recovery is in progress")
            }
            Self::ShardBroken => internal("Failed to update,  Failed to load local shard"),
        }
    }
}

/// The engine's error, as Qdrant's server passes it on.
pub fn from_engine(error: OperationError) -> Status {
    match error {
        OperationError::PointIdError { missed_point_id } => {
            Status::not_found(format!("Not found: No point with id {missed_point_id} found"))
        }
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti
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
