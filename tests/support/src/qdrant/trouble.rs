//! What a server, or its whole cluster, may be in, whatever it is asked to write; read like [`super::status`]. Where a wording has a
//! number, a name or a path that is the server's own, it is made up.

use tonic::Status;
use tonic::metadata::MetadataValue;

use super::status::{bad_request, internal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is fuller than strict mode allows: 1.18 alone (lib/collection/src/operations/verification/mod.rs).
    DiskLimit,
    /// The same of memory: 1.18, and 1.19 with another help (the same file).
    MemoryLimit,
    /// The node's own quota: from 1.19 (lib/shard/src/quota/check.rs; the mark in lib/collection/src/operations/types.rs).
    Quota,
    /// The write-ahead log has no room (lib/collection/src/shards/local_shard/shard_ops.rs).
    NoSpace,
    /// A key that may only read (lib/storage/src/rbac/mod.rs).
    ReadOnly,
    /// lib/collection/src/shards/replica_set/update.rs.
    NoActiveReplica,
    /// The leader of a strong ordering is away (the same file).
    NoLeader,
    /// A shard that is being moved (lib/collection/src/collection/point_ops.rs).
    ShardMoving,
    /// A shard that is being restored (lib/collection/src/shards/replica_set/partial_snapshot_meta.rs).
    ShardRestoring,
    /// A shard that could not be loaded (lib/collection/src/shards/dummy_shard.rs, replica_set/mod.rs).
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
                let mut status = Status::resource_exhausted(
                    "Insufficient storage: Disk usage is at 97% of total capacity, exceeding the configured limit of 95%. \
                     Help: Reduce disk usage (e.g. delete points or drop collections), or raise `max_disk_usage_percent` \
                     in the global quota config.",
                );
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
            Self::ShardBroken => internal(
                "Failed to Update Points,  Failed to load local shard \"./storage/collections/catalog/0\": Service internal error: \
                 the segments cannot be read",
            ),
        }
    }
}
