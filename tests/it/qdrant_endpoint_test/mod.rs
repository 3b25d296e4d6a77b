//! The test endpoint itself, through the real client.

mod batch;
mod collections;
mod connection;
mod filters;
mod points;
mod strict;

use std::path::Path;

use clipstream_test_support::qdrant::QdrantEndpoint;
use qdrant_client::qdrant::{
    CreateCollectionBuilder, Distance, NamedVectors, PointStruct, UpsertPointsBuilder, VectorParamsBuilder,
    VectorsConfigBuilder,
};
use qdrant_client::{Payload, Qdrant, QdrantError};
use tonic::{Code, Status};

const NAME: &str = "catalog__test";

fn client(endpoint: &QdrantEndpoint) -> Qdrant {
    Qdrant::from_url(&endpoint.url()).skip_compatibility_check().build().unwrap()
}

/// An endpoint with one collection: `image` and `text`, cosine, 3 dimensions.
async fn with_collection(dir: &Path) -> (QdrantEndpoint, Qdrant) {
    let endpoint = QdrantEndpoint::start(dir);
    let client = client(&endpoint);
    client.create_collection(CreateCollectionBuilder::new(NAME).vectors_config(two_vectors())).await.unwrap();
    (endpoint, client)
}

fn two_vectors() -> VectorsConfigBuilder {
    let mut vectors = VectorsConfigBuilder::default();
    for name in ["image", "text"] {
        vectors.add_named_vector_params(name, VectorParamsBuilder::new(3, Distance::Cosine));
    }
    vectors
}

fn point(id: u64, image: [f32; 3], payload: serde_json::Value) -> PointStruct {
    let vectors = NamedVectors::default().add_vector("image", image.to_vec());
    PointStruct::new(id, vectors, Payload::try_from(payload).unwrap())
}

async fn upsert(client: &Qdrant, points: Vec<PointStruct>) {
    client.upsert_points(UpsertPointsBuilder::new(NAME, points).wait(true)).await.unwrap();
}

fn status<T: std::fmt::Debug>(outcome: Result<T, QdrantError>) -> Status {
    match outcome {
        Err(QdrantError::ResponseError { status }) => status,
        other => panic!("expected a status, found {other:?}"),
    }
}

fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, QdrantError>, code: Code, message: &str) {
    let status = status(outcome);
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(message), "{status:?} does not contain {message:?}");
}
