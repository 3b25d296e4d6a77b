use std::collections::BTreeSet;

use clipstream::domain::{AssetId, Deletion, Guard, Modality, PointId, Tenant, Write};
use serde_json::{Value, json};

use super::fixture::*;

pub async fn nearest_come_first_with_cosine_scores(f: &Fixture) {
    let points = [
        ("a", [1.0, 0.0, 0.0, 0.0]),
        ("b", [1.0, 1.0, 0.0, 0.0]),
        ("c", [0.0, 1.0, 0.0, 0.0]),
        ("d", [-1.0, 0.0, 0.0, 0.0]),
    ];
    let writes: Vec<_> =
        points.iter().map(|(asset, v)| upsert(asset, vectors(Some(v), None), json!({"asset": asset}))).collect();
    f.write(&writes).await;
    let hits = f.store.search(&f.collection, &query(&[2.0, 0.0, 0.0, 0.0], Modality::Image, None)).await.unwrap();
    let found: Vec<_> = hits.iter().map(|h| h.payload["asset"].as_str().unwrap()).collect();
    assert_eq!(found, ["a", "b", "c", "d"]);
    for (hit, score) in hits.iter().zip([1.0, std::f32::consts::FRAC_1_SQRT_2, 0.0, -1.0]) {
        assert!((hit.score - score).abs() < 1e-5, "{hit:?}, expected {score}");
    }
    assert_eq!(hits[0].id, id("a"));
    assert_eq!(hits[0].payload["clipstream"]["asset_id"], "a");
    let two = clipstream::store::Query { limit: 2, ..query(&[1.0, 0.0, 0.0, 0.0], Modality::Image, None) };
    assert_eq!(f.store.search(&f.collection, &two).await.unwrap().len(), 2);
}

pub async fn vectors_of_the_other_modality_are_not_searched(f: &Fixture) {
    let v: &[f32] = &[1.0, 0.0, 0.0, 0.0];
    f.write(&[upsert("image", vectors(Some(v), None), json!({})), upsert("text", vectors(None, Some(v)), json!({}))])
        .await;
    for (modality, asset) in [(Modality::Image, "image"), (Modality::Text, "text")] {
        let hits = f.store.search(&f.collection, &query(v, modality, None)).await.unwrap();
        assert_eq!(hits.iter().map(|h| h.id).collect::<Vec<_>>(), [id(asset)], "{modality}");
    }
}

pub async fn filters_select_by_payload(f: &Fixture) {
    let v: &[f32] = &[1.0, 0.0, 0.0, 0.0];
    let payloads = [
        (
            "a",
            json!({"lang": "en", "price": 10, "tags": ["red", "shoe"], "at": "2026-01-01T00:00:00Z", "title": "red running shoe", "ok": true}),
        ),
        (
            "b",
            json!({"lang": "de", "price": 20.5, "tags": ["blue"], "at": "2026-06-01T00:00:00Z", "title": "blue hat", "ok": false}),
        ),
        (
            "c",
            json!({"lang": "fr", "price": 30, "tags": [], "parts": [{"n": 1, "c": "x"}, {"n": 2, "c": "y"}], "at": null}),
        ),
    ];
    let writes: Vec<_> = payloads.iter().map(|(asset, p)| upsert(asset, vectors(Some(v), None), p.clone())).collect();
    f.write(&writes).await;
    let cases: Vec<(Value, &str)> = vec![
        (json!({"must": [{"key": "lang", "match": {"value": "en"}}]}), "a"),
        (json!({"must": {"key": "price", "match": {"value": 10}}}), "a"),
        (json!({"must": {"key": "ok", "match": {"value": false}}}), "b"),
        (json!({"must_not": [{"key": "lang", "match": {"value": "en"}}]}), "bc"),
        (
            json!({"should": [{"key": "lang", "match": {"value": "en"}}, {"key": "lang", "match": {"value": "fr"}}]}),
            "ac",
        ),
        (
            json!({"min_should": {"min_count": 2, "conditions": [{"key": "price", "range": {"gt": 15}}, {"key": "lang", "match": {"any": ["de", "en"]}}]}}),
            "b",
        ),
        (json!({"must": [{"key": "lang", "match": {"any": ["de", "fr"]}}]}), "bc"),
        (json!({"must": [{"key": "lang", "match": {"except": ["de", "fr"]}}]}), "a"),
        (json!({"must": [{"key": "title", "match": {"text": "running"}}]}), "a"),
        (json!({"must": [{"key": "tags", "match": {"value": "shoe"}}]}), "a"),
        (json!({"must": [{"key": "price", "range": {"gte": 20.5, "lt": 30}}]}), "b"),
        (json!({"must": [{"key": "at", "range": {"gte": "2026-03-01"}}]}), "b"),
        (json!({"must": [{"is_empty": {"key": "tags"}}]}), "c"),
        (json!({"must": [{"is_null": {"key": "at"}}]}), "c"),
        (json!({"must": [{"has_id": [id("a").to_string(), id("c").to_string()]}]}), "ac"),
        (
            json!({"must": [{"nested": {"key": "parts", "filter": {"must": [{"key": "n", "match": {"value": 1}}, {"key": "c", "match": {"value": "x"}}]}}}]}),
            "c",
        ),
        (
            json!({"must": [{"nested": {"key": "parts", "filter": {"must": [{"key": "n", "match": {"value": 1}}, {"key": "c", "match": {"value": "y"}}]}}}]}),
            "",
        ),
        (
            json!({"must": [{"should": [{"key": "lang", "match": {"value": "en"}}]}, {"key": "price", "range": {"lt": 100}}]}),
            "a",
        ),
        (json!({"must": [{"key": "clipstream.asset_id", "match": {"value": "b"}}]}), "b"),
        (json!({}), "abc"),
    ];
    for (filter, expected) in cases {
        let hits = f.store.search(&f.collection, &query(v, Modality::Image, Some(filter.clone()))).await;
        let hits = hits.unwrap_or_else(|e| panic!("{filter}: {e}"));
        let found: BTreeSet<String> =
            hits.iter().map(|h| h.payload["clipstream"]["asset_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found.into_iter().collect::<String>(), expected, "{filter}");
    }
}

pub async fn scroll_visits_every_point_once_in_id_order(f: &Fixture) {
    let writes: Vec<_> =
        (0..57).map(|n| upsert(&format!("p{n}"), vectors(Some(&[1.0, 0.0, 0.0, n as f32]), None), json!({}))).collect();
    f.write(&writes).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = f.store.scroll(&f.collection, after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 10);
        after = Some(last.id);
        seen.extend(page.iter().map(|p| p.id));
    }
    let mut expected: Vec<_> = writes.iter().map(|w| w.id()).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(f.count().await, 57);
    let end = uuid::Uuid::from_u128(u128::MAX).into();
    assert!(f.store.scroll(&f.collection, Some(end), 10).await.unwrap().is_empty());
}

pub async fn points_of_tenants_are_counted_by_asset(f: &Fixture) {
    let of = |asset: &str, tenant: Option<&str>| {
        let mut write = upsert(asset, vectors(Some(&[1.0, 2.0, 3.0, 4.0]), None), serde_json::json!({}));
        if let Write::Upsert(point) = &mut write {
            point.record.tenant = tenant.map(|name| Tenant::new(name).unwrap());
            point.id = PointId::of(point.record.tenant.as_ref(), &point.record.asset);
        }
        write
    };
    f.write(&[of("a", None), of("a", Some("acme")), of("a", Some("globex")), of("b", None), of("c/d", Some("acme"))])
        .await;
    let count =
        async |asset: &str| f.store.count_of_tenants(&f.collection, &AssetId::new(asset).unwrap()).await.unwrap();
    let counts = [count("a").await, count("b").await, count("c/d").await, count("c").await, count("absent").await];
    assert_eq!(counts, [2, 0, 1, 0, 0]);
    // A tombstone is no longer an asset of its tenant.
    let Write::Upsert(mut point) = of("c/d", Some("acme")) else { panic!("an upsert") };
    (point.record.deleted_at, point.record.version) = (Some("2026-11-25T00:00:00Z".into()), Some(1));
    let gone = Write::Delete(Deletion { id: point.id, record: point.record });
    f.guarded(&[gone], Guard::Strict).await;
    assert_eq!(count("c/d").await, 0);
}
