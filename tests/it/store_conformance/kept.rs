//! Vectors that a write relies on instead of bringing them.

use clipstream::domain::{Guard, MediaRecord, Modality, StoreReason, Vectors, Write};
use clipstream::store::Written::{self, Applied, Conflict};
use serde_json::{Value, json};

use super::fixture::*;
use super::guards::{record_of, stamped};

const A: &[f32] = &[1.0, 2.0, 3.0, 4.0];
const B: &[f32] = &[4.0, 3.0, 2.0, 1.0];
const C: &[f32] = &[-1.0, 0.5, 0.0, 2.0];
const GUARDS: [Guard; 3] = [Guard::Off, Guard::Check, Guard::Strict];

pub fn media(sha256: &str) -> MediaRecord {
    MediaRecord {
        url: "https://cdn.example/a.jpg".into(),
        etag: None,
        last_modified: None,
        version_id: None,
        sha256: sha256.into(),
        width: 1,
        height: 1,
        mime: "image/jpeg".into(),
    }
}

/// With the hashes of what is embedded, as version and offset `n`.
pub fn hashed(write: Write, image: Option<&str>, text: Option<&str>, n: u64) -> Write {
    let mut write = stamped(write, Some(n), "t", n as i64, Some(n as i64));
    let record = record_of(&mut write);
    record.media = image.map(media);
    record.text_sha256 = text.map(str::to_owned);
    write
}

pub fn keeping(mut write: Write, modalities: &[Modality]) -> Write {
    match &mut write {
        Write::Upsert(point) => point.kept = modalities.to_vec(),
        Write::Patch(patch) => patch.kept = modalities.to_vec(),
        Write::Delete(_) => panic!("keeps nothing"),
    }
    write
}

fn both(asset: &str, payload: Value) -> Write {
    hashed(upsert(asset, vectors(Some(A), Some(B)), payload), Some("i1"), Some("t1"), 1)
}

/// What becomes of one write; a store may also refuse the batch for it.
async fn fate(f: &Fixture, write: Write, guard: Guard) -> Written {
    match f.store.write(&f.collection, &[write], guard).await {
        Ok(written) => written[0],
        Err(error) if error.reason == StoreReason::Conflict => Conflict,
        Err(error) => panic!("{error}"),
    }
}

pub async fn a_patch_keeps_a_vector_of_a_point_that_is_there(f: &Fixture) {
    for (n, guard) in GUARDS.into_iter().enumerate() {
        let asset = format!("a{n}");
        f.guarded(&[both(&asset, json!({ "price": 1, "lang": "en" }))], guard).await;
        let write = hashed(patch(&asset, Vectors::default(), json!({ "price": 2 })), Some("i1"), Some("t1"), 2);
        assert_eq!(fate(f, keeping(write, &Modality::ALL), guard).await, Applied, "{guard:?}");
        let write = hashed(patch(&asset, vectors(Some(C), None), json!({})), Some("i2"), Some("t1"), 3);
        assert_eq!(fate(f, keeping(write, &[Modality::Text]), guard).await, Applied, "{guard:?}");
        let point = f.point(&asset).await.unwrap();
        assert_vector(point.image.as_ref(), Some(C), "image");
        assert_vector(point.text.as_ref(), Some(B), "text");
        assert_eq!(user_keys(&point), json!({ "price": 2, "lang": "en" }));
        let ours = &point.payload["clipstream"];
        assert_eq!(
            (&ours["media"]["sha256"], &ours["text_sha256"], &ours["version"]),
            (&json!("i2"), &json!("t1"), &json!(3))
        );
    }
}

pub async fn an_upsert_keeps_a_vector_and_replaces_all_else(f: &Fixture) {
    for (n, guard) in GUARDS.into_iter().enumerate() {
        let asset = format!("a{n}");
        f.guarded(&[both(&asset, json!({ "old": 1 }))], guard).await;
        // New text beside the same picture, then the same text without the picture.
        let write = hashed(upsert(&asset, vectors(None, Some(C)), json!({ "new": 1 })), Some("i1"), Some("t2"), 2);
        assert_eq!(fate(f, keeping(write, &[Modality::Image]), guard).await, Applied, "{guard:?}");
        let point = f.point(&asset).await.unwrap();
        assert_vector(point.image.as_ref(), Some(A), "image");
        assert_vector(point.text.as_ref(), Some(C), "text");
        assert_eq!(user_keys(&point), json!({ "new": 1 }));
        assert_eq!(point.payload["clipstream"]["text_sha256"], "t2");
        let write = hashed(upsert(&asset, Vectors::default(), json!({ "newer": 1 })), None, Some("t2"), 3);
        assert_eq!(fate(f, keeping(write, &[Modality::Text]), guard).await, Applied, "{guard:?}");
        let point = f.point(&asset).await.unwrap();
        assert_vector(point.image.as_ref(), None, "image");
        assert_vector(point.text.as_ref(), Some(C), "text");
        assert_eq!(user_keys(&point), json!({ "newer": 1 }));
        assert!(point.payload["clipstream"].get("media").is_none());
    }
}

pub async fn nothing_is_kept_of_what_is_absent_gone_or_different(f: &Fixture) {
    for (n, guard) in GUARDS.into_iter().enumerate() {
        let assets = ["absent", "gone", "different"].map(|name| format!("{name}{n}"));
        let gone = stamped(delete(&assets[1]), Some(1), "t", 1, Some(1));
        f.guarded(&[gone, both(&assets[2], json!({ "v": 1 }))], Guard::Strict).await;
        for asset in &assets {
            for vectors in [Vectors::default(), vectors(None, Some(C))] {
                let writes = [
                    hashed(upsert(asset, vectors.clone(), json!({ "v": 2 })), Some("i9"), Some("t2"), 2),
                    hashed(patch(asset, vectors, json!({ "v": 2 })), Some("i9"), Some("t2"), 2),
                ];
                for write in writes {
                    let found = fate(f, keeping(write, &[Modality::Image]), guard).await;
                    assert_eq!(found, Conflict, "{asset} {guard:?}");
                }
            }
        }
        assert!(f.point(&assets[0]).await.is_none());
        assert!(f.point(&assets[1]).await.unwrap().payload["clipstream"].get("deleted_at").is_some());
        let kept = f.point(&assets[2]).await.unwrap();
        assert_vector(kept.text.as_ref(), Some(B), "text");
        assert_eq!(user_keys(&kept), json!({ "v": 1 }));
        // The others of a batch pass.
        let other = format!("other{n}");
        let relies =
            keeping(hashed(patch(&assets[0], Vectors::default(), json!({})), Some("i1"), None, 2), &[Modality::Image]);
        assert_eq!(f.guarded(&[relies, both(&other, json!({}))], guard).await, [Conflict, Applied]);
        assert!(f.point(&other).await.is_some() && f.point(&assets[0]).await.is_none());
    }
}
