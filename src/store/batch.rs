//! One batch of writes, sorted by kind. Both adapters turn it into as few operations as possible.

use std::collections::HashSet;

use serde_json::Value;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{
    Deletion, Guard, LabelRecord, Modality, Patch, Payload, Point, PointId, RESERVED_KEY, Record, StoreReason, Vectors,
    Write,
};
use crate::redact;

/// A deleted asset has none.
static NO_VECTORS: Vectors = Vectors { image: None, text: None };

/// Sorting is safe because a batch holds at most one write per point id.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch<'a> {
    pub upserts: Vec<Upsert<'a>>,
    pub changes: Vec<Change<'a>>,
    pub removals: Vec<PointId>,
}

/// Replaces a point, or creates it: an asset, or its tombstone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upsert<'a> {
    pub id: PointId,
    pub vectors: &'a Vectors,
    /// `None`: a tombstone.
    pub user: Option<&'a Payload>,
    pub record: &'a Record,
}

/// Changes a point in steps: a patch, or a full upsert that keeps vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub id: PointId,
    pub vectors: &'a Vectors,
    pub kept: &'a [Modality],
    pub payload: &'a Payload,
    pub record: &'a Record,
    /// Names one sending of the batch ([`Batch::resend`]).
    pub sending: Uuid,
    /// The payload is replaced, and vectors that are neither written nor kept are deleted. Otherwise everything is merged.
    pub replaces: bool,
}

impl<'a> Batch<'a> {
    /// Sorts and checks `writes`: ids are unique, and payloads hold only what both stores give back unchanged.
    pub fn new(writes: impl IntoIterator<Item = &'a Write>, guard: Guard) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        let sending = Uuid::new_v4();
        let mut ids = HashSet::new();
        for write in writes {
            if !ids.insert(write.id()) {
                let message = format!("a batch has two writes of point {}; expected one per point", write.id());
                return Err(StoreError::new(StoreReason::DuplicatePoint, message));
            }
            match write {
                Write::Upsert(Point { id, vectors, kept, payload, record }) => {
                    check_payload(*id, payload, record)?;
                    if kept.is_empty() {
                        batch.upserts.push(Upsert { id: *id, vectors, user: Some(payload), record });
                    } else {
                        batch.changes.push(Change { id: *id, vectors, kept, payload, record, sending, replaces: true });
                    }
                }
                Write::Patch(Patch { id, vectors, kept, payload, record }) => {
                    check_payload(*id, payload, record)?;
                    batch.changes.push(Change { id: *id, vectors, kept, payload, record, sending, replaces: false });
                }
                Write::Delete(Deletion { id, record }) if guard.buries(&record.stamp()) => {
                    check_version(*id, record)?;
                    batch.upserts.push(Upsert { id: *id, vectors: &NO_VECTORS, user: None, record });
                }
                Write::Delete(deletion) => batch.removals.push(deletion.id),
            }
        }
        Ok(batch)
    }

    pub fn len(&self) -> usize {
        self.upserts.len() + self.changes.len() + self.removals.len()
    }

    /// Call before the batch is sent again. The earlier sending may still run on the server, and must not continue under the
    /// claims of this sending.
    pub fn resend(&mut self) {
        let sending = Uuid::new_v4();
        self.changes.iter_mut().for_each(|change| change.sending = sending);
    }
}

impl Upsert<'_> {
    /// The user's keys, and ours under the reserved key.
    pub fn payload(&self) -> Payload {
        match self.user {
            Some(payload) => whole_payload(payload, self.record),
            None => whole_payload(&Payload::new(), self.record),
        }
    }

    /// Qdrant replaces the vectors of a point in place, but while it moves the point out of an indexed segment it keeps
    /// those that the upsert does not mention (`upsert_points` in Qdrant's `lib/shard/src/update.rs`), so they are
    /// deleted explicitly.
    pub fn drops(&self, modality: Modality) -> bool {
        !self.vectors.has(modality)
    }
}

impl Change<'_> {
    /// Whether it creates a point that is absent.
    pub fn creates(&self) -> bool {
        self.kept.is_empty()
    }

    /// The payload of a point that it creates: in a merge, a null removes its key.
    pub fn created(&self) -> Payload {
        whole_payload(&self.payload.iter().filter(|(_, v)| !v.is_null()).map(own).collect(), self.record)
    }

    pub fn drops(&self, modality: Modality) -> bool {
        self.replaces && !self.vectors.has(modality) && !self.kept.contains(&modality)
    }

    /// Identifies this sending until its record is written. Each sending has its own claim: two sendings of one write, one of
    /// them late, would otherwise take each other's steps for their own and skip some.
    pub fn claim(&self) -> String {
        self.sending.to_string()
    }

    /// The vectors that the steps under the claim change, as values that a filter finds. Never empty, because claims of an older
    /// release have no such list.
    pub fn claimed_vectors(&self) -> Vec<&'static str> {
        let changed = Modality::ALL.into_iter().filter(|modality| self.vectors.has(*modality) || self.drops(*modality));
        let changed: Vec<_> = changed.map(Modality::as_str).collect();
        if changed.is_empty() { vec!["none"] } else { changed }
    }

    /// The record after the change, given the stored one.
    pub fn record_over(&self, found: Option<&Payload>) -> Payload {
        let mut record = found.cloned().unwrap_or_default();
        for (key, value) in self.record_merged() {
            match value {
                Value::Null => drop(record.remove(&key)),
                value => drop(record.insert(key, value)),
            }
        }
        record
    }

    /// The record, to be merged into the stored one, which is afterwards neither a tombstone nor claimed. (A
    /// null in a merge removes its key.)
    pub fn record_merged(&self) -> Payload {
        let mut record = self.record.to_payload();
        // Those that are there are of another picture, or not known to be of this one.
        if self.record.labels.is_none() && (self.vectors.has(Modality::Image) || self.kept.contains(&Modality::Image)) {
            record.extend(LabelRecord::removed());
        }
        record.insert("deleted_at".to_owned(), Value::Null);
        record.extend(no_claim());
        record
    }
}

/// To be merged into a record: removes its claim.
pub(super) fn no_claim() -> Payload {
    Payload::from_iter(["claim", "claimed_vectors"].map(|key| (key.to_owned(), Value::Null)))
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// The payload of a full upsert.
pub(super) fn whole_payload(payload: &Payload, record: &Record) -> Payload {
    let mut whole = payload.clone();
    whole.insert(RESERVED_KEY.to_owned(), record.to_payload().into());
    whole
}

/// The user's keys of a patch; the reserved key is never theirs to set.
pub(super) fn user_payload(payload: &Payload) -> Payload {
    payload.iter().filter(|(key, _)| *key != RESERVED_KEY).map(own).collect()
}

/// Integers beyond `i64` have no exact form in Qdrant's gRPC values (they would become floats silently) and none in
/// its integer index, so they are refused.
fn check_payload(id: PointId, payload: &Payload, record: &Record) -> Result<(), StoreError> {
    check_version(id, record)?;
    payload.iter().try_for_each(|(key, value)| check_value(id, key, value))
}

fn check_version(id: PointId, record: &Record) -> Result<(), StoreError> {
    match record.version.filter(|v| i64::try_from(*v).is_err()) {
        Some(version) => Err(too_large(id, "clipstream.version", version)),
        None => Ok(()),
    }
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
    StoreError::new(StoreReason::IntegerTooLarge, message)
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
            labels: None,
            deleted_at: None,
            base: None,
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
        let error = Batch::new(&[patch("a", json!({})), patch("a", json!({}))], Guard::Off).unwrap_err();
        assert_eq!(error.reason, StoreReason::DuplicatePoint);
        assert!(Batch::new(&[patch("a", json!({})), patch("b", json!({}))], Guard::Off).is_ok());
    }

    #[test]
    fn integers_beyond_i64_are_refused_by_path_and_the_largest_passes() {
        assert!(Batch::new(&[patch("a", json!({ "n": i64::MAX, "m": i64::MIN }))], Guard::Off).is_ok());
        let error = Batch::new(&[patch("a", json!({ "a": [{ "b": u64::MAX }] }))], Guard::Off).unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, StoreReason::IntegerTooLarge));
        assert!(error.to_string().contains("`a.b` is 18446744073709551615"), "{}", error.message);
    }

    #[test]
    fn users_cannot_set_the_reserved_key() {
        let Write::Patch(patch) = patch("a", json!({ "clipstream": 1, "b": 2 })) else { unreachable!() };
        assert_eq!(Value::from(user_payload(&patch.payload)), json!({ "b": 2 }));
        assert_eq!(whole_payload(&patch.payload, &patch.record)["clipstream"]["asset_id"], "a");
    }
}
