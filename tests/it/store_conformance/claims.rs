//! What a strict patch does in several steps on a Qdrant server, where others may come in between, and what it reads afterwards.

use std::time::Duration;

use clipstream::domain::{Guard, Modality, StoreReason, Vectors, Write};
use clipstream::store::Written::{Applied, Conflict, Stale};
use clipstream_test_support::qdrant::status;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::read_consistency::Value;
use qdrant_client::qdrant::{Filter, ReadConsistencyType, SetPayloadPointsBuilder};
use serde_json::json;
use tonic::Status;

use super::fixture::*;
use super::guards::{record_of, stamped};
use super::kept::{hashed, keeping, media};
use super::races::settle;

const A: &[f32] = &[1.0, 0.0, 0.0, 0.0];
const B: &[f32] = &[0.0, 1.0, 0.0, 0.0];

/// As a worker leaves every point that dies in the middle of a patch.
async fn leave_unfinished(f: &Fixture) {
    let client = Qdrant::from_url(&f.settings.url).skip_compatibility_check().build().unwrap();
    let claim = qdrant_client::Payload::try_from(json!({ "claim": "another" })).unwrap();
    let request = SetPayloadPointsBuilder::new(&f.collection, claim).key("clipstream");
    client.set_payload(request.points_selector(Filter::default()).wait(true)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_was_left_unfinished_is_taken_over() {
    let f = Fixture::qdrant().await;
    let assets = ["patched", "kept", "old", "replaced", "deleted", "unguarded"];
    for asset in assets {
        let both = upsert(asset, vectors(Some(A), Some(A)), json!({ "v": 1 }));
        assert_eq!(f.guarded(&[hashed(both, Some("i1"), Some("t1"), 5)], Guard::Strict).await, [Applied]);
    }
    leave_unfinished(&f).await;
    let change = |asset, v| hashed(patch(asset, vectors(None, Some(B)), json!({ "v": v })), None, Some("t2"), v);
    let relying = patch("kept", Vectors::default(), json!({ "v": 6 }));
    let relying = keeping(hashed(relying, Some("i1"), None, 6), &[Modality::Image]);
    let steps = [
        (change("patched", 6), Guard::Strict, Applied),
        // Nobody knows what its picture's vector embeds.
        (relying, Guard::Strict, Conflict),
        (change("old", 4), Guard::Strict, Stale),
        (
            hashed(upsert("replaced", vectors(Some(B), None), json!({ "v": 6 })), Some("i2"), None, 6),
            Guard::Strict,
            Applied,
        ),
        (stamped(delete("deleted"), Some(6), "t", 6, Some(6)), Guard::Strict, Applied),
        (change("unguarded", 6), Guard::Check, Applied),
    ];
    for (write, guard, expected) in steps {
        let what = format!("{write:?}");
        assert_eq!(f.guarded(&[write], guard).await, [expected], "{what}");
    }
    for asset in ["patched", "replaced", "deleted", "unguarded"] {
        let record = &f.point(asset).await.unwrap().payload["clipstream"];
        assert_eq!((record.get("claim"), &record["version"]), (None, &json!(6)), "{asset}");
    }
    let patched = f.point("patched").await.unwrap();
    assert_vector(patched.text.as_ref(), Some(B), "text");
    assert_vector(patched.image.as_ref(), Some(A), "image");
    let record = &patched.payload["clipstream"];
    assert_eq!(
        (record.get("media"), &record["text_sha256"]),
        (None, &json!("t2")),
        "the picture's hash is not believed"
    );
    assert_vector(f.point("replaced").await.unwrap().text.as_ref(), None, "text");
    f.end().await;
}

/// An answer that is late makes a client send a patch once more, while the first sending is still under way and another
/// worker patches the point: the steps of all three come in any order.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_is_sent_twice_beside_another_one_is_whole() {
    const ASSETS: usize = 120;
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    let of = |topic: &str, image: Option<&str>, mut write: Write| {
        let record = record_of(&mut write);
        record.media = image.map(media);
        stamped(write, None, topic, 34, None)
    };
    let assets: Vec<String> = (0..ASSETS).map(|n| format!("a{n}")).collect();
    let texts =
        assets.iter().map(|asset| hashed(upsert(asset, vectors(None, Some(B)), json!({})), None, Some("t1"), 5));
    f.guarded(&texts.collect::<Vec<_>>(), Guard::Strict).await;
    faults.dawdle(Duration::from_millis(4));
    let patches = assets.iter().map(async |asset| {
        let picture = of("pictures", Some("i1"), patch(asset, vectors(Some(A), None), json!({ "picture": 1 })));
        let caption = of("captions", None, patch(asset, Vectors::default(), json!({ "caption": 1 })));
        let both = futures::future::join(settle(&f, vec![picture.clone()]), settle(&f, vec![picture]));
        futures::future::join(both, settle(&f, vec![caption])).await;
    });
    futures::future::join_all(patches).await;
    for asset in &assets {
        let point = f.point(asset).await.unwrap();
        let record = &point.payload["clipstream"];
        assert_eq!(user_keys(&point), json!({ "picture": 1, "caption": 1 }), "{asset}");
        assert_vector(point.image.as_ref(), Some(A), &format!("picture of {asset}, {record}"));
        assert_vector(point.text.as_ref(), Some(B), asset);
        assert_eq!((&record["media"]["sha256"], record.get("claim")), (&json!("i1"), None), "{asset}");
        assert_eq!(record["text_sha256"], "t1", "{asset}: neither of them changes the text");
    }
    f.end().await;
}

/// A replica that lags behind must not tell what has become of a write.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_what_most_replicas_agree_on() {
    let f = Fixture::qdrant().await;
    let Some(faults) = f.faults() else { return f.end().await };
    let most = Some(Value::Type(ReadConsistencyType::Majority.into()));
    let quorum = Some(Value::Type(ReadConsistencyType::Quorum.into()));
    let write = stamped(upsert("a", vectors(Some(A), None), json!({})), None, "t", 1, Some(1));
    assert_eq!(f.guarded(std::slice::from_ref(&write), Guard::Strict).await, [Applied]);
    assert_eq!(faults.take_consistencies(), [most], "after a strict write");
    f.store.records(&f.collection, &[id("a")]).await.unwrap();
    assert_eq!(faults.take_consistencies(), [most], "before a write");
    // What has no majority, or is not there.
    f.store.records(&f.collection, &[id("absent"), id("a")]).await.unwrap();
    assert_eq!(faults.take_consistencies(), [most, None]);
    // While a replica is dead, Qdrant refuses reads that ask for it.
    faults.refuse_reads_of([most].into(), status::too_few_replicas());
    assert_eq!(f.guarded(std::slice::from_ref(&write), Guard::Strict).await, [Applied]);
    // What a node refuses is asked once more: it may be another replica then.
    let distinct = |mut asked: Vec<_>| {
        asked.dedup();
        asked
    };
    assert_eq!(distinct(faults.take_consistencies()), [most, quorum]);
    faults.refuse_reads_of([most, quorum].into(), status::too_few_replicas());
    assert_eq!(f.guarded(std::slice::from_ref(&write), Guard::Strict).await, [Applied]);
    assert_eq!(distinct(faults.take_consistencies()), [most, quorum, None]);
    // Other failures are no reason to believe fewer.
    faults.refuse_reads_of([most].into(), Status::unavailable("down"));
    assert_eq!(
        f.store.write(&f.collection, &[write], Guard::Strict).await.unwrap_err().reason,
        StoreReason::Unreachable
    );
    assert!(faults.take_consistencies().iter().all(|asked| *asked == most));
    f.end().await;
}
