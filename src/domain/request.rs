//! One request of a message, in the form that every message format is read into. The pipeline knows no other.

use std::fmt;

use super::memory::payload_bytes;
use super::{AssetId, ModelId, Payload, PointId, Tenant};

/// One request of a message, independent of the message's format.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestRequest {
    pub asset: AssetId,
    pub tenant: Option<Tenant>,
    pub op: Op,
    pub image: Option<MediaUrl>,
    pub text: Option<String>,
    pub payload: Payload,
    /// An older version never overwrites a newer one.
    pub version: Option<u64>,
    /// `None`: every model that the worker is configured with.
    pub models: Option<Vec<ModelId>>,
}

impl IngestRequest {
    pub fn point_id(&self) -> PointId {
        PointId::of(self.tenant.as_ref(), &self.asset)
    }

    /// Whether it contains something to embed.
    pub fn has_content(&self) -> bool {
        self.image.is_some() || self.text.is_some()
    }

    /// Bytes that text and payload hold in memory.
    pub fn memory_bytes(&self) -> usize {
        self.text.as_ref().map_or(0, String::len) + payload_bytes(&self.payload)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The message is the asset's whole state.
    Upsert,
    /// Change only what is given.
    Patch,
    Delete,
}

impl Op {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// Where a picture is: `s3://…`, `http(s)://…`, `data:…`, `file://…`. May carry credentials, so it has no `Display`:
/// print it through `redact::url`.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaUrl(String);

impl MediaUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with all its secrets: for fetching only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MediaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MediaUrl(…)")
    }
}
