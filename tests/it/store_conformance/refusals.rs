use clipstream::domain::{Class, Embedding, Fingerprint, Guard, Modality, StoreReason, Vectors};
use clipstream::store::{self, Written};
use serde_json::json;

use super::fixture::*;
use super::guards::{record_of, stamped};

pub async fn another_fingerprint_is_refused_with_every_difference(f: &Fixture) {
    // The same again is fine, and what is recorded can be read.
    f.store.ensure(&f.spec()).await.unwrap();
    assert_eq!(f.store.fingerprint(&f.collection).await.unwrap(), Some(f.spec().fingerprint));
    let mut other = f.spec();
    other.fingerprint =
        Fingerprint { checkpoint: "other".into(), dimension: 8, graph: "g1".into(), ..other.fingerprint };
    let error = f.store.ensure(&other).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Outage, StoreReason::CollectionDiffers));
    for part in [
        f.collection.as_str(),
        "checkpoint: found none, expected other",
        "dimension: found 4, expected 8",
        "graph: found g0, expected g1",
    ] {
        assert!(error.to_string().contains(part), "{part:?} is not in {:?}", error.message);
    }
    assert!(!error.to_string().contains("tokenizer"), "{}", error.message);
}

pub async fn a_missing_collection_is_an_outage_and_named(f: &Fixture) {
    let name = format!("{}_missing", f.collection);
    let v = [1.0, 0.0, 0.0, 0.0];
    let errors = [
        f.store.write(&name, &[upsert("a", vectors(Some(&v), None), json!({}))], Guard::Check).await.unwrap_err(),
        f.store.search(&name, &query(&v, Modality::Image, None)).await.unwrap_err(),
        f.store.records(&name, &[id("a")]).await.unwrap_err(),
        f.store.scroll(&name, None, 1).await.unwrap_err(),
        f.store.count(&name).await.unwrap_err(),
        f.store.fingerprint(&name).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.class, error.reason), (Class::Outage, StoreReason::CollectionMissing), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

pub async fn bad_points_are_permanent(f: &Fixture) {
    let wrong = Vectors { image: Some(Embedding::normalised(vec![1.0; 3]).unwrap()), text: None };
    let error = f.store.write(&f.collection, &[upsert("a", wrong, json!({}))], Guard::Check).await.unwrap_err();
    assert_eq!(error.class, Class::Permanent, "{error}");
    assert!(error.to_string().contains('4') && error.to_string().contains('3'), "{error}");
    let large = json!({"n": u64::MAX});
    let error =
        f.store.write(&f.collection, &[upsert("a", Vectors::default(), large)], Guard::Check).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, StoreReason::IntegerTooLarge));
    // The store still works.
    f.write(&[upsert("b", vectors(Some(&[1.0, 0.0, 0.0, 0.0]), None), json!({}))]).await;
    assert!(f.point("b").await.is_some());
}

/// A point that the store refuses for good leaves everything as it was, whatever is there.
pub async fn a_rejected_patch_leaves_nothing_behind(f: &Fixture) {
    let v: &[f32] = &[1.0, 0.0, 0.0, 0.0];
    let wrong = |with_text: bool| Vectors {
        image: Some(Embedding::normalised(vec![1.0; 3]).unwrap()),
        text: with_text.then(|| unit(v)),
    };
    for (n, guard) in [Guard::Off, Guard::Check, Guard::Strict].into_iter().enumerate() {
        let assets = ["absent", "alive", "deleted"].map(|name| format!("{name}{n}"));
        let mut alive =
            stamped(upsert(&assets[1], vectors(Some(v), Some(v)), json!({ "v": 1 })), Some(1), "t", 1, Some(1));
        record_of(&mut alive).text_sha256 = Some("11".into());
        let deleted = stamped(delete(&assets[2]), Some(1), "t", 1, Some(1));
        f.guarded(&[alive, deleted], Guard::Strict).await;
        for asset in &assets {
            let before = f.point(asset).await;
            for with_text in [false, true] {
                let mut bad = stamped(patch(asset, wrong(with_text), json!({ "v": 2 })), Some(2), "t", 2, Some(2));
                record_of(&mut bad).text_sha256 = with_text.then(|| "22".into());
                for _ in 0..2 {
                    let error = f.store.write(&f.collection, &[bad.clone()], guard).await.unwrap_err();
                    assert_eq!(error.class, Class::Permanent, "{error}");
                    assert_eq!(f.point(asset).await, before, "{asset} {guard:?}");
                }
                // Beside others, too, until it is alone: they are written, and nothing of it is.
                let other = format!("other-{asset}-{with_text}");
                let good = stamped(patch(&other, vectors(Some(v), None), json!({ "v": 2 })), Some(2), "t", 3, Some(3));
                f.store.write(&f.collection, &[bad.clone(), good.clone()], guard).await.unwrap_err();
                assert_eq!(f.guarded(&[good], guard).await, [Written::Applied]);
                f.store.write(&f.collection, &[bad], guard).await.unwrap_err();
                assert_eq!(f.point(asset).await, before, "{asset} {guard:?}, of a batch");
                let other = f.point(&other).await.unwrap();
                assert_eq!((user_keys(&other), other.image.is_some()), (json!({ "v": 2 }), true));
            }
            // Nothing keeps the next patch back.
            let good = stamped(patch(asset, vectors(Some(v), None), json!({ "v": 3 })), Some(3), "t", 4, Some(4));
            assert_eq!(f.guarded(&[good], guard).await, [Written::Applied], "{asset} {guard:?}");
            assert_eq!(user_keys(&f.point(asset).await.unwrap()), json!({ "v": 3 }));
        }
    }
}

pub async fn bad_filters_are_named(f: &Fixture) {
    let filter = json!({"must": [{"key": "lang", "matches": {"value": "en"}}]});
    let query = query(&[1.0, 0.0, 0.0, 0.0], Modality::Image, Some(filter));
    let error = f.store.search(&f.collection, &query).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, StoreReason::FilterInvalid));
    assert!(error.to_string().contains("filter.must[0]: unknown key `matches`"), "{error}");
}

pub async fn two_workers_may_create_at_once(f: &Fixture) {
    let name = format!("{}_raced", f.collection);
    let spec = spec(&name, DIMENSION);
    let outcomes = futures::future::join_all((0..8).map(|_| f.store.ensure(&spec))).await;
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_eq!(f.store.count(&name).await.unwrap(), 0);
}

pub async fn an_alias_is_set_once_and_usable(f: &Fixture) {
    let second = format!("{}_second", f.collection);
    f.store.ensure(&spec(&second, DIMENSION)).await.unwrap();
    let alias = format!("{}_alias", f.collection);
    assert_eq!(f.store.ensure_alias(&alias, &f.collection).await.unwrap(), f.collection);
    // It is not moved, and a collection's own name is not taken.
    assert_eq!(f.store.ensure_alias(&alias, &second).await.unwrap(), f.collection);
    assert_eq!(f.store.ensure_alias(&second, &f.collection).await.unwrap(), second);
    f.write(&[upsert("a", vectors(Some(&[1.0, 0.0, 0.0, 0.0]), None), json!({}))]).await;
    assert_eq!(f.store.count(&alias).await.unwrap(), 1);
    assert_eq!(f.store.fingerprint(&alias).await.unwrap(), Some(f.spec().fingerprint));
    let error = f.store.ensure_alias(&format!("{alias}2"), "no_such_collection").await.unwrap_err();
    assert_eq!(error.reason, StoreReason::CollectionMissing, "{error}");
}

pub async fn close_is_idempotent_and_final(f: &Fixture) {
    f.write(&[upsert("a", vectors(Some(&[1.0, 0.0, 0.0, 0.0]), None), json!({}))]).await;
    assert!(f.store.check().await.unwrap().contains("drant"));
    f.store.close().await.unwrap();
    f.store.close().await.unwrap();
    assert_eq!(f.store.count(&f.collection).await.unwrap_err().reason, StoreReason::Closed);
    // What was written is found by the next store.
    let again = store::open(&f.settings).await.unwrap();
    assert_eq!(again.count(&f.collection).await.unwrap(), 1);
    again.ensure(&f.spec()).await.unwrap();
    again.close().await.unwrap();
}
