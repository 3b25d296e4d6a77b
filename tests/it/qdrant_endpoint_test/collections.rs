use clipstream_test_support::qdrant::QdrantEndpoint;

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeleteFieldIndexCollectionBuilder,
    Distance, FieldType, HnswConfigDiffBuilder, PayloadSchemaType, RenameAliasBuilder, ScalarQuantizationBuilder,
    SparseVectorParamsBuilder, SparseVectorsConfigBuilder, UpdateCollectionBuilder, Value, VectorParamsBuilder,
};
use serde_json::json;
use std::collections::HashMap;
use tonic::Code;

use super::{NAME, assert_refused, client, point, two_vectors, upsert, with_collection};

#[tokio::test]
async fn a_definition_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = QdrantEndpoint::start(dir.path());
    let client = client(&endpoint);
    let metadata = HashMap::from([("fingerprint".to_owned(), json!({"dimension": 3, "tags": ["a", null]}))]);
    assert!(!client.collection_exists(NAME).await.unwrap());
    let definition = CreateCollectionBuilder::new(NAME)
        .vectors_config(two_vectors())
        .hnsw_config(HnswConfigDiffBuilder::default().m(24))
        .quantization_config(ScalarQuantizationBuilder::default().quantile(0.99))
        .shard_number(2)
        .metadata(metadata.clone());
    assert!(client.create_collection(definition.clone()).await.unwrap().result);

    assert!(client.collection_exists(NAME).await.unwrap());
    assert_eq!(client.list_collections().await.unwrap().collections[0].name, NAME);
    let info = client.collection_info(NAME).await.unwrap().result.unwrap();
    assert_eq!(info.points_count, Some(0));
    let config = info.config.unwrap();
    assert_eq!(config.metadata["fingerprint"].clone().into_json(), metadata["fingerprint"]);
    assert_eq!(config.hnsw_config.unwrap().m, Some(24));
    assert!(config.quantization_config.is_some());
    let params = config.params.unwrap();
    assert_eq!(params.shard_number, 2);
    let Some(Config::ParamsMap(vectors)) = params.vectors_config.unwrap().config else { panic!("not named") };
    assert_eq!(vectors.map.len(), 2);
    assert_eq!((vectors.map["image"].size, vectors.map["image"].distance()), (3, Distance::Cosine));

    assert_refused(client.create_collection(definition).await, Code::AlreadyExists, "already exists!");
}

#[tokio::test]
async fn metadata_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    for (key, value) in [("a", 1), ("b", 2), ("a", 3)] {
        let metadata = HashMap::from([(key.to_owned(), json!(value))]);
        client.update_collection(UpdateCollectionBuilder::new(NAME).metadata(metadata)).await.unwrap();
    }
    let metadata = client.collection_info(NAME).await.unwrap().result.unwrap().config.unwrap().metadata;
    assert_eq!(metadata, HashMap::from([("a".to_owned(), Value::from(3)), ("b".to_owned(), Value::from(2))]));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = QdrantEndpoint::start(dir.path());
    let client = client(&endpoint);
    assert_refused(client.collection_info("none").await, Code::NotFound, "Collection `none` doesn't exist!");
    assert!(!client.delete_collection("none").await.unwrap().result);
    let alias = CreateAliasBuilder::new("none", "alias");
    assert_refused(client.create_alias(alias).await, Code::NotFound, "Collection `none` doesn't exist!");
}

#[tokio::test]
async fn an_alias_answers_for_its_collection() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({}))]).await;

    client.create_alias(CreateAliasBuilder::new(NAME, "catalog")).await.unwrap();
    assert!(client.collection_exists("catalog").await.unwrap());
    assert_eq!(client.collection_info("catalog").await.unwrap().result.unwrap().points_count, Some(1));
    client.rename_alias(RenameAliasBuilder::new("catalog", "shop")).await.unwrap();
    let aliases = client.list_aliases().await.unwrap().aliases;
    assert_eq!((aliases[0].alias_name.as_str(), aliases[0].collection_name.as_str()), ("shop", NAME));
    assert_eq!(client.list_collection_aliases(NAME).await.unwrap().aliases, aliases);
    let taken = CreateAliasBuilder::new(NAME, NAME);
    assert_refused(client.create_alias(taken).await, Code::AlreadyExists, "already exists!");
    let missing = RenameAliasBuilder::new("catalog", "other");
    assert_refused(client.rename_alias(missing).await, Code::NotFound, "Alias catalog does not exists!");
    client.delete_alias("shop").await.unwrap();
    assert!(!client.collection_exists("shop").await.unwrap());

    client.create_alias(CreateAliasBuilder::new(NAME, "catalog")).await.unwrap();
    assert!(client.delete_collection(NAME).await.unwrap().result);
    assert!(!client.collection_exists("catalog").await.unwrap());
    assert!(client.list_aliases().await.unwrap().aliases.is_empty());
}

#[tokio::test]
async fn payload_indexes_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(&client, vec![point(1, [1.0, 0.0, 0.0], json!({"shop": {"lang": "en"}}))]).await;
    let index = CreateFieldIndexCollectionBuilder::new(NAME, "shop.lang", FieldType::Keyword).wait(true);
    client.create_field_index(index).await.unwrap();
    let schema = client.collection_info(NAME).await.unwrap().result.unwrap().payload_schema;
    assert_eq!((schema["shop.lang"].data_type(), schema["shop.lang"].points), (PayloadSchemaType::Keyword, Some(1)));
    client.delete_field_index(DeleteFieldIndexCollectionBuilder::new(NAME, "shop.lang").wait(true)).await.unwrap();
    assert!(client.collection_info(NAME).await.unwrap().result.unwrap().payload_schema.is_empty());
}

#[tokio::test]
async fn what_the_engine_lacks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = QdrantEndpoint::start(dir.path());
    let client = client(&endpoint);
    let mut sparse = SparseVectorsConfigBuilder::default();
    sparse.add_named_vector_params("words", SparseVectorParamsBuilder::default());
    let sparse = CreateCollectionBuilder::new(NAME).sparse_vectors_config(sparse);
    assert_refused(client.create_collection(sparse).await, Code::Unimplemented, "sparse vectors");
    let unknown =
        CreateCollectionBuilder::new(NAME).vectors_config(VectorParamsBuilder::new(3, Distance::UnknownDistance));
    assert_refused(client.create_collection(unknown).await, Code::InvalidArgument, "distance");
    let outside = CreateCollectionBuilder::new("../outside").vectors_config(two_vectors());
    assert_refused(client.create_collection(outside).await, Code::InvalidArgument, "not allowed");
    assert!(client.list_collections().await.unwrap().collections.is_empty());
    assert_refused(
        client.collection_cluster_info(NAME).await,
        Code::Unimplemented,
        "Collections/collection_cluster_info",
    );
    assert_refused(client.list_full_snapshots().await, Code::Unimplemented, "Snapshots/ListFull");
}
