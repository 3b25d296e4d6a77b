use clipstream::domain::{MediaRecord, RESERVED_KEY, Vectors, Write};
use serde_json::{Value, json};

use super::fixture::*;

const A: &[f32] = &[1.0, 2.0, 3.0, 4.0];
const B: &[f32] = &[4.0, 3.0, 2.0, 1.0];
const C: &[f32] = &[-1.0, 0.5, 0.0, 2.0];

pub async fn an_upsert_replaces_the_whole_point(f: &Fixture) {
    f.write(&[upsert("a", vectors(Some(A), Some(B)), json!({"lang": "en", "old": 1}))]).await;
    f.write(&[upsert("a", vectors(Some(C), None), json!({"lang": "de"}))]).await;
    let point = f.point("a").await.unwrap();
    assert_vector(point.image.as_ref(), Some(C), "image");
    assert_vector(point.text.as_ref(), None, "text, which the second upsert does not mention");
    assert_eq!(user_keys(&point), json!({"lang": "de"}));
    assert_eq!(point.payload[RESERVED_KEY]["asset_id"], "a");
    assert_eq!(f.count().await, 1);
}

pub async fn a_patch_keeps_what_it_does_not_mention(f: &Fixture) {
    f.write(&[upsert("a", vectors(Some(A), Some(B)), json!({"lang": "en", "size": {"w": 1}}))]).await;
    f.write(&[patch("a", vectors(Some(C), None), json!({"price": 2}))]).await;
    let point = f.point("a").await.unwrap();
    assert_vector(point.image.as_ref(), Some(C), "image");
    assert_vector(point.text.as_ref(), Some(B), "text, which an image patch must not erase");
    assert_eq!(user_keys(&point), json!({"lang": "en", "size": {"w": 1}, "price": 2}));
    // Payload alone, and a nested object is replaced, not merged.
    f.write(&[patch("a", Vectors::default(), json!({"size": {"h": 2}}))]).await;
    let point = f.point("a").await.unwrap();
    assert_vector(point.image.as_ref(), Some(C), "image");
    assert_eq!(user_keys(&point), json!({"lang": "en", "size": {"h": 2}, "price": 2}));
}

pub async fn a_patch_of_an_absent_point_creates_it(f: &Fixture) {
    f.write(&[patch("a", vectors(None, Some(B)), json!({"lang": "en"}))]).await;
    let point = f.point("a").await.unwrap();
    assert_vector(point.image.as_ref(), None, "image");
    assert_vector(point.text.as_ref(), Some(B), "text");
    assert_eq!(user_keys(&point), json!({"lang": "en"}));
    assert_eq!(Value::Object(record("a").to_payload()), point.payload[RESERVED_KEY]);
    // Without any vector, too: a price may arrive before the picture.
    f.write(&[patch("b", Vectors::default(), json!({"price": 1}))]).await;
    assert_eq!(user_keys(&f.point("b").await.unwrap()), json!({"price": 1}));
}

pub async fn image_and_text_patches_meet_in_one_point_in_either_order(f: &Fixture) {
    let image = |asset| patch(asset, vectors(Some(A), None), json!({"from": "image"}));
    let text = |asset| patch(asset, vectors(None, Some(B)), json!({"caption": "red"}));
    f.write(&[image("a"), text("b")]).await;
    f.write(&[text("a"), image("b")]).await;
    for asset in ["a", "b"] {
        let point = f.point(asset).await.unwrap();
        assert_vector(point.image.as_ref(), Some(A), "image");
        assert_vector(point.text.as_ref(), Some(B), "text");
        assert_eq!(user_keys(&point), json!({"from": "image", "caption": "red"}));
    }
    assert_eq!(f.count().await, 2);
}

pub async fn a_null_in_a_patch_removes_the_key(f: &Fixture) {
    f.write(&[upsert("a", vectors(Some(A), None), json!({"keep": null, "gone": 1}))]).await;
    f.write(&[patch("a", Vectors::default(), json!({"gone": null}))]).await;
    assert_eq!(user_keys(&f.point("a").await.unwrap()), json!({"keep": null}));
    // Also where there is nothing to remove it from: the engine keeps a null that it has nothing to merge with.
    f.write(&[patch("b", Vectors::default(), json!({"gone": null, "here": 1}))]).await;
    assert_eq!(user_keys(&f.point("b").await.unwrap()), json!({"here": 1}));
}

pub async fn records_merge_and_are_read_apart(f: &Fixture) {
    let Write::Upsert(mut point) = upsert("a", vectors(Some(A), None), json!({"lang": "en"})) else { unreachable!() };
    point.record.version = Some(7);
    point.record.media = Some(MediaRecord {
        url: "https://cdn.example/a.jpg".into(),
        etag: None,
        last_modified: None,
        version_id: None,
        sha256: "00ff".into(),
        width: 640,
        height: 480,
        mime: "image/jpeg".into(),
    });
    f.write(&[Write::Upsert(point)]).await;
    let Write::Patch(mut text) = patch("a", vectors(None, Some(B)), json!({})) else { unreachable!() };
    text.record.text_sha256 = Some("abcd".into());
    text.record.source = None;
    f.write(&[Write::Patch(text)]).await;
    let found = f.store.records(&f.collection, &[id("a"), id("absent")]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, id("a"));
    let ours = Value::Object(found[0].1.clone());
    assert_eq!(
        ours["media"],
        json!({"url": "https://cdn.example/a.jpg", "etag": null, "last_modified": null, "version_id": null, "sha256": "00ff", "width": 640, "height": 480, "mime": "image/jpeg"})
    );
    assert_eq!((&ours["version"], &ours["text_sha256"]), (&json!(7), &json!("abcd")));
    assert_eq!(ours["source"], json!({"topic": "t", "partition": 3, "offset": 42}));
    assert!(ours.get("lang").is_none());
    assert!(f.store.records(&f.collection, &[]).await.unwrap().is_empty());
}

pub async fn deletes_remove_and_repeat(f: &Fixture) {
    f.write(&[upsert("a", vectors(Some(A), None), json!({})), upsert("b", vectors(Some(B), None), json!({}))]).await;
    for _ in 0..2 {
        f.write(&[delete("a"), delete("never")]).await;
        assert!(f.point("a").await.is_none());
        assert_eq!(f.count().await, 1);
    }
    // A patch after the delete starts from nothing.
    f.write(&[patch("a", vectors(None, Some(B)), json!({}))]).await;
    assert_vector(f.point("a").await.unwrap().image.as_ref(), None, "image from before the delete");
    f.write(&[]).await;
}

pub async fn a_mixed_batch_of_a_thousand_is_applied_once_however_often_it_is_sent(f: &Fixture) {
    let before: Vec<_> =
        (0..500).map(|n| upsert(&format!("p{n}"), vectors(Some(A), Some(B)), json!({"n": n}))).collect();
    f.write(&before).await;
    let batch: Vec<_> = (0..1000)
        .map(|n| {
            let asset = format!("p{n}");
            match n % 4 {
                0 => upsert(&asset, vectors(Some(C), None), json!({"new": n})),
                1 => patch(&asset, vectors(Some(C), None), json!({"new": n})),
                2 => patch(&asset, vectors(None, Some(C)), json!({})),
                _ => delete(&asset),
            }
        })
        .collect();
    for _ in 0..2 {
        f.write(&batch).await;
        let points = f.store.scroll(&f.collection, None, 2000).await.unwrap();
        assert_eq!(points.len(), 750);
        let point = |n: u32| points.iter().find(|p| p.id == id(&format!("p{n}"))).unwrap();
        for (n, image, text, keys) in [
            (0, Some(C), None, json!({"new": 0})),
            (1, Some(C), Some(B), json!({"n": 1, "new": 1})),
            (2, Some(A), Some(C), json!({"n": 2})),
            (996, Some(C), None, json!({"new": 996})),
            (997, Some(C), None, json!({"new": 997})),
            (998, None, Some(C), json!({})),
        ] {
            assert_vector(point(n).image.as_ref(), image, &format!("image of p{n}"));
            assert_vector(point(n).text.as_ref(), text, &format!("text of p{n}"));
            assert_eq!(user_keys(point(n)), keys, "p{n}");
        }
    }
}

pub async fn unusual_payloads_come_back_unchanged(f: &Fixture) {
    let payload = json!({
        "größe.mit punkt": "ключ",
        "emoji 🦀": ["\u{0}", "\"\\", "\n", ""],
        "": "empty key",
        "integers": [0, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993_u64],
        "floats": [0.1, -2.5e-8, 1e300, 1.0, 5e-324, 3.0e10],
        "null": null,
        "nested": {"a": {"b": [{"c": null}, [], {}, [[1], "x", false]]}},
        "bool": true,
        "price": 59.9,
        "long": "x".repeat(100_000),
    });
    f.write(&[upsert("a", vectors(Some(A), None), payload.clone())]).await;
    assert_eq!(user_keys(&f.point("a").await.unwrap()), payload);
    let Value::Object(mut patched) = payload else { unreachable!() };
    // A null in a patch means removal.
    patched.remove("null");
    f.write(&[patch("b", Vectors::default(), Value::Object(patched.clone()))]).await;
    assert_eq!(user_keys(&f.point("b").await.unwrap()), Value::Object(patched));
}
