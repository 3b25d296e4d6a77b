//! What the store must hold: the rules of `docs/messages.md`, written down a second time and as simply as can be, over the
//! log as the broker has it.

use std::collections::{BTreeMap, HashMap};

use rdkafka::message::{Message as _, OwnedMessage};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::broker::header;
use crate::journal::{Partition, Place};
use crate::misdate::{self, Misdate};
use crate::plan::{DIES, Dies, TENANT};
use crate::topics::Topic;

/// An asset, and whose it is: the same id may be one of each tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    pub tenant: Option<String>,
    pub id: String,
}

impl Whose {
    /// Of a message, or of its dead letter.
    pub fn of(message: &OwnedMessage) -> Result<Self, Error> {
        let id = String::from_utf8(message.key().ok_or("a message without key")?.to_vec())?;
        let body: Value = message.payload().and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
        let told = header(message, TENANT).or_else(|| body["tenant"].as_str());
        Ok(Self { tenant: told.filter(|name| !name.is_empty()).map(str::to_owned), id })
    }
}

/// What became of an asset.
#[derive(Clone, Debug, Default)]
pub struct Asset {
    /// It must not be there.
    pub deleted: bool,
    /// URL of the picture.
    pub image: Option<String>,
    pub text: Option<String>,
    pub payload: Map<String, Value>,
    pub version: Option<u64>,
    /// By topic, the last message that counted, or more than one where they are the same twice.
    pub sources: BTreeMap<Topic, Vec<Place>>,
    /// Its only message, where the broker has removed it: it may have been read before or not.
    pub removed: Option<Place>,
    /// Every message of the asset, in the order of its topic: what it was, and whether it counted.
    pub history: Vec<(Place, String, &'static str)>,
}

/// A message that must become a dead letter.
#[derive(Clone, Debug)]
pub struct Doomed {
    pub dies: Dies,
    pub message: OwnedMessage,
}

#[derive(Default)]
pub struct Expected {
    pub assets: BTreeMap<Whose, Asset>,
    pub doomed: BTreeMap<Place, Doomed>,
    /// Good messages that came back from a retry topic when newer patches had been written: dead letters.
    pub overtaken: BTreeMap<Place, Option<OwnedMessage>>,
    pub messages: u64,
    /// Messages in retry topics.
    pub retry_scheduled: u64,
    /// Messages whose timestamp is not their time.
    pub misdated: BTreeMap<Misdate, u64>,
    /// Messages without a version whose timestamp is before that of the one before, of the same asset and partition: their
    /// offsets say one thing, their timestamps the other.
    pub inversions: u64,
    /// Records of transactions that were aborted.
    pub aborted: u64,
    /// Messages that the broker has compacted away.
    pub compacted: u64,
    /// Dead letters in several parts.
    pub in_parts: u64,
    /// By asset: where its last message was, and its timestamp.
    dates: HashMap<Whose, (Partition, i64)>,
}

impl Expected {
    /// `overtaken`: messages that were too late, as their dead letters say.
    pub fn without(overtaken: impl IntoIterator<Item = Place>) -> Self {
        Self { overtaken: overtaken.into_iter().map(|place| (place, None)).collect(), ..Self::default() }
    }

    /// A message that is not in the log any more, of an asset that no other message is about.
    pub fn apply_removed(&mut self, topic: Topic, message: OwnedMessage) -> Result<(), Error> {
        let key = Whose::of(&message)?;
        let place = (topic, message.partition(), message.offset());
        self.apply(topic, message)?;
        self.assets.entry(key).or_default().removed = Some(place);
        Ok(())
    }

    /// Messages of one partition come in its order.
    pub fn apply(&mut self, topic: Topic, message: OwnedMessage) -> Result<(), Error> {
        self.messages += 1;
        if let Some(kind) = Misdate::of(&message) {
            *self.misdated.entry(kind).or_default() += 1;
        }
        let place = (topic, message.partition(), message.offset());
        let key = Whose::of(&message)?;
        let shown = message.payload().map_or("(tombstone)".into(), |value| String::from_utf8_lossy(value).into_owned());
        if let Some(dies) = header(&message, DIES).map(Dies::from_header) {
            // No asset comes of it, but one that is there remembers it.
            if let Some(asset) = self.assets.get_mut(&key) {
                asset.history.push((place, shown, "must die"));
            }
            self.doomed.insert(place, Doomed { dies, message });
            return Ok(());
        }
        let body: Value = message.payload().map_or(Ok(json!({"op": "delete"})), serde_json::from_slice)?;
        let asset = self.assets.entry(key.clone()).or_default();
        if let Some(overtaken) = self.overtaken.get_mut(&place) {
            asset.history.push((place, shown, "overtaken"));
            *overtaken = Some(message);
            return Ok(());
        }
        let (partition, dated) = ((topic, place.1), misdate::timestamp(&message));
        let before = self.dates.insert(key, (partition, dated));
        let inverted = before.is_some_and(|(of, before)| of == partition && dated < before);
        self.inversions += u64::from(inverted && body["version"].is_null());
        let counted = asset.apply(topic, place, &body);
        asset.history.push((place, shown, if counted { "" } else { "stale" }));
        Ok(())
    }
}

impl Asset {
    /// Whether the message counted.
    fn apply(&mut self, topic: Topic, place: Place, body: &Value) -> bool {
        let version = body["version"].as_u64();
        if version.zip(self.version).is_some_and(|(mine, stored)| mine < stored) {
            return false;
        }
        // The same message twice: either of the two may have written last.
        let again = version.is_some() && version == self.version;
        let op = body["op"].as_str().unwrap_or(topic.default_op());
        if op != "patch" {
            let kept = std::mem::take(self);
            (self.history, self.removed) = (kept.history, kept.removed);
            self.sources = if again { kept.sources } else { BTreeMap::new() };
            self.deleted = op == "delete";
        } else if self.deleted {
            // A patch creates what is not there.
            self.deleted = false;
        }
        self.version = version;
        let string = |field: &str| body[field].as_str().map(str::to_owned);
        self.image = string("image").or(self.image.take());
        self.text = string("text").or(self.text.take());
        for (key, value) in body["payload"].as_object().into_iter().flatten() {
            if op == "patch" && value.is_null() {
                self.payload.remove(key);
            } else {
                self.payload.insert(key.clone(), value.clone());
            }
        }
        let sources = self.sources.entry(topic).or_default();
        if !again {
            sources.clear();
        }
        sources.push(place);
        true
    }
}
