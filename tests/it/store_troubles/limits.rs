use clipstream::domain::{Class, Guard, Modality, StoreReason, Write};
use clipstream::store::{PayloadIndex, PayloadIndexKind, StoreError, Written};
use clipstream_test_support::qdrant::{Trouble, status};
use qdrant_client::qdrant::StrictModeConfig;
use serde_json::json;

use super::{MANY, WRITE, assert_outage, limit};
use crate::store_conformance::fixture::*;

const V: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
/// A server looks every 32 checks at how much there is, so that it takes some more.
const SLACK: usize = 200;

fn point(n: usize) -> Write {
    upsert(&format!("p{n}"), vectors(Some(&V), Some(&V)), json!({ "n": n }))
}

/// One after the other until one is refused.
async fn until_refused(f: &Fixture, guard: Guard, write: impl Fn(usize) -> Write) -> StoreError {
    for n in 0..SLACK {
        match f.store.write(&f.collection, &[write(n)], guard).await {
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    panic!("{SLACK} writes were taken");
}

/// 489 of 1,000 good messages became dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_collection_is_an_outage_and_no_points_fault() {
    let limits = [
        StrictModeConfig { max_points_count: Some(2), ..Default::default() },
        StrictModeConfig { max_collection_vector_size_bytes: Some(16), ..Default::default() },
        StrictModeConfig { max_collection_payload_size_bytes: Some(16), ..Default::default() },
    ];
    for limits in limits {
        for guard in [Guard::Check, Guard::Strict] {
            let f = Fixture::qdrant().await;
            f.write(&(0..8).map(point).collect::<Vec<_>>()).await;
            let server = f.server.as_ref().unwrap();
            limit(server, &f.collection, limits.clone()).await;
            let full = until_refused(&f, guard, |n| point(100 + n)).await;
            assert_outage(&full, StoreReason::Full, &["limit of", "reached", "all are held", "raise that limit"]);
            // Whatever is written, as long as it takes room: batches, patches of new points and of old ones.
            let before = f.count().await;
            for writes in [
                (500..564).map(point).collect(),
                vec![patch("new", vectors(None, Some(&V)), json!({ "m": 1 }))],
                vec![patch("p1", vectors(Some(&V), None), json!({ "m": 1 }))],
            ] {
                let error = f.store.write(&f.collection, &writes, guard).await.unwrap_err();
                assert_outage(&error, StoreReason::Full, &[f.collection.as_str()]);
            }
            // What frees room is taken all the same, and what was tried has left nothing behind.
            assert_eq!(f.guarded(&[delete("p0")], Guard::Off).await.len(), 1);
            assert_eq!(f.count().await, before - 1);
            // By itself.
            let lifted = StrictModeConfig {
                max_points_count: limits.max_points_count.map(|_| 1 << 40),
                max_collection_vector_size_bytes: limits.max_collection_vector_size_bytes.map(|_| 1 << 40),
                max_collection_payload_size_bytes: limits.max_collection_payload_size_bytes.map(|_| 1 << 40),
                ..Default::default()
            };
            limit(server, &f.collection, lifted).await;
            f.guarded(&[point(9000)], guard).await;
            f.end().await;
        }
    }
}

/// Half of the batch may pass, so the pipeline halves.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_above_a_limit_of_requests_passes_in_parts() {
    let f = Fixture::qdrant().await;
    let limits = StrictModeConfig { upsert_max_batchsize: Some(10), ..Default::default() };
    limit(f.server.as_ref().unwrap(), &f.collection, limits).await;
    let batch: Vec<_> = (0..64).map(point).collect();
    let error = f.store.write(&f.collection, &batch, Guard::Check).await.unwrap_err();
    assert_eq!(error.class, Class::Permanent, "{error}");
    for part in batch.chunks(8) {
        f.write(part).await;
    }
    assert_eq!(f.count().await, 64);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_needs_an_index_concerns_everybody() {
    let f = Fixture::qdrant().await;
    let limits = StrictModeConfig { unindexed_filtering_update: Some(false), ..Default::default() };
    limit(f.server.as_ref().unwrap(), &f.collection, limits).await;
    let with_vector = |n: u32| patch("a", vectors(Some(&V), None), json!({ "n": n }));
    let payload_alone = |n: u32| patch("a", vectors(None, None), json!({ "n": n }));
    // What is created needs no filter.
    assert_eq!(f.guarded(&[with_vector(1)], Guard::Strict).await, [Written::Applied]);
    for write in [with_vector(2), payload_alone(2)] {
        let error = f.store.write(&f.collection, &[write], Guard::Strict).await.unwrap_err();
        assert_outage(&error, StoreReason::IndexMissing, &["for \"clipstream.", "store.collection_definition"]);
    }
    // Without a guard it is done without filters.
    for n in 3..6 {
        f.write(&[payload_alone(n)]).await;
        assert_eq!(user_keys(&f.point("a").await.unwrap()), json!({ "n": n }));
    }
    f.write(&[with_vector(6)]).await;
    f.end().await;
}

/// Of a batch that costs more than the limit ever allows there is no end.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_below_the_batch_lets_parts_through() {
    let f = Fixture::qdrant().await;
    let server = f.server.as_ref().unwrap();
    if server.double().is_none() {
        return f.end().await;
    }
    limit(server, &f.collection, StrictModeConfig { write_rate_limit: Some(100), ..Default::default() }).await;
    let batch: Vec<_> = (0..128).map(point).collect();
    let error = f.store.write(&f.collection, &batch, Guard::Check).await.unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.retry_after.is_some()),
        (Class::Transient, StoreReason::Busy, true),
        "{error}"
    );
    assert_eq!(f.count().await, 64);
    // The same of reads.
    limit(server, &f.collection, StrictModeConfig { read_rate_limit: Some(150), ..Default::default() }).await;
    let ids: Vec<_> = (0..160).map(|n| id(&format!("p{n}"))).collect();
    let error = f.store.records(&f.collection, &ids).await.unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.retry_after.is_some()),
        (Class::Transient, StoreReason::Busy, true),
        "{error}"
    );
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_too_many_is_no_messages_fault() {
    let f = Fixture::qdrant().await;
    let limits = StrictModeConfig { max_payload_index_count: Some(1), ..Default::default() };
    limit(f.server.as_ref().unwrap(), &f.collection, limits).await;
    let mut spec = f.spec();
    spec.definition.payload_indexes.push(PayloadIndex { field: "lang".into(), kind: PayloadIndexKind::Keyword });
    let error = f.store.ensure(&spec).await.unwrap_err();
    assert_outage(&error, StoreReason::Full, &["maximum number of payload indices", "lang"]);
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trouble_of_a_server_or_cluster_is_blamed_on_a_point() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    let later = status::bad_request("what a later version calls its newest limit");
    let said = Trouble::ALL.map(|trouble| (format!("{trouble:?}"), trouble.status()));
    for (name, status) in said.into_iter().chain([("a later version".to_owned(), later)]) {
        for guard in [Guard::Check, Guard::Strict] {
            for write in [
                point(1),
                patch("b", vectors(None, Some(&V)), json!({ "m": 1 })),
                patch("c", vectors(None, None), json!({ "m": 1 })),
            ] {
                double.faults().refuse(WRITE, MANY, status.clone());
                let error = f.store.write(&f.collection, std::slice::from_ref(&write), guard).await.unwrap_err();
                assert_eq!(error.class, Class::Outage, "{name}: {error}");
                assert!(error.to_string().contains(status.message()), "{name}: {error}");
                double.faults().clear();
                f.guarded(&[write], guard).await;
            }
        }
    }
    f.end().await;
}

/// What is refused once and then taken was no point's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_lifted_meanwhile_blames_nobody() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    double.faults().refuse(WRITE, 1, Trouble::DiskLimit.status());
    f.write(&[point(1)]).await;
    assert!(f.point("p1").await.is_some());
    f.end().await;
}

/// A good write of the same kind passes, so it is the point.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_point_is_still_told_from_a_limit() {
    let f = Fixture::qdrant().await;
    let broken = vectors(Some(&[1.0, 2.0]), None);
    for guard in [Guard::Off, Guard::Check, Guard::Strict] {
        let mut kept = patch("known", broken.clone(), json!({}));
        if let Write::Patch(patch) = &mut kept {
            patch.kept = vec![Modality::Text];
            patch.record.text_sha256 = Some("0".repeat(64));
            // A later message's: one that is written already is not written again.
            patch.record.source.iter_mut().for_each(|source| source.position.offset += 1);
        }
        let mut known = upsert("known", vectors(None, Some(&V)), json!({}));
        if let Write::Upsert(point) = &mut known {
            point.record.text_sha256 = Some("0".repeat(64));
        }
        f.guarded(&[known], Guard::Off).await;
        for write in [upsert("x", broken.clone(), json!({})), patch("x", broken.clone(), json!({})), kept] {
            let error = f.store.write(&f.collection, &[write, point(1)], guard).await.unwrap_err();
            assert_eq!(error.class, Class::Permanent, "{guard:?}: {error}");
        }
        let error = f.store.write(&f.collection, &[upsert("x", broken.clone(), json!({}))], guard).await.unwrap_err();
        assert_eq!(error.class, Class::Permanent, "{guard:?}: {error}");
    }
    f.end().await;
}

/// A read by id is about no message.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_refused_is_no_messages_fault() {
    let f = Fixture::qdrant().await;
    let Some(double) = f.server.as_ref().unwrap().double() else { return f.end().await };
    let refused = status::limit_exceeded("limit", 256, 100);
    double.faults().refuse("Points/Get", MANY, refused);
    let error = f.store.records(&f.collection, &[id("a")]).await.unwrap_err();
    assert_outage(&error, StoreReason::Full, &["Limit exceeded 256 > 100"]);
    f.end().await;
}
