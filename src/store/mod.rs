//! Port: where points go and are found again. Adapters: a Qdrant server over gRPC, and Qdrant's engine in process.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::config::{StoreKind, StoreSettings};
use crate::domain::{
    AssetId, Class, Embedding, Fault, Fingerprint, Guard, Modality, Payload, PointId, RESERVED_KEY, StoreReason, Write,
};

mod batch;
mod definition;
#[cfg(feature = "embedded")]
mod embedded;
mod filter;
mod guard;
mod path;
mod qdrant;

pub use definition::{
    CollectionDefinition, HnswDefinition, PayloadIndex, PayloadIndexKind, Quantization, VectorsDefinition,
};
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedStore;
pub use qdrant::QdrantStore;

/// Opens the store that `settings` name. A Qdrant server is not contacted yet (use [`Store::check`]); the embedded
/// engine takes the lock of its folder.
pub async fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match settings.kind {
        StoreKind::Qdrant => Arc::new(QdrantStore::connect(settings)?),
        #[cfg(feature = "embedded")]
        StoreKind::Embedded => Arc::new(EmbeddedStore::open(&settings.path, settings.disk_free_bytes_min).await?),
        #[cfg(not(feature = "embedded"))]
        StoreKind::Embedded => return Err(StoreError::not_built()),
    })
}

/// One collection as it must be: `definition` is the parsed file of `migrations/` (or the user's own).
#[derive(Clone, Debug)]
pub struct CollectionSpec {
    pub name: String,
    pub fingerprint: Fingerprint,
    pub definition: CollectionDefinition,
}

#[async_trait]
pub trait Store: Send + Sync {
    /// Creates what is missing (collection, payload indexes, metadata) and checks what is there. A collection whose
    /// fingerprint, dimension or distance differs is an error that names every difference.
    async fn ensure(&self, spec: &CollectionSpec) -> Result<(), StoreError>;

    /// Reads the fingerprint that a collection records.
    async fn fingerprint(&self, collection: &str) -> Result<Option<Fingerprint>, StoreError>;

    /// Points `alias` at `collection` when no collection or alias of that name exists. Returns what it names now.
    async fn ensure_alias(&self, alias: &str, collection: &str) -> Result<String, StoreError>;

    /// Applies `writes` and says of each, in order, what became of it. On return the applied ones are durable and
    /// visible to searches; on error none, some or all may be, and the same batch may be sent again. At most one write
    /// per point id in a batch. `Guard::Check` compares nothing here: its read comes before.
    async fn write(&self, collection: &str, writes: &[Write], guard: Guard) -> Result<Vec<Written>, StoreError>;

    /// What we recorded about points (the object under the reserved key), for those that exist.
    async fn records(&self, collection: &str, ids: &[PointId]) -> Result<Vec<(PointId, Payload)>, StoreError>;

    /// Nearest points first.
    async fn search(&self, collection: &str, query: &Query) -> Result<Vec<Hit>, StoreError>;

    /// Points of the collection, in id order, from after `after`; tombstones too.
    async fn scroll(
        &self,
        collection: &str,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError>;

    /// Points without tombstones.
    async fn count(&self, collection: &str) -> Result<u64, StoreError>;

    /// Points of `asset` that belong to tenants, without tombstones.
    async fn count_of_tenants(&self, collection: &str, asset: &AssetId) -> Result<u64, StoreError>;

    /// Removes the tombstones of assets that were deleted before `before`; says how many there were.
    async fn purge_tombstones(&self, collection: &str, before: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Proves that the store answers; says what it is (name, version).
    async fn check(&self) -> Result<String, StoreError>;

    /// Writes everything down and lets go of files and connections. Idempotent.
    async fn close(&self) -> Result<(), StoreError>;
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Applied,
    /// The store holds something newer. Only from `Guard::Strict`.
    Stale,
    /// The point is not as the write relies on (see `Point::kept`), or another worker changed it while it was written.
    Conflict,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub vector: Embedding,
    /// Which named vector is searched.
    pub modality: Modality,
    pub limit: usize,
    /// Qdrant's own filter in its REST form, for example `{"must": [{"key": "lang", "match": {"value": "en"}}]}`.
    pub filter: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    pub id: PointId,
    /// Cosine similarity.
    pub score: f32,
    /// The whole payload, the reserved key included.
    pub payload: Payload,
}

impl Hit {
    /// The catalog's own id; `None` for points that another program wrote.
    pub fn asset_id(&self) -> Option<&str> {
        asset_id(&self.payload)
    }
}

/// The catalog's own id in a whole payload.
pub fn asset_id(payload: &Payload) -> Option<&str> {
    payload.get(RESERVED_KEY)?.get("asset_id")?.as_str()
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoredPoint {
    pub id: PointId,
    pub image: Option<Vec<f32>>,
    pub text: Option<Vec<f32>>,
    pub payload: Payload,
}

/// The message names the collection, what was found and what was expected. `Permanent` means that the store rejects this very
/// batch (a point in it is invalid); everything shared (down, unauthorised, collection missing or different) is an `Outage`;
/// `Transient` is busy or interrupted.
pub type StoreError = Fault<StoreReason>;

impl StoreError {
    /// Of one point: its message is to be processed anew.
    pub(crate) fn conflict(id: PointId, collection: &str) -> Self {
        let message = format!(
            "point {id} of collection {collection} was changed by another writer, or is gone; the message is tried again"
        );
        Self::new(StoreReason::Conflict, message)
    }

    /// Whether one point of a batch is the reason, so that the others pass without it.
    pub(crate) fn is_about_a_point(&self) -> bool {
        self.class == Class::Permanent || self.reason == StoreReason::Conflict
    }

    #[cfg(not(feature = "embedded"))]
    fn not_built() -> Self {
        let message = "store.kind is embedded, and this build has no embedded store; expected qdrant";
        Self::new(StoreReason::NotBuilt, message)
    }

    fn closed() -> Self {
        Self::new(StoreReason::Closed, "the store is closed")
    }

    fn collection_missing(collection: &str) -> Self {
        Self::new(StoreReason::CollectionMissing, format!("collection {collection} does not exist"))
    }

    /// Our ids are UUIDs; a number is a point of someone else.
    fn foreign_point(id: u64) -> Self {
        let message = format!("the collection holds point {id}, which clipstream did not write; expected UUIDs only");
        Self::new(StoreReason::ForeignPoint, message)
    }

    /// Refusal of a collection that was filled otherwise than `differences` allow.
    fn collection_differs(collection: &str, differences: &[String]) -> Self {
        let message = format!("collection {collection} does not fit the model: {}", differences.join("; "));
        Self::new(StoreReason::CollectionDiffers, message)
    }
}

/// Of the names of pictures' labels, for filters and facets.
pub fn index_of_labels() -> PayloadIndex {
    PayloadIndex { field: format!("{RESERVED_KEY}.labels[].label"), kind: PayloadIndexKind::Keyword }
}

/// What differs between the fingerprint that a collection records and the one of the model.
fn fingerprint_differences(expected: &Fingerprint, found: Option<&Fingerprint>) -> Vec<String> {
    match found {
        Some(found) => expected.differences(found),
        None => vec![format!(
            "fingerprint: found none (clipstream did not create it), expected {} {}",
            expected.variant, expected.checkpoint
        )],
    }
}

/// Everything but tombstones, as a [`Query::filter`].
fn not_tombstones() -> Value {
    json!({ "must": [{ "is_empty": { "key": deleted_at_path() } }] })
}

/// What tenants have of `asset`, as a [`Query::filter`].
fn of_tenants(asset: &AssetId) -> Value {
    let field = |name: &str| format!("{RESERVED_KEY}.{name}");
    json!({
        "must": [{ "key": field("asset_id"), "match": { "value": asset.as_str() } }, { "is_empty": { "key": deleted_at_path() } }],
        "must_not": [{ "is_empty": { "key": field("tenant") } }],
    })
}

fn tombstones_before(before: DateTime<Utc>) -> Value {
    let before = before.to_rfc3339_opts(SecondsFormat::Secs, true);
    json!({ "must": [{ "key": deleted_at_path(), "range": { "lt": before } }] })
}

fn deleted_at_path() -> String {
    format!("{RESERVED_KEY}.deleted_at")
}

/// Where a scroll starts so that `after` itself is left out (both stores start at a given id): `None` when nothing can
/// follow, `Some(None)` at the beginning. Ids are ordered as 128-bit numbers.
fn scroll_start(after: Option<PointId>) -> Option<Option<PointId>> {
    match after {
        None => Some(None),
        Some(after) => {
            let next = after.as_uuid().as_u128().checked_add(1)?;
            Some(Some(PointId::from(uuid::Uuid::from_u128(next))))
        }
    }
}
