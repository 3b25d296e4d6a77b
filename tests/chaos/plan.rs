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
//! Topics beside these have assets of their own, whose names begin with the topic's.
//!
//! Messages of tenants are in topics of their own (`tenants`).
//!
//! Some messages are broken, for a reason that travels in a header of theirs. And one in three has a timestamp that is not
//! the time when it was sent, whatever kind of key it has (`misdate.rs`).

mod tenants;

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::misdate::Misdate;
use crate::topics::Topic;

/// Header of a message that must become a dead letter.
pub const DIES: &str = "chaos-dies";

/// Header that tells the tenant (`kafka.tenant_header`).
pub const TENANT: &str = "tenant";

const KEYS: f64 = 4000.0;
/// Payload keys of an asset.
const FIELDS: u32 = 5;
/// Assets of a topic that is made anew: few, so that every one of them is in each of its lives.
const ANEW_KEYS: usize = 60;

/// Why a message must become a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dies {
    /// Or several with `|` between them, any of which may be the last of a message that was tried several times.
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
    /// What its header says; empty: it has none.
    pub tenant: Option<String>,
    pub value: Option<Vec<u8>>,
    pub dies: Option<Dies>,
    /// The timestamp that it has instead of now, in milliseconds since the Unix epoch.
    pub misdated: Option<(Misdate, i64)>,
}

/// What messages may name.
#[derive(Clone)]
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
    /// A tombstone of an asset that a tenant has, where only bodies tell tenants.
    untold: Option<Planned>,
    /// Of keys with versions: the newest one, and the last message.
    versions: HashMap<u32, (u64, Option<Planned>)>,
}

impl Workload {
    /// `late_writes`: whether the faults make some.
    pub fn new(seed: u64, material: Material, late_writes: bool) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, material, serial: 0, late_writes, half: None, untold: None, versions: HashMap::new() }
    }

    pub fn next(&mut self) -> Planned {
        let message = self.at_its_time();
        self.dated(message)
    }

    /// As it comes from the producers that there are: a third of them has the time of something else.
    pub fn dated(&mut self, message: Planned) -> Planned {
        let kinds: &[Misdate] = match message.topic {
            Topic::Backlog => &Misdate::OF_A_BACKLOG,
            _ if self.rng.random_ratio(1, 3) => &Misdate::ALL,
            _ => return Planned { misdated: None, ..message },
        };
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        Planned { misdated: Some((kind, kind.timestamp(&mut self.rng))), ..message }
    }

    fn at_its_time(&mut self) -> Planned {
        self.serial += 1;
        if let Some(tombstone) = self.untold.take() {
            return tombstone;
        }
        if self.rng.random_ratio(1, 400) {
            return self.of_untold_tenant();
        }
        if self.rng.random_ratio(1, 12) {
            return self.of_backlog();
        }
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
        let (what, of) = if topic == Topic::Pictures { ("image", self.picture()) } else { ("text", self.text()) };
        let body = json!({what: of, "payload": {"fresh": self.serial}});
        let message = planned(topic, format!("fresh-{}-{n}", topic.name()), &body);
        Planned { tenant: Topic::TENANTED.contains(&topic).then(|| tenants::NAMES[0].to_owned()), ..message }
    }

    /// A message of a topic whose assets are its own. `broken_percent`: how many must become dead letters.
    pub fn alone(&mut self, topic: Topic, broken_percent: u32) -> Planned {
        self.serial += 1;
        let message = if self.rng.random_ratio(broken_percent, 100) {
            let message = self.broken();
            // Nothing else is of its key, so nothing supersedes it.
            let dies = message.dies.map(|dies| Dies { unless_superseded: false, ..dies });
            Planned { topic, key: format!("{}-p{}", topic.name(), self.serial), dies, ..message }
        } else {
            let key = self.rng.random_range(0..400);
            let message = self.unversioned(key);
            Planned { topic, key: format!("{}-{}", topic.name(), message.key), ..message }
        };
        self.dated(message)
    }

    /// A message of a topic full of old ones, many of which are broken.
    fn of_backlog(&mut self) -> Planned {
        self.alone(Topic::Backlog, 25)
    }

    /// The whole state of an asset, without a picture, which takes no time to be had.
    pub fn whole(&mut self, topic: Topic, key: String) -> Planned {
        self.serial += 1;
        let body = json!({"op": "upsert", "text": self.text(), "payload": self.payload("f", false)});
        let message = planned(topic, key, &body);
        self.dated(message)
    }

    /// The same, with a picture.
    pub fn pictured(&mut self, topic: Topic) -> Planned {
        self.serial += 1;
        let key = format!("{}-{}", topic.name(), self.rng.random_range(0..400));
        let body = json!({"op": "upsert", "image": self.picture(), "payload": self.payload("f", false)});
        let message = planned(topic, key, &body);
        self.dated(message)
    }

    /// Everything that one life of a topic brings. Each of its assets is first written whole, so that nothing of an earlier
    /// life is left of it.
    pub fn life(&mut self, topic: Topic) -> Vec<Planned> {
        let key = |n: usize| format!("{}-{n}", topic.name());
        let mut messages: Vec<Planned> = (0..ANEW_KEYS).map(|n| self.whole(topic, key(n))).collect();
        for _ in 0..2 * ANEW_KEYS {
            self.serial += 1;
            let body = match self.rng.random_range(0..10) {
                0..4 => json!({"op": "upsert", "text": self.text(), "payload": self.payload("f", false)}),
                4..7 => json!({"op": "patch", "payload": self.payload("f", true)}),
                7..9 => json!({"op": "patch", "text": self.text()}),
                _ => json!({"op": "delete"}),
            };
            let message = planned(topic, key(self.rng.random_range(0..ANEW_KEYS)), &body);
            messages.push(self.dated(message));
        }
        messages
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
        let message = planned(Topic::Assets, format!("v{key}"), &body);
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
        let (key, value, reason, unless_superseded) = match self.rng.random_range(0..9) {
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
            7 => {
                let body = json!({"image": format!("s3://{bucket}-of-others/{serial}.webp")});
                (format!("p{serial}"), body.to_string().into_bytes(), "s3_bucket_forbidden", false)
            }
            // A whole new state of a living asset that cannot be had: the asset stays as it is.
            _ => {
                let body = json!({"image": format!("{origin}/absent/{serial}"), "payload": {"never": serial}});
                (any, body.to_string().into_bytes(), "http_not_found", true)
            }
        };
        let dies = Some(Dies { reason: reason.to_owned(), unless_superseded });
        Planned { topic: Topic::Assets, key, tenant: None, value: Some(value), dies, misdated: None }
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
    Planned { topic, key, tenant: None, value: Some(body.to_string().into_bytes()), dies: None, misdated: None }
}
