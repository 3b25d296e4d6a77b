//! Our values as Qdrant's gRPC messages, and back.

use std::collections::HashMap;

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{
    DeletePoints, DeleteVectors, Operation, PointStructList, SetPayload, UpdateVectors,
};
use qdrant_client::qdrant::vector_output::Vector as VectorOut;
use qdrant_client::qdrant::{
    self as proto, NamedVectors, PointStruct, PointVectors, PointsIdsList, PointsSelector, PointsUpdateOperation,
    RetrievedPoint, ScoredPoint, UpdateMode, Value, Vector, VectorsOutput, VectorsSelector,
};

use crate::domain::{Modality, Payload, PointId, RESERVED_KEY, Vectors};
use crate::redact;
use crate::store::batch::{Batch, user_payload, whole_payload};
use crate::store::{Hit, StoreError, StoredPoint};

/// The operations of a batch, in the order in which they must be applied. A patch takes four steps, because Qdrant's
/// `update_vectors` and `set_payload` refuse points that do not exist:
/// the bare point if it is absent, its vectors, the user's keys, our record.
pub(super) fn operations(batch: &Batch<'_>) -> Vec<PointsUpdateOperation> {
    let mut out = Vec::new();
    if !batch.upserts.is_empty() {
        let points = batch.upserts.iter().map(|point| PointStruct {
            id: Some(id(point.id)),
            payload: values(whole_payload(&point.payload, &point.record)),
            vectors: Some(vectors(&point.vectors)),
        });
        out.push(Operation::Upsert(PointStructList { points: points.collect(), ..PointStructList::default() }));
    }
    for modality in Modality::ALL {
        let without = batch.upserts_without(modality);
        if !without.is_empty() {
            out.push(Operation::DeleteVectors(DeleteVectors {
                points_selector: Some(selector(without)),
                vectors: Some(VectorsSelector { names: vec![modality.as_str().to_owned()] }),
                shard_key_selector: None,
            }));
        }
    }
    if !batch.patches.is_empty() {
        let bare = batch.patches.iter().map(|patch| PointStruct {
            id: Some(id(patch.id)),
            payload: HashMap::new(),
            vectors: Some(vectors(&Vectors::default())),
        });
        out.push(Operation::Upsert(PointStructList {
            points: bare.collect(),
            update_mode: Some(UpdateMode::InsertOnly.into()),
            ..PointStructList::default()
        }));
    }
    let with_vectors: Vec<_> = batch
        .patches
        .iter()
        .filter(|patch| !patch.vectors.is_empty())
        .map(|patch| PointVectors { id: Some(id(patch.id)), vectors: Some(vectors(&patch.vectors)) })
        .collect();
    if !with_vectors.is_empty() {
        out.push(Operation::UpdateVectors(UpdateVectors { points: with_vectors, ..UpdateVectors::default() }));
    }
    for patch in &batch.patches {
        let user = user_payload(&patch.payload);
        if !user.is_empty() {
            out.push(set_payload(patch.id, user, None));
        }
        out.push(set_payload(patch.id, patch.record.to_payload(), Some(RESERVED_KEY)));
    }
    if !batch.deletes.is_empty() {
        let points = Some(selector(batch.deletes.iter().copied()));
        out.push(Operation::DeletePoints(DeletePoints { points, shard_key_selector: None }));
    }
    out.into_iter().map(|operation| PointsUpdateOperation { operation: Some(operation) }).collect()
}

fn set_payload(point: PointId, payload: Payload, key: Option<&str>) -> Operation {
    Operation::SetPayload(SetPayload {
        payload: values(payload),
        points_selector: Some(selector([point])),
        shard_key_selector: None,
        key: key.map(str::to_owned),
    })
}

fn selector(ids: impl IntoIterator<Item = PointId>) -> PointsSelector {
    let ids = PointsIdsList { ids: ids.into_iter().map(id).collect() };
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Points(ids)) }
}

fn vectors(vectors: &Vectors) -> proto::Vectors {
    let named =
        vectors.iter().map(|(modality, v)| (modality.as_str().to_owned(), Vector::new_dense(v.as_slice().to_vec())));
    NamedVectors { vectors: named.collect() }.into()
}

fn values(payload: Payload) -> HashMap<String, Value> {
    payload.into_iter().map(|(key, value)| (key, value.into())).collect()
}

fn payload(values: HashMap<String, Value>) -> Payload {
    values.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

pub(super) fn id(id: PointId) -> proto::PointId {
    proto::PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

fn own_id(id: Option<proto::PointId>) -> Result<PointId, StoreError> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => match uuid::Uuid::parse_str(&text) {
            Ok(id) => Ok(PointId::from(id)),
            Err(_) => Err(StoreError::outage(
                "store_answer_invalid",
                format!("Qdrant answered with point id {:?}; expected a UUID", redact::cut(&text, 60)),
            )),
        },
        Some(PointIdOptions::Num(n)) => Err(StoreError::foreign_point(n)),
        None => Err(StoreError::outage("store_answer_invalid", "Qdrant answered with a point without id")),
    }
}

pub(super) fn hit(point: ScoredPoint) -> Result<Hit, StoreError> {
    Ok(Hit { id: own_id(point.id)?, score: point.score, payload: payload(point.payload) })
}

pub(super) fn record(point: RetrievedPoint) -> Result<(PointId, Payload), StoreError> {
    let ours = match payload(point.payload).remove(RESERVED_KEY) {
        Some(serde_json::Value::Object(ours)) => ours,
        _ => Payload::new(),
    };
    Ok((own_id(point.id)?, ours))
}

pub(super) fn stored(point: RetrievedPoint) -> Result<StoredPoint, StoreError> {
    let named = |modality: Modality| dense(point.vectors.as_ref(), modality);
    let (image, text) = (named(Modality::Image), named(Modality::Text));
    Ok(StoredPoint { id: own_id(point.id)?, image, text, payload: payload(point.payload) })
}

fn dense(vectors: Option<&VectorsOutput>, modality: Modality) -> Option<Vec<f32>> {
    match vectors?.get_vector_by_name(modality.as_str())? {
        VectorOut::Dense(vector) => Some(vector.data),
        VectorOut::Sparse(_) | VectorOut::MultiDense(_) => None,
    }
}
