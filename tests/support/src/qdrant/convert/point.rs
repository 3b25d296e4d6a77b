//! Points and their vectors. The endpoint knows dense vectors only.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::{vector, vector_output, vectors, vectors_output};
use qdrant_edge::{
    PointStructPersisted, PointVectorsPersisted, Record, ScoredPoint, VectorInternal, VectorPersisted,
    VectorStructInternal, VectorStructPersisted,
};
use std::collections::HashMap;
use tonic::Status;

use super::{id_in, id_out, payload_in, payload_out};
use crate::qdrant::status::{internal, unsupported};

pub fn point_in(point: proto::PointStruct) -> Result<PointStructPersisted, Status> {
    let proto::PointStruct { id, payload, vectors } = point;
    Ok(PointStructPersisted { id: id_in(id)?, vector: vectors_in(vectors)?, payload: Some(payload_in(payload)?) })
}

pub fn point_vectors_in(point: proto::PointVectors) -> Result<PointVectorsPersisted, Status> {
    let proto::PointVectors { id, vectors } = point;
    Ok(PointVectorsPersisted { id: id_in(id)?, vector: vectors_in(vectors)? })
}

fn vectors_in(vectors: Option<proto::Vectors>) -> Result<VectorStructPersisted, Status> {
    match vectors.and_then(|vectors| vectors.vectors_options) {
        None => Err(Status::invalid_argument("Expected some vectors")),
        Some(vectors::VectorsOptions::Vector(vector)) => Ok(VectorStructPersisted::Single(dense_in(vector)?)),
        Some(vectors::VectorsOptions::Vectors(named)) => named
            .vectors
            .into_iter()
            .map(|(name, vector)| Ok((name, VectorPersisted::Dense(dense_in(vector)?))))
            .collect::<Result<_, Status>>()
            .map(VectorStructPersisted::Named),
    }
}

/// A dense vector in either form: clients before 1.16 use `data`.
#[allow(deprecated)]
fn dense_in(vector: proto::Vector) -> Result<Vec<f32>, Status> {
    let proto::Vector { data, indices, vectors_count, vector } = vector;
    if indices.is_some() || vectors_count.is_some() {
        return Err(unsupported("sparse and multi vectors"));
    }
    match vector {
        None => Ok(data),
        Some(vector::Vector::Dense(dense)) => Ok(dense.data),
        Some(vector::Vector::Sparse(_) | vector::Vector::MultiDense(_)) => Err(unsupported("sparse and multi vectors")),
        Some(vector::Vector::Document(_) | vector::Vector::Image(_) | vector::Vector::Object(_)) => {
            Err(unsupported("inference"))
        }
    }
}

pub fn record_out(record: Record) -> Result<proto::RetrievedPoint, Status> {
    Ok(proto::RetrievedPoint {
        id: Some(id_out(record.id)),
        payload: payload_out(record.payload),
        vectors: record.vector.map(vectors_out).transpose()?,
        shard_key: None,
        order_value: None,
    })
}

pub fn scored_out(point: ScoredPoint) -> Result<proto::ScoredPoint, Status> {
    Ok(proto::ScoredPoint {
        id: Some(id_out(point.id)),
        payload: payload_out(point.payload),
        score: point.score,
        version: point.version,
        vectors: point.vector.map(vectors_out).transpose()?,
        shard_key: None,
        order_value: None,
    })
}

fn vectors_out(vectors: VectorStructInternal) -> Result<proto::VectorsOutput, Status> {
    let options = match vectors {
        VectorStructInternal::Single(vector) => vectors_output::VectorsOptions::Vector(dense_out(vector)),
        VectorStructInternal::Named(named) => {
            let vectors = named
                .into_iter()
                .map(|(name, vector)| match vector {
                    VectorInternal::Dense(vector) => Ok((name, dense_out(vector))),
                    VectorInternal::Sparse(_) | VectorInternal::MultiDense(_) => Err(internal("a vector is not dense")),
                })
                .collect::<Result<HashMap<_, _>, Status>>()?;
            vectors_output::VectorsOptions::Vectors(proto::NamedVectorsOutput { vectors })
        }
        VectorStructInternal::MultiDense(_) => return Err(internal("a vector is not dense")),
    };
    Ok(proto::VectorsOutput { vectors_options: Some(options) })
}

#[allow(deprecated)]
fn dense_out(data: Vec<f32>) -> proto::VectorOutput {
    proto::VectorOutput {
        data: Vec::new(),
        indices: None,
        vectors_count: None,
        vector: Some(vector_output::Vector::Dense(proto::DenseVector { data })),
    }
}
