//! The workload: an endless stream of messages that follows from a seed.
//!
//! Keys are of three kinds, so that what the store must hold in the end follows from the log alone:
//!
//! - `v…`: one topic, every message has a version; versions also come late, and messages twice;
//! - `u…`: one topic, no versions: the order of the log decides;
//! - `x…`: patches from two topics, which change different parts of the asset. Nothing orders messages of two topics, so that
//!   one that comes too late is not noticed once the other topic has written (`docs/reliability.md`); where writes come too
//!   late, an asset gets one message from each topic.
//!
//! Some messages are broken, for a reason that travels in a header of theirs.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::outages;

/// Header of a message that must become a dead letter.
pub const DIES: &str = "chaos-dies";

/// Header of a message whose timestamp is not its time.
pub const WRONG_CLOCK: &str = "chaos-wrong-clock";

/// Longer in all than any fault lasts: a good message must not become a dead letter.
pub const RETRY_DELAYS_S: [u64; 6] = [1, 2, 4, 8, 16, 32];
/// Of each retry topic.
pub const RETRY_PARTITIONS: i32 = 2;

const KEYS: f64 = 4000.0;
/// Payload keys of an asset.
const FIELDS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Assets,
    Pictures,
    Captions,
    /// Of the worker whose disk is full.
    Disk,
    /// Of one of the workers that go through an hour's outage.
    Outage(&'static str),
}

impl Topic {
    /// Those of the campaign's workers.
    pub const ALL: [Self; 3] = [Self::Assets, Self::Pictures, Self::Captions];

    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Pictures => "pictures",
            Self::Captions => "captions",
            Self::Disk => "disk",
            Self::Outage(name) => name,
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        let outages = outages::topics().map(Self::Outage);
        Self::ALL.into_iter().chain([Self::Disk]).chain(outages).find(|topic| topic.name() == name)
    }

    pub fn dead_letters(self) -> String {
        format!("{}.dlq", self.name())
    }

    /// Of the topic, where workers put messages off.
    pub fn retries(self) -> impl Iterator<Item = String> {
        (1..=RETRY_DELAYS_S.len()).map(move |n| format!("{}.retry.{n}", self.name()))
    }

    pub fn partitions(self) -> i32 {
        match self {
            Self::Assets => 6,
            Self::Pictures | Self::Captions | Self::Outage(_) => 2,
            Self::Disk => 1,
        }
    }

    /// What a message means that names no operation.
    pub fn default_op(self) -> &'static str {
        match self {
            Self::Assets | Self::Disk | Self::Outage(_) => "upsert",
            Self::Pictures | Self::Captions => "patch",
        }
    }
}

/// Why a message must become a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dies {
    pub reason: String,
    /// Whether a later full write of the asset may make it needless before it is tried.
    pub unless_superseded: bool,
}

impl Dies {
    pub fn to_header(&self) -> String {
        format!("{}{}", self.reason, if self.unless_superseded { " unless superseded" } else { "" })
    }

    pub fn from_header(text: &str) -> Self {
        let reason = text.split(' ').next().unwrap_or_default().to_owned();
        Self { reason, unless_superseded: text.ends_with("superseded") }
    }
}

/// One message to come.
#[derive(Clone, Debug)]
pub struct Planned {
    pub topic: Topic,
    pub key: String,
    pub value: Option<Vec<u8>>,
    pub dies: Option<Dies>,
    /// Milliseconds since the Unix epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
}

/// What messages may name.
pub struct Material {
    pub texts: Vec<String>,
    /// URLs.
    pub pictures: Vec<String>,
    /// `http://host:port` of the picture server.
    pub origin: String,
    pub bucket: String,
}

pub struct Workload {
    rng: StdRng,
    material: Material,
    serial: u64,
    late_writes: bool,
    /// A new asset that one topic has written to, and the other is about to.
    half: Option<String>,
    /// Of keys with versions: the newest one, and the last message.
    versions: HashMap<u32, (u64, Option<Planned>)>,
}

impl Workload {
    /// `late_writes`: whether the faults make some.
    pub fn new(seed: u64, material: Material, late_writes: bool) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, material, serial: 0, late_writes, half: None, versions: HashMap::new() }
    }

    pub fn next(&mut self) -> Planned {
        self.serial += 1;
        if self.rng.random_ratio(1, 40) {
            return self.broken();
        }
        // Cubed: a tenth of the keys has half of the messages.
        let key = (KEYS * self.rng.random::<f64>().powi(3)) as u32;
        match key % 8 {
            0..3 => self.versioned(key),
            3..6 => self.unversioned(key),
            _ => self.crossed(key),
        }
    }

    /// A message for a key of its own that must pass, to be sent when all is over.
    pub fn fresh(&mut self, topic: Topic, n: usize) -> Planned {
        self.serial += 1;
        let mut body = json!({"text": self.text(), "payload": {"fresh": self.serial}});
        if topic == Topic::Pictures {
            body = json!({"image": self.picture(), "payload": {"fresh": self.serial}});
        }
        planned(topic, format!("fresh-{}-{n}", topic.name()), &body)
    }

    /// A message for a worker that has a topic to itself. `broken_percent`: how many must become dead letters.
    pub fn alone(&mut self, topic: Topic, broken_percent: u32) -> Planned {
        self.serial += 1;
        if self.rng.random_ratio(broken_percent, 100) {
            return Planned { topic, ..self.broken() };
        }
        let key = self.rng.random_range(0..400);
        Planned { topic, ..self.unversioned(key) }
    }

    fn versioned(&mut self, key: u32) -> Planned {
        let (newest, last) = self.versions.get(&key).cloned().unwrap_or_default();
        let roll = self.rng.random_range(0..100);
        if let (0..6, Some(twice)) = (roll, last) {
            return twice;
        }
        // Steps of ten leave room for versions that come late and were never there before.
        let (version, late) = match roll {
            6..18 if newest >= 10 => (newest - self.rng.random_range(1..10), true),
            _ => (newest + 10, false),
        };
        let mut body = self.change();
        if body["op"] == "delete" {
            body = json!({"op": "delete"});
        }
        body["version"] = version.into();
        let mut message = planned(Topic::Assets, format!("v{key}"), &body);
        if self.rng.random_ratio(1, 20) {
            // The version decides, so a producer's clock may be an hour off.
            let offset_ms = self.rng.random_range(-3_600_000..3_600_000);
            message.timestamp_ms = Some(chrono::Utc::now().timestamp_millis() + offset_ms);
        }
        if !late {
            self.versions.insert(key, (version, Some(message.clone())));
        }
        message
    }

    fn unversioned(&mut self, key: u32) -> Planned {
        let body = self.change();
        let mut message = planned(Topic::Assets, format!("u{key}"), &body);
        if body["op"] == "delete" && self.rng.random() {
            // A Kafka tombstone.
            message.value = None;
        }
        message
    }

    fn crossed(&mut self, key: u32) -> Planned {
        let (topic, key) = match (self.late_writes, self.half.take()) {
            (false, _) => (if self.rng.random() { Topic::Pictures } else { Topic::Captions }, format!("x{key}")),
            (true, Some(key)) => (Topic::Captions, key),
            (true, None) => {
                let key = format!("x-once-{}", self.serial);
                self.half = Some(key.clone());
                (Topic::Pictures, key)
            }
        };
        let mut body = json!({});
        // Captions have four payload changes for each text: they are cheap, and so are many of them in real life.
        if topic == Topic::Pictures && self.rng.random_ratio(1, 4) {
            body["image"] = self.picture().into();
        } else if topic == Topic::Captions && self.rng.random_ratio(1, 2) {
            body["text"] = self.text().into();
        }
        let prefix = topic.name();
        body["payload"] = self.payload(prefix, true);
        planned(topic, key, &body)
    }

    /// Any operation on an asset that one topic feeds.
    fn change(&mut self) -> Value {
        match self.rng.random_range(0..100) {
            0..34 => json!({"op": "upsert", "text": self.text(), "payload": self.payload("f", false)}),
            34..42 => json!({
                "op": "upsert", "text": self.text(), "image": self.picture(), "payload": self.payload("f", false),
            }),
            // "op" is left out: the topic's default.
            42..45 => json!({"image": self.picture(), "payload": self.payload("f", false)}),
            45..75 => json!({"op": "patch", "payload": self.payload("f", true)}),
            75..88 => json!({"op": "patch", "text": self.text()}),
            88..92 => json!({"op": "patch", "image": self.picture(), "payload": self.payload("f", true)}),
            _ => json!({"op": "delete"}),
        }
    }

    fn broken(&mut self) -> Planned {
        let serial = self.serial;
        let key = (KEYS * self.rng.random::<f64>().powi(3)) as u32;
        let (origin, bucket) = (self.material.origin.clone(), self.material.bucket.clone());
        // Broken before it touches an asset, so that the asset may be any.
        let any = format!("u{key}");
        let (key, value, reason, unless_superseded) = match self.rng.random_range(0..8) {
            0 => (any, format!("{{\"text\": \"cut off {serial}").into_bytes(), "message_not_json", false),
            1 => (any, json!({"text": "a", "imgae": serial}).to_string().into_bytes(), "field_unknown", false),
            2 => (any, json!({"payload": {"a": serial}}).to_string().into_bytes(), "field_missing", false),
            3 => {
                let body = json!({"image": format!("{origin}/absent/{serial}"), "text": "never seen"});
                (format!("p{serial}"), body.to_string().into_bytes(), "http_not_found", false)
            }
            4 => {
                let body = json!({"image": format!("s3://{bucket}/absent-{serial}")});
                (format!("p{serial}"), body.to_string().into_bytes(), "s3_no_such_key", false)
            }
            5 => {
                let body = json!({"image": format!("{origin}/page/{serial}.webp")});
                (format!("p{serial}"), body.to_string().into_bytes(), "image_unsupported", false)
            }
            6 => {
                let body = json!({"image": format!("http://10.0.0.1/{serial}.webp")});
                (format!("p{serial}"), body.to_string().into_bytes(), "address_forbidden", false)
            }
            // A whole new state of a living asset that cannot be had: the asset stays as it is.
            _ => {
                let body = json!({"image": format!("{origin}/absent/{serial}"), "payload": {"never": serial}});
                (any, body.to_string().into_bytes(), "http_not_found", true)
            }
        };
        let dies = Some(Dies { reason: reason.to_owned(), unless_superseded });
        Planned { topic: Topic::Assets, key, value: Some(value), dies, timestamp_ms: None }
    }

    /// Values name the message that they came with. A patch may also take a key away.
    fn payload(&mut self, prefix: &str, patch: bool) -> Value {
        let mut payload = Map::new();
        for _ in 0..self.rng.random_range(1..=3) {
            let field = format!("{prefix}{}", self.rng.random_range(0..FIELDS));
            let value = match self.rng.random_range(0..10) {
                0 => json!({"of": [self.serial, "ünïcode \"quoted\"", 0.5], "flag": true}),
                1 if patch => Value::Null,
                _ => self.serial.into(),
            };
            payload.insert(field, value);
        }
        payload.into()
    }

    fn text(&mut self) -> String {
        let n = self.rng.random_range(0..self.material.texts.len());
        self.material.texts[n].clone()
    }

    fn picture(&mut self) -> String {
        let n = self.rng.random_range(0..self.material.pictures.len());
        self.material.pictures[n].clone()
    }
}

fn planned(topic: Topic, key: String, body: &Value) -> Planned {
    Planned { topic, key, value: Some(body.to_string().into_bytes()), dies: None, timestamp_ms: None }
}
