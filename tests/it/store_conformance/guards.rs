//! Versions never go backwards, and what a delete leaves behind.

use chrono::{DateTime, TimeDelta, Utc};
use clipstream::domain::{Guard, Modality, Origin, Position, Record, Vectors, Write};
use clipstream::store::Written::{Applied, Stale};
use serde_json::json;

use super::fixture::*;

const A: &[f32] = &[1.0, 0.0, 0.0, 0.0];
const B: &[f32] = &[0.0, 1.0, 0.0, 0.0];

pub fn record_of(write: &mut Write) -> &mut Record {
    match write {
        Write::Upsert(point) => &mut point.record,
        Write::Patch(patch) => &mut patch.record,
        Write::Delete(deletion) => &mut deletion.record,
    }
}

/// `write` as of a message: a deletion says when.
pub fn stamped(mut write: Write, version: Option<u64>, topic: &str, offset: i64, timestamp_ms: Option<i64>) -> Write {
    let deletes = matches!(write, Write::Delete(_));
    let record = record_of(&mut write);
    record.version = version;
    let position = Position { topic: topic.into(), partition: 0, offset };
    record.source =
        Some(Origin { position, request: 0, topic_id: None, successor: None, leader_epoch: None, timestamp_ms });
    record.deleted_at = deletes.then(|| record.indexed_at.clone());
    write
}

fn versioned(write: Write, version: u64) -> Write {
    stamped(write, Some(version), "t", version as i64, Some(1000 + version as i64))
}

/// Without a version.
fn at(write: Write, topic: &str, offset: i64, timestamp_ms: Option<i64>) -> Write {
    stamped(write, None, topic, offset, timestamp_ms)
}

fn a(asset: &str, v: u64) -> Write {
    versioned(upsert(asset, vectors(Some(A), None), json!({ "v": v })), v)
}

pub async fn strict_refuses_what_is_older_and_applies_the_rest(f: &Fixture) {
    let stored: Vec<_> = ["up", "patch", "delete", "equal"].iter().map(|asset| a(asset, 5)).collect();
    assert_eq!(f.guarded(&stored, Guard::Strict).await, [Applied; 4]);
    let batch = [
        versioned(upsert("up", vectors(None, Some(B)), json!({ "v": 4 })), 4),
        versioned(upsert("fresh", vectors(None, Some(B)), json!({ "v": 4 })), 4),
        versioned(patch("patch", vectors(Some(B), Some(B)), json!({ "v": 4, "old": 1 })), 4),
        versioned(patch("new", vectors(None, Some(B)), json!({ "v": 4 })), 4),
        versioned(delete("delete"), 4),
        versioned(upsert("equal", vectors(Some(B), None), json!({ "v": 50 })), 5),
    ];
    for _ in 0..2 {
        let written = f.guarded(&batch, Guard::Strict).await;
        assert_eq!(written, [Stale, Applied, Stale, Applied, Stale, Applied]);
        for asset in ["up", "patch", "delete"] {
            let point = f.point(asset).await.unwrap();
            assert_vector(point.image.as_ref(), Some(A), asset);
            assert_vector(point.text.as_ref(), None, asset);
            assert_eq!(user_keys(&point), json!({ "v": 5 }), "{asset}");
            assert_eq!(point.payload["clipstream"]["version"], 5, "{asset}");
        }
        for asset in ["fresh", "new"] {
            let point = f.point(asset).await.unwrap();
            assert_vector(point.text.as_ref(), Some(B), asset);
            assert_eq!(user_keys(&point), json!({ "v": 4 }), "{asset}");
        }
        let equal = f.point("equal").await.unwrap();
        assert_vector(equal.image.as_ref(), Some(B), "equal versions overwrite each other");
        assert_eq!(user_keys(&equal), json!({ "v": 50 }));
    }
    // An upsert drops the vector that it does not mention, under the guard too.
    let newer = versioned(upsert("fresh", vectors(Some(A), None), json!({})), 6);
    assert_eq!(f.guarded(&[newer], Guard::Strict).await, [Applied]);
    assert_vector(f.point("fresh").await.unwrap().text.as_ref(), None, "text");
}

pub async fn strict_orders_by_position_where_a_version_is_missing(f: &Fixture) {
    let up = |n: u32| upsert("a", vectors(Some(A), None), json!({ "n": n }));
    let change = |n: u32| patch("a", Vectors::default(), json!({ "n": n }));
    let steps = [
        (at(up(0), "t", 10, Some(100)), Applied),
        (at(up(1), "t", 9, Some(100)), Stale),
        (at(change(2), "t", 9, Some(99)), Stale),
        (at(delete("a"), "t", 8, Some(99)), Stale),
        (at(up(3), "t", 10, Some(100)), Applied),
        (at(change(4), "t", 11, Some(100)), Applied),
        // A topic that was created anew: lower offset, later time.
        (at(up(5), "t", 1, Some(200)), Applied),
        (at(up(6), "u", 0, Some(1)), Applied),
        (at(change(7), "t", 1, Some(1)), Applied),
        (at(up(8), "t", 0, None), Applied),
        // A version against none: by position.
        (stamped(up(9), Some(1), "t", 20, Some(300)), Applied),
        (at(change(10), "t", 19, Some(300)), Stale),
        (at(change(11), "t", 21, Some(300)), Applied),
        // The patch kept the version.
        (stamped(up(12), Some(0), "t", 30, Some(400)), Stale),
        (stamped(up(13), Some(2), "t", 2, Some(2)), Applied),
    ];
    for (n, (write, expected)) in steps.into_iter().enumerate() {
        assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "step {n}");
    }
    assert_eq!(user_keys(&f.point("a").await.unwrap()), json!({ "n": 13 }));
}

/// Of the topic `t` with this id; `successor`: the one that is known to have taken its place.
fn of_topic(write: Write, id: &str, successor: Option<&str>, offset: i64, timestamp_ms: Option<i64>) -> Write {
    let mut write = at(write, "t", offset, timestamp_ms);
    let origin = record_of(&mut write).source.as_mut().unwrap();
    (origin.topic_id, origin.successor) = (Some(id.into()), successor.map(Into::into));
    write
}

pub async fn within_one_topic_the_offset_alone_decides(f: &Fixture) {
    const NOW: i64 = 1_764_000_000_000;
    let clocks = [None, Some(-1), Some(NOW / 1000), Some(NOW - 864_000_000), Some(NOW), Some(NOW + 864_000_000)];
    for (n, (early, late)) in clocks.iter().flat_map(|a| clocks.iter().map(move |b| (*a, *b))).enumerate() {
        let asset = format!("a{n}");
        let up = |v: u32| upsert(&asset, vectors(Some(A), None), json!({ "v": v }));
        let change = |v: u32| patch(&asset, vectors(None, Some(B)), json!({ "v": v }));
        let steps = [
            (of_topic(up(1), "id", None, 5, late), Applied),
            (of_topic(up(0), "id", None, 4, early), Stale),
            (of_topic(change(0), "id", None, 4, early), Stale),
            (of_topic(delete(&asset), "id", None, 4, early), Stale),
            (of_topic(change(2), "id", None, 6, early), Applied),
            (of_topic(change(1), "id", None, 5, late), Stale),
            (of_topic(delete(&asset), "id", None, 7, late), Applied),
            (of_topic(change(2), "id", None, 6, early), Stale),
            (of_topic(change(3), "id", None, 8, early), Applied),
        ];
        for (step, (write, expected)) in steps.into_iter().enumerate() {
            assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "{early:?} before {late:?}, step {step}");
        }
        assert_eq!(user_keys(&f.point(&asset).await.unwrap()), json!({ "v": 3 }));
    }
}

pub async fn offsets_that_come_again_under_another_leader_are_newer(f: &Fixture) {
    let under = |mut write: Write, leader_epoch| {
        record_of(&mut write).source.as_mut().unwrap().leader_epoch = leader_epoch;
        write
    };
    let of = |write, epoch, offset| under(of_topic(write, "id", None, offset, None), epoch);
    let up = |v: u32| upsert("a", vectors(Some(A), None), json!({ "v": v }));
    let change = |v: u32| patch("a", vectors(None, Some(B)), json!({ "v": v }));
    let steps = [
        (of(up(0), Some(4), 1000), Applied),
        // The leader of epoch 5 did not have them all.
        (of(up(1), Some(5), 7), Applied),
        (of(up(2), Some(4), 1001), Stale),
        (of(change(2), Some(4), 1001), Stale),
        (of(delete("a"), Some(4), 1001), Stale),
        (of(up(3), Some(5), 6), Stale),
        (of(change(4), Some(5), 8), Applied),
        (of(up(5), Some(6), 0), Applied),
        // An epoch is missing on one side: offsets alone.
        (of(up(6), None, 3), Applied),
        (of(up(7), Some(9), 2), Stale),
        (of(up(8), Some(1), 4), Applied),
        (of(up(9), None, 3), Stale),
    ];
    for (n, (write, expected)) in steps.into_iter().enumerate() {
        assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "step {n}");
    }
    let stored = f.point("a").await.unwrap();
    assert_eq!(user_keys(&stored), json!({ "v": 8 }));
    assert_eq!(stored.payload["clipstream"]["source"]["leader_epoch"], 1);
}

pub async fn a_topic_that_was_made_anew_is_told_by_its_id(f: &Fixture) {
    let up = |v: u32| upsert("a", vectors(Some(A), None), json!({ "v": v }));
    let steps = [
        (of_topic(up(0), "old", None, 1000, Some(500)), Applied),
        // Whatever its clock says.
        (of_topic(up(1), "new", None, 3, Some(400)), Applied),
        (of_topic(up(2), "new", None, 2, Some(900)), Stale),
        // What waited in a retry topic meanwhile, and its partition of now says nothing.
        (of_topic(up(3), "old", Some("new"), 1001, Some(900)), Stale),
        (of_topic(delete("a"), "old", Some("new"), 1001, Some(900)), Stale),
        // What is not known to be gone may be the newer one.
        (of_topic(up(4), "old", None, 7, Some(1)), Applied),
        (of_topic(up(5), "old", Some("new"), 6, None), Stale),
        (of_topic(up(6), "old", Some("new"), 8, None), Applied),
        // An id is missing on one side: offset and time must agree.
        (at(up(7), "t", 7, Some(9)), Applied),
        (of_topic(up(8), "old", None, 6, Some(8)), Stale),
        (of_topic(up(9), "old", None, 6, Some(10)), Applied),
        (at(up(10), "t", 5, Some(10)), Stale),
        (at(up(11), "t", 5, Some(11)), Applied),
    ];
    for (n, (write, expected)) in steps.into_iter().enumerate() {
        assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "step {n}");
    }
    let stored = f.point("a").await.unwrap();
    assert_eq!(user_keys(&stored), json!({ "v": 11 }));
    assert_eq!(stored.payload["clipstream"]["source"].get("topic_id"), None);
    f.guarded(&[of_topic(up(12), "new", None, 0, None)], Guard::Strict).await;
    let record = &f.point("a").await.unwrap().payload["clipstream"]["source"];
    assert_eq!(*record, json!({ "topic": "t", "partition": 0, "offset": 0, "topic_id": "new" }));
}

pub async fn requests_of_one_message_follow_each_other(f: &Fixture) {
    let of = |write: Write, offset, request| {
        let mut write = of_topic(write, "id", None, offset, None);
        record_of(&mut write).source.as_mut().unwrap().request = request;
        write
    };
    let up = |v: u32| upsert("a", vectors(Some(A), None), json!({ "v": v }));
    let change = |v: u32| patch("a", vectors(None, Some(B)), json!({ "v": v }));
    // All of them in one second, as requests of one message are.
    let steps = [
        (of(up(0), 7, 0), Applied, json!({ "v": 0 })),
        (of(change(1), 7, 1), Applied, json!({ "v": 1 })),
        (of(change(2), 7, 2), Applied, json!({ "v": 2 })),
        // The message is delivered again.
        (of(up(0), 7, 0), Stale, json!({ "v": 2 })),
        (of(change(1), 7, 1), Stale, json!({ "v": 2 })),
        (of(change(2), 7, 2), Applied, json!({ "v": 2 })),
        (of(delete("a"), 7, 1), Stale, json!({ "v": 2 })),
        (of(up(3), 6, 9), Stale, json!({ "v": 2 })),
        (of(delete("a"), 7, 3), Applied, json!({})),
        (of(change(2), 7, 2), Stale, json!({})),
        (of(up(4), 7, 4), Applied, json!({ "v": 4 })),
        (of(up(5), 7, 5), Applied, json!({ "v": 5 })),
        (of(up(8), 8, 0), Applied, json!({ "v": 8 })),
        (of(up(5), 7, 5), Stale, json!({ "v": 8 })),
    ];
    for (n, (write, expected, keys)) in steps.into_iter().enumerate() {
        assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "step {n}");
        assert_eq!(user_keys(&f.point("a").await.unwrap()), keys, "step {n}");
    }
    let source = || async { f.point("a").await.unwrap().payload["clipstream"]["source"].clone() };
    let first = json!({ "topic": "t", "partition": 0, "offset": 8, "topic_id": "id" });
    assert_eq!(source().await, first, "a message's only request is recorded without its index");
    f.guarded(&[of(change(9), 8, 1)], Guard::Strict).await;
    assert_eq!(source().await["request"], 1);
}

pub async fn versions_beyond_the_exact_floats_are_told_apart(f: &Fixture) {
    // Nanoseconds since 1970, as some catalogs version: floats are 256 apart there.
    let now = 1_764_000_000_123_456_789;
    for (version, expected) in
        [(now, Applied), (now - 1, Stale), (now, Applied), (now + 1, Applied), (now, Stale), (i64::MAX as u64, Applied)]
    {
        let write = stamped(upsert("a", vectors(Some(A), None), json!({})), Some(version), "t", 0, Some(0));
        assert_eq!(f.guarded(&[write], Guard::Strict).await, [expected], "{version}");
    }
}

pub async fn without_strict_the_store_compares_nothing(f: &Fixture) {
    for guard in [Guard::Off, Guard::Check] {
        assert_eq!(f.guarded(&[a("a", 5)], guard).await, [Applied]);
        assert_eq!(f.guarded(&[a("a", 4)], guard).await, [Applied]);
        let older = versioned(patch("a", Vectors::default(), json!({ "v": 3 })), 3);
        assert_eq!(f.guarded(&[older], guard).await, [Applied]);
        assert_eq!(user_keys(&f.point("a").await.unwrap()), json!({ "v": 3 }));
    }
}

pub async fn a_tombstone_holds_off_the_old_and_gives_way_to_the_new(f: &Fixture) {
    let both = vectors(Some(A), Some(B));
    f.guarded(&[versioned(upsert("a", both, json!({ "old": 1 })), 5), a("b", 1)], Guard::Strict).await;
    // Of an asset that was never there, too: its upsert may still be on the way.
    let deletes = [versioned(delete("a"), 6), versioned(delete("never"), 6)];
    assert_eq!(f.guarded(&deletes, Guard::Strict).await, [Applied, Applied]);
    assert_eq!(f.count().await, 1);
    for modality in [Modality::Image, Modality::Text] {
        for hit in f.store.search(&f.collection, &query(A, modality, None)).await.unwrap() {
            assert_eq!(hit.asset_id(), Some("b"));
        }
    }
    let grave = f.point("a").await.unwrap();
    assert_eq!((grave.image, grave.text), (None, None));
    assert_eq!(grave.payload.keys().collect::<Vec<_>>(), ["clipstream"]);
    let ours = &grave.payload["clipstream"];
    assert_eq!((&ours["version"], &ours["deleted_at"]), (&json!(6), &json!("2026-11-23T10:00:00Z")));
    let late = [a("a", 5), versioned(patch("never", vectors(None, Some(B)), json!({})), 5)];
    assert_eq!(f.guarded(&late, Guard::Strict).await, [Stale, Stale]);
    assert_eq!(f.count().await, 1);
    let again = [a("a", 7), versioned(patch("never", vectors(None, Some(B)), json!({ "v": 7 })), 7)];
    assert_eq!(f.guarded(&again, Guard::Strict).await, [Applied, Applied]);
    assert_eq!(f.count().await, 3);
    assert_eq!(user_keys(&f.point("a").await.unwrap()), json!({ "v": 7 }));
    let revived = f.point("never").await.unwrap();
    assert_vector(revived.text.as_ref(), Some(B), "text");
    assert_eq!(user_keys(&revived), json!({ "v": 7 }));
    assert!(revived.payload["clipstream"].get("deleted_at").is_none());
}

pub async fn deletes_leave_tombstones_as_the_guard_says(f: &Fixture) {
    for (guard, versioned_left, unversioned_left) in
        [(Guard::Off, false, false), (Guard::Check, true, false), (Guard::Strict, true, true)]
    {
        f.guarded(&[a("v", 1), at(upsert("u", vectors(Some(A), None), json!({})), "t", 1, Some(1))], guard).await;
        let deletes = [versioned(delete("v"), 2), at(delete("u"), "t", 2, Some(2))];
        assert_eq!(f.guarded(&deletes, guard).await, [Applied, Applied]);
        assert_eq!(f.count().await, 0, "{guard:?}");
        assert_eq!(f.point("v").await.is_some(), versioned_left, "{guard:?}");
        assert_eq!(f.point("u").await.is_some(), unversioned_left, "{guard:?}");
        // Without the guard, a patch brings the asset back as well.
        f.guarded(&[versioned(patch("v", Vectors::default(), json!({ "p": 1 })), 3)], guard).await;
        assert_eq!(f.count().await, 1, "{guard:?}");
        f.guarded(&[versioned(delete("v"), 4), at(delete("u"), "t", 4, Some(4))], Guard::Off).await;
        assert!(f.point("v").await.is_none() && f.point("u").await.is_none());
    }
}

pub async fn old_tombstones_are_purged(f: &Fixture) {
    let now: DateTime<Utc> = "2026-11-25T12:00:00Z".parse().unwrap();
    let deleted = |asset: &str, hours: i64| {
        let mut write = versioned(delete(asset), 1);
        record_of(&mut write).deleted_at = Some((now - TimeDelta::hours(hours)).to_rfc3339());
        write
    };
    f.guarded(&[deleted("old", 3), deleted("older", 30), deleted("young", 1), a("alive", 1)], Guard::Strict).await;
    assert_eq!(f.store.purge_tombstones(&f.collection, now - TimeDelta::hours(2)).await.unwrap(), 2);
    assert_eq!(f.store.purge_tombstones(&f.collection, now - TimeDelta::hours(2)).await.unwrap(), 0);
    for (asset, there) in [("old", false), ("older", false), ("young", true), ("alive", true)] {
        assert_eq!(f.point(asset).await.is_some(), there, "{asset}");
    }
    assert_eq!(f.count().await, 1);
}
