use super::*;
use crate::domain::{AssetId, Class, Embedding, Fingerprint, Modality, Origin, Position, StoreReason, Vectors};
use crate::store::{CollectionDefinition, CollectionSpec, EmbeddedStore};

const COLLECTION: &str = "c";

async fn store(folder: &std::path::Path) -> Arc<dyn Store> {
    let store = EmbeddedStore::open(folder, 0).await.unwrap();
    let fingerprint = Fingerprint {
        variant: "v".into(),
        checkpoint: "c".into(),
        dimension: 4,
        preprocessing: "p".into(),
        tokenizer: "t".into(),
        graph: "g".into(),
        activation: None,
        precision: None,
    };
    let definition = CollectionDefinition::built_in();
    store.ensure(&CollectionSpec { name: COLLECTION.into(), fingerprint, definition }).await.unwrap();
    Arc::new(store)
}

fn writer(store: &Arc<dyn Store>, guard: Guard) -> Writer {
    Writer {
        collection: COLLECTION.into(),
        store: store.clone(),
        metrics: Arc::default(),
        guard,
        pacing: WritePacing::new(COLLECTION, 1, Duration::from_secs(1), Arc::default()),
        points_max: 256,
        bytes_max: 1 << 20,
        writing: Arc::default(),
    }
}

fn upsert(asset: &str, version: Option<u64>, offset: i64, image: &[f32]) -> Write {
    let asset = AssetId::new(asset).unwrap();
    let record = Record {
        asset: asset.clone(),
        tenant: None,
        source: Some(Origin {
            position: Position { topic: "t".into(), partition: 0, offset },
            request: 0,
            topic_id: None,
            leader_epoch: None,
            successor: None,
            timestamp_ms: Some(1000 + offset),
        }),
        version,
        media: None,
        text_sha256: None,
        labels: None,
        deleted_at: None,
        base: None,
        indexed_at: "2026-11-25T00:00:00Z".into(),
    };
    let vectors = Vectors { image: Some(Embedding::normalised(image.to_vec()).unwrap()), text: None };
    let (id, kept) = (PointId::of(None, &asset), Vec::new());
    Write::Upsert(Point { id, vectors, kept, payload: Payload::new(), record })
}

fn delete(asset: &str, version: Option<u64>, offset: i64) -> Write {
    let Write::Upsert(Point { id, mut record, .. }) = upsert(asset, version, offset, &[1.0; 4]) else { unreachable!() };
    record.deleted_at = Some(record.indexed_at.clone());
    Write::Delete(Deletion { id, record })
}

async fn settle(writer: &Writer, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
    let (pending, replies): (Vec<_>, Vec<_>) = writes
        .into_iter()
        .map(|write| {
            let (reply, written) = oneshot::channel();
            (PendingWrite { write, reply }, written)
        })
        .unzip();
    writer.settle(pending).await;
    futures::future::join_all(replies).await.into_iter().map(|reply| reply.unwrap()).collect()
}

async fn stored(store: &Arc<dyn Store>, write: &Write) -> Recorded {
    Recorded::read(&store.records(COLLECTION, &[write.id()]).await.unwrap()[0].1)
}

#[tokio::test]
async fn a_late_write_of_a_worker_that_was_fenced_does_not_win() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let (owner, zombie) = (writer(&store, Guard::Strict), writer(&store, Guard::Strict));
    let v = &[1.0, 0.0, 0.0, 0.0];
    let newer =
        || vec![upsert("a", Some(2), 8, v), upsert("b", None, 8, v), delete("c", None, 8), delete("d", Some(2), 8)];
    let older =
        vec![upsert("a", Some(1), 7, v), upsert("b", None, 7, v), upsert("c", None, 7, v), upsert("d", Some(1), 7, v)];
    assert!(settle(&owner, newer()).await.iter().all(|w| matches!(w, Ok(Written::Applied))));
    assert!(settle(&zombie, older).await.iter().all(|w| matches!(w, Ok(Written::Stale))));
    for write in newer() {
        let stored = stored(&store, &write).await;
        assert_eq!(stored.stamp, write.record().stamp());
        assert_eq!(stored.is_tombstone(), matches!(write, Write::Delete(_)));
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn check_reads_before_it_writes_and_off_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let v = &[1.0, 0.0, 0.0, 0.0];
    let (check, off) = (writer(&store, Guard::Check), writer(&store, Guard::Off));
    settle(&check, vec![upsert("a", Some(2), 8, v), delete("b", Some(2), 9)]).await;
    let older = || vec![upsert("a", Some(1), 9, v), upsert("b", Some(1), 10, v), upsert("c", Some(1), 11, v)];
    let written: Vec<_> = settle(&check, older()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(written, [Written::Stale, Written::Stale, Written::Applied]);
    let written: Vec<_> = settle(&off, older()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(written, [Written::Applied; 3]);
    assert_eq!(stored(&store, &older()[0]).await.stamp.version, Some(1));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_point_that_the_store_rejects_is_alone_in_failing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let v = &[1.0, 0.0, 0.0, 0.0];
    for guard in [Guard::Off, Guard::Check, Guard::Strict] {
        let mut writes: Vec<_> = (0..9).map(|n| upsert(&format!("p{n}"), Some(1), n, v)).collect();
        // One has another dimension; one relies on a vector that does not exist.
        writes[4] = upsert("p4", Some(1), 4, &[1.0, 0.0, 0.0]);
        let Write::Upsert(relies) = &mut writes[7] else { unreachable!() };
        (relies.id, relies.kept) = (PointId::of(None, &AssetId::new("absent").unwrap()), vec![Modality::Text]);
        for (n, written) in settle(&writer(&store, guard), writes).await.into_iter().enumerate() {
            match (n, written) {
                (4, Err(error)) => assert_eq!(error.class, Class::Permanent, "{error}"),
                (7, Err(error)) => {
                    assert_eq!((error.class, error.reason), (Class::Transient, StoreReason::Conflict));
                }
                (_, written) => assert_eq!(written.unwrap(), Written::Applied, "p{n} {guard:?}"),
            }
        }
        assert_eq!(store.count(COLLECTION).await.unwrap(), 7);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_collection_fails_all_as_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    for guard in [Guard::Off, Guard::Check, Guard::Strict] {
        let lost = Writer { collection: "lost".into(), ..writer(&store, guard) };
        let writes = (0..3).map(|n| upsert(&format!("p{n}"), Some(1), n, &[1.0; 4])).collect();
        for written in settle(&lost, writes).await {
            let error = written.unwrap_err();
            assert_eq!((error.class, error.reason), (Class::Outage, StoreReason::CollectionMissing));
        }
    }
    store.close().await.unwrap();
}

#[test]
fn a_clock_that_is_behind_dates_no_tombstone_before_its_message() {
    let sent: DateTime<Utc> = "2026-11-25T12:00:00Z".parse().unwrap();
    let (month, ms) = (chrono::TimeDelta::days(30), sent.timestamp_millis());
    assert_eq!(deleted_at(sent - month, Some(ms)), sent);
    assert_eq!(deleted_at(sent + month, Some(ms)), sent + month, "read long after it was sent");
    for unusable in [None, Some(ms * 1000), Some(i64::MAX), Some(-1)] {
        assert_eq!(deleted_at(sent, unusable), sent, "{unusable:?}");
    }
}

/// Nothing waits for company, unless it would wait for the store anyhow.
#[tokio::test]
async fn a_batch_waits_for_more_only_while_another_one_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let writer = writer(&store, Guard::Off);
    let pending = |offset| {
        let (reply, _) = oneshot::channel();
        PendingWrite { write: upsert(&format!("p{offset}"), None, offset, &[1.0; 4]), reply }
    };
    for (others, expected) in [(0, 2), (1, 3)] {
        writer.writing.store(others, Ordering::Relaxed);
        let (queue, mut waiting) = mpsc::channel(8);
        queue.try_send(pending(1)).map_err(|_| "full").unwrap();
        let late = async {
            // After what is waiting was taken.
            while queue.capacity() < 8 {
                tokio::task::yield_now().await;
            }
            let _ = queue.send(pending(2)).await;
        };
        let (batch, ()) = futures::future::join(writer.fill(pending(0), &mut waiting), late).await;
        assert_eq!(batch.len(), expected, "{others} others");
    }
}
