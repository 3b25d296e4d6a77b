//! A batch as Qdrant's operations. Each is applied as a whole; operations of other writers may come in between.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{
    DeletePoints, DeleteVectors, Operation, OverwritePayload, PointStructList, SetPayload, UpdateVectors,
};
use qdrant_client::qdrant::{
    Condition, Filter, PointStruct, PointVectors, PointsIdsList, PointsSelector, PointsUpdateOperation, UpdateMode,
    VectorsSelector,
};
use serde_json::Map;

use super::condition::{each, is_mine, keeps, not_newer};
use super::convert::{id, values, vectors};
use crate::domain::{Guard, Modality, Payload, PointId, RESERVED_KEY, Vectors};
use crate::store::batch::{Batch, Change, user_payload, whole_payload};

/// Points with the conditions under which an operation concerns them; none: always.
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

/// One operation replaces whole points, so that a condition on it is enough. (An update filter concerns points that
/// exist; others are inserted.)
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
        out.extend(delete_vectors(modality, without.map(|u| (u.id, strict.then(|| is_mine(u.record)))).collect()));
    }
    out
}

/// Qdrant changes vectors and payload in operations of their own, and both refuse points that do not exist. So: the bare
/// point if it is absent, a claim, the vectors, and last the payload with the hashes of the vectors. Under `Strict` the
/// claim is made where nothing newer is stored, and all later steps are taken only while the claim is still ours.
fn changes(changes: &[Change<'_>], guard: Guard) -> Vec<Operation> {
    let mut out = Vec::new();
    let bare: Vec<_> = changes
        .iter()
        .filter(|change| change.creates())
        .map(|change| PointStruct {
            id: Some(id(change.id)),
            payload: values(Map::from_iter([(RESERVED_KEY.to_owned(), change.claim().into())])),
            vectors: Some(vectors(&Vectors::default())),
        })
        .collect();
    if !bare.is_empty() {
        out.push(Operation::Upsert(PointStructList {
            points: bare,
            update_mode: Some(UpdateMode::InsertOnly.into()),
            ..PointStructList::default()
        }));
    }
    if guard == Guard::Strict {
        for change in changes {
            let conditions = [not_newer(&change.record.stamp()), keeps(change)].concat();
            out.push(merge(change.claim_merged(), Some(RESERVED_KEY), change.id, Some(conditions)));
        }
    }
    let step = |change: &Change<'_>| match guard {
        Guard::Strict => Some(is_mine(change.record)),
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

fn merge(payload: Payload, key: Option<&str>, point: PointId, conditions: Option<Vec<Condition>>) -> Operation {
    Operation::SetPayload(SetPayload {
        payload: values(payload),
        points_selector: Some(select(vec![(point, conditions)])),
        shard_key_selector: None,
        key: key.map(str::to_owned),
    })
}

/// By id while no point has a condition, else by one filter. Absent points are passed over by a filter.
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
