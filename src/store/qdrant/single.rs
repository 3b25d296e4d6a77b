//! Changes that one operation can make. The steps of `operations` are two operations or more for a point, and an operation costs a
//! server much the same whether it is about one point or hundreds.
//!
//! The records show what each change needs: all absent points are created whole, by one operation; for
//! an existing point, a change without vectors is one operation that sets the user's keys and the whole record, under the condition
//! that the record is still the one that was read. Another read shows whether it was applied. All other changes, and those that
//! were not applied because of another writer, are made in steps, which rely on nothing that was read.

use std::collections::{HashMap, HashSet};

use qdrant_client::qdrant::points_update_operation::{Operation, PointStructList};
use qdrant_client::qdrant::{Condition, PointStruct, PointsUpdateOperation, ReadConsistencyType, UpdateMode};
use serde_json::Value;

use super::client::Client;
use super::condition::unchanged;
use super::convert::{id, values, vectors};
use super::operations::merge;
use super::wordings::INDEX_REQUIRED;
use super::{QdrantStore, error, records};
use crate::domain::{Class, Guard, Modality, Payload, PointId, RESERVED_KEY, Recorded, StoreReason};
use crate::store::StoreError;
use crate::store::batch::{Change, user_payload};

/// What a look at the points found.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub singles: Vec<Single<'a>>,
    /// The store holds something newer.
    pub stale: HashSet<PointId>,
}

/// A change that one operation makes.
pub(super) struct Single<'a> {
    pub change: Change<'a>,
    /// The record that shows afterwards that it was applied.
    leaves: Payload,
    /// Conditions under which the point is still as it was read; `None`: it was absent.
    unchanged: Option<Vec<Condition>>,
}

impl<'a> Single<'a> {
    /// `found`: the stored record. `None` if more than one operation is needed.
    fn of(change: &Change<'a>, found: Option<&Payload>) -> Option<Self> {
        let change = *change;
        let Some(found) = found else {
            let leaves = change.record.to_payload();
            return change.creates().then_some(Self { change, leaves, unchanged: None });
        };
        let recorded = Recorded::read(found);
        let is_quiet = recorded.claim.is_none() && !recorded.is_tombstone() && !found.is_empty();
        let payload_only = change.vectors.is_empty() && !change.replaces;
        if !is_quiet || !payload_only || !keeps(&change, &recorded) {
            return None;
        }
        let leaves = change.record_over(Some(found));
        // Otherwise nothing would show afterwards that it was applied.
        if leaves == *found {
            return None;
        }
        Some(Self { change, leaves, unchanged: Some(unchanged(found)?) })
    }

    pub fn id(&self) -> PointId {
        self.change.id
    }
}

/// All points that are created by one operation, and one for each other point. None depends on another.
pub(super) fn operations(singles: &[Single<'_>]) -> Vec<PointsUpdateOperation> {
    let (absent, present): (Vec<_>, Vec<_>) = singles.iter().partition(|single| single.unchanged.is_none());
    let created = absent.iter().map(|Single { change, .. }| PointStruct {
        id: Some(id(change.id)),
        payload: values(change.created()),
        vectors: Some(vectors(change.vectors)),
    });
    let inserted = Operation::Upsert(PointStructList {
        points: created.collect(),
        update_mode: Some(UpdateMode::InsertOnly.into()),
        ..PointStructList::default()
    });
    let changed = present.into_iter().map(|single| {
        let mut payload = user_payload(single.change.payload);
        payload.insert(RESERVED_KEY.to_owned(), Value::Object(single.leaves.clone()));
        let condition = single.unchanged.clone().unwrap_or_default();
        merge(payload, None, single.id(), Some(condition))
    });
    let inserted = (!absent.is_empty()).then_some(inserted);
    let all = inserted.into_iter().chain(changed);
    all.map(|operation| PointsUpdateOperation { operation: Some(operation) }).collect()
}

/// Whether the collection takes no filter on fields without an index: then only points that are absent are for one operation.
pub(super) fn lacks_index(error: &StoreError) -> bool {
    error.reason == StoreReason::IndexMissing || INDEX_REQUIRED.is_in(&error.message)
}

/// Whether a refused change may be accepted in steps.
pub(super) fn is_for_steps(error: &StoreError) -> bool {
    error.class == Class::Permanent || lacks_index(error)
}

impl QdrantStore {
    /// Looks at the points of `changes`. What it says may be old by the time of the write, which does not rely on it.
    pub(super) async fn plan<'a>(
        &self,
        client: &Client,
        collection: &str,
        changes: &[Change<'a>],
        guard: Guard,
    ) -> Result<Plan<'a>, StoreError> {
        let of_interest = |change: &&Change<'_>| change.creates() || (change.vectors.is_empty() && !change.replaces);
        let ids: Vec<PointId> = changes.iter().filter(of_interest).map(|change| change.id).collect();
        let mut plan = Plan::default();
        if ids.is_empty() {
            return Ok(plan);
        }
        let doing = format!("look at points of collection {collection}");
        let Some(found) = self.agreed_by_all(client, collection, &ids, &doing).await? else { return Ok(plan) };
        let conditions_allowed = !self.lacks_indexes(collection);
        for change in changes.iter().filter(of_interest) {
            let found = found.get(&change.id);
            let is_newer = |found: &Payload| guard.refuses(&change.record.stamp(), &Recorded::read(found).stamp);
            if guard == Guard::Strict && found.is_some_and(is_newer) {
                plan.stale.insert(change.id);
            } else if found.is_none() || conditions_allowed {
                plan.singles.extend(Single::of(change, found));
            }
        }
        Ok(plan)
    }

    /// Which of `singles` were applied in every replica: then all replicas have the new record. If not all
    /// replicas can be read, it is unknown for all of them.
    pub(super) async fn confirm(
        &self,
        client: &Client,
        collection: &str,
        singles: &[Single<'_>],
    ) -> Result<HashSet<PointId>, StoreError> {
        let ids: Vec<PointId> = singles.iter().map(Single::id).collect();
        let doing = format!("read what was written to collection {collection}");
        let Some(found) = self.agreed_by_all(client, collection, &ids, &doing).await? else {
            return Ok(HashSet::new());
        };
        let done = singles.iter().filter(|single| found.get(&single.id()) == Some(&single.leaves));
        Ok(done.map(Single::id).collect())
    }

    /// The records that are the same in every replica. `None` if not all replicas can be read now, or the collection's limit of reads is
    /// reached, which does not prevent writing.
    async fn agreed_by_all(
        &self,
        client: &Client,
        collection: &str,
        ids: &[PointId],
        doing: &str,
    ) -> Result<Option<HashMap<PointId, Payload>>, StoreError> {
        let error = match records::get(client, collection, ids, Some(ReadConsistencyType::All)).await {
            Ok(found) => return records::by_id(found.result).map(Some),
            Err(error) if error::lacks_replicas(&error) => return Ok(None),
            Err(error) => self.failed_for_all(error, doing),
        };
        match error.reason {
            StoreReason::Limited | StoreReason::Busy => return Ok(None),
            StoreReason::CollectionMissing => self.known.doubt(collection),
            _ => {}
        }
        Err(error)
    }
}

/// The vectors that the change keeps are those that it expects, according to a record without a claim.
fn keeps(change: &Change<'_>, found: &Recorded) -> bool {
    change.kept.iter().all(|modality| match modality {
        Modality::Image => change
            .record
            .media
            .as_ref()
            .is_none_or(|media| found.media.as_ref().is_some_and(|found| found.sha256 == media.sha256)),
        Modality::Text => change.record.text_sha256.is_none() || found.text_sha256 == change.record.text_sha256,
    })
}
