//! What is to blame when the server rejects a write: a point in it, or something that all points share.
//!
//! A full collection, a limit of strict mode, low disk and a point with a broken vector have the same status code, and
//! their texts change between versions. So no text decides. Before a point is blamed, the collection is checked (it may
//! have been recreated), and a known-good write is tried: the same kind of write, under the same guard and at the same
//! node, with unit vectors and no payload. If that is rejected too, it is an outage. A point is blamed only if it is
//! rejected between two good writes.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{Operation, PointStructList};
use qdrant_client::qdrant::{Condition, Filter, PointStruct, PointsSelector, PointsUpdateOperation, UpdateMode};
use uuid::Uuid;

use super::client::Client;
use super::{QdrantStore, error, operations};
use crate::domain::{
    AssetId, Class, Deletion, Embedding, Guard, MediaRecord, Modality, Patch, Payload, Point, PointId, Record,
    StoreReason, Vectors, Write,
};
use crate::store::batch::Batch;
use crate::store::{StoreError, Written};

/// Differs from the namespace of assets' points, so that test writes never touch one of those.
const NAMESPACE: Uuid = Uuid::from_u128(0x8d1c_55a5_0c5e_5f0d_9b27_6c1f_3a90_71e4);
/// Placeholder for a hash, of the same length.
const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl QdrantStore {
    /// Finds the blame for rejected `writes`. A single point is tried once more, so that it is not blamed for a limit
    /// that was just lifted: it is to blame only if it is rejected between two good writes.
    pub(super) async fn blamed(
        &self,
        client: &Client,
        collection: &str,
        writes: &[Write],
        guard: Guard,
        rejected: StoreError,
    ) -> Result<Vec<Written>, StoreError> {
        let blamed = self.blame(client, collection, writes, guard, rejected).await;
        if writes.len() > 1 || blamed.class != Class::Permanent {
            return Err(blamed);
        }
        match self.apply(client, collection, writes, guard).await {
            Err(error) if error.class == Class::Permanent => {
                Err(self.blame(client, collection, writes, guard, error).await)
            }
            result => result,
        }
    }

    /// Returns `rejected` if it is about a point among `writes`, otherwise the error that explains it.
    async fn blame(
        &self,
        client: &Client,
        collection: &str,
        writes: &[Write],
        guard: Guard,
        rejected: StoreError,
    ) -> StoreError {
        // The collection was never ensured, so there is nothing to compare it with.
        let Some(spec) = self.known.spec(collection) else { return rejected };
        if let Err(error) = self.look(client, &spec).await {
            return error;
        }
        match self.try_good(client, collection, spec.fingerprint.dimension, writes, guard).await {
            Ok(()) => rejected,
            Err(error) if error.class == Class::Permanent => error::refused_to_all(rejected),
            Err(error) => error,
        }
    }

    /// Tries a write that is known to be good, without leaving a trace.
    async fn try_good(
        &self,
        client: &Client,
        collection: &str,
        dimension: usize,
        writes: &[Write],
        guard: Guard,
    ) -> Result<(), StoreError> {
        let good = good_writes(writes, dimension)?;
        let operations: Vec<_> =
            operations::of(&Batch::new(&good, guard)?, guard).into_iter().filter_map(without_trace).collect();
        if operations.is_empty() {
            return Ok(());
        }
        let operations = || operations.clone();
        let doing = format!("try a write to collection {collection} that is known to be good");
        match self.update(client, collection, operations, super::ordering(guard), &doing).await {
            // Expected: the test points do not exist.
            Err(error) if error.reason == StoreReason::Conflict => Ok(()),
            result => result,
        }
    }
}

/// One write of each kind among `writes`, to points that do not exist.
fn good_writes(writes: &[Write], dimension: usize) -> Result<Vec<Write>, StoreError> {
    let mut good: Vec<(Kind, Write)> = Vec::new();
    for write in writes {
        let kind = Kind::of(write);
        if good.iter().all(|(other, _)| *other != kind) {
            let name = format!("good {}", good.len());
            let id = PointId::from(Uuid::new_v5(&NAMESPACE, name.as_bytes()));
            good.push((kind, good_write(write, id, dimension)?));
        }
    }
    Ok(good.into_iter().map(|(_, write)| write).collect())
}

/// What determines the operations of a write.
#[derive(PartialEq)]
struct Kind {
    operation: std::mem::Discriminant<Write>,
    image: bool,
    text: bool,
    kept: Vec<Modality>,
    versioned: bool,
}

impl Kind {
    fn of(write: &Write) -> Self {
        let (image, text) = match vectors_of(write) {
            Some(vectors) => (vectors.image.is_some(), vectors.text.is_some()),
            None => (false, false),
        };
        Self {
            operation: std::mem::discriminant(write),
            image,
            text,
            kept: write.kept().to_vec(),
            versioned: write.record().version.is_some(),
        }
    }
}

fn vectors_of(write: &Write) -> Option<&Vectors> {
    match write {
        Write::Upsert(point) => Some(&point.vectors),
        Write::Patch(patch) => Some(&patch.vectors),
        Write::Delete(_) => None,
    }
}

/// Like `write` in all that the server checks, without the message's content. Version and position are kept: they make
/// its filters as long as those of the message.
fn good_write(write: &Write, id: PointId, dimension: usize) -> Result<Write, StoreError> {
    let impossible = |what: String| StoreError::new(StoreReason::Failed, format!("no good write can be made: {what}"));
    let asset = AssetId::new("clipstream: a write that is tried").map_err(|e| impossible(e.to_string()))?;
    let like = write.record();
    let record = Record {
        asset,
        tenant: None,
        source: like.source.clone(),
        version: like.version,
        media: like.media.as_ref().map(|_| good_media()),
        text_sha256: like.text_sha256.as_ref().map(|_| HASH.to_owned()),
        labels: None,
        deleted_at: like.deleted_at.clone(),
        base: like.base.clone(),
        indexed_at: like.indexed_at.clone(),
    };
    let mut direction = vec![0.0; dimension];
    direction.iter_mut().take(1).for_each(|first| *first = 1.0);
    let unit = Embedding::normalised(direction).ok();
    let vectors = |like: &Vectors| Vectors {
        image: unit.clone().filter(|_| like.image.is_some()),
        text: unit.clone().filter(|_| like.text.is_some()),
    };
    let payload = Payload::new();
    Ok(match write {
        Write::Upsert(point) => {
            Write::Upsert(Point { id, vectors: vectors(&point.vectors), kept: point.kept.clone(), payload, record })
        }
        Write::Patch(patch) => {
            Write::Patch(Patch { id, vectors: vectors(&patch.vectors), kept: patch.kept.clone(), payload, record })
        }
        Write::Delete(_) => Write::Delete(Deletion { id, record }),
    })
}

fn good_media() -> MediaRecord {
    MediaRecord {
        url: String::new(),
        etag: None,
        last_modified: None,
        version_id: None,
        sha256: HASH.to_owned(),
        width: 1,
        height: 1,
        mime: "image/png".into(),
    }
}

/// The same operation without effect. Upserts become updates of points that do not exist; selections by id, which would
/// be `NotFound`, become filters. The server still applies its limits: it does so before it looks for the points
/// (Qdrant's lib/collection/src/operations/verification/update.rs).
fn without_trace(operation: PointsUpdateOperation) -> Option<PointsUpdateOperation> {
    let quiet = match operation.operation? {
        Operation::Upsert(upsert) => {
            Operation::Upsert(PointStructList { update_mode: Some(UpdateMode::UpdateOnly.into()), ..upsert })
        }
        // For missing points this is an error under any filter. Its limits are those of an upsert.
        Operation::UpdateVectors(update) => Operation::Upsert(PointStructList {
            points: update
                .points
                .into_iter()
                .map(|point| PointStruct { id: point.id, vectors: point.vectors, ..PointStruct::default() })
                .collect(),
            update_filter: update.update_filter,
            update_mode: Some(UpdateMode::UpdateOnly.into()),
            ..PointStructList::default()
        }),
        Operation::SetPayload(mut set) => {
            set.points_selector = by_filter(set.points_selector);
            Operation::SetPayload(set)
        }
        Operation::OverwritePayload(mut set) => {
            set.points_selector = by_filter(set.points_selector);
            Operation::OverwritePayload(set)
        }
        Operation::DeleteVectors(mut delete) => {
            delete.points_selector = by_filter(delete.points_selector);
            Operation::DeleteVectors(delete)
        }
        other => other,
    };
    Some(PointsUpdateOperation { operation: Some(quiet) })
}

fn by_filter(selector: Option<PointsSelector>) -> Option<PointsSelector> {
    match selector?.points_selector_one_of? {
        PointsSelectorOneOf::Points(list) => Some(Filter::must([Condition::has_id(list.ids)]).into()),
        filter => Some(PointsSelector { points_selector_one_of: Some(filter) }),
    }
}
