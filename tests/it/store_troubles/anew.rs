use std::time::{Duration, Instant};

use clipstream::domain::{Guard, StoreReason, Write};
use clipstream::store;
use clipstream_test_support::qdrant::QdrantEndpoint;
use clipstream_test_support::qdrant::status::{no_collection, no_global_access, wrong_api_key};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateCollectionBuilder, Distance, VectorParamsBuilder, VectorsConfigBuilder,
};
use serde_json::json;

use super::assert_outage;
use crate::store_conformance::fixture::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// What somebody makes under a name of ours.
pub async fn create(client: &Qdrant, collection: &str, dimension: u64) {
    let mut vectors = VectorsConfigBuilder::default();
    for name in ["image", "text"] {
        vectors.add_named_vector_params(name, VectorParamsBuilder::new(dimension, Distance::Cosine));
    }
    client.create_collection(CreateCollectionBuilder::new(collection).vectors_config(vectors)).await.unwrap();
}

pub async fn points(client: &Qdrant, collection: &str) -> u64 {
    let counted = client.count(CountPointsBuilder::new(collection).exact(true)).await.unwrap();
    counted.result.unwrap().count
}

/// No vector in it that the server could measure.
fn price(n: usize) -> Write {
    patch(&format!("p{n}"), vectors(None, None), json!({ "price": n }))
}

/// 100 patches were written into it.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_made_anew_is_left_alone_until_it_is_ours_again() {
    for guard in [Guard::Check, Guard::Strict] {
        let f = Fixture::qdrant().await;
        let client = f.server.as_ref().unwrap().client();
        f.guarded(&[price(1)], guard).await;
        client.delete_collection(&f.collection).await.unwrap();
        let error = f.store.write(&f.collection, &[price(2)], guard).await.unwrap_err();
        assert_outage(&error, StoreReason::CollectionMissing, &[f.collection.as_str()]);

        for (dimension, found) in
            [(128, "found 128 dimensions, expected 4"), (DIMENSION as u64, "fingerprint: found none")]
        {
            create(&client, &f.collection, dimension).await;
            let errors = [
                f.store.write(&f.collection, &[price(3)], guard).await.unwrap_err(),
                f.store.write(&f.collection, &(0..50).map(price).collect::<Vec<_>>(), guard).await.unwrap_err(),
                f.store.records(&f.collection, &[id("p1")]).await.unwrap_err(),
            ];
            for error in &errors {
                assert_outage(error, StoreReason::CollectionDiffers, &[f.collection.as_str(), found]);
            }
            assert_eq!(points(&client, &f.collection).await, 0);
            client.delete_collection(&f.collection).await.unwrap();
        }

        let another = store::open(&f.settings).await.unwrap();
        another.ensure(&f.spec()).await.unwrap();
        f.guarded(&[price(4)], guard).await;
        assert_eq!(points(&client, &f.collection).await, 1);
        another.close().await.unwrap();
        f.end().await;
    }
}

/// Nothing but the next update says that it was made anew: no broken connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_made_anew_unseen_is_found_before_long() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    f.write(&[price(1)]).await;
    double.put_aside(&f.collection);
    double.supplant(&f.collection, 128);
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match f.store.write(&f.collection, &[price(2)], Guard::Check).await {
            Ok(_) => assert!(Instant::now() < deadline, "it is still written into"),
            Err(error) => break error,
        }
    };
    assert_outage(&error, StoreReason::CollectionDiffers, &["found 128 dimensions, expected 4"]);
    for n in 3..50 {
        f.store.write(&f.collection, &[price(n)], Guard::Check).await.unwrap_err();
    }
    assert_eq!(double.put_back(&f.collection), 0);
    f.write(&[price(3)]).await;
    f.end().await;
}

/// What is read before a write may take longer than a look at the collection is good for.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_made_anew_between_a_read_and_its_write_is_not_written_into() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    f.write(&[price(1)]).await;
    let (faults, read) = (double.faults(), "Points/Get");
    let before = faults.calls(read);
    faults.delay(read, 1, Duration::from_millis(1500));
    let writes = [price(2)];
    let written = f.store.write(&f.collection, &writes, Guard::Check);
    let supplanted = async {
        while faults.calls(read) == before {
            tokio::task::yield_now().await;
        }
        double.put_aside(&f.collection);
        double.supplant(&f.collection, 128);
    };
    let (written, ()) = futures::future::join(written, supplanted).await;
    assert_outage(&written.unwrap_err(), StoreReason::CollectionDiffers, &["found 128 dimensions, expected 4"]);
    assert_eq!(double.put_back(&f.collection), 0);
    f.write(&writes).await;
    f.end().await;
}

/// The collection is replaced while an update is on its way, which must not reach the new one; then it is put back.
async fn replaced_under(f: &Fixture, double: &QdrantEndpoint, writes: &[Write], guard: Guard) {
    let (faults, update) = (double.faults(), "Points/UpdateBatch");
    let before = faults.calls(update);
    faults.delay(update, 1, Duration::from_secs(1));
    let written = f.store.write(&f.collection, writes, guard);
    let supplanted = async {
        while faults.calls(update) == before {
            tokio::task::yield_now().await;
        }
        double.put_aside(&f.collection);
        double.supplant(&f.collection, DIMENSION as u64);
    };
    let (written, ()) = futures::future::join(written, supplanted).await;
    assert_outage(&written.unwrap_err(), StoreReason::CollectionDiffers, &["fingerprint: found none"]);
    assert_eq!(double.put_back(&f.collection), 0, "{guard:?}");
}

/// The update is on its way while the collection is replaced. Nothing on our side can call it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_made_anew_under_an_update_is_not_written_into() {
    for guard in [Guard::Off, Guard::Check, Guard::Strict] {
        let f = Fixture::qdrant().await;
        let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
        f.guarded(&[price(1)], guard).await;
        let writes = [price(2)];
        replaced_under(&f, double, &writes, guard).await;
        f.guarded(&writes, guard).await;
        f.end().await;
    }
}

async fn aliases(client: &Qdrant, collection: &str) -> Vec<String> {
    let aliases = client.list_collection_aliases(collection).await.unwrap().aliases;
    aliases.into_iter().map(|alias| alias.alias_name).collect()
}

/// Aliases are missing after a collection was restored from a snapshot, or were taken away by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_for_updates_that_is_gone_is_made_again() {
    let f = Fixture::qdrant().await;
    let client = f.server.as_ref().unwrap().client();
    f.write(&[price(1)]).await;
    let ours = aliases(&client, &f.collection).await;
    assert_eq!(ours, [format!("{}.clipstream-writes", f.collection)]);
    client.delete_alias(ours[0].as_str()).await.unwrap();
    let error = f.store.write(&f.collection, &[price(2)], Guard::Check).await.unwrap_err();
    assert_outage(&error, StoreReason::CollectionMissing, &[ours[0].as_str()]);
    assert_eq!(aliases(&client, &f.collection).await, ours);
    f.write(&[price(2)]).await;
    f.end().await;
}

/// An API key for this collection alone may not create aliases.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_alias_updates_use_the_name_of_the_collection() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    let client = f.server.as_ref().unwrap().client();
    client.delete_collection(&f.collection).await.unwrap();
    double.faults().refuse("Collections/UpdateAliases", 1, no_global_access());
    f.store.ensure(&f.spec()).await.unwrap();
    f.write(&[price(1)]).await;
    assert_eq!(aliases(&client, &f.collection).await, [""; 0]);
    assert_eq!(points(&client, &f.collection).await, 1);
    f.end().await;
}

/// A key that is refused for a while is an outage, and no reason to do without the alias.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_does_not_cost_the_alias() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    f.write(&[price(1)]).await;
    let faults = double.faults();
    // So that the next write looks at the collection, and finds the key refused.
    faults.refuse("Points/UpdateBatch", 1, no_collection(&f.collection));
    faults.refuse("Collections/Get", 2, wrong_api_key());
    let error = f.store.write(&f.collection, &[price(2)], Guard::Check).await.unwrap_err();
    assert_outage(&error, StoreReason::Unauthorized, &[]);
    f.write(&[price(2)]).await;

    replaced_under(&f, double, &[price(3)], Guard::Check).await;
    f.end().await;
}

/// The server rejects the vector, which says so at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_does_not_fit_any_more_blames_the_collection() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    let text = |n: usize| upsert(&format!("t{n}"), vectors(None, Some(&[1.0, 0.0, 0.0, 0.0])), json!({}));
    f.write(&[text(1)]).await;
    double.put_aside(&f.collection);
    double.supplant(&f.collection, 128);
    let error = f.store.write(&f.collection, &[text(2)], Guard::Check).await.unwrap_err();
    assert_outage(&error, StoreReason::CollectionDiffers, &["found 128 dimensions, expected 4"]);
    assert_eq!(double.put_back(&f.collection), 0);
    f.write(&[text(2)]).await;
    f.end().await;
}
