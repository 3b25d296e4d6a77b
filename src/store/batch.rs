//! One batch of writes, sorted by kind: what both adapters turn into as few operations as possible.

use std::collections::HashSet;

use serde_json::Value;

use super::StoreError;
use crate::domain::{Modality, Patch, Payload, Point, PointId, RESERVED_KEY, Record, Vectors, Write};
use crate::redact;

/// Sorting is safe because a batch holds at most one write per point id.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    pub upserts: Vec<&'a Point>,
    pub patches: Vec<&'a Patch>,
    pub deletes: Vec<PointId>,
}

impl<'a> Batch<'a> {
    /// Sorts and checks `writes`: ids are unique, and payloads hold only what both stores give back unchanged.
    pub fn new(writes: &'a [Write]) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        let mut ids = HashSet::with_capacity(writes.len());
        for write in writes {
            if !ids.insert(write.id()) {
                let message = format!("a batch has two writes of point {}; expected one per point", write.id());
                return Err(StoreError::permanent("point_twice_in_batch", message));
            }
            match write {
                Write::Upsert(point) => {
                    check_payload(point.id, &point.payload, &point.record)?;
                    batch.upserts.push(point);
                }
                Write::Patch(patch) => {
                    check_payload(patch.id, &patch.payload, &patch.record)?;
                    batch.patches.push(patch);
                }
                Write::Delete(deletion) => batch.deletes.push(deletion.id),
            }
        }
        Ok(batch)
    }

    /// Points whose full upsert has no `modality` vector. Qdrant replaces the vectors of a point in place, but while
    /// it moves the point out of an indexed segment it keeps those that the upsert does not mention
    /// (`upsert_points` in Qdrant's `lib/shard/src/update.rs`), so they are deleted explicitly.
    pub fn upserts_without(&self, modality: Modality) -> Vec<PointId> {
        let has = |vectors: &Vectors| match modality {
            Modality::Image => vectors.image.is_some(),
            Modality::Text => vectors.text.is_some(),
        };
        self.upserts.iter().filter(|point| !has(&point.vectors)).map(|point| point.id).collect()
    }
}

/// The payload of a full upsert: the user's keys, and ours under the reserved key.
pub(super) fn whole_payload(payload: &Payload, record: &Record) -> Payload {
    let mut whole = payload.clone();
    whole.insert(RESERVED_KEY.to_owned(), record.to_payload().into());
    whole
}

/// The user's keys of a patch; the reserved key is never theirs to set.
pub(super) fn user_payload(payload: &Payload) -> Payload {
    payload.iter().filter(|(key, _)| *key != RESERVED_KEY).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Integers beyond `i64` have no exact form in Qdrant's gRPC values (they would become floats silently) and none in
/// its integer index, so they are refused.
fn check_payload(id: PointId, payload: &Payload, record: &Record) -> Result<(), StoreError> {
    if let Some(version) = record.version.filter(|v| i64::try_from(*v).is_err()) {
        return Err(too_large(id, "clipstream.version", version));
    }
    payload.iter().try_for_each(|(key, value)| check_value(id, key, value))
}

fn check_value(id: PointId, path: &str, value: &Value) -> Result<(), StoreError> {
    match value {
        Value::Number(n) => match n.as_u64() {
            Some(found) if i64::try_from(found).is_err() => Err(too_large(id, path, found)),
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(|v| check_value(id, path, v)),
        Value::Object(map) => map.iter().try_for_each(|(k, v)| match v {
            // Only these can hold a number: no path is built for the rest.
            Value::Number(_) | Value::Array(_) | Value::Object(_) => check_value(id, &format!("{path}.{k}"), v),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn too_large(id: PointId, path: &str, found: u64) -> StoreError {
    let message = format!(
        "payload of point {id}: `{}` is {found}; expected an integer up to {}, or a string",
        redact::cut(path, 100),
        i64::MAX
    );
    StoreError::permanent("payload_integer_too_large", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{AssetId, Class};

    fn patch(asset: &str, payload: Value) -> Write {
        let asset = AssetId::new(asset).unwrap();
        let record = Record {
            asset: asset.clone(),
            tenant: None,
            source: None,
            version: None,
            media: None,
            text_sha256: None,
            deleted_at: None,
            indexed_at: "2026-11-23T00:00:00Z".into(),
        };
        let Value::Object(payload) = payload else { panic!("not an object") };
        Write::Patch(Patch {
            id: PointId::of(None, &asset),
            vectors: Vectors::default(),
            kept: Vec::new(),
            payload,
            record,
        })
    }

    #[test]
    fn two_writes_of_one_point_are_refused() {
        let error = Batch::new(&[patch("a", json!({})), patch("a", json!({}))]).unwrap_err();
        assert_eq!(error.reason, "point_twice_in_batch");
        assert!(Batch::new(&[patch("a", json!({})), patch("b", json!({}))]).is_ok());
    }

    #[test]
    fn integers_beyond_i64_are_refused_by_path_and_the_largest_passes() {
        assert!(Batch::new(&[patch("a", json!({ "n": i64::MAX, "m": i64::MIN }))]).is_ok());
        let error = Batch::new(&[patch("a", json!({ "a": [{ "b": u64::MAX }] }))]).unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, "payload_integer_too_large"));
        assert!(error.message.contains("`a.b` is 18446744073709551615"), "{}", error.message);
    }

    #[test]
    fn users_cannot_set_the_reserved_key() {
        let Write::Patch(patch) = patch("a", json!({ "clipstream": 1, "b": 2 })) else { unreachable!() };
        assert_eq!(Value::from(user_payload(&patch.payload)), json!({ "b": 2 }));
        assert_eq!(whole_payload(&patch.payload, &patch.record)["clipstream"]["asset_id"], "a");
    }
}
