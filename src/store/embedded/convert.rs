//! Conversion between our values and the engine's.

use std::collections::HashMap;

use qdrant_edge as edge;
use serde_json::Value;

use crate::domain::{Fingerprint, Modality, Payload, PointId, RESERVED_KEY, StoreReason, Vectors};
use crate::store::batch::{Batch, Change, user_payload, whole_payload};
use crate::store::definition::SCALAR_QUANTILE;
use crate::store::{
    CollectionDefinition, Hit, PayloadIndex, PayloadIndexKind, Quantization, Query, StoreError, StoredPoint, filter,
};

pub(super) fn config(fingerprint: &Fingerprint, definition: &CollectionDefinition) -> edge::EdgeConfig {
    let hnsw = edge::HnswIndexConfig {
        m: definition.hnsw.m as usize,
        ef_construct: definition.hnsw.ef_construct as usize,
        ..edge::HnswIndexConfig::default()
    };
    let params = || {
        edge::EdgeVectorParams::builder(fingerprint.dimension, edge::Distance::Cosine)
            .on_disk(definition.vectors.on_disk)
            .build()
    };
    let mut config = edge::EdgeConfig::builder()
        .on_disk_payload(definition.on_disk_payload.unwrap_or(true))
        .hnsw_config(hnsw)
        // Small enough that a store of a few points is a small folder.
        .wal_options(edge::WalOptions { segment_capacity: 8 * 1024 * 1024, ..edge::WalOptions::default() });
    for modality in Modality::ALL {
        config = config.vector(modality.as_str(), params());
    }
    match definition.quantization {
        Quantization::None => {}
        Quantization::ScalarInt8 => {
            config = config.quantization_config(edge::QuantizationConfig::from(edge::ScalarQuantizationConfig {
                r#type: edge::ScalarType::Int8,
                quantile: Some(SCALAR_QUANTILE),
                always_ram: Some(true),
            }));
        }
    }
    config.build()
}

pub(super) fn create_index(index: &PayloadIndex) -> Result<edge::UpdateOperation, StoreError> {
    let kind = match index.kind {
        PayloadIndexKind::Keyword => edge::PayloadSchemaType::Keyword,
        PayloadIndexKind::Integer => edge::PayloadSchemaType::Integer,
        PayloadIndexKind::Float => edge::PayloadSchemaType::Float,
        PayloadIndexKind::Bool => edge::PayloadSchemaType::Bool,
        PayloadIndexKind::Datetime => edge::PayloadSchemaType::Datetime,
        PayloadIndexKind::Text => edge::PayloadSchemaType::Text,
        PayloadIndexKind::Uuid => edge::PayloadSchemaType::Uuid,
    };
    Ok(edge::UpdateOperation::FieldIndexOperation(edge::FieldIndexOperations::CreateIndex(edge::CreateIndex {
        field_name: path(&index.field)?,
        field_schema: Some(edge::PayloadFieldSchema::FieldType(kind)),
    })))
}

pub(super) fn path(path: &str) -> Result<edge::JsonPath, StoreError> {
    path.parse().map_err(|()| {
        StoreError::new(
            StoreReason::PathInvalid,
            format!("{path:?} is not a payload path; expected one such as \"a.b\""),
        )
    })
}

/// The operations of a batch, in the order in which they must be applied. Like the Qdrant adapter's, but without conditions,
/// because there is no other writer. `stored`: the records of the changed points that exist.
pub(super) fn operations(
    batch: &Batch<'_>,
    stored: &HashMap<PointId, Payload>,
) -> Result<Vec<edge::UpdateOperation>, StoreError> {
    let mut out = Vec::new();
    let (created, changes): (Vec<&Change<'_>>, _) =
        batch.changes.iter().partition(|change| change.creates() && !stored.contains_key(&change.id));
    let created = created.into_iter().map(|change| point(change.id, change.vectors, change.created()));
    let upserts = batch.upserts.iter().map(|upsert| point(upsert.id, upsert.vectors, upsert.payload()));
    let points: Vec<_> = upserts.chain(created).collect();
    if !points.is_empty() {
        out.push(point_op(edge::PointOperations::UpsertPoints(edge::PointInsertOperations::PointsList(points))));
    }
    let with_vectors: Vec<_> = changes
        .iter()
        .filter(|change| !change.vectors.is_empty())
        .map(|change| edge::PointVectorsPersisted { id: id(change.id), vector: vectors(change.vectors) })
        .collect();
    if !with_vectors.is_empty() {
        let update = edge::UpdateVectorsOp { points: with_vectors, update_filter: None };
        out.push(edge::UpdateOperation::VectorOperation(edge::VectorOperations::UpdateVectors(update)));
    }
    for modality in Modality::ALL {
        let upserts = batch.upserts.iter().filter(|upsert| upsert.drops(modality)).map(|upsert| id(upsert.id));
        let changed = changes.iter().filter(|change| change.drops(modality)).map(|change| id(change.id));
        let without: Vec<_> = upserts.chain(changed).collect();
        if !without.is_empty() {
            let names = vec![modality.as_str().to_owned()];
            out.push(edge::UpdateOperation::VectorOperation(edge::VectorOperations::DeleteVectors(
                without.into(),
                names,
            )));
        }
    }
    for change in changes {
        if change.replaces {
            let whole = whole_payload(change.payload, change.record);
            out.push(edge::UpdateOperation::PayloadOperation(edge::PayloadOps::OverwritePayload(payload_op(
                change.id, whole, None,
            ))));
            continue;
        }
        // The user's keys and the whole record at once: an operation of the engine costs more than the record's bytes.
        let mut merged = user_payload(change.payload);
        let record = change.record_over(stored.get(&change.id));
        merged.insert(RESERVED_KEY.to_owned(), record.into());
        let merge = payload_op(change.id, merged, None);
        out.push(edge::UpdateOperation::PayloadOperation(edge::PayloadOps::SetPayload(merge)));
    }
    if !batch.removals.is_empty() {
        out.push(point_op(edge::PointOperations::DeletePoints {
            ids: batch.removals.iter().copied().map(id).collect(),
        }));
    }
    Ok(out)
}

pub(super) fn delete_matching(filter: edge::Filter) -> edge::UpdateOperation {
    point_op(edge::PointOperations::DeletePointsByFilter(filter))
}

fn point_op(operation: edge::PointOperations) -> edge::UpdateOperation {
    edge::UpdateOperation::PointOperation(operation)
}

fn payload_op(point: PointId, payload: Payload, key: Option<edge::JsonPath>) -> edge::SetPayloadOp {
    edge::SetPayloadOp { payload: edge::Payload(payload), points: Some(vec![id(point)]), filter: None, key }
}

fn point(of: PointId, named: &Vectors, payload: Payload) -> edge::PointStructPersisted {
    edge::PointStructPersisted { id: id(of), vector: vectors(named), payload: Some(edge::Payload(payload)) }
}

fn vectors(vectors: &Vectors) -> edge::VectorStructPersisted {
    let named = vectors
        .iter()
        .map(|(modality, v)| (modality.as_str().to_owned(), edge::VectorPersisted::Dense(v.as_slice().to_vec())));
    edge::VectorStructPersisted::Named(named.collect())
}

pub(super) fn search(query: &Query) -> Result<edge::SearchRequest, StoreError> {
    let vector = edge::VectorInternal::Dense(query.vector.as_slice().to_vec());
    Ok(edge::SearchRequest {
        query: edge::QueryEnum::Nearest(edge::NamedQuery::new(vector, query.modality.as_str())),
        filter: query.filter.as_ref().map(read_filter).transpose()?,
        params: None,
        limit: query.limit,
        offset: 0,
        with_payload: Some(edge::WithPayloadInterface::Bool(true)),
        with_vector: None,
        score_threshold: None,
    })
}

pub(super) fn read_filter(value: &Value) -> Result<edge::Filter, StoreError> {
    // Our own parser first: its errors name the path, and both stores then accept the same filters.
    filter::parse(value)?;
    serde_json::from_value(value.clone())
        .map_err(|e| StoreError::new(StoreReason::FilterInvalid, format!("the engine cannot read the filter: {e}")))
}

pub(super) fn id(id: PointId) -> edge::PointId {
    edge::PointId::Uuid(id.as_uuid())
}

pub(super) fn own_id(id: edge::PointId) -> Result<PointId, StoreError> {
    match id {
        edge::PointId::Uuid(id) => Ok(PointId::from(id)),
        edge::PointId::NumId(n) => Err(StoreError::foreign_point(n)),
    }
}

pub(super) fn hit(point: edge::ScoredPoint) -> Result<Hit, StoreError> {
    Ok(Hit { id: own_id(point.id)?, score: point.score, payload: point.payload.map(|p| p.0).unwrap_or_default() })
}

pub(super) fn record(record: edge::Record) -> Result<(PointId, Payload), StoreError> {
    let mut payload = record.payload.map(|p| p.0).unwrap_or_default();
    let ours = match payload.remove(RESERVED_KEY) {
        Some(Value::Object(ours)) => ours,
        _ => Payload::new(),
    };
    Ok((own_id(record.id)?, ours))
}

pub(super) fn stored(record: edge::Record) -> Result<StoredPoint, StoreError> {
    let (mut image, mut text) = (None, None);
    if let Some(edge::VectorStructInternal::Named(named)) = record.vector {
        for (name, vector) in named {
            let edge::VectorInternal::Dense(values) = vector else { continue };
            match name.as_str() {
                "image" => image = Some(values),
                "text" => text = Some(values),
                _ => {}
            }
        }
    }
    Ok(StoredPoint { id: own_id(record.id)?, image, text, payload: record.payload.map(|p| p.0).unwrap_or_default() })
}

pub(super) fn error(error: &edge::OperationError, collection: &str) -> StoreError {
    use edge::OperationError as E;
    let message = format!("collection {collection}: {error}");
    match error {
        E::WrongVectorDimension { .. }
        | E::VectorNameNotExists { .. }
        | E::TypeError { .. }
        | E::TypeInferenceError { .. }
        | E::ValidationError { .. }
        | E::WrongSparse
        | E::WrongMulti
        | E::MissingRangeIndexForOrderBy { .. }
        | E::MissingMapIndexForFacet { .. }
        | E::VariableTypeError { .. }
        | E::NonFiniteNumber { .. } => StoreError::new(StoreReason::Rejected, message),
        E::PointIdError { .. } | E::Cancelled { .. } | E::Timeout { .. } => StoreError::new(StoreReason::Busy, message),
        E::ServiceError { .. } | E::InconsistentStorage { .. } | E::OutOfMemory { .. } => {
            StoreError::new(StoreReason::Failed, message).hint("check store.path and free space and memory")
        }
    }
}
