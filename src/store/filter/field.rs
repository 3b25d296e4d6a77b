//! Conditions on one payload field.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{
    DatetimeRange, FieldCondition, GeoBoundingBox, GeoPoint, GeoRadius, Match, Range, RepeatedIntegers,
    RepeatedStrings, Timestamp, ValuesCount,
};
use serde_json::{Map, Value};

use super::At;
use crate::store::path::is_path;

const TESTS: &str = "match, range, values_count, geo_radius, geo_bounding_box, is_empty or is_null";

pub(super) fn read(object: &Map<String, Value>, at: &At) -> Result<FieldCondition, String> {
    let mut condition = FieldCondition::default();
    for (key, value) in object {
        let at_key = at.key(key);
        match key.as_str() {
            "key" => condition.key = read_path(value, &at_key)?,
            // Qdrant's REST form allows `null` for a test that is not meant.
            _ if value.is_null() => {}
            "match" => condition.r#match = Some(read_match(value, &at_key)?),
            "range" => match read_range(value, &at_key)? {
                AnyRange::Numbers(range) => condition.range = Some(range),
                AnyRange::Times(range) => condition.datetime_range = Some(range),
            },
            "values_count" => condition.values_count = Some(read_values_count(value, &at_key)?),
            "geo_radius" => condition.geo_radius = Some(read_geo_radius(value, &at_key)?),
            "geo_bounding_box" => condition.geo_bounding_box = Some(read_geo_box(value, &at_key)?),
            "is_empty" => condition.is_empty = Some(at_key.bool(value)?),
            "is_null" => condition.is_null = Some(at_key.bool(value)?),
            _ => return at.unknown(key, TESTS),
        }
    }
    if object.iter().all(|(key, value)| key == "key" || value.is_null()) {
        return Err(format!("{}: no test beside `key`, expected {TESTS}", at.path));
    }
    Ok(condition)
}

fn read_path(value: &Value, at: &At) -> Result<String, String> {
    let path = at.string(value)?;
    if is_path(&path) {
        Ok(path)
    } else {
        at.wrong(value, "a payload path such as \"price\", \"a.b\" or \"parts[].n\"")
    }
}

fn read_match(value: &Value, at: &At) -> Result<Match, String> {
    let object = at.object(value)?;
    let mut entries = object.iter();
    let (Some((key, inner)), None) = (entries.next(), entries.next()) else {
        return at.wrong(value, "one of value, any, except, text, text_any, phrase");
    };
    let at_key = at.key(key);
    let match_value = match key.as_str() {
        "value" => match inner {
            Value::String(s) => MatchValue::Keyword(s.clone()),
            Value::Bool(b) => MatchValue::Boolean(*b),
            Value::Number(n) if n.as_i64().is_some() => MatchValue::Integer(n.as_i64().unwrap_or_default()),
            _ => return at_key.wrong(inner, "a string, an integer or a boolean (use range for fractions)"),
        },
        "any" => match read_any(inner, &at_key)? {
            Any::Strings(strings) => MatchValue::Keywords(strings),
            Any::Integers(integers) => MatchValue::Integers(integers),
        },
        "except" => match read_any(inner, &at_key)? {
            Any::Strings(strings) => MatchValue::ExceptKeywords(strings),
            Any::Integers(integers) => MatchValue::ExceptIntegers(integers),
        },
        "text" => MatchValue::Text(at_key.string(inner)?),
        "text_any" => MatchValue::TextAny(at_key.string(inner)?),
        "phrase" => MatchValue::Phrase(at_key.string(inner)?),
        _ => return at.unknown(key, "value, any, except, text, text_any or phrase"),
    };
    Ok(Match { match_value: Some(match_value) })
}

enum Any {
    Strings(RepeatedStrings),
    Integers(RepeatedIntegers),
}

fn read_any(value: &Value, at: &At) -> Result<Any, String> {
    let expected = "a list of strings or a list of integers";
    let Some(items) = value.as_array() else { return at.wrong(value, expected) };
    if let Some(integers) = items.iter().map(Value::as_i64).collect::<Option<Vec<_>>>().filter(|i| !i.is_empty()) {
        return Ok(Any::Integers(RepeatedIntegers { integers }));
    }
    match items.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>() {
        Some(strings) => Ok(Any::Strings(RepeatedStrings { strings })),
        None => at.wrong(value, expected),
    }
}

enum AnyRange {
    Numbers(Range),
    Times(DatetimeRange),
}

fn read_range(value: &Value, at: &At) -> Result<AnyRange, String> {
    let object = at.object(value)?;
    if object.values().any(Value::is_string) {
        let mut range = DatetimeRange::default();
        for (key, value) in object {
            let time = if value.is_null() { None } else { Some(read_time(value, &at.key(key))?) };
            *bound(key, at, [&mut range.lt, &mut range.gt, &mut range.lte, &mut range.gte])? = time;
        }
        return Ok(AnyRange::Times(range));
    }
    let mut range = Range::default();
    for (key, value) in object {
        let number = if value.is_null() { None } else { Some(at.key(key).number(value)?) };
        *bound(key, at, [&mut range.lt, &mut range.gt, &mut range.lte, &mut range.gte])? = number;
    }
    Ok(AnyRange::Numbers(range))
}

/// The bound that `key` names.
fn bound<'a, T>(key: &str, at: &At, [lt, gt, lte, gte]: [&'a mut T; 4]) -> Result<&'a mut T, String> {
    match key {
        "lt" => Ok(lt),
        "gt" => Ok(gt),
        "lte" => Ok(lte),
        "gte" => Ok(gte),
        _ => at.unknown(key, "lt, gt, lte or gte"),
    }
}

/// RFC 3339, and the shorter forms that Qdrant reads as UTC.
fn read_time(value: &Value, at: &At) -> Result<Timestamp, String> {
    let text = at.string(value)?;
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let time = DateTime::parse_from_rfc3339(&text)
        .map(|t| t.to_utc())
        .ok()
        .or_else(|| naive.iter().find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok()).map(|t| t.and_utc()))
        .or_else(|| {
            NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().and_then(|d| d.and_hms_opt(0, 0, 0)).map(|t| t.and_utc())
        });
    let Some(time): Option<DateTime<Utc>> = time else {
        return at.wrong(value, "a time such as \"2026-11-23T10:00:00Z\"");
    };
    // Below 2^31 by definition of the type (leap seconds included).
    Ok(Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().min(999_999_999) as i32 })
}

fn read_values_count(value: &Value, at: &At) -> Result<ValuesCount, String> {
    let mut count = ValuesCount::default();
    for (key, value) in at.object(value)? {
        let number = if value.is_null() { None } else { Some(at.key(key).count(value)?) };
        *bound(key, at, [&mut count.lt, &mut count.gt, &mut count.lte, &mut count.gte])? = number;
    }
    Ok(count)
}

fn read_geo_radius(value: &Value, at: &At) -> Result<GeoRadius, String> {
    let object = at.object(value)?;
    let (Some(center), Some(radius), 2) = (object.get("center"), object.get("radius"), object.len()) else {
        return at.wrong(value, "{\"center\": {\"lat\", \"lon\"}, \"radius\": <metres>}");
    };
    let radius = at.key("radius").number(radius)? as f32;
    Ok(GeoRadius { center: Some(read_geo_point(center, &at.key("center"))?), radius })
}

fn read_geo_box(value: &Value, at: &At) -> Result<GeoBoundingBox, String> {
    let object = at.object(value)?;
    let (Some(top_left), Some(bottom_right), 2) = (object.get("top_left"), object.get("bottom_right"), object.len())
    else {
        return at.wrong(value, "{\"top_left\": {\"lat\", \"lon\"}, \"bottom_right\": {\"lat\", \"lon\"}}");
    };
    Ok(GeoBoundingBox {
        top_left: Some(read_geo_point(top_left, &at.key("top_left"))?),
        bottom_right: Some(read_geo_point(bottom_right, &at.key("bottom_right"))?),
    })
}

fn read_geo_point(value: &Value, at: &At) -> Result<GeoPoint, String> {
    let object = at.object(value)?;
    let (Some(lat), Some(lon), 2) = (object.get("lat"), object.get("lon"), object.len()) else {
        return at.wrong(value, "{\"lat\": <degrees>, \"lon\": <degrees>}");
    };
    Ok(GeoPoint { lat: at.key("lat").number(lat)?, lon: at.key("lon").number(lon)? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn field(test: Value) -> Result<FieldCondition, String> {
        let Value::Object(object) = test.clone() else { panic!("not an object") };
        let ours = read(&object, &At::root());
        // What we accept, the embedded engine accepts.
        #[cfg(feature = "embedded")]
        if ours.is_ok() {
            serde_json::from_value::<qdrant_edge::Filter>(json!({ "must": [test] })).unwrap();
        }
        ours
    }

    #[test]
    fn matches_take_the_type_of_their_value() {
        let of = |m: Value| field(json!({"key": "a", "match": m})).map(|f| f.r#match.unwrap().match_value.unwrap());
        assert_eq!(of(json!({"value": "x"})), Ok(MatchValue::Keyword("x".into())));
        assert_eq!(of(json!({"value": -3})), Ok(MatchValue::Integer(-3)));
        assert_eq!(of(json!({"value": false})), Ok(MatchValue::Boolean(false)));
        assert_eq!(of(json!({"except": ["x"]})), Ok(MatchValue::ExceptKeywords(vec!["x".to_owned()].into())));
        assert_eq!(of(json!({"any": [1, 2]})), Ok(MatchValue::Integers(vec![1, 2].into())));
        assert_eq!(of(json!({"any": []})), Ok(MatchValue::Keywords(RepeatedStrings::default())));
        assert!(of(json!({"any": [1, "x"]})).is_err());
        assert!(of(json!({"value": 1, "text": "x"})).is_err());
    }

    #[test]
    fn ranges_are_numbers_or_times() {
        let f = field(json!({"key": "price", "range": {"gte": 1, "lt": 2.5}})).unwrap();
        assert_eq!(f.range, Some(Range { gte: Some(1.0), lt: Some(2.5), ..Range::default() }));
        for text in ["2023-02-08T10:49:00Z", "2023-02-08T11:49:00+01:00", "2023-02-08 10:49:00", "2023-02-08T10:49:00"]
        {
            let f = field(json!({"key": "at", "range": {"gt": text}})).unwrap();
            assert_eq!(f.datetime_range.unwrap().gt, Some(Timestamp { seconds: 1_675_853_340, nanos: 0 }), "{text}");
        }
        let error = field(json!({"key": "at", "range": {"gt": "yesterday"}})).unwrap_err();
        assert!(error.contains("filter.range.gt: found \"yesterday\", expected a time"), "{error}");
        let error = field(json!({"key": "at", "range": {"above": 1}})).unwrap_err();
        assert!(error.contains("unknown key `above`, expected lt, gt, lte or gte"), "{error}");
    }

    #[test]
    fn a_field_needs_a_test_and_a_path() {
        assert!(field(json!({"key": "a"})).unwrap_err().contains("no test beside `key`"));
        assert!(field(json!({"key": "", "is_null": true})).is_err());
        assert!(field(json!({"key": "a", "geo_polygon": {}})).unwrap_err().contains("unknown key `geo_polygon`"));
    }

    #[test]
    fn places_are_read() {
        let point = json!({"lat": 52.5, "lon": 13.4});
        let f = field(json!({"key": "at", "geo_radius": {"center": point, "radius": 1000}})).unwrap();
        assert_eq!(f.geo_radius.unwrap().center, Some(GeoPoint { lat: 52.5, lon: 13.4 }));
        assert!(field(json!({"key": "at", "geo_radius": {"center": {"lat": 1}, "radius": 1}})).is_err());
    }
}
