//! Points, and the writes that change them: the whole point, a patch, or a deletion.

use serde_json::{Map, Value};

use super::{AssetId, Embedding, LabelRecord, MediaRecord, Modality, Origin, Payload, PointId, Stamp, Tenant};

/// The one top-level payload key that is ours; the user's keys stay beside it, so that filters stay natural.
pub const RESERVED_KEY: &str = "clipstream";

/// One change to one point of one collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Replace the whole point, vectors that are not mentioned included.
    Upsert(Point),
    /// Change only what is given; create the point when it is absent.
    Patch(Patch),
    Delete(Deletion),
}

impl Write {
    pub fn id(&self) -> PointId {
        match self {
            Self::Upsert(point) => point.id,
            Self::Patch(patch) => patch.id,
            Self::Delete(deletion) => deletion.id,
        }
    }

    pub fn record(&self) -> &Record {
        match self {
            Self::Upsert(point) => &point.record,
            Self::Patch(patch) => &patch.record,
            Self::Delete(deletion) => &deletion.record,
        }
    }

    /// Vectors that the stored point must have, see [`Point::kept`].
    pub fn kept(&self) -> &[Modality] {
        match self {
            Self::Upsert(point) => &point.kept,
            Self::Patch(patch) => &patch.kept,
            Self::Delete(_) => &[],
        }
    }

    /// Rough size on the wire in bytes, for batches by bytes.
    pub fn bytes(&self) -> usize {
        let (vectors, payload) = match self {
            Self::Upsert(point) => (&point.vectors, &point.payload),
            Self::Patch(patch) => (&patch.vectors, &patch.payload),
            Self::Delete(_) => return 32,
        };
        let floats: usize = vectors.iter().map(|(_, v)| v.dimension()).sum();
        let text: usize = payload.iter().map(|(k, v)| k.len() + json_bytes(v)).sum();
        512 + 4 * floats + text
    }
}

/// Bytes of a value's JSON, counted without writing it.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 9,
        Value::String(s) => s.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| 1 + json_bytes(v)).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + json_bytes(v)).sum::<usize>(),
    }
}

/// The named vectors of a point; either may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    pub image: Option<Embedding>,
    pub text: Option<Embedding>,
}

impl Vectors {
    pub fn iter(&self) -> impl Iterator<Item = (Modality, &Embedding)> {
        let image = self.image.iter().map(|v| (Modality::Image, v));
        image.chain(self.text.iter().map(|v| (Modality::Text, v)))
    }

    pub fn is_empty(&self) -> bool {
        self.image.is_none() && self.text.is_none()
    }

    pub fn has(&self, modality: Modality) -> bool {
        match modality {
            Modality::Image => self.image.is_some(),
            Modality::Text => self.text.is_some(),
        }
    }
}

/// The whole state of an asset in one collection. `payload` holds the user's keys only.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub id: PointId,
    pub vectors: Vectors,
    /// Vectors that the stored point has and keeps, because what they embed has not changed. A write that keeps any
    /// never creates its point.
    pub kept: Vec<Modality>,
    pub payload: Payload,
    pub record: Record,
}

/// A change to a point: given vectors replace their namesakes, payload keys are merged at top level, and the record's
/// keys are merged under [`RESERVED_KEY`].
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    pub id: PointId,
    pub vectors: Vectors,
    /// As [`Point::kept`].
    pub kept: Vec<Modality>,
    pub payload: Payload,
    pub record: Record,
}

/// An asset that is gone. The record says who deleted it and when, for the tombstone.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    pub id: PointId,
    pub record: Record,
}

/// What we keep about a point, under [`RESERVED_KEY`].
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub asset: AssetId,
    pub tenant: Option<Tenant>,
    pub source: Option<Origin>,
    pub version: Option<u64>,
    pub media: Option<MediaRecord>,
    /// SHA-256 (hex) of the text that was embedded.
    pub text_sha256: Option<String>,
    /// Of the picture. A write with a picture and without labels removes those that are there.
    pub labels: Option<LabelRecord>,
    /// RFC 3339, UTC. Set only on tombstones.
    pub deleted_at: Option<String>,
    /// Set by writes of the whole asset where messages may come back late; patches keep the one that is there.
    pub base: Option<Stamp>,
    /// RFC 3339, UTC.
    pub indexed_at: String,
}

impl Record {
    pub fn stamp(&self) -> Stamp {
        Stamp { version: self.version, origin: self.source.clone() }
    }

    /// The object under [`RESERVED_KEY`]. Absent parts are left out, so that merging a patch keeps what was there.
    pub fn to_payload(&self) -> Payload {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("asset_id", self.asset.as_str().into());
        if let Some(tenant) = &self.tenant {
            put("tenant", tenant.as_str().into());
        }
        if let Some(media) = &self.media {
            put("media", media.to_payload());
        }
        if let Some(hash) = &self.text_sha256 {
            put("text_sha256", hash.as_str().into());
        }
        if let Some(at) = &self.deleted_at {
            put("deleted_at", at.as_str().into());
        }
        if let Some(base) = &self.base {
            put("base", base.to_payload().into());
        }
        put("indexed_at", self.indexed_at.as_str().into());
        out.extend(self.labels.iter().flat_map(LabelRecord::to_payload));
        out.extend(self.stamp().to_payload());
        out
    }
}
