//! Every text and metadata key of other programs that this adapter looks for.
//!
//! If possible, a status code decides (`error`). A text decides only if one code has several meanings, and which next
//! step is suggested. Each entry names the program and the source file it was read in. Qdrant's entries were read at
//! v1.17.1, v1.18.3 and v1.19.0, and are the same in all of them unless noted.
//!
//! The tests' fake server (`tests/support`) takes its texts from the same source files, not from here. The tests below
//! compare the two. `make test-qdrant` checks both against real servers.

use tonic::{Code, Status};

/// A part of another program's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording {
    part: &'static str,
    /// The status codes it comes with.
    codes: &'static [Code],
}

impl Wording {
    const fn new(part: &'static str, codes: &'static [Code]) -> Self {
        Self { part, codes }
    }

    pub fn is_said_by(&self, status: &Status) -> bool {
        self.codes.contains(&status.code()) && self.is_in(status.message())
    }

    /// For a text whose code was checked before.
    pub fn is_in(&self, message: &str) -> bool {
        message.contains(self.part)
    }
}

/// Qdrant, `CollectionError::PointNotFound` in lib/collection/src/operations/types.rs. Another worker deleted the point
/// between the steps of a patch.
pub(super) const NO_POINT: Wording = Wording::new("No point with id", &[Code::NotFound]);

/// Qdrant, lib/collection/src/shards/replica_set/execute_read_operation.rs. The read asks for more replicas than live.
pub(super) const TOO_FEW_REPLICAS: Wording = Wording::new("does not have enough active replicas", &[Code::Internal]);

/// Qdrant, lib/storage/src/content_manager/collections_ops.rs. If an alias has the name: `InvalidArgument`, from
/// toc/create_collection.rs in the same folder.
pub(super) const ALREADY_EXISTS: Wording =
    Wording::new("already exists", &[Code::AlreadyExists, Code::InvalidArgument]);

/// Qdrant, lib/collection/src/operations/verification/mod.rs. Strict mode refuses a filter on a field without an index.
pub(super) const INDEX_REQUIRED: Wording = Wording::new("Index required but not found", &[Code::InvalidArgument]);

/// The collection or the node is full.
pub(super) const FULL: [Wording; 3] = [
    // Qdrant, lib/collection/src/operations/verification: `Max points count limit of`, same for vectors and payload
    // (update.rs); `Limit exceeded`, `Filter condition limit reached`, `Condition size limit reached` (mod.rs).
    Wording::new("imit", &[Code::InvalidArgument]),
    // Qdrant since 1.18, the same mod.rs: `Resident memory usage is at`; `Disk usage is at` in 1.18 only.
    Wording::new("usage is at", &[Code::InvalidArgument]),
    // Qdrant, src/common/update.rs: `the maximum number of payload indices`.
    Wording::new("maximum number of", &[Code::InvalidArgument]),
];

/// The request is larger than the server or a proxy accepts; the message says how large it may be.
pub(super) const TOO_LARGE: [Wording; 3] = [
    // tonic 0.14 (src/codec/decode.rs) sends `OutOfRange`, others send the code that gRPC defines for it.
    Wording::new("message length too large", &[Code::OutOfRange, Code::ResourceExhausted]),
    // grpc-go (rpc_util.go), used by many proxies.
    Wording::new("message larger than max", &[Code::ResourceExhausted]),
    // tonic 0.14 (src/status.rs), for an HTTP proxy's answer.
    Wording::new("HTTP status code 413", &[Code::Unknown, Code::Internal]),
];

/// tonic 0.14, `TimeoutExpired` in src/status.rs: this client's own timeout ended the request.
pub(super) const CLIENT_TIMEOUT: Wording = Wording::new("Timeout expired", &[Code::Cancelled]);

/// rustls 0.23, `Error::InvalidCertificate` in src/error.rs: this client does not trust the server's certificate.
pub(super) const CERTIFICATE: Wording = Wording::new("certificate", &[Code::Unavailable]);

/// Rust's `std::io::Error`: the text before the error number, which differs between systems.
pub(super) const OS_ERROR: &str = " (os error ";

/// Qdrant, lib/storage/src/content_manager/conversions.rs: metadata of a transient `ResourceExhausted`, in seconds.
pub(super) const RETRY_AFTER: &str = "retry-after";

/// Qdrant since 1.19, `INSUFFICIENT_STORAGE_METADATA_KEY` in lib/collection/src/operations/types.rs: metadata of a
/// `ResourceExhausted` that is not a rate limit.
pub(super) const QUOTA_REACHED: &str = "qdrant-insufficient-storage";

#[cfg(test)]
mod tests {
    use clipstream_test_support::qdrant::{Trouble, status};

    use super::*;

    /// Qdrant's entries, each with the fake server's statuses for that case.
    fn said() -> Vec<(Wording, Vec<Status>)> {
        let (disk, memory) = (Trouble::DiskLimit.status(), Trouble::MemoryLimit.status());
        let [limit, usage, maximum] = FULL;
        let limits = vec![
            status::points_limit(100),
            status::vectors_limit(1 << 20),
            status::payload_limit(1 << 20),
            status::limit_exceeded("upsert limit", 3, 2),
            status::too_many_conditions(2, 1),
            status::condition_too_large(2, 1),
            disk.clone(),
            memory.clone(),
        ];
        vec![
            (NO_POINT, vec![status::no_point(1)]),
            (TOO_FEW_REPLICAS, vec![status::too_few_replicas()]),
            (ALREADY_EXISTS, vec![status::collection_exists("a"), status::name_is_an_alias("a")]),
            (INDEX_REQUIRED, vec![status::index_required("a", "keyword")]),
            (limit, limits),
            (usage, vec![disk, memory]),
            (maximum, vec![status::too_many_indexes(1)]),
        ]
    }

    #[test]
    fn the_double_says_what_is_looked_for_and_nothing_else_is_taken_for_it() {
        let said = said();
        let others = [
            status::no_collection("a"),
            status::no_alias("a"),
            status::exact_search_disabled(),
            status::rate_never("Write"),
            status::rate_later("Write", 8.0, 0.5, 1),
            status::no_api_key(),
            status::wrong_api_key(),
            Trouble::NoSpace.status(),
            Trouble::NoActiveReplica.status(),
            Trouble::Quota.status(),
        ];
        for (wording, mine) in &said {
            assert!(mine.iter().all(|status| wording.is_said_by(status)), "{wording:?} is not in all of {mine:?}");
            let is_mine = |status: &Status| mine.iter().any(|mine| mine.message() == status.message());
            let all = said.iter().flat_map(|(_, statuses)| statuses).chain(&others);
            for status in all.filter(|status| !is_mine(status)) {
                assert!(!wording.is_said_by(status), "{wording:?} is in {status:?}");
            }
        }
    }

    #[test]
    fn rate_limits_and_the_quota_are_recognised_by_their_metadata() {
        let has = |status: Status| [RETRY_AFTER, QUOTA_REACHED].map(|key| status.metadata().contains_key(key));
        assert_eq!(has(status::rate_later("Read", 8.0, 0.5, 1)), [true, false]);
        assert_eq!(has(status::rate_never("Read")), [false, false]);
        assert_eq!(has(Trouble::Quota.status()), [false, true]);
    }

    #[test]
    fn what_our_own_libraries_say_is_asked_of_them() {
        assert_eq!(tonic::TimeoutExpired(()).to_string(), CLIENT_TIMEOUT.part);
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(CERTIFICATE.is_in(&refused.to_string()), "{refused}");
        let refused = std::io::Error::from_raw_os_error(1).to_string();
        assert!(refused.contains(OS_ERROR), "{refused}");
    }
}
