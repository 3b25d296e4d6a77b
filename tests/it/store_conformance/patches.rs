//! Patches of payload alone: what they cost a Qdrant server, and what comes in between the look at their points and the write.

use std::time::Duration;

use clipstream::domain::{Guard, Modality, Vectors, Write};
use clipstream::store::Written::{self, Applied, Stale};
use clipstream_test_support::qdrant::Faults;
use serde_json::{Value, json};

use super::fixture::*;
use super::guards::stamped;
use super::kept::{hashed, keeping};
use super::races::settle_under;

const A: &[f32] = &[1.0, 0.0, 0.0, 0.0];
const B: &[f32] = &[0.0, 1.0, 0.0, 0.0];
const GUARDS: [Guard; 3] = [Guard::Off, Guard::Check, Guard::Strict];
/// More than a look and a write of another take.
const MEANWHILE: Duration = Duration::from_millis(500);

fn of(topic: &str, asset: &str, offset: i64, payload: Value) -> Write {
    stamped(patch(asset, Vectors::default(), payload), None, topic, offset, Some(offset))
}

/// Three topics patch the same assets at once, first absent ones: every key of every topic must be there in the end.
pub async fn payload_patches_of_racing_topics_all_hold(f: &Fixture) {
    const TOPICS: [&str; 3] = ["prices", "stocks", "labels"];
    if let Some(faults) = f.faults() {
        faults.dawdle(Duration::from_millis(2));
    }
    for guard in GUARDS {
        let assets: Vec<String> = (0..12).map(|n| format!("{guard:?}{n}")).collect();
        for round in 1..=3 {
            let writers = TOPICS.iter().map(async |topic| {
                for half in assets.chunks(assets.len() / 2) {
                    let batch = half.iter().map(|asset| of(topic, asset, round, json!({ *topic: round })));
                    settle_under(f, batch.collect(), guard).await;
                }
            });
            futures::future::join_all(writers).await;
            for asset in &assets {
                let point = f.point(asset).await.unwrap();
                let expected = json!({ "prices": round, "stocks": round, "labels": round });
                assert_eq!(user_keys(&point), expected, "{asset}, round {round}");
                assert_eq!(point.payload["clipstream"].get("claim"), None, "{asset}");
            }
        }
    }
}

/// Starts `mine`, and makes `theirs` when it has looked at its point and its write is on the way.
async fn between(f: &Fixture, faults: &Faults, guard: Guard, mine: Write, theirs: Write) -> Written {
    let before = faults.calls("Points/UpdateBatch");
    faults.delay("Points/UpdateBatch", 1, MEANWHILE);
    let batch = [mine];
    let theirs = async {
        while faults.calls("Points/UpdateBatch") == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(f.guarded(&[theirs], guard).await, [Applied]);
    };
    futures::future::join(f.guarded(&batch, guard), theirs).await.0[0]
}

fn theirs(asset: &str, text: &str, offset: i64) -> Write {
    let write = upsert(asset, vectors(None, Some(B)), json!({ "theirs": offset }));
    let mut write = stamped(write, None, "captions", offset, Some(offset));
    super::guards::record_of(&mut write).text_sha256 = Some(text.into());
    write
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_appears_before_it_is_created_is_patched() {
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    for guard in GUARDS {
        let asset = format!("{guard:?}");
        let mine = of("prices", &asset, 1, json!({ "mine": 1 }));
        assert_eq!(between(&f, faults, guard, mine, theirs(&asset, "t1", 1)).await, Applied);
        let point = f.point(&asset).await.unwrap();
        assert_eq!(user_keys(&point), json!({ "theirs": 1, "mine": 1 }), "{guard:?}");
        assert_vector(point.text.as_ref(), Some(B), "text");
        let record = &point.payload["clipstream"];
        assert_eq!(
            (&record["text_sha256"], &record["source"]["topic"], record.get("claim")),
            (&json!("t1"), &json!("prices"), None)
        );
    }
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_records_before_a_patch_is_not_taken_back() {
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    for guard in GUARDS {
        let asset = format!("{guard:?}");
        f.guarded(&[theirs(&asset, "t1", 1)], guard).await;
        let caption =
            stamped(patch(&asset, vectors(None, Some(A)), json!({ "theirs": 2 })), None, "captions", 2, Some(2));
        let caption = {
            let mut caption = caption;
            super::guards::record_of(&mut caption).text_sha256 = Some("t2".into());
            caption
        };
        let mine = of("prices", &asset, 1, json!({ "mine": 1 }));
        assert_eq!(between(&f, faults, guard, mine, caption).await, Applied);
        let point = f.point(&asset).await.unwrap();
        assert_eq!(user_keys(&point), json!({ "theirs": 2, "mine": 1 }), "{guard:?}");
        assert_vector(point.text.as_ref(), Some(A), "text");
        assert_eq!(point.payload["clipstream"]["text_sha256"], "t2", "{guard:?}: else the old text seems to be there");
        assert_eq!(point.payload["clipstream"]["source"]["topic"], "prices");
    }
    f.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_goes_before_it_is_patched_is_made_anew_or_stays_gone() {
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    for (guard, expected) in [(Guard::Off, Applied), (Guard::Check, Applied), (Guard::Strict, Stale)] {
        let asset = format!("{guard:?}");
        f.guarded(&[of("prices", &asset, 1, json!({ "old": 1 }))], guard).await;
        let gone = stamped(delete(&asset), None, "prices", 3, Some(3));
        let mine = of("prices", &asset, 2, json!({ "mine": 1 }));
        assert_eq!(between(&f, faults, guard, mine, gone).await, expected, "{guard:?}");
        let point = f.point(&asset).await.unwrap();
        let left = if expected == Applied { json!({ "mine": 1 }) } else { json!({}) };
        assert_eq!(user_keys(&point), left, "{guard:?}");
    }
    f.end().await;
}

/// One that is known to be older is not even sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_patches_is_two_reads_and_one_operation_for_all_that_are_new() {
    const PATCHES: usize = 200;
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    for guard in GUARDS {
        let batch = |offset: i64| {
            let one = |n| of("prices", &format!("{guard:?}{n}"), offset, json!({ "price": offset, "shop": "a" }));
            (0..PATCHES).map(one).collect::<Vec<_>>()
        };
        faults.take_traffic();
        for (offset, operations) in [(2, 1), (3, PATCHES)] {
            assert_eq!(f.guarded(&batch(offset), guard).await, vec![Applied; PATCHES]);
            let traffic = faults.take_traffic();
            println!("{guard:?}, {operations} operations: {} bytes a message", traffic.bytes / PATCHES);
            assert_eq!((traffic.updates, traffic.operations, traffic.reads), (1, operations, 2), "{guard:?}");
        }
        if guard == Guard::Strict {
            assert_eq!(f.guarded(&batch(1), guard).await, vec![Stale; PATCHES]);
            let traffic = faults.take_traffic();
            assert_eq!((traffic.updates, traffic.reads), (0, 1));
        }
    }
    f.end().await;
}

/// A vector that has not changed is not sent, and costs no more than payload alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_keeps_its_vectors_is_one_operation() {
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    for guard in GUARDS {
        let asset = format!("{guard:?}");
        let whole = upsert(&asset, vectors(Some(A), Some(B)), json!({ "v": 1 }));
        f.guarded(&[hashed(whole, Some("i1"), Some("t1"), 1)], guard).await;
        faults.take_traffic();
        let write = hashed(patch(&asset, Vectors::default(), json!({ "v": 2 })), Some("i1"), None, 2);
        assert_eq!(f.guarded(&[keeping(write, &[Modality::Image])], guard).await, [Applied]);
        assert_eq!(faults.take_traffic().operations, 1, "{guard:?}");
        let point = f.point(&asset).await.unwrap();
        assert_eq!(user_keys(&point), json!({ "v": 2 }));
        let record = &point.payload["clipstream"];
        assert_eq!((&record["media"]["sha256"], &record["text_sha256"]), (&json!("i1"), &json!("t1")));
    }
    f.end().await;
}
