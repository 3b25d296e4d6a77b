//! Qdrant's filter in its REST form (<https://qdrant.tech/documentation/concepts/filtering/>), read with errors that
//! name the path, and turned into the gRPC form. The embedded engine reads the same JSON itself, after this check.

use qdrant_client::qdrant::{
    Condition, Filter, HasIdCondition, HasVectorCondition, IsEmptyCondition, IsNullCondition, MinShould,
    NestedCondition, PointId,
};
use serde_json::{Map, Value};

use super::StoreError;
use crate::domain::StoreReason;
use crate::redact;

mod field;

/// Nesting that is read; deeper ones are an accident or an attack on the stack.
const DEPTH_MAX: usize = 16;

/// Reads `filter`; the error (`filter_invalid`) names the path, what was found and what was expected.
pub(super) fn parse(filter: &Value) -> Result<Filter, StoreError> {
    read_filter(filter, &At::root()).map_err(|problem| StoreError::new(StoreReason::FilterInvalid, problem))
}

/// Where in the filter the reader is.
#[derive(Clone)]
struct At {
    path: String,
    depth: usize,
}

impl At {
    fn root() -> Self {
        Self { path: "filter".into(), depth: 0 }
    }

    fn key(&self, key: &str) -> Self {
        Self { path: format!("{}.{}", self.path, redact::cut(key, 60)), depth: self.depth + 1 }
    }

    fn item(&self, n: usize) -> Self {
        Self { path: format!("{}[{n}]", self.path), depth: self.depth }
    }

    fn wrong<T>(&self, found: &Value, expected: &str) -> Result<T, String> {
        Err(format!("{}: found {}, expected {expected}", self.path, redact::cut(&found.to_string(), 80)))
    }

    fn unknown<T>(&self, key: &str, expected: &str) -> Result<T, String> {
        Err(format!("{}: unknown key `{}`, expected {expected}", self.path, redact::cut(key, 60)))
    }

    fn object<'a>(&self, value: &'a Value) -> Result<&'a Map<String, Value>, String> {
        value.as_object().map_or_else(|| self.wrong(value, "an object"), Ok)
    }

    fn string(&self, value: &Value) -> Result<String, String> {
        value.as_str().map_or_else(|| self.wrong(value, "a string"), |s| Ok(s.to_owned()))
    }

    fn bool(&self, value: &Value) -> Result<bool, String> {
        value.as_bool().map_or_else(|| self.wrong(value, "true or false"), Ok)
    }

    fn number(&self, value: &Value) -> Result<f64, String> {
        value.as_f64().map_or_else(|| self.wrong(value, "a number"), Ok)
    }

    fn count(&self, value: &Value) -> Result<u64, String> {
        value.as_u64().map_or_else(|| self.wrong(value, "a non-negative integer"), Ok)
    }
}

fn read_filter(value: &Value, at: &At) -> Result<Filter, String> {
    if at.depth > DEPTH_MAX {
        return Err(format!("{}: nested deeper than {DEPTH_MAX} levels", at.path));
    }
    let mut filter = Filter::default();
    for (key, value) in at.object(value)? {
        let at = at.key(key);
        match key.as_str() {
            "must" => filter.must = read_conditions(value, &at)?,
            "should" => filter.should = read_conditions(value, &at)?,
            "must_not" => filter.must_not = read_conditions(value, &at)?,
            "min_should" if value.is_null() => {}
            "min_should" => filter.min_should = Some(read_min_should(value, &at)?),
            _ => {
                return Err(format!("{}: unknown key, expected must, should, must_not or min_should", at.path));
            }
        }
    }
    Ok(filter)
}

/// One condition or a list of them.
fn read_conditions(value: &Value, at: &At) -> Result<Vec<Condition>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(_) => Ok(vec![read_condition(value, at)?]),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| read_condition(v, &at.item(n))).collect(),
        _ => at.wrong(value, "a list of conditions"),
    }
}

fn read_min_should(value: &Value, at: &At) -> Result<MinShould, String> {
    let object = at.object(value)?;
    let mut min_should = MinShould::default();
    for (key, value) in object {
        let at_key = at.key(key);
        match key.as_str() {
            "conditions" => min_should.conditions = read_conditions(value, &at_key)?,
            "min_count" => min_should.min_count = at_key.count(value)?,
            _ => return at.unknown(key, "conditions, min_count"),
        }
    }
    if !object.contains_key("conditions") || !object.contains_key("min_count") {
        return at.wrong(value, "both conditions and min_count");
    }
    Ok(min_should)
}

fn read_condition(value: &Value, at: &At) -> Result<Condition, String> {
    let object = at.object(value)?;
    if object.contains_key("key") {
        return Ok(field::read(object, at)?.into());
    }
    if ["must", "should", "must_not", "min_should"].iter().any(|key| object.contains_key(*key)) {
        return Ok(read_filter(value, &At { path: at.path.clone(), depth: at.depth + 1 })?.into());
    }
    let mut entries = object.iter();
    let (Some((key, inner)), None) = (entries.next(), entries.next()) else {
        return at.wrong(
            value,
            "one condition: key with match or range, is_empty, is_null, has_id, has_vector, nested or a filter",
        );
    };
    let at_key = at.key(key);
    Ok(match key.as_str() {
        "is_empty" => IsEmptyCondition { key: read_only_key(inner, &at_key)? }.into(),
        "is_null" => IsNullCondition { key: read_only_key(inner, &at_key)? }.into(),
        "has_id" => HasIdCondition { has_id: read_ids(inner, &at_key)? }.into(),
        "has_vector" => HasVectorCondition { has_vector: at_key.string(inner)? }.into(),
        "nested" => read_nested(inner, &at_key)?.into(),
        _ => return at.unknown(key, "key, is_empty, is_null, has_id, has_vector, nested or a filter"),
    })
}

/// `{"key": "…"}`.
fn read_only_key(value: &Value, at: &At) -> Result<String, String> {
    let object = at.object(value)?;
    match (object.get("key"), object.len()) {
        (Some(key), 1) => at.key("key").string(key),
        _ => at.wrong(value, "{\"key\": \"<field>\"}"),
    }
}

fn read_ids(value: &Value, at: &At) -> Result<Vec<PointId>, String> {
    let Some(items) = value.as_array() else { return at.wrong(value, "a list of point ids") };
    let read = |(n, id): (usize, &Value)| {
        if let Some(number) = id.as_u64() {
            return Ok(PointId::from(number));
        }
        match id.as_str().and_then(|s| uuid::Uuid::parse_str(s).ok()) {
            Some(id) => Ok(PointId::from(id.to_string())),
            None => at.item(n).wrong(id, "a UUID or a non-negative integer"),
        }
    };
    items.iter().enumerate().map(read).collect()
}

fn read_nested(value: &Value, at: &At) -> Result<NestedCondition, String> {
    let object = at.object(value)?;
    let (Some(key), Some(filter), 2) = (object.get("key"), object.get("filter"), object.len()) else {
        return at.wrong(value, "{\"key\": \"<array field>\", \"filter\": {…}}");
    };
    let filter = read_filter(filter, &at.key("filter"))?;
    // Qdrant refuses it too, and its client panics in debug builds.
    if mentions_id(&filter) {
        return Err(format!("{}.filter: has_id cannot stand inside nested, expected conditions on payload", at.path));
    }
    Ok(NestedCondition { key: at.key("key").string(key)?, filter: Some(filter) })
}

fn mentions_id(filter: &Filter) -> bool {
    use qdrant_client::qdrant::condition::ConditionOneOf;
    let min_should = filter.min_should.iter().flat_map(|m| &m.conditions);
    filter.must.iter().chain(&filter.should).chain(&filter.must_not).chain(min_should).any(|c| {
        match &c.condition_one_of {
            Some(ConditionOneOf::HasId(_)) => true,
            Some(ConditionOneOf::Filter(inner)) => mentions_id(inner),
            Some(ConditionOneOf::Nested(inner)) => inner.filter.as_ref().is_some_and(mentions_id),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error_of(filter: Value) -> String {
        parse(&filter).unwrap_err().message
    }

    #[test]
    fn every_clause_and_condition_is_read() {
        let id = "476baf26-2e43-5e6f-9e9b-a105f42aa14f";
        let filter = json!({
            "must": [
                {"key": "lang", "match": {"value": "en"}},
                {"is_empty": {"key": "a"}},
                {"is_null": {"key": "b"}},
                {"has_id": [id, 7]},
                {"has_vector": "image"},
                {"nested": {"key": "parts", "filter": {"must": {"key": "n", "range": {"gt": 1}}}}},
                {"should": [{"key": "c", "match": {"any": [1, 2]}}]},
            ],
            "should": {"key": "d", "match": {"text": "red shoe"}},
            "must_not": null,
            "min_should": {"conditions": [{"key": "e", "match": {"value": true}}], "min_count": 1},
        });
        let parsed = parse(&filter).unwrap();
        assert_eq!((parsed.must.len(), parsed.should.len(), parsed.must_not.len()), (7, 1, 0));
        assert_eq!(parsed.min_should.unwrap().min_count, 1);
        // What we accept, the embedded engine accepts.
        #[cfg(feature = "embedded")]
        serde_json::from_value::<qdrant_edge::Filter>(filter).unwrap();
    }

    #[test]
    fn errors_name_path_found_and_expected() {
        let error = error_of(json!({"must": [{"key": "a", "match": {"value": 1.5}}]}));
        assert!(error.starts_with("filter.must[0].match.value: found 1.5, expected"), "{error}");
        assert!(error_of(json!({"musst": []})).starts_with("filter.musst: unknown key, expected must"));
        assert!(error_of(json!([])).starts_with("filter: found [], expected an object"));
        let error = error_of(json!({"must": [{"kez": "a"}]}));
        assert!(error.starts_with("filter.must[0]: unknown key `kez`"), "{error}");
        let error = error_of(json!({"must": [{"has_id": ["x"]}]}));
        assert!(error.starts_with("filter.must[0].has_id[0]: found \"x\""), "{error}");
        let error = error_of(json!({"must": {"nested": {"key": "a", "filter": {"must": {"has_id": []}}}}}));
        assert!(error.contains("has_id cannot stand inside nested"), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut filter = json!({"must": []});
        for _ in 0..40 {
            filter = json!({"must": [filter]});
        }
        assert!(error_of(filter).contains("nested deeper than 16 levels"));
    }
}
