//! What a point records about its picture. It shows later whether the picture has changed, without fetching it again.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::payload::text;

/// The picture whose vector a point has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRecord {
    /// Without credentials.
    pub url: String,
    pub etag: Option<String>,
    /// The header as received (RFC 9110, 8.8.2).
    pub last_modified: Option<String>,
    /// S3's version of the object.
    pub version_id: Option<String>,
    /// Hex, of the bytes as fetched.
    pub sha256: String,
    /// Pixels, before resizing.
    pub width: u32,
    pub height: u32,
    /// By content, not by header.
    pub mime: Cow<'static, str>,
}

impl MediaRecord {
    pub(super) fn to_payload(&self) -> Value {
        let Self { url, etag, last_modified, version_id, sha256, width, height, mime } = self;
        json!({
            "url": url, "etag": etag, "last_modified": last_modified, "version_id": version_id,
            "sha256": sha256, "width": width, "height": height, "mime": mime,
        })
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        let pixels = |key: &str| value.get(key)?.as_u64()?.try_into().ok();
        Some(Self {
            url: text(value.get("url"))?,
            etag: text(value.get("etag")),
            last_modified: text(value.get("last_modified")),
            version_id: text(value.get("version_id")),
            sha256: text(value.get("sha256"))?,
            width: pixels("width")?,
            height: pixels("height")?,
            mime: text(value.get("mime"))?.into(),
        })
    }
}
