use qdrant_client::qdrant::points_update_operation::{
    DeletePoints, Operation, PointStructList, SetPayload, UpdateVectors,
};
use qdrant_client::qdrant::{
    Condition, Filter, GetPointsBuilder, NamedVectors, PointStruct, PointVectors, PointsIdsList, PointsSelector,
    PointsUpdateOperation, Range, RetrievedPoint, UpdateBatchPointsBuilder, UpdateMode, UpdateStatus,
    UpsertPointsBuilder, points_selector::PointsSelectorOneOf,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::json;
use tonic::Code;

use super::{NAME, assert_refused, point, upsert, with_collection};

fn selector(id: u64) -> Option<PointsSelector> {
    let ids = PointsIdsList { ids: vec![id.into()] };
    Some(PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Points(ids)) })
}

fn set_payload(id: u64, payload: serde_json::Value, key: Option<&str>) -> Operation {
    Operation::SetPayload(SetPayload {
        payload: Payload::try_from(payload).unwrap().into(),
        points_selector: selector(id),
        shard_key_selector: None,
        key: key.map(str::to_owned),
    })
}

/// A patch as the worker sends it: the bare point if it is absent, then its vectors, then payload.
fn patch(id: u64) -> Vec<PointsUpdateOperation> {
    let bare = PointStruct::new(id, NamedVectors::default(), Payload::new());
    let vectors = NamedVectors::default().add_vector("text", vec![0.0, 1.0, 0.0]);
    [
        Operation::Upsert(PointStructList {
            points: vec![bare],
            update_mode: Some(UpdateMode::InsertOnly.into()),
            ..PointStructList::default()
        }),
        Operation::UpdateVectors(UpdateVectors {
            points: vec![PointVectors { id: Some(id.into()), vectors: Some(vectors.into()) }],
            ..UpdateVectors::default()
        }),
        set_payload(id, json!({"lang": "de"}), None),
        set_payload(id, json!({"version": 2}), Some("our")),
    ]
    .map(|operation| PointsUpdateOperation { operation: Some(operation) })
    .to_vec()
}

async fn get(client: &Qdrant, id: u64) -> Option<RetrievedPoint> {
    let request = GetPointsBuilder::new(NAME, vec![id.into()]).with_payload(true).with_vectors(true);
    client.get_points(request).await.unwrap().result.pop()
}

fn json_of(point: &RetrievedPoint) -> serde_json::Value {
    point.payload.clone().into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

#[tokio::test]
async fn a_patch_keeps_what_it_does_not_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(
        &client,
        vec![point(1, [1.0, 0.0, 0.0], json!({"price": 5, "lang": "en", "our": {"version": 1, "etag": "x"}}))],
    )
    .await;

    for id in [1, 2] {
        let response =
            client.update_points_batch(UpdateBatchPointsBuilder::new(NAME, patch(id)).wait(true)).await.unwrap();
        assert_eq!(response.result.len(), 4, "one result for each operation");
        assert!(response.result.iter().all(|result| result.status() == UpdateStatus::Completed));
    }
    let patched = get(&client, 1).await.unwrap();
    assert_eq!(json_of(&patched), json!({"price": 5, "lang": "de", "our": {"version": 2, "etag": "x"}}));
    let vectors = patched.vectors.unwrap();
    assert!(vectors.get_vector_by_name("image").is_some() && vectors.get_vector_by_name("text").is_some());
    let inserted = get(&client, 2).await.unwrap();
    assert_eq!(json_of(&inserted), json!({"lang": "de", "our": {"version": 2}}));
    let vectors = inserted.vectors.unwrap();
    assert!(vectors.get_vector_by_name("image").is_none() && vectors.get_vector_by_name("text").is_some());
}

#[tokio::test]
async fn a_failing_operation_stops_the_batch_after_those_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({}))]).await;
    let operations = [
        set_payload(1, json!({"a": 1}), None),
        set_payload(9, json!({"a": 1}), None),
        Operation::DeletePoints(DeletePoints { points: selector(1), shard_key_selector: None }),
    ]
    .map(|operation| PointsUpdateOperation { operation: Some(operation) });
    let outcome = client.update_points_batch(UpdateBatchPointsBuilder::new(NAME, operations.to_vec()).wait(true)).await;
    assert_refused(outcome, Code::NotFound, "No point with id 9 found");
    assert_eq!(json_of(&get(&client, 1).await.unwrap()), json!({"a": 1}));
}

#[tokio::test]
async fn update_modes_and_filters_guard_an_upsert() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"v": 5}))]).await;
    let two =
        |v: i64| vec![point(1, [1.0, 0.0, 0.0], json!({"v": v})), point(v as u64, [1.0, 0.0, 0.0], json!({"v": v}))];
    let request = |v: i64| UpsertPointsBuilder::new(NAME, two(v)).wait(true);
    let version = async |id| get(&client, id).await.map(|point| json_of(&point)["v"].as_i64().unwrap());
    let older_than = |v: f64| Filter::must([Condition::range("v", Range { lt: Some(v), ..Range::default() })]);

    client.upsert_points(request(10).update_mode(UpdateMode::InsertOnly)).await.unwrap();
    assert_eq!((version(1).await, version(10).await), (Some(5), Some(10)));
    client.upsert_points(request(11).update_mode(UpdateMode::UpdateOnly)).await.unwrap();
    assert_eq!((version(1).await, version(11).await), (Some(11), None));
    client.upsert_points(request(3).update_filter(older_than(3.0))).await.unwrap();
    assert_eq!((version(1).await, version(3).await), (Some(11), Some(3)), "a filter does not keep absent points out");
    client.upsert_points(request(12).update_filter(older_than(12.0))).await.unwrap();
    assert_eq!((version(1).await, version(12).await), (Some(12), Some(12)));
}
