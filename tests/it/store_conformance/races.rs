//! Several writers of the same points at once, in seeded random order.

use clipstream::domain::{Guard, StoreReason, Vectors, Write};
use clipstream::store::Written;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::fixture::*;
use super::guards::{record_of, stamped};
use super::kept::media;

const ASSETS: usize = 6;
const WRITERS: u64 = 4;
const VERSIONS: u64 = 24;
/// Far more than a conflict needs to be over; each attempt needs another writer to get on.
const ATTEMPTS_MAX: usize = 1000;

/// Tells versions apart.
fn direction(version: u64) -> [f32; 4] {
    let turn = version as f32 * 0.1;
    [turn.cos(), turn.sin(), 0.5, 0.25]
}

/// Sends the batch, and whatever was in conflict again, as the pipeline does.
pub async fn settle(f: &Fixture, batch: Vec<Write>) -> usize {
    settle_under(f, batch, Guard::Strict).await
}

pub async fn settle_under(f: &Fixture, mut batch: Vec<Write>, guard: Guard) -> usize {
    for conflicts in 0..ATTEMPTS_MAX {
        match f.store.write(&f.collection, &batch, guard).await {
            Ok(written) => {
                let open = batch.into_iter().zip(written).filter(|(_, written)| *written == Written::Conflict);
                batch = open.map(|(write, _)| write).collect();
            }
            Err(error) => assert_eq!(error.reason, StoreReason::Conflict, "{error}"),
        }
        if batch.is_empty() {
            return conflicts;
        }
        tokio::task::yield_now().await;
    }
    panic!("in conflict with another writer {ATTEMPTS_MAX} times: {batch:?}");
}

/// Each version of each asset is written by one of the writers, all at once; each sends them in an order of its own.
async fn race(f: &Fixture, round: u64, write: impl Fn(&str, u64) -> Write) {
    let mut rng = StdRng::seed_from_u64(round);
    let mut shares: Vec<Vec<Vec<Write>>> = vec![Vec::new(); WRITERS as usize];
    for version in 1..=VERSIONS {
        let mut batch: Vec<_> = (0..ASSETS).map(|n| write(&format!("r{round}-{n}"), version)).collect();
        batch.shuffle(&mut rng);
        shares[rng.random_range(0..WRITERS as usize)].push(batch);
    }
    for share in &mut shares {
        share.shuffle(&mut rng);
    }
    let writers = shares.into_iter().map(async |share| {
        for batch in share {
            settle(f, batch).await;
        }
    });
    futures::future::join_all(writers).await;
}

fn versioned(write: Write, version: u64) -> Write {
    stamped(write, Some(version), "t", version as i64, Some(version as i64))
}

pub async fn the_highest_version_wins_among_racing_upserts(f: &Fixture) {
    for round in 0..3 {
        // Odd versions have a text, too, so that dropping it is part of the race.
        let write = |asset: &str, v: u64| {
            let text = direction(v);
            let vectors = vectors(Some(&direction(v)), (v % 2 == 1).then_some(&text[..]));
            versioned(upsert(asset, vectors, json!({ "v": v })), v)
        };
        race(f, round, write).await;
        for n in 0..ASSETS {
            let point = f.point(&format!("r{round}-{n}")).await.unwrap();
            assert_eq!(user_keys(&point), json!({ "v": VERSIONS }), "round {round}");
            assert_eq!(point.payload["clipstream"]["version"], VERSIONS);
            assert_vector(point.image.as_ref(), Some(&direction(VERSIONS)), "image");
            assert_vector(point.text.as_ref(), None, "text, which the last version does not have");
        }
    }
}

pub async fn the_highest_version_wins_among_racing_patches_upserts_and_deletes(f: &Fixture) {
    for round in 0..3 {
        let write = |asset: &str, v: u64| {
            let both = vectors(Some(&direction(v)), Some(&direction(v)));
            let write = match (v + round) % 4 {
                0 if v < VERSIONS => delete(asset),
                1 => upsert(asset, both, json!({ "v": v })),
                _ => patch(asset, both, json!({ "v": v })),
            };
            versioned(write, v)
        };
        race(f, round, write).await;
        for n in 0..ASSETS {
            let point = f.point(&format!("r{round}-{n}")).await.unwrap();
            assert_eq!(user_keys(&point), json!({ "v": VERSIONS }), "round {round}");
            assert_eq!(point.payload["clipstream"]["version"], VERSIONS);
            assert!(point.payload["clipstream"].get("deleted_at").is_none());
            assert_vector(point.image.as_ref(), Some(&direction(VERSIONS)), "image");
            assert_vector(point.text.as_ref(), Some(&direction(VERSIONS)), "text");
        }
    }
}

/// Two topics patch one asset, on and on: each of them gets through, and every vector has its own hash in the end.
pub async fn two_writers_of_one_hot_asset_both_get_through(f: &Fixture) {
    const PATCHES: u64 = 40;
    let of = |topic: &'static str, n: u64| {
        let turn = direction(n);
        let (vectors, image, text) = match topic {
            "images" => (vectors(Some(&turn), None), Some(format!("i{n}")), None),
            _ => (vectors(None, Some(&turn)), None, Some(format!("t{n}"))),
        };
        let mut write = stamped(patch("hot", vectors, json!({ topic: n })), None, topic, n as i64, None);
        let record = record_of(&mut write);
        (record.media, record.text_sha256) = (image.as_deref().map(media), text);
        write
    };
    let writer = async |topic| {
        for n in 1..=PATCHES {
            settle(f, vec![of(topic, n)]).await;
        }
    };
    futures::future::join(writer("images"), writer("texts")).await;
    let point = f.point("hot").await.unwrap();
    assert_eq!(user_keys(&point), json!({ "images": PATCHES, "texts": PATCHES }));
    assert_vector(point.image.as_ref(), Some(&direction(PATCHES)), "image");
    assert_vector(point.text.as_ref(), Some(&direction(PATCHES)), "text");
    let record = &point.payload["clipstream"];
    assert_eq!((&record["media"]["sha256"], &record["text_sha256"]), (&json!("i40"), &json!("t40")));
    assert_eq!(record.get("claim"), None);
}

/// Nothing orders them, so both must be there in the end, each with its hash.
pub async fn patches_of_two_topics_under_one_version_both_hold(f: &Fixture) {
    let assets: Vec<String> = (0..20).map(|n| format!("both{n}")).collect();
    let [image, text] = [direction(1), direction(2)];
    let of = |topic: &'static str, vectors: Vectors, payload: serde_json::Value| {
        assets
            .iter()
            .map(move |asset| stamped(patch(asset, vectors.clone(), payload.clone()), Some(1), topic, 7, Some(7)))
    };
    let images: Vec<_> = of("images", vectors(Some(&image), None), json!({ "from": "image" })).collect();
    let texts: Vec<_> = of("texts", vectors(None, Some(&text)), json!({ "caption": "red" })).collect();
    futures::future::join(settle(f, images), settle(f, texts)).await;
    for asset in &assets {
        let point = f.point(asset).await.unwrap();
        assert_vector(point.image.as_ref(), Some(&image), asset);
        assert_vector(point.text.as_ref(), Some(&text), asset);
        assert_eq!(user_keys(&point), json!({ "from": "image", "caption": "red" }));
    }
}
