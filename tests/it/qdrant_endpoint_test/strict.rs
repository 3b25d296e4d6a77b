//! Limits as a server of 1.18.3 applies them; what is expected here is from its lib/collection/src/operations/verification.

use qdrant_client::qdrant::points_update_operation::{Operation, PointStructList, SetPayload};
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, DeletePointsBuilder, Filter, PointsUpdateOperation, ScrollPointsBuilder,
    StrictModeConfig, UpdateBatchPointsBuilder, UpdateCollectionBuilder, UpdateMode, UpsertPointsBuilder,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::json;
use tonic::Code;

use super::{NAME, assert_refused, point, upsert, with_collection};

async fn limit(client: &Qdrant, limits: StrictModeConfig) {
    let limits = StrictModeConfig { enabled: Some(true), ..limits };
    client.update_collection(UpdateCollectionBuilder::new(NAME).strict_mode_config(limits)).await.unwrap();
}

async fn count(client: &Qdrant) -> u64 {
    client.count(CountPointsBuilder::new(NAME).exact(true)).await.unwrap().result.unwrap().count
}

fn insert(id: u64) -> Operation {
    Operation::Upsert(PointStructList { points: vec![point(id, [1.0, 0.0, 0.0], json!({}))], ..Default::default() })
}

fn batch(operations: impl IntoIterator<Item = Operation>) -> UpdateBatchPointsBuilder {
    let operations = operations.into_iter().map(|operation| PointsUpdateOperation { operation: Some(operation) });
    UpdateBatchPointsBuilder::new(NAME, operations.collect::<Vec<_>>()).wait(true)
}

/// Counted with every 32nd check; from then on also what exists cannot be upserted, and deletes pass.
#[tokio::test]
async fn a_full_collection_takes_no_upserts() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    limit(&client, StrictModeConfig { max_points_count: Some(5), ..Default::default() }).await;
    let mut taken = 0;
    let refused = loop {
        let request = UpsertPointsBuilder::new(NAME, vec![point(taken, [1.0, 0.0, 0.0], json!({}))]).wait(true);
        match client.upsert_points(request).await {
            Ok(_) => taken += 1,
            refused => break refused,
        }
        assert!(taken < 100);
    };
    assert_eq!(taken, 31, "looked at when it was made, and with the 32nd check");
    assert_refused(refused, Code::InvalidArgument, "Bad request: Max points count limit of 5 reached!");
    let mode =
        |mode: UpdateMode| UpsertPointsBuilder::new(NAME, vec![point(0, [0.0, 1.0, 0.0], json!({}))]).update_mode(mode);
    for mode in [UpdateMode::Upsert, UpdateMode::InsertOnly, UpdateMode::UpdateOnly].map(mode) {
        assert_refused(client.upsert_points(mode).await, Code::InvalidArgument, "Max points count limit of 5 reached!");
    }
    client.delete_points(DeletePointsBuilder::new(NAME).points([0]).wait(true)).await.unwrap();
    assert_eq!(count(&client).await, 30);
    endpoint.stop().await;
}

/// A batch is no transaction: what comes before the operation that is refused has happened.
#[tokio::test]
async fn limits_are_applied_operation_by_operation() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"lang": "en"}))]).await;
    let limits = StrictModeConfig { unindexed_filtering_update: Some(false), ..Default::default() };
    limit(&client, limits).await;
    let by_filter = Operation::SetPayload(SetPayload {
        payload: Payload::try_from(json!({"seen": true})).unwrap().into(),
        points_selector: Some(Filter::must([Condition::matches("lang", "en".to_owned())]).into()),
        ..Default::default()
    });
    let outcome = client.update_points_batch(batch([insert(2), by_filter, insert(3)])).await;
    assert_refused(outcome, Code::InvalidArgument, "Bad request: Index required but not found for \"lang\"");
    assert_eq!(count(&client).await, 2);
    endpoint.stop().await;
}

#[tokio::test]
async fn limits_of_requests_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    let limits = StrictModeConfig {
        upsert_max_batchsize: Some(2),
        max_query_limit: Some(5),
        filter_max_conditions: Some(1),
        search_allow_exact: Some(false),
        ..Default::default()
    };
    limit(&client, limits).await;
    let three = (1..=3).map(|id| point(id, [1.0, 0.0, 0.0], json!({}))).collect::<Vec<_>>();
    let outcome = client.upsert_points(UpsertPointsBuilder::new(NAME, three)).await;
    assert_refused(outcome, Code::InvalidArgument, "Bad request: Limit exceeded 3 > 2 for \"upsert limit\". Help: ");
    let outcome = client.scroll(ScrollPointsBuilder::new(NAME).limit(6)).await;
    assert_refused(outcome, Code::InvalidArgument, "Bad request: Limit exceeded 6 > 5 for \"limit\". Help: ");
    let two = Filter::must([Condition::matches("a", 1), Condition::matches("b", 1)]);
    let outcome = client.count(CountPointsBuilder::new(NAME).filter(two).exact(false)).await;
    assert_refused(outcome, Code::InvalidArgument, "Bad request: Filter condition limit reached (2 > 1)");
    let outcome = client.count(CountPointsBuilder::new(NAME).exact(true)).await;
    assert_refused(outcome, Code::InvalidArgument, "Bad request: Exact search disabled!. Help: Set exact=false.");
    endpoint.stop().await;
}

/// Also of points that an update would pass over.
#[tokio::test]
async fn dimensions_are_checked_before_points_are_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (endpoint, client) = with_collection(dir.path()).await;
    let vectors = qdrant_client::qdrant::NamedVectors::default().add_vector("image", vec![1.0; 4]);
    let absent = qdrant_client::qdrant::PointStruct::new(9, vectors, Payload::new());
    let request = UpsertPointsBuilder::new(NAME, vec![absent]).update_mode(UpdateMode::UpdateOnly).wait(true);
    let expected = "Wrong input: Vector dimension error: expected dim: 3, got 4";
    assert_refused(client.upsert_points(request).await, Code::InvalidArgument, expected);
    assert_eq!(count(&client).await, 0);
    endpoint.stop().await;
}
