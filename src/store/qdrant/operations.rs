//! A batch as Qdrant operations. Each is atomic; operations of other writers may come in between.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{
    DeletePoints, DeleteVectors, Operation, OverwritePayload, PointStructList, SetPayload, UpdateVectors,
};
use qdrant_client::qdrant::{
    Condition, Filter, PointStruct, PointVectors, PointsIdsList, PointsSelector, PointsUpdateOperation, UpdateMode,
    VectorsSelector,
};
use serde_json::Value;

use super::condition::{
    claimable, claimed, claimed_by_others, each, is_mine, keeps, may_have_changed, not_newer, unclaimed, unwritten,
};
use super::convert::{id, values, vectors};
use crate::domain::{Guard, LabelRecord, Modality, Payload, PointId, RESERVED_KEY};
use crate::store::batch::{Batch, Change, no_claim, user_payload, whole_payload};

/// Points with the conditions of an operation on them; `None`: unconditional.
type Selected = Vec<(PointId, Option<Vec<Condition>>)>;

/// In the order in which they must be applied.
pub(super) fn of(batch: &Batch<'_>, guard: Guard) -> Vec<PointsUpdateOperation> {
    let mut out = upserts(batch, guard);
    out.extend(changes(&batch.changes, guard));
    if !batch.removals.is_empty() {
        let points = Some(ids(batch.removals.iter().copied()));
        out.push(Operation::DeletePoints(DeletePoints { points, shard_key_selector: None }));
    }
    out.into_iter().map(operation).collect()
}

pub(super) fn delete_matching(filter: Filter) -> PointsUpdateOperation {
    operation(Operation::DeletePoints(DeletePoints { points: Some(filter.into()), shard_key_selector: None }))
}

fn operation(operation: Operation) -> PointsUpdateOperation {
    PointsUpdateOperation { operation: Some(operation) }
}

/// One operation replaces whole points, so a condition on it is enough. (An update filter applies to existing points;
/// others are inserted.)
fn upserts(batch: &Batch<'_>, guard: Guard) -> Vec<Operation> {
    if batch.upserts.is_empty() {
        return Vec::new();
    }
    let strict = guard == Guard::Strict;
    let points = batch.upserts.iter().map(|upsert| PointStruct {
        id: Some(id(upsert.id)),
        payload: values(upsert.payload()),
        vectors: Some(vectors(upsert.vectors)),
    });
    let allowed = batch.upserts.iter().map(|upsert| (upsert.id, not_newer(&upsert.record.stamp())));
    let mut out = vec![Operation::Upsert(PointStructList {
        points: points.collect(),
        update_filter: strict.then(|| each(allowed.collect())),
        ..PointStructList::default()
    })];
    for modality in Modality::ALL {
        let without = batch.upserts.iter().filter(|upsert| upsert.drops(modality));
        // Not during another writer's patch: its vectors may be there already, while its record is not.
        let mine = |record| [is_mine(record), unclaimed()].concat();
        out.extend(delete_vectors(modality, without.map(|u| (u.id, strict.then(|| mine(u.record)))).collect()));
    }
    out
}

/// Qdrant changes vectors and payload in separate operations, and both fail for missing points. So a missing point is
/// created by one insert. For an existing point the vectors change first and the record, which has their hashes, last.
/// If a vector is rejected, the record stays as it was.
///
/// Under `Strict` a claim comes first, if nothing newer is stored. The other steps apply only while the claim is ours;
/// the last one ends it. Another claim, active or left behind, is broken first. The hashes of the vectors that it may
/// have changed are removed with it.
fn changes(changes: &[Change<'_>], guard: Guard) -> Vec<Operation> {
    let mut out = Vec::new();
    let absent: Vec<_> = changes
        .iter()
        .filter(|change| change.creates())
        .map(|change| PointStruct {
            id: Some(id(change.id)),
            payload: values(change.created()),
            vectors: Some(vectors(change.vectors)),
        })
        .collect();
    if !absent.is_empty() {
        out.push(Operation::Upsert(PointStructList {
            points: absent,
            update_mode: Some(UpdateMode::InsertOnly.into()),
            ..PointStructList::default()
        }));
    }
    if guard == Guard::Strict && !changes.is_empty() {
        for (modality, hash) in [(Modality::Image, "media"), (Modality::Text, "text_sha256")] {
            let mut broken = claimed_by_others(changes);
            broken.must.push(may_have_changed(modality));
            let mut forgotten = Payload::from_iter([(hash.to_owned(), Value::Null)]);
            if modality == Modality::Image {
                // They are of the picture that the vector may not be of any more.
                forgotten.extend(LabelRecord::removed());
            }
            out.push(set(forgotten, Some(RESERVED_KEY), broken.into()));
        }
        out.push(set(no_claim(), Some(RESERVED_KEY), claimed_by_others(changes).into()));
        for change in changes {
            let mut conditions = [not_newer(&change.record.stamp()), keeps(change), unwritten(change.record)].concat();
            conditions.push(claimable(change));
            let claim = [("claim", change.claim().into()), ("claimed_vectors", change.claimed_vectors().into())];
            let claim = Payload::from_iter(claim.map(|(key, value): (&str, Value)| (key.to_owned(), value)));
            out.push(merge(claim, Some(RESERVED_KEY), change.id, Some(conditions)));
        }
    }
    let step = |change: &Change<'_>| match guard {
        Guard::Strict => Some(vec![claimed(change)]),
        Guard::Off | Guard::Check => Some(keeps(change)).filter(|conditions| !conditions.is_empty()),
    };
    out.extend(update_vectors(changes, step));
    for modality in Modality::ALL {
        let without = changes.iter().filter(|change| change.drops(modality));
        out.extend(delete_vectors(modality, without.map(|change| (change.id, step(change))).collect()));
    }
    for change in changes {
        if change.replaces {
            out.push(Operation::OverwritePayload(OverwritePayload {
                payload: values(whole_payload(change.payload, change.record)),
                points_selector: Some(select(vec![(change.id, step(change))])),
                ..OverwritePayload::default()
            }));
            continue;
        }
        let user = user_payload(change.payload);
        if !user.is_empty() {
            out.push(merge(user, None, change.id, step(change)));
        }
        out.push(merge(change.record_merged(), Some(RESERVED_KEY), change.id, step(change)));
    }
    out
}

/// Withdraws the claim of a change that was rejected alone. Nothing of it is stored: its vectors come first, and only
/// they are rejected for their content. In a larger batch it is unknown whose vectors are stored, so claims stay until
/// each change is written or rejected alone.
pub(super) fn withdrawal(batch: &Batch<'_>, guard: Guard) -> Option<PointsUpdateOperation> {
    let [change] = &batch.changes[..] else { return None };
    let alone = guard == Guard::Strict && batch.upserts.is_empty() && batch.removals.is_empty();
    alone.then(|| operation(merge(no_claim(), Some(RESERVED_KEY), change.id, Some(vec![claimed(change)]))))
}

fn update_vectors(changes: &[Change<'_>], step: impl Fn(&Change<'_>) -> Option<Vec<Condition>>) -> Vec<Operation> {
    let (mut free, mut conditional, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes.iter().filter(|change| !change.vectors.is_empty()) {
        let point = PointVectors { id: Some(id(change.id)), vectors: Some(vectors(change.vectors)) };
        match step(change) {
            Some(own) => {
                conditional.push(point);
                conditions.push((change.id, own));
            }
            None => free.push(point),
        }
    }
    let mut out = Vec::new();
    if !free.is_empty() {
        out.push(Operation::UpdateVectors(UpdateVectors { points: free, ..UpdateVectors::default() }));
    }
    if !conditional.is_empty() {
        let update_filter = Some(each(conditions));
        out.push(Operation::UpdateVectors(UpdateVectors {
            points: conditional,
            update_filter,
            ..UpdateVectors::default()
        }));
    }
    out
}

fn delete_vectors(modality: Modality, points: Selected) -> Option<Operation> {
    (!points.is_empty()).then(|| {
        Operation::DeleteVectors(DeleteVectors {
            points_selector: Some(select(points)),
            vectors: Some(VectorsSelector { names: vec![modality.as_str().to_owned()] }),
            shard_key_selector: None,
        })
    })
}

/// Sets `payload`, whose nulls remove their keys, below `key` of one point.
pub(super) fn merge(
    payload: Payload,
    key: Option<&str>,
    point: PointId,
    conditions: Option<Vec<Condition>>,
) -> Operation {
    set(payload, key, select(vec![(point, conditions)]))
}

fn set(payload: Payload, key: Option<&str>, points: PointsSelector) -> Operation {
    Operation::SetPayload(SetPayload {
        payload: values(payload),
        points_selector: Some(points),
        shard_key_selector: None,
        key: key.map(str::to_owned),
    })
}

/// By id if no point has a condition, otherwise by one filter. A filter skips missing points.
fn select(points: Selected) -> PointsSelector {
    if points.iter().all(|(_, conditions)| conditions.is_none()) {
        return ids(points.into_iter().map(|(id, _)| id));
    }
    each(points.into_iter().map(|(id, conditions)| (id, conditions.unwrap_or_default())).collect()).into()
}

fn ids(ids: impl IntoIterator<Item = PointId>) -> PointsSelector {
    let ids = PointsIdsList { ids: ids.into_iter().map(id).collect() };
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Points(ids)) }
}
