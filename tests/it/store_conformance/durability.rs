//! What only the embedded engine has: files of its own.

use clipstream::domain::{Class, Guard, Modality, StoreReason, Write};
use clipstream::store::{EmbeddedStore, Store};
use serde_json::json;

use super::fixture::*;

const NAME: &str = "durable";

fn point(n: usize) -> Write {
    let v = [1.0 + n as f32, (n % 7) as f32, (n % 13) as f32, 1.0];
    upsert(&format!("p{n}"), vectors(Some(&v), Some(&v)), json!({"n": n}))
}

/// Copies a store's files as they are while it is open, which is what a process leaves behind that is killed.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_returned_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("a"), 0).await.unwrap();
    store.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    let batch: Vec<_> = (0..300).map(point).collect();
    store.write(NAME, &batch, Guard::Off).await.unwrap();
    store
        .write(
            NAME,
            &[patch("p0", vectors(None, Some(&[0.0, 0.0, 0.0, 1.0])), json!({"m": 1})), delete("p1")],
            Guard::Off,
        )
        .await
        .unwrap();
    copy(&dir.path().join("a"), &dir.path().join("b"));
    let killed = EmbeddedStore::open(&dir.path().join("b"), 0).await.unwrap();
    let (mut before, mut after) =
        (store.scroll(NAME, None, 1000).await.unwrap(), killed.scroll(NAME, None, 1000).await.unwrap());
    assert_eq!(before.len(), 299);
    before.sort_by_key(|p| p.id);
    after.sort_by_key(|p| p.id);
    assert_eq!(before, after);
    // And it goes on: the engine must not take new operations for old ones.
    killed
        .write(NAME, &[upsert("p0", vectors(Some(&[0.0, 1.0, 0.0, 0.0]), None), json!({"new": 1}))], Guard::Off)
        .await
        .unwrap();
    let hit = &killed.search(NAME, &query(&[0.0, 1.0, 0.0, 0.0], Modality::Image, None)).await.unwrap()[0];
    assert_eq!(hit.payload["new"], 1);
    killed.close().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_told_who_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), 0).await.unwrap();
    let Err(error) = EmbeddedStore::open(dir.path(), 0).await else { panic!("opened twice") };
    assert_eq!((error.class, error.reason), (Class::Outage, StoreReason::Locked));
    assert!(
        error.to_string().contains("in use by another process") && error.to_string().contains("store.path"),
        "{error}"
    );
    store.close().await.unwrap();
    EmbeddedStore::open(dir.path(), 0).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_creation_is_started_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), 0).await.unwrap();
    let leftover = dir.path().join("collections").join(NAME).join("segments").join("half");
    std::fs::create_dir_all(&leftover).unwrap();
    store.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    store.write(NAME, &[point(1)], Guard::Off).await.unwrap();
    assert_eq!(store.count(NAME).await.unwrap(), 1);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_leave_the_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), 0).await.unwrap();
    for name in ["../up", "a/b", "", ".hidden", "ünï", "a b"] {
        assert_eq!(
            store.ensure(&spec(name, DIMENSION)).await.unwrap_err().reason,
            StoreReason::CollectionNameInvalid,
            "{name}"
        );
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_on_the_disk_writes_are_held_and_searches_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let roomy = EmbeddedStore::open(dir.path(), 0).await.unwrap();
    roomy.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    roomy.write(NAME, &[point(1)], Guard::Off).await.unwrap();
    roomy.close().await.unwrap();

    let full = EmbeddedStore::open(dir.path(), u64::MAX).await.unwrap();
    full.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    let refusals = [
        full.write(NAME, &[point(2)], Guard::Off).await.unwrap_err(),
        full.write(NAME, &[delete("p1")], Guard::Strict).await.unwrap_err(),
        full.ensure(&spec("another", DIMENSION)).await.unwrap_err(),
    ];
    for error in refusals {
        assert_eq!((error.class, error.reason), (Class::Outage, StoreReason::DiskFull));
        for said in [&dir.path().display().to_string(), "are free, expected", "store.disk_free_bytes_min"] {
            assert!(error.to_string().contains(said), "{error}");
        }
    }
    let hits = full.search(NAME, &query(&[2.0, 1.0, 1.0, 1.0], Modality::Image, None)).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(full.count(NAME).await.unwrap(), 1);
    full.close().await.unwrap();

    let roomy = EmbeddedStore::open(dir.path(), 0).await.unwrap();
    roomy.write(NAME, &[point(2)], Guard::Off).await.unwrap();
    assert_eq!(roomy.count(NAME).await.unwrap(), 2);
    roomy.close().await.unwrap();
}
