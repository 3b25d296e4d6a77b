use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, DatetimeRange, Filter, IsEmptyCondition, MinShould, Range, ScrollPointsBuilder,
    SliceCondition, Timestamp, ValuesCount, condition::ConditionOneOf, r#match::MatchValue,
};
use serde_json::json;
use tonic::Code;

use super::{NAME, assert_refused, point, upsert, with_collection};

#[tokio::test]
async fn every_condition_selects_its_points() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    upsert(
        &client,
        vec![
            point(
                1,
                [1.0, 0.0, 0.0],
                json!({
                    "lang": "en", "stock": 3, "new": true, "title": "red running shoe", "at": "2026-01-01T00:00:00Z",
                    "sizes": [{"n": 41, "free": true}, {"n": 42, "free": false}], "our": {"version": 5},
                }),
            ),
            point(
                2,
                [0.0, 1.0, 0.0],
                json!({
                    "lang": "de", "stock": 7, "new": false, "title": "blue boot", "at": "2026-06-01T00:00:00Z",
                    "sizes": [{"n": 42, "free": true}], "our": {"version": 9},
                }),
            ),
            point(3, [0.0, 0.0, 1.0], json!({"lang": null, "sizes": []})),
        ],
    )
    .await;
    let time = |month| Timestamp::date(2026, month, 1).unwrap();
    let keywords = vec!["en".to_owned(), "fr".to_owned()];
    let cases: Vec<(&str, Filter, &[u64])> = vec![
        ("keyword", Filter::must([Condition::matches("lang", "en".to_owned())]), &[1]),
        ("keywords", Filter::must([Condition::matches("lang", keywords.clone())]), &[1]),
        ("except", Filter::must([Condition::matches("lang", MatchValue::ExceptKeywords(keywords.into()))]), &[2]),
        ("integer", Filter::must([Condition::matches("stock", 7)]), &[2]),
        ("integers", Filter::must([Condition::matches("stock", vec![3, 7])]), &[1, 2]),
        ("bool", Filter::must([Condition::matches("new", true)]), &[1]),
        ("text", Filter::must([Condition::matches_text("title", "running")]), &[1]),
        ("range", Filter::must([Condition::range("stock", Range { gte: Some(4.0), ..Range::default() })]), &[2]),
        (
            "nested key",
            Filter::must([Condition::range("our.version", Range { lt: Some(9.0), ..Range::default() })]),
            &[1],
        ),
        (
            "datetime range",
            Filter::must([Condition::datetime_range(
                "at",
                DatetimeRange { gt: Some(time(2)), ..DatetimeRange::default() },
            )]),
            &[2],
        ),
        (
            "values count",
            Filter::must([Condition::values_count("sizes", ValuesCount { gte: Some(2), ..ValuesCount::default() })]),
            &[1],
        ),
        ("is empty", Filter::must([Condition::is_empty("sizes")]), &[3]),
        ("is null", Filter::must([Condition::is_null("lang")]), &[3]),
        ("has id", Filter::must([Condition::has_id([2, 3, 99])]), &[2, 3]),
        ("has vector", Filter::must([Condition::has_vector("image")]), &[1, 2, 3]),
        ("has no such vector", Filter::must_not([Condition::has_vector("text")]), &[1, 2, 3]),
        (
            "nested",
            Filter::must([Condition::nested(
                "sizes",
                Filter::must([Condition::matches("n", 42), Condition::matches("free", true)]),
            )]),
            &[2],
        ),
        ("should", Filter::should([Condition::matches("stock", 3), Condition::is_empty("sizes")]), &[1, 3]),
        ("must not", Filter::must_not([Condition::matches("new", true)]), &[2, 3]),
        (
            "min should",
            Filter {
                min_should: Some(MinShould {
                    min_count: 2,
                    conditions: vec![
                        Condition::matches("lang", "de".to_owned()),
                        Condition::matches("new", false),
                        Condition::matches("stock", 3),
                    ],
                }),
                ..Filter::default()
            },
            &[2],
        ),
        (
            "filter in filter",
            Filter::should([Condition::from(Filter::must([Condition::has_id([1]), Condition::matches("new", true)]))]),
            &[1],
        ),
        ("empty", Filter::default(), &[1, 2, 3]),
    ];
    for (name, filter, expected) in cases {
        let page = client.scroll(ScrollPointsBuilder::new(NAME).filter(filter)).await;
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}"));
        let ids: Vec<_> = page.result.into_iter().map(|point| point.id.unwrap()).collect();
        let expected: Vec<_> = expected.iter().copied().map(Into::into).collect();
        assert_eq!(ids, expected, "{name}");
    }
}

#[tokio::test]
async fn unknown_conditions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, client) = with_collection(dir.path()).await;
    let count = |filter: Filter| client.count(CountPointsBuilder::new(NAME).filter(filter));
    let slice = Condition { condition_one_of: Some(ConditionOneOf::Slice(SliceCondition { total: 2, index: 0 })) };
    assert_refused(count(Filter::must([slice])).await, Code::Unimplemented, "slice");
    let prefix = Condition::matches("lang", MatchValue::Prefix("e".to_owned()));
    assert_refused(count(Filter::must([prefix])).await, Code::Unimplemented, "prefix");
    let nothing = Condition { condition_one_of: None };
    assert_refused(count(Filter::must([nothing])).await, Code::InvalidArgument, "Condition");
    let path = Condition { condition_one_of: Some(ConditionOneOf::IsEmpty(IsEmptyCondition { key: "a[".to_owned() })) };
    assert_refused(count(Filter::must([path])).await, Code::InvalidArgument, "json path");
}
