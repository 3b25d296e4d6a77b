//! Several nodes of one cluster: endpoints of the same engine.

use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::{Guard, StoreReason, Write};
use clipstream::store::{self, Store};
use clipstream_test_support::qdrant::{QdrantEndpoint, Trouble, status};
use serde_json::json;

use super::{MANY, WRITE, assert_outage};
use crate::store_conformance::fixture::*;
use crate::worker_process::{clipstream, set};

const NAME: &str = "nodes";
const WRITES: usize = 20;

fn point(n: usize) -> Write {
    upsert(&format!("p{n}"), vectors(Some(&[1.0, 2.0, 3.0, 4.0]), None), json!({ "n": n }))
}

async fn open(nodes: &[&QdrantEndpoint], timeout_ms: u64) -> std::sync::Arc<dyn Store> {
    let url = nodes.iter().map(|node| node.url()).collect::<Vec<_>>().join(",");
    let settings = StoreSettings { kind: StoreKind::Qdrant, url, timeout_ms, ..StoreSettings::default() };
    let store = store::open(&settings).await.unwrap();
    store.ensure(&spec(NAME, DIMENSION)).await.unwrap();
    store
}

async fn write_some(store: &dyn Store, from: usize) {
    for n in from..from + WRITES {
        store.write(NAME, &[point(n)], Guard::Strict).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_is_away_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    let a = QdrantEndpoint::start(dir.path());
    let b = a.another_node(0);
    let store = open(&[&a, &b], 60_000).await;
    write_some(&*store, 0).await;
    assert!(a.faults().calls(WRITE) > 0 && b.faults().calls(WRITE) > 0, "both are used");

    let (port, url) = (a.port(), a.url());
    drop(a);
    write_some(&*store, 100).await;
    let shown = store.check().await.unwrap();
    assert!(shown.contains(&format!("at {}/", b.url())) && shown.contains(&format!("{url}/ is away")), "{shown}");

    let a = b.another_node(port);
    drop(b);
    write_some(&*store, 200).await;
    assert!(a.faults().calls(WRITE) > 0, "it is used again");

    drop(a);
    let error = store.write(NAME, &[point(1)], Guard::Strict).await.unwrap_err();
    assert_outage(&error, StoreReason::Unreachable, &[&url, "store.url"]);
    store.close().await.unwrap();
}

/// As a cluster says that a node cannot do what another can.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_cannot_serve_is_asked_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let a = QdrantEndpoint::start(dir.path());
    let b = a.another_node(0);
    let store = open(&[&a, &b], 60_000).await;
    let unknown = status::no_collection(NAME);
    let troubles = [
        Trouble::NoActiveReplica,
        Trouble::NoLeader,
        Trouble::ShardMoving,
        Trouble::ShardRestoring,
        Trouble::ShardBroken,
    ];
    for status in troubles.map(Trouble::status).into_iter().chain([unknown]) {
        for call in [WRITE, "Points/Get", "Collections/Get"] {
            a.faults().refuse(call, MANY, status.clone());
            write_some(&*store, 0).await;
            a.faults().clear();
        }
    }
    for call in [WRITE, "Points/Get"] {
        a.faults().refuse(call, MANY, Trouble::NoActiveReplica.status());
        b.faults().refuse(call, MANY, Trouble::NoActiveReplica.status());
        let error = store.write(NAME, &[point(1)], Guard::Strict).await.unwrap_err();
        assert_outage(&error, StoreReason::Failed, &["has no active replica"]);
        a.faults().clear();
        b.faults().clear();
    }
    store.close().await.unwrap();
    b.stop().await;
    a.stop().await;
}

/// It takes connections and never answers. Only the calls that are under way wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_holds_up_few() {
    const TIMEOUT_MS: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let a = QdrantEndpoint::start(dir.path());
    let b = a.another_node(0);
    let store = open(&[&a, &b], TIMEOUT_MS).await;
    for _ in 0..1000 {
        a.faults().hold("", false);
    }
    let started = Instant::now();
    write_some(&*store, 0).await;
    let (took, all) = (started.elapsed(), Duration::from_millis(TIMEOUT_MS) * WRITES as u32 / 2);
    assert!(took < all, "{WRITES} writes took {took:?}: as if half of them had waited");
    a.faults().clear();
    store.close().await.unwrap();
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_each() {
    let dir = tempfile::tempdir().unwrap();
    let a = QdrantEndpoint::start(dir.path());
    let b = a.another_node(0);
    let (there, gone) = (a.url(), b.url());
    drop(b);
    let mut command = clipstream("check");
    set(&mut command, &[("clip.models", "demo-emoji/v1=demo/model"), ("store.kind", "qdrant")]);
    set(&mut command, &[("store.url", &format!("{there},{gone}")), ("telemetry.listen", "")]);
    command.arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ok = |check: &str| lines.iter().find(|line| line["check"] == check).map(|line| line["ok"].clone());
    assert_eq!(ok("store"), Some(true.into()), "{lines:?}");
    assert_eq!(ok(&format!("store node {there}/")), Some(true.into()), "{lines:?}");
    assert_eq!(ok(&format!("store node {gone}/")), Some(false.into()), "{lines:?}");
    assert_eq!(output.status.code(), Some(3));
    a.stop().await;
}
