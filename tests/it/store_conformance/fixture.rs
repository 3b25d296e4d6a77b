//! A store to check, and points to put into it.

use std::sync::Arc;

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::{
    AssetId, Deletion, Embedding, Fingerprint, Guard, Modality, Origin, Patch, Payload, Point, PointId, Position,
    Record, Vectors, Write,
};
use clipstream::redact::Secret;
use clipstream::store::{self, CollectionDefinition, CollectionSpec, Query, Store, StoredPoint, Written};
use clipstream_test_support::qdrant::server::{self, Address, Server};
use clipstream_test_support::qdrant::{Faults, QdrantEndpoint};
use serde_json::Value;
use tempfile::TempDir;

pub const DIMENSION: usize = 4;

pub fn settings_of(server: &Address) -> StoreSettings {
    StoreSettings {
        kind: StoreKind::Qdrant,
        url: server.url.clone(),
        api_key: server.api_key.clone().map(Secret::new),
        ..StoreSettings::default()
    }
}

pub struct Fixture {
    pub store: Arc<dyn Store>,
    pub settings: StoreSettings,
    /// A name that nothing else uses.
    pub collection: String,
    /// None: the embedded engine.
    pub server: Option<Server>,
    _dir: Option<TempDir>,
}

impl Fixture {
    pub async fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            StoreSettings { kind: StoreKind::Embedded, path: dir.path().join("store"), ..Default::default() };
        Self::open(settings, format!("conformance__{}", server::prefix()), None, Some(dir)).await
    }

    pub async fn qdrant() -> Self {
        let server = Server::start();
        let (settings, collection) = (settings_of(server.address()), format!("{}__conformance", server.prefix));
        Self::open(settings, collection, Some(server), None).await
    }

    async fn open(settings: StoreSettings, collection: String, server: Option<Server>, dir: Option<TempDir>) -> Self {
        let store = store::open(&settings).await.unwrap();
        let fixture = Self { store, settings, collection, server, _dir: dir };
        fixture.store.ensure(&fixture.spec()).await.unwrap();
        fixture
    }

    /// Of the double, where that is what there is.
    pub fn faults(&self) -> Option<&Faults> {
        self.server.as_ref()?.double().map(QdrantEndpoint::faults)
    }

    pub fn spec(&self) -> CollectionSpec {
        spec(&self.collection, DIMENSION)
    }

    /// Under the default guard; nothing in the way.
    pub async fn write(&self, writes: &[Write]) {
        assert_eq!(self.guarded(writes, Guard::Check).await, vec![Written::Applied; writes.len()]);
    }

    pub async fn guarded(&self, writes: &[Write], guard: Guard) -> Vec<Written> {
        self.store.write(&self.collection, writes, guard).await.unwrap()
    }

    pub async fn count(&self) -> u64 {
        self.store.count(&self.collection).await.unwrap()
    }

    /// The point of `asset`, if it exists.
    pub async fn point(&self, asset: &str) -> Option<StoredPoint> {
        let points = self.store.scroll(&self.collection, None, 10_000).await.unwrap();
        points.into_iter().find(|p| p.id == id(asset))
    }

    pub async fn end(self) {
        self.store.close().await.unwrap();
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

pub fn spec(name: &str, dimension: usize) -> CollectionSpec {
    CollectionSpec {
        name: name.to_owned(),
        fingerprint: Fingerprint {
            variant: "ViT-Test".into(),
            checkpoint: "none".into(),
            dimension,
            preprocessing: "4x4 shortest bicubic".into(),
            tokenizer: "t0".into(),
            graph: "g0".into(),
            activation: None,
            precision: None,
        },
        definition: CollectionDefinition::built_in(),
    }
}

pub fn id(asset: &str) -> PointId {
    PointId::of(None, &AssetId::new(asset).unwrap())
}

pub fn unit(values: &[f32]) -> Embedding {
    Embedding::normalised(values.to_vec()).unwrap()
}

pub fn vectors(image: Option<&[f32]>, text: Option<&[f32]>) -> Vectors {
    Vectors { image: image.map(unit), text: text.map(unit) }
}

pub fn object(value: Value) -> Payload {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

pub fn record(asset: &str) -> Record {
    Record {
        asset: AssetId::new(asset).unwrap(),
        tenant: None,
        source: Some(Origin {
            position: Position { topic: "t".into(), partition: 3, offset: 42 },
            request: 0,
            topic_id: None,
            leader_epoch: None,
            successor: None,
            timestamp_ms: None,
        }),
        version: None,
        media: None,
        text_sha256: None,
        labels: None,
        deleted_at: None,
        base: None,
        indexed_at: "2026-11-23T10:00:00Z".into(),
    }
}

pub fn upsert(asset: &str, vectors: Vectors, payload: Value) -> Write {
    Write::Upsert(Point { id: id(asset), vectors, kept: Vec::new(), payload: object(payload), record: record(asset) })
}

pub fn patch(asset: &str, vectors: Vectors, payload: Value) -> Write {
    Write::Patch(Patch { id: id(asset), vectors, kept: Vec::new(), payload: object(payload), record: record(asset) })
}

pub fn delete(asset: &str) -> Write {
    Write::Delete(Deletion { id: id(asset), record: record(asset) })
}

pub fn query(vector: &[f32], modality: Modality, filter: Option<Value>) -> Query {
    Query { vector: unit(vector), modality, limit: 10, filter }
}

/// Vectors come back as they were sent, up to the engine's own normalisation.
pub fn assert_vector(found: Option<&Vec<f32>>, expected: Option<&[f32]>, what: &str) {
    match (found, expected) {
        (None, None) => {}
        (Some(found), Some(expected)) => {
            let expected = unit(expected);
            assert_eq!(found.len(), expected.dimension(), "{what}");
            for (f, e) in found.iter().zip(expected.as_slice()) {
                assert!((f - e).abs() < 1e-6, "{what}: found {found:?}, expected {:?}", expected.as_slice());
            }
        }
        (found, expected) => panic!("{what}: found {found:?}, expected {expected:?}"),
    }
}

/// The payload without our record.
pub fn user_keys(point: &StoredPoint) -> Value {
    let mut payload = point.payload.clone();
    payload.remove("clipstream");
    Value::Object(payload)
}
