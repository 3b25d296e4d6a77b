use std::time::Duration;

use clipstream_test_support::qdrant::{Options, QdrantEndpoint};
use qdrant_client::Qdrant;
use qdrant_client::config::CompressionEncoding;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateAliasBuilder, CreateFieldIndexCollectionBuilder, FieldType, QueryPointsBuilder,
    UpdateStatus, UpsertPointsBuilder,
};
use serde_json::json;
use tonic::{Code, Status};

use super::{NAME, assert_refused, client, point, upsert, with_collection};

async fn count(client: &Qdrant) -> u64 {
    client.count(CountPointsBuilder::new(NAME)).await.unwrap().result.unwrap().count
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    client.create_alias(CreateAliasBuilder::new(NAME, "catalog")).await.unwrap();
    let index = CreateFieldIndexCollectionBuilder::new(NAME, "lang", FieldType::Keyword).wait(true);
    client.create_field_index(index).await.unwrap();
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"lang": "en"}))]).await;
    let before = client.collection_info(NAME).await.unwrap().result.unwrap();
    let port = endpoint.port();
    endpoint.stop().await;

    // The same client, on the same port: as a worker that outlives the server.
    let endpoint = Options::new(dir.path()).port(port).start().unwrap();
    assert_eq!(count(&client).await, 1);
    assert_eq!(client.collection_info("catalog").await.unwrap().result.unwrap(), before);
    upsert(&client, vec![point(2, [0.0, 1.0, 0.0], json!({}))]).await;
    drop(endpoint);

    let _endpoint = Options::new(dir.path()).port(port).start().unwrap();
    let hits = client.query(QueryPointsBuilder::new(NAME).query(vec![0.0, 1.0, 0.0]).using("image")).await.unwrap();
    assert_eq!(hits.result.into_iter().map(|hit| hit.id.unwrap()).collect::<Vec<_>>(), [2.into(), 1.into()]);
}

#[tokio::test]
async fn the_api_key_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Options::new(dir.path()).api_key("right").start().unwrap();
    assert_refused(client(&endpoint).list_collections().await, Code::Unauthenticated, "API key");
    let with_key =
        |key: &str| Qdrant::from_url(&endpoint.url()).api_key(key).skip_compatibility_check().build().unwrap();
    assert_refused(with_key("wrong").list_collections().await, Code::Unauthenticated, "API key");
    assert!(with_key("right").list_collections().await.is_ok());
}

#[tokio::test]
async fn compressed_calls_work() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, _) = with_collection(dir.path()).await;
    let client = Qdrant::from_url(&endpoint.url())
        .compression(Some(CompressionEncoding::Gzip))
        .skip_compatibility_check()
        .build()
        .unwrap();
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({}))]).await;
    assert_eq!(count(&client).await, 1);
}

#[tokio::test]
async fn it_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = QdrantEndpoint::start(dir.path());
    let reply = client(&endpoint).health_check().await.unwrap();
    assert!(reply.title.contains("test endpoint") && reply.version.ends_with("-test-endpoint"), "{reply:?}");
}

#[tokio::test]
async fn planned_faults_happen_as_often_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    let faults = endpoint.faults();
    let write = |id| {
        let points = vec![point(id, [1.0, 0.0, 0.0], json!({}))];
        client.upsert_points(UpsertPointsBuilder::new(NAME, points).wait(true))
    };

    faults.refuse("Points/Upsert", 2, Status::resource_exhausted("busy"));
    assert_refused(write(1).await, Code::ResourceExhausted, "busy");
    assert_eq!(count(&client).await, 0);
    assert_eq!(faults.remaining(), 1);
    assert_refused(write(1).await, Code::ResourceExhausted, "busy");
    assert_eq!(write(1).await.unwrap().result.unwrap().status(), UpdateStatus::Completed);
    assert_eq!((faults.remaining(), faults.calls("Points/Upsert")), (0, 3));

    // Not a status on which the client repeats the call by itself (internal, unavailable, cancelled, unknown).
    faults.lose_reply("", 1, Status::aborted("lost"));
    assert_refused(write(2).await, Code::Aborted, "lost");
    assert_eq!(count(&client).await, 2, "it was carried out");
    faults.wait_timeout(1);
    assert_eq!(write(3).await.unwrap().result.unwrap().status(), UpdateStatus::WaitTimeout);
    assert_eq!(count(&client).await, 3);

    // Twice: the client repeats a call that its own timeout ended.
    faults.delay("Points/Count", 2, Duration::from_secs(3600));
    let short = Qdrant::from_url(&endpoint.url()).timeout(Duration::from_millis(100)).skip_compatibility_check();
    let outcome = short.build().unwrap().count(CountPointsBuilder::new(NAME)).await;
    assert!(matches!(super::status(outcome).code(), Code::Cancelled | Code::DeadlineExceeded));
    faults.clear();
}
