use serde_json::{Map, Value, json};

use super::{AssetId, Embedding, Modality, PointId, Position, Tenant};

/// A JSON object, as Qdrant keeps it.
pub type Payload = Map<String, Value>;

/// The one top-level payload key that is ours; the user's keys stay beside it, so that filters stay natural.
pub const RESERVED_KEY: &str = "clipstream";

/// One change to one point of one collection.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Replace the whole point, vectors that are not mentioned included.
    Upsert(Point),
    /// Change only what is given; create the point when it is absent.
    Patch(Patch),
    Delete(PointId),
}

impl Write {
    pub fn id(&self) -> PointId {
        match self {
            Self::Upsert(point) => point.id,
            Self::Patch(patch) => patch.id,
            Self::Delete(id) => *id,
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
}

/// The whole state of an asset in one collection. `payload` holds the user's keys only.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub id: PointId,
    pub vectors: Vectors,
    pub payload: Payload,
    pub record: Record,
}

/// A change to a point: given vectors replace their namesakes, payload keys are merged at top level, and the record's
/// keys are merged under [`RESERVED_KEY`].
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    pub id: PointId,
    pub vectors: Vectors,
    pub payload: Payload,
    pub record: Record,
}

/// What we keep about a point, under [`RESERVED_KEY`].
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub asset: AssetId,
    pub tenant: Option<Tenant>,
    pub source: Option<Position>,
    pub version: Option<u64>,
    pub media: Option<MediaRecord>,
    /// SHA-256 (hex) of the text that was embedded.
    pub text_sha256: Option<String>,
    /// RFC 3339, UTC.
    pub indexed_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRecord {
    /// Without credentials.
    pub url: String,
    pub etag: Option<String>,
    /// Hex, of the bytes as fetched.
    pub sha256: String,
    /// Pixels, before resizing.
    pub width: u32,
    pub height: u32,
    /// By content, not by header.
    pub mime: &'static str,
}

impl Record {
    /// The object under [`RESERVED_KEY`]. Absent parts are left out, so that merging a patch keeps what was there.
    pub fn to_payload(&self) -> Payload {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("asset_id", self.asset.as_str().into());
        if let Some(tenant) = &self.tenant {
            put("tenant", tenant.as_str().into());
        }
        if let Some(at) = &self.source {
            put("source", json!({ "topic": &*at.topic, "partition": at.partition, "offset": at.offset }));
        }
        if let Some(version) = self.version {
            put("version", version.into());
        }
        if let Some(media) = &self.media {
            put(
                "media",
                json!({
                    "url": media.url, "etag": media.etag, "sha256": media.sha256,
                    "width": media.width, "height": media.height, "mime": media.mime,
                }),
            );
        }
        if let Some(hash) = &self.text_sha256 {
            put("text_sha256", hash.as_str().into());
        }
        put("indexed_at", self.indexed_at.as_str().into());
        out
    }
}
