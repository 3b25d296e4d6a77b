//! Points whose payload index is out of step with them, as a server that was killed may leave them. The engine itself is made so: its
//! payloads are put back to what they were, while its indexes stay.

use std::path::{Path, PathBuf};

use clipstream::domain::{Guard, Vectors, Write};
use clipstream::store::Written::Applied;
use clipstream::store::{self, Store};
use clipstream_test_support::qdrant::QdrantEndpoint;
use clipstream_test_support::qdrant::server::Address;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{Condition, CountPointsBuilder, Filter};
use serde_json::json;

use super::fixture::*;
use super::guards::stamped;

const NAME: &str = "index";
const SIDE: &[f32] = &[1.0, 0.0, 0.0, 0.0];
/// A conflict, the index made anew, and a conflict that another one's write would make.
const ATTEMPTS_MAX: usize = 3;

/// Starts the server on what `dir` holds, and stops it afterwards.
async fn on<T>(dir: &Path, work: impl AsyncFnOnce(&dyn Store, &Qdrant) -> T) -> T {
    let endpoint = QdrantEndpoint::start(dir);
    let address = Address { url: endpoint.url(), api_key: None };
    let client = Qdrant::from_url(&address.url).skip_compatibility_check().build().unwrap();
    let store = store::open(&settings_of(&address)).await.unwrap();
    store.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    let done = work(store.as_ref(), &client).await;
    store.close().await.unwrap();
    endpoint.stop().await;
    done
}

fn payloads(dir: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap().into_path());
    all.filter(|path| path.is_file() && path.parent().is_some_and(|folder| folder.ends_with("payload_storage")))
        .collect()
}

async fn count(client: &Qdrant, version: i64) -> u64 {
    let filter = Filter::must([Condition::matches("clipstream.version", version)]);
    let answer = client.count(CountPointsBuilder::new(NAME).filter(filter).exact(true)).await.unwrap();
    answer.result.unwrap().count
}

fn versioned(write: Write, version: u64) -> Write {
    stamped(write, Some(version), "t", version as i64, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_whose_index_is_out_of_step_is_indexed_anew_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let picture =
        |asset: &str, version| versioned(upsert(asset, vectors(Some(SIDE), None), json!({ "v": version })), version);
    let all = async |store: &dyn Store, version| {
        let writes = ["replaced", "patched", "embedded", "deleted"].map(|asset| picture(asset, version));
        assert_eq!(store.write(NAME, &writes, Guard::Strict).await.unwrap(), [Applied; 4]);
    };
    on(dir.path(), async |store, _| all(store, 10).await).await;
    let old: Vec<_> = payloads(dir.path()).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    assert!(!old.is_empty(), "the engine keeps its payloads elsewhere");
    on(dir.path(), async |store, _| all(store, 50).await).await;
    for (bytes, path) in old {
        std::fs::write(path, bytes).unwrap();
    }
    on(dir.path(), async |store, client| {
        assert_eq!((count(client, 10).await, count(client, 50).await), (0, 4), "the index is that of what is gone");
        let writes = [
            picture("replaced", 20),
            versioned(patch("patched", Vectors::default(), json!({ "v": 20 })), 20),
            versioned(patch("embedded", vectors(None, Some(SIDE)), json!({ "v": 20 })), 20),
            versioned(delete("deleted"), 20),
        ];
        for write in writes {
            let mut attempts = 0;
            while store.write(NAME, std::slice::from_ref(&write), Guard::Strict).await.unwrap() != [Applied] {
                attempts += 1;
                assert!(attempts < ATTEMPTS_MAX, "{write:?} is never written");
            }
        }
        for point in store.scroll(NAME, None, 10).await.unwrap() {
            let record = &point.payload["clipstream"];
            assert_eq!(record["version"], 20, "{record}");
            assert!(point.id == id("deleted") || user_keys(&point) == json!({ "v": 20 }), "{:?}", point.payload);
        }
        assert_eq!((count(client, 20).await, count(client, 50).await), (4, 0));
    })
    .await;
}
