//! Conversions between our values and Qdrant's gRPC messages.

use std::collections::HashMap;

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vector_output::Vector as VectorOut;
use qdrant_client::qdrant::{self as proto, NamedVectors, RetrievedPoint, ScoredPoint, Value, Vector, VectorsOutput};

use crate::domain::{Modality, Payload, PointId, RESERVED_KEY, StoreReason, Vectors};
use crate::redact;
use crate::store::{Hit, StoreError, StoredPoint};

pub(super) fn vectors(vectors: &Vectors) -> proto::Vectors {
    let named =
        vectors.iter().map(|(modality, v)| (modality.as_str().to_owned(), Vector::new_dense(v.as_slice().to_vec())));
    NamedVectors { vectors: named.collect() }.into()
}

pub(super) fn values(payload: Payload) -> HashMap<String, Value> {
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
            Err(_) => Err(StoreError::new(
                StoreReason::AnswerInvalid,
                format!("Qdrant answered with point id {:?}; expected a UUID", redact::cut(&text, 60)),
            )),
        },
        Some(PointIdOptions::Num(n)) => Err(StoreError::foreign_point(n)),
        None => Err(StoreError::new(StoreReason::AnswerInvalid, "Qdrant answered with a point without id")),
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
