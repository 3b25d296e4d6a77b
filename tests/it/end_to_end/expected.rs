//! What the store must hold: the rules of `docs/messages.md`, written down a second time and as simply as can be, over the
//! messages in the order in which they were produced.

use std::collections::BTreeMap;

use clipstream::domain::{AssetId, PointId, Tenant};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::media::{Picture, hex};
use super::messages::{Message, To};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

#[derive(Clone, Debug, Default)]
pub struct ExpectedPoint {
    pub asset: String,
    pub tenant: Option<String>,
    /// URL of the picture that the image vector is of.
    pub image: Option<String>,
    pub text: Option<String>,
    pub payload: Map<String, Value>,
    pub version: Option<u64>,
    /// The last write from each topic: between topics there is no order, so any of them may have been the last.
    pub sources: Vec<Position>,
}

#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub points: BTreeMap<PointId, ExpectedPoint>,
}

impl Expected {
    pub fn apply(&mut self, message: &Message, at: &Position) {
        if message.dies.is_some() {
            return;
        }
        let body: Value = match &message.value {
            Some(value) => serde_json::from_slice(value).expect("a message that does not die is JSON"),
            None => json!({"op": "delete"}),
        };
        let string = |field: &str| body[field].as_str().filter(|s| !s.trim().is_empty()).map(str::to_owned);
        let asset = string("id").or_else(|| message.key.clone()).expect("an id or a key");
        let tenant = string("tenant");
        let id = PointId::of(
            tenant.as_deref().map(|t| Tenant::new(t).unwrap()).as_ref(),
            &AssetId::new(asset.as_str()).unwrap(),
        );
        let version = body["version"].as_u64();
        let stored = self.points.get(&id).and_then(|point| point.version);
        if version.zip(stored).is_some_and(|(mine, stored)| mine < stored) {
            return;
        }
        let default = if message.to == To::Captions { "patch" } else { "upsert" };
        let op = string("op").unwrap_or_else(|| default.to_owned());
        if op == "delete" {
            self.points.remove(&id);
            return;
        }
        if op == "upsert" {
            self.points.remove(&id);
        }
        let point = self.points.entry(id).or_default();
        (point.asset, point.tenant) = (asset, tenant);
        point.image = string("image").or(point.image.take());
        point.text = string("text").or(point.text.take());
        point.version = version.or(point.version);
        for (key, value) in body["payload"].as_object().into_iter().flatten() {
            if op == "patch" && value.is_null() {
                point.payload.remove(key);
            } else {
                point.payload.insert(key.clone(), value.clone());
            }
        }
        point.sources.retain(|source| source.topic != at.topic);
        point.sources.push(at.clone());
    }
}

impl ExpectedPoint {
    /// The record that the worker keeps, but for `source` and `indexed_at`, which [`super::checks`] looks at.
    pub fn record(&self, pictures: &BTreeMap<String, Picture>) -> Map<String, Value> {
        let mut record = Map::new();
        record.insert("asset_id".into(), json!(self.asset));
        if let Some(tenant) = &self.tenant {
            record.insert("tenant".into(), json!(tenant));
        }
        if let Some(version) = self.version {
            record.insert("version".into(), json!(version));
        }
        if let Some(picture) = self.image.as_ref().map(|url| &pictures[url]) {
            let (width, height) = picture.size();
            let media = json!({
                "url": picture.shown, "etag": picture.etag, "sha256": picture.sha256(), "width": width,
                "height": height, "mime": picture.mime, "last_modified": null, "version_id": null,
            });
            record.insert("media".into(), media);
        }
        if let Some(text) = &self.text {
            record.insert("text_sha256".into(), json!(hex(&Sha256::digest(text))));
        }
        record
    }
}
