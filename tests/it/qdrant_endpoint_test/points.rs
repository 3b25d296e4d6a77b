use qdrant_client::Payload;
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::{ClearPayloadPointsBuilder, Condition, FacetCountsBuilder, RetrievedPoint, Value};
use qdrant_client::qdrant::{
    CountPointsBuilder, DeletePayloadPointsBuilder, DeletePointVectorsBuilder, DeletePointsBuilder, Filter,
    GetPointsBuilder, NamedVectors, PayloadExcludeSelector, PayloadIncludeSelector, PointStruct, PointVectors,
    PointsIdsList, QueryPointsBuilder, ScrollPointsBuilder, SearchPointsBuilder, SetPayloadPointsBuilder,
    UpdatePointVectorsBuilder, UpsertPointsBuilder, VectorInput, Vectors, VectorsSelector, point_id::PointIdOptions,
};
use serde_json::json;
use tonic::Code;

use super::{NAME, assert_refused, point, upsert, with_collection};

async fn get(client: &qdrant_client::Qdrant, id: u64) -> RetrievedPoint {
    let request = GetPointsBuilder::new(NAME, vec![id.into()]).with_payload(true).with_vectors(true);
    client.get_points(request).await.unwrap().result.remove(0)
}

fn json_of(point: RetrievedPoint) -> serde_json::Value {
    point.payload.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

fn ids(list: &[u64]) -> PointsIdsList {
    PointsIdsList { ids: list.iter().copied().map(Into::into).collect() }
}

#[tokio::test]
async fn a_point_is_read_back_and_an_upsert_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    let payload = json!({"lang": "en", "price": 59.9, "stock": 3, "new": true, "gone": null, "tags": ["a", {"b": []}]});
    let vectors =
        NamedVectors::default().add_vector("image", vec![3.0, 4.0, 0.0]).add_vector("text", vec![0.0, 0.0, 2.0]);
    let uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
    upsert(&client, vec![PointStruct::new(uuid, vectors, Payload::try_from(payload.clone()).unwrap())]).await;

    let request = GetPointsBuilder::new(NAME, vec![uuid.into(), 9.into()]).with_payload(true).with_vectors(true);
    let mut found = client.get_points(request).await.unwrap().result;
    assert_eq!(found.len(), 1, "an absent id is left out");
    let found = found.remove(0);
    assert_eq!(found.id.clone().unwrap().point_id_options, Some(PointIdOptions::Uuid(uuid.to_owned())));
    let Some(Vector::Dense(image)) = found.vectors.as_ref().unwrap().get_vector_by_name("image") else { panic!() };
    assert_eq!(image.data, [0.6, 0.8, 0.0], "cosine vectors are stored with unit length");
    assert!(found.vectors.as_ref().unwrap().get_vector_by_name("text").is_some());
    assert_eq!(json_of(found), payload);

    upsert(
        &client,
        vec![PointStruct::new(uuid, NamedVectors::default().add_vector("text", vec![1.0, 0.0, 0.0]), Payload::new())],
    )
    .await;
    let request = GetPointsBuilder::new(NAME, vec![uuid.into()]).with_payload(true).with_vectors(true);
    let found = client.get_points(request).await.unwrap().result.remove(0);
    assert!(found.vectors.as_ref().unwrap().get_vector_by_name("image").is_none());
    assert!(found.payload.is_empty());
}

#[tokio::test]
async fn selectors_choose_payload_and_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"a": 1, "b": {"c": 2, "d": 3}}))]).await;

    let nothing = client.get_points(GetPointsBuilder::new(NAME, vec![1.into()]).with_payload(false)).await.unwrap();
    assert!(nothing.result[0].payload.is_empty() && nothing.result[0].vectors.is_none());
    let include = PayloadIncludeSelector { fields: vec!["b.c".to_owned()] };
    let part = client.get_points(GetPointsBuilder::new(NAME, vec![1.into()]).with_payload(include)).await.unwrap();
    assert_eq!(json_of(part.result[0].clone()), json!({"b": {"c": 2}}));
    let exclude = PayloadExcludeSelector { fields: vec!["b".to_owned()] };
    let part = client.get_points(GetPointsBuilder::new(NAME, vec![1.into()]).with_payload(exclude)).await.unwrap();
    assert_eq!(json_of(part.result[0].clone()), json!({"a": 1}));
    let named = client
        .get_points(
            GetPointsBuilder::new(NAME, vec![1.into()])
                .with_vectors(VectorsSelector { names: vec!["text".to_owned()] }),
        )
        .await
        .unwrap();
    assert!(named.result[0].vectors.as_ref().is_none_or(|vectors| vectors.get_vector_by_name("image").is_none()));
}

#[tokio::test]
async fn a_scroll_pages_in_order_of_id() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, (1..=5).rev().map(|id| point(id, [1.0, 0.0, 0.0], json!({"odd": id % 2 == 1}))).collect()).await;
    let mut seen = Vec::new();
    let mut offset = None;
    loop {
        let mut request = ScrollPointsBuilder::new(NAME).limit(2);
        if let Some(offset) = offset {
            request = request.offset(offset);
        }
        let page = client.scroll(request).await.unwrap();
        seen.extend(page.result.into_iter().map(|point| point.id.unwrap()));
        offset = page.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=5).map(Into::into).collect::<Vec<qdrant_client::qdrant::PointId>>());
    let odd = Filter::must([Condition::matches("odd", true)]);
    let page = client.scroll(ScrollPointsBuilder::new(NAME).filter(odd.clone())).await.unwrap();
    assert_eq!(page.result.len(), 3);
    let count = client.count(CountPointsBuilder::new(NAME).filter(odd).exact(true)).await.unwrap();
    assert_eq!(count.result.unwrap().count, 3);
    assert_eq!(client.count(CountPointsBuilder::new(NAME)).await.unwrap().result.unwrap().count, 5);
}

#[tokio::test]
async fn a_query_finds_the_nearest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(
        &client,
        vec![
            point(1, [1.0, 0.0, 0.0], json!({"lang": "en"})),
            point(2, [0.6, 0.8, 0.0], json!({"lang": "de"})),
            point(3, [0.0, 1.0, 0.0], json!({"lang": "en"})),
        ],
    )
    .await;
    let query = || QueryPointsBuilder::new(NAME).query(vec![2.0, 0.0, 0.0]).using("image");
    let ids = |hits: &[qdrant_client::qdrant::ScoredPoint]| -> Vec<_> {
        hits.iter().map(|hit| (hit.id.clone().unwrap(), (hit.score * 10.0).round() / 10.0)).collect()
    };
    let hits = client.query(query().with_payload(true).with_vectors(true)).await.unwrap().result;
    assert_eq!(ids(&hits), [(1.into(), 1.0), (2.into(), 0.6), (3.into(), 0.0)]);
    assert_eq!(hits[1].payload["lang"], Value::from("de"));
    assert!(hits[1].vectors.as_ref().unwrap().get_vector_by_name("image").is_some());
    let hits = client.query(query().limit(1).offset(1)).await.unwrap().result;
    assert_eq!(ids(&hits), [(2.into(), 0.6)]);
    assert!(hits[0].payload.is_empty() && hits[0].vectors.is_none());
    let hits = client.query(query().score_threshold(0.5)).await.unwrap().result;
    assert_eq!(ids(&hits), [(1.into(), 1.0), (2.into(), 0.6)]);
    let english = Filter::must([Condition::matches("lang", "en".to_owned())]);
    let hits = client.query(query().filter(english)).await.unwrap().result;
    assert_eq!(ids(&hits), [(1.into(), 1.0), (3.into(), 0.0)]);
    let search = SearchPointsBuilder::new(NAME, vec![2.0, 0.0, 0.0], 1).vector_name("image");
    assert_eq!(ids(&client.search_points(search).await.unwrap().result), [(1.into(), 1.0)]);
    let none = client.query(QueryPointsBuilder::new(NAME).query(vec![1.0, 0.0, 0.0]).using("text")).await.unwrap();
    assert!(none.result.is_empty(), "points without the vector are not found");
}

#[tokio::test]
async fn payload_operations_change_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"a": 1, "our": {"x": 1}}))]).await;
    let set = |payload: serde_json::Value| {
        SetPayloadPointsBuilder::new(NAME, Payload::try_from(payload).unwrap()).points_selector(ids(&[1])).wait(true)
    };
    client.set_payload(set(json!({"b": 2}))).await.unwrap();
    client.set_payload(set(json!({"y": 2})).key("our")).await.unwrap();
    assert_eq!(json_of(get(&client, 1).await), json!({"a": 1, "b": 2, "our": {"x": 1, "y": 2}}));
    let delete = DeletePayloadPointsBuilder::new(NAME, vec!["our.x".to_owned(), "a".to_owned()]);
    client.delete_payload(delete.points_selector(ids(&[1])).wait(true)).await.unwrap();
    assert_eq!(json_of(get(&client, 1).await), json!({"b": 2, "our": {"y": 2}}));
    client.overwrite_payload(set(json!({"c": 3}))).await.unwrap();
    assert_eq!(json_of(get(&client, 1).await), json!({"c": 3}));
    client.clear_payload(ClearPayloadPointsBuilder::new(NAME).points(ids(&[1])).wait(true)).await.unwrap();
    assert_eq!(json_of(get(&client, 1).await), json!({}));
    let missing = SetPayloadPointsBuilder::new(NAME, Payload::new()).points_selector(ids(&[9])).wait(true);
    assert_refused(client.set_payload(missing).await, Code::NotFound, "No point with id 9 found");
}

#[tokio::test]
async fn vector_operations_change_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"a": 1}))]).await;
    let update = |id: u64, name: &str, vector: Vec<f32>| {
        let vectors = Vectors::from(NamedVectors::default().add_vector(name, vector));
        let points = vec![PointVectors { id: Some(id.into()), vectors: Some(vectors) }];
        UpdatePointVectorsBuilder::new(NAME, points).wait(true)
    };
    client.update_vectors(update(1, "text", vec![0.0, 1.0, 0.0])).await.unwrap();
    let found = get(&client, 1).await;
    assert!(found.vectors.as_ref().unwrap().get_vector_by_name("image").is_some(), "others stay");
    assert!(found.vectors.as_ref().unwrap().get_vector_by_name("text").is_some());
    assert_eq!(json_of(found), json!({"a": 1}));
    let image = VectorsSelector { names: vec!["image".to_owned()] };
    let delete = DeletePointVectorsBuilder::new(NAME).points_selector(ids(&[1])).vectors(image).wait(true);
    client.delete_vectors(delete).await.unwrap();
    assert!(get(&client, 1).await.vectors.unwrap().get_vector_by_name("image").is_none());
    assert_refused(
        client.update_vectors(update(9, "text", vec![0.0, 1.0, 0.0])).await,
        Code::NotFound,
        "No point with id 9 found",
    );
}

#[tokio::test]
async fn points_are_deleted_by_id_and_by_filter() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, (1..=4).map(|id| point(id, [1.0, 0.0, 0.0], json!({"n": id}))).collect()).await;
    client.delete_points(DeletePointsBuilder::new(NAME).points(ids(&[1, 99])).wait(true)).await.unwrap();
    let filter = Filter::must([Condition::matches("n", 3)]);
    client.delete_points(DeletePointsBuilder::new(NAME).points(filter).wait(true)).await.unwrap();
    let left = client.scroll(ScrollPointsBuilder::new(NAME)).await.unwrap().result;
    assert_eq!(left.into_iter().map(|point| point.id.unwrap()).collect::<Vec<_>>(), [2.into(), 4.into()]);
}

#[tokio::test]
async fn wrong_points_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    let upsert = |point| client.upsert_points(UpsertPointsBuilder::new(NAME, vec![point]).wait(true));
    let named = |name: &str, vector: Vec<f32>| {
        PointStruct::new(1, NamedVectors::default().add_vector(name, vector), Payload::new())
    };
    assert_refused(
        upsert(named("image", vec![1.0])).await,
        Code::InvalidArgument,
        "Vector dimension error: expected dim: 3, got 1",
    );
    assert_refused(
        upsert(named("audio", vec![1.0, 0.0, 0.0])).await,
        Code::InvalidArgument,
        "Not existing vector name error: audio",
    );
    let sparse =
        PointStruct::new(1, NamedVectors::default().add_vector("image", vec![(1, 1.0)].as_slice()), Payload::new());
    assert_refused(upsert(sparse).await, Code::Unimplemented, "sparse");
    let missing = UpsertPointsBuilder::new("none", vec![named("image", vec![1.0, 0.0, 0.0])]);
    assert_refused(client.upsert_points(missing).await, Code::NotFound, "Collection `none` doesn't exist!");
    let query = QueryPointsBuilder::new(NAME).query(vec![1.0]).using("image");
    assert_refused(client.query(query).await, Code::InvalidArgument, "Vector dimension error");
    let query = QueryPointsBuilder::new(NAME).query(vec![1.0, 0.0, 0.0]).using("audio");
    assert_refused(client.query(query).await, Code::InvalidArgument, "Not existing vector name error: audio");
    assert_refused(
        client.query(QueryPointsBuilder::new(NAME).query(VectorInput::new_id(7))).await,
        Code::Unimplemented,
        "by point id",
    );
    assert_refused(client.facet(FacetCountsBuilder::new(NAME, "a")).await, Code::Unimplemented, "Points/facet");
    assert_eq!(client.count(CountPointsBuilder::new(NAME)).await.unwrap().result.unwrap().count, 0);
}
