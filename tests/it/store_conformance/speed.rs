//! Not a check: prints how fast the embedded engine is. `cargo test --test it store_conformance::speed -- --ignored --nocapture`

use std::time::Instant;

use clipstream::domain::{Modality, Write};
use clipstream::store::{EmbeddedStore, Store};
use serde_json::json;

use super::fixture::*;

const WIDE: usize = 512;
const BATCH: usize = 256;

fn values(n: usize) -> Vec<f32> {
    (0..WIDE).map(|i| ((n.wrapping_mul(2_654_435_761) ^ i.wrapping_mul(40_503)) % 2003) as f32 - 1001.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn points_per_second() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).await.unwrap();
    store.ensure(&spec("speed", WIDE)).await.unwrap();
    let rate = async |what: &str, batches: &[Vec<Write>]| {
        let (start, mut slowest) = (Instant::now(), std::time::Duration::ZERO);
        for batch in batches {
            let begun = Instant::now();
            store.write("speed", batch).await.unwrap();
            slowest = slowest.max(begun.elapsed());
        }
        let points: usize = batches.iter().map(Vec::len).sum();
        println!("{what}: {:.0} points/s, slowest batch {slowest:?}", points as f64 / start.elapsed().as_secs_f64());
    };
    let batches = |from: usize, count: usize, write: &dyn Fn(usize) -> Write| -> Vec<Vec<Write>> {
        (0..count).map(|b| (0..BATCH).map(|n| write(from + b * BATCH + n)).collect()).collect()
    };
    let both = |n: usize| {
        upsert(&format!("p{n}"), vectors(Some(&values(n)), Some(&values(n + 1))), json!({"n": n, "lang": "en"}))
    };
    let image = |n: usize| upsert(&format!("p{n}"), vectors(Some(&values(n)), None), json!({"n": n, "lang": "en"}));
    let patch = |n: usize| patch(&format!("p{n}"), vectors(None, Some(&values(n))), json!({"caption": "a red shoe"}));
    rate("new points, one vector", &batches(0, 20, &image)).await;
    rate("patches of present points, one vector", &batches(0, 20, &patch)).await;
    rate("patches of absent points, one vector", &batches(5120, 20, &patch)).await;
    rate("new points, two vectors", &batches(10_240, 20, &both)).await;
    let search = async |what: &str| {
        let start = Instant::now();
        for n in 0..50 {
            store.search("speed", &query(&values(n * 7), Modality::Image, None)).await.unwrap();
        }
        println!("{what}: {:?} per search over {} points", start.elapsed() / 50, store.count("speed").await.unwrap());
    };
    search("search").await;
    rate("more new points, two vectors", &batches(20_000, 20, &both)).await;
    search("search").await;
    store.close().await.unwrap();
}
