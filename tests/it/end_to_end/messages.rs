//! The 500 messages. Those of one asset are a chain, in order; the chains are interleaved by a fixed shuffle, so that
//! messages of an asset come now close together, now far apart.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::broken;
use super::media::Media;

pub const COUNT: usize = 500;

/// Which topic: `Captions` has the default `op` patch, `Assets` the worker's own, upsert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Assets,
    Captions,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub to: To,
    pub key: Option<String>,
    /// None: a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Option<&'static str>)>,
    /// What its dead letter must say.
    pub dies: Option<Death>,
}

#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// One of the eleven.
    pub kind: &'static str,
    pub stage: &'static str,
    pub reason: &'static str,
    /// A part of the message for people.
    pub says: &'static str,
}

pub type Chain = VecDeque<Message>;

pub fn message(key: &str, value: Value) -> Message {
    let value = Some(value.to_string().into_bytes());
    Message { to: To::Assets, key: Some(key.to_owned()), value, headers: Vec::new(), dies: None }
}

pub fn tombstone(key: &str) -> Message {
    Message { value: None, ..message(key, Value::Null) }
}

fn caption(key: &str, value: Value) -> Message {
    Message { to: To::Captions, ..message(key, value) }
}

/// Each picture is used once.
struct Builder<'a> {
    media: &'a mut Media,
    next_picture: usize,
    chains: Vec<Chain>,
}

impl Builder<'_> {
    fn next(&mut self) -> usize {
        self.next_picture += 1;
        self.next_picture - 1
    }

    fn http(&mut self) -> String {
        let n = self.next();
        self.media.http("images", n)
    }

    fn chain(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.chains.push(messages.into_iter().collect());
    }
}

pub async fn all(media: &mut Media) -> Vec<Message> {
    let mut b = Builder { media, next_picture: 0, chains: Vec::new() };
    captions(&mut b);
    patches(&mut b);
    replacements(&mut b);
    deletes(&mut b);
    versions(&mut b);
    unusual(&mut b);
    for n in 0..60 {
        let picture = b.next();
        let image = b.media.s3(picture).await;
        b.chain([message(&format!("s3-{n}"), json!({"image": image, "payload": {"n": n}}))]);
    }
    let picture = b.http();
    b.chains.extend(broken::chains(b.media, &picture));
    let so_far: usize = b.chains.iter().map(Chain::len).sum();
    for n in so_far..COUNT {
        let asset = format!("shop/sku-{n}");
        let body = json!({
            "id": asset, "op": "upsert", "image": b.http(), "text": format!("catalog entry number {n}"),
            "payload": {"price": f64::from(n as u32) / 4.0, "lang": if n % 2 == 0 { "en" } else { "de" }},
        });
        b.chain([message(&asset, body)]);
    }
    shuffled(b.chains)
}

fn captions(b: &mut Builder) {
    for n in 0..40 {
        let body = json!({"text": format!("a drawing of {n} little birds"), "payload": {"tags": ["bird", n]}});
        b.chain([message(&format!("caption-{n}"), body)]);
    }
}

/// Image and caption meet in one point: in both orders, on absent and on present points, in one topic and across two.
fn patches(b: &mut Builder) {
    for n in 0..20 {
        let key = format!("meet-image-first-{n}");
        let image = json!({"op": "patch", "image": b.http(), "payload": {"from": "image", "image_seen": true}});
        let text = json!({"op": "patch", "text": format!("second came caption {n}"), "payload": {"from": "text"}});
        b.chain([message(&key, image), message(&key, text)]);
        let key = format!("meet-text-first-{n}");
        let text =
            json!({"op": "patch", "text": format!("first came caption {n}"), "payload": {"from": "text", "t": n}});
        let image = json!({"op": "patch", "image": b.http(), "payload": {"from": "image"}});
        b.chain([message(&key, text), message(&key, image)]);
    }
    for n in 0..20 {
        let key = format!("two-topics-{n}");
        let image = message(&key, json!({"op": "patch", "image": b.http(), "payload": {"picture": n}}));
        let text = caption(&key, json!({"text": format!("told elsewhere, {n} times"), "payload": {"caption": n}}));
        b.chain([image, text]);
    }
    for n in 0..8 {
        let key = format!("present-{n}");
        let whole = json!({"image": b.http(), "text": format!("old caption {n}"), "payload": {"a": 1, "b": {"x": 1}, "gone": 1}});
        let text = json!({"op": "patch", "text": format!("new caption {n}"), "payload": {"b": {"y": 2}}});
        let payload = json!({"op": "patch", "payload": {"c": [n], "gone": null}});
        b.chain([message(&key, whole), message(&key, text), message(&key, payload)]);
        let key = format!("present-picture-{n}");
        let whole = json!({"image": b.http(), "text": format!("caption that stays {n}"), "payload": {"a": 1}});
        let image = json!({"op": "patch", "image": b.http()});
        b.chain([message(&key, whole), message(&key, image)]);
    }
}

/// A full upsert leaves nothing of what was there.
fn replacements(b: &mut Builder) {
    for n in 0..6 {
        let key = format!("replaced-{n}");
        let first = json!({"image": b.http(), "text": format!("before {n}"), "payload": {"old": n}});
        let text_only = json!({"text": format!("after {n}"), "payload": {"new": n, "null": null}});
        b.chain([message(&key, first.clone()), message(&key, text_only)]);
        let key = format!("replaced-by-image-{n}");
        let image_only = json!({"image": b.http(), "text": "  "});
        b.chain([
            message(&key, first.clone()),
            message(&key, json!({"op": "patch", "payload": {"p": 1}})),
            message(&key, image_only),
        ]);
    }
}

fn deletes(b: &mut Builder) {
    for n in 0..6 {
        let whole = json!({"image": b.http(), "text": format!("soon gone {n}"), "payload": {"old": n}});
        let delete = json!({"op": "delete"});
        let key = format!("deleted-{n}");
        b.chain([message(&key, whole.clone()), message(&key, delete.clone())]);
        let key = format!("tombstone-{n}");
        b.chain([message(&key, whole.clone()), tombstone(&key)]);
        let key = format!("deleted-and-back-{n}");
        let back = json!({"text": format!("back again {n}"), "payload": {"new": n}});
        b.chain([message(&key, whole.clone()), message(&key, delete), message(&key, back)]);
        let key = format!("tombstone-and-patched-{n}");
        let patch = json!({"op": "patch", "text": format!("from nothing {n}")});
        b.chain([message(&key, whole), tombstone(&key), message(&key, patch)]);
    }
    b.chain([message("never-there-1", json!({"op": "delete"}))]);
    b.chain([tombstone("never-there-2")]);
}

/// An older version never wins, whatever its kind; an equal one does.
fn versions(b: &mut Builder) {
    let body = |version: u64, text: &str| json!({"text": text, "version": version, "payload": {"v": version}});
    for n in 0..6 {
        let key = format!("version-{n}");
        let newer = json!({"image": b.http(), "version": 2, "payload": {"v": 2}});
        b.chain([message(&key, newer), message(&key, body(1, "late and old"))]);
    }
    for n in 0..3 {
        let key = format!("version-patch-{n}");
        let old_patch = json!({"op": "patch", "text": "too old a patch", "version": 2, "payload": {"stale": true}});
        let new_patch = json!({"op": "patch", "version": 4, "payload": {"fresh": true}});
        b.chain([
            message(&key, body(1, "version one")),
            message(&key, body(3, "version three")),
            message(&key, old_patch),
            message(&key, new_patch),
        ]);
        let key = format!("version-delete-{n}");
        let old_delete = json!({"op": "delete", "version": 4});
        b.chain([message(&key, body(5, "outlives an old delete")), message(&key, old_delete)]);
        let key = format!("version-gone-{n}");
        b.chain([message(&key, body(5, "dies by a new delete")), message(&key, json!({"op": "delete", "version": 6}))]);
        let key = format!("version-equal-{n}");
        b.chain([message(&key, body(7, "first seven")), message(&key, body(7, "second seven"))]);
        let key = format!("version-none-{n}");
        b.chain([message(&key, body(9, "nine")), message(&key, json!({"text": "no version wins always"}))]);
    }
}

fn unusual(b: &mut Builder) {
    let payload = json!({
        "größe.mit punkt": "ключ", "": "empty key", "emoji 🦀": ["\u{0}", "\"\\", "\n", ""],
        "integers": [0, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993_u64], "floats": [0.1, -2.5e-8, 1e300, 3.0e10],
        "null": null, "nested": {"a": {"b": [{"c": null}, [], {}, [[1], "x", false]]}}, "long": "x".repeat(50_000),
    });
    b.chain([message("unusual-payload", json!({"text": "the payload is unusual", "payload": payload}))]);
    let long = "one sentence, again and again. ".repeat(300);
    b.chain([message("unusual-text", json!({"text": long, "image": null, "tenant": null}))]);
    b.chain([message("unicode/ключ 🦀", json!({"text": "Ein Vögelchen, 一只鸟, 🐦 &amp; co"}))]);
    let image = b.media.inline();
    b.chain([message("inline", json!({"image": image}))]);
    let n = b.next();
    let image = b.media.http("busy", n);
    b.chain([message("busy-at-first", json!({"image": image}))]);
    let n = b.next();
    let image = b.media.http("moved", n);
    b.chain([message("moved", json!({"image": image}))]);
    let n = b.next();
    let image = b.media.signed(n);
    b.chain([message("signed", json!({"image": image, "models": ["demo-emoji/v1"]}))]);
    let body = json!({"id": "no-key", "text": "the body names the asset"});
    b.chain([Message { key: None, ..message("", body) }]);
    // The same id for two tenants and none are three points. A tombstone does not tell which of them it means.
    let says = "tells no tenant";
    let dies = Some(Death { kind: "tombstone without tenant", stage: "decode", reason: "tenant_unknown", says });
    let body = |tenant: Value| json!({"id": "shared", "text": format!("the point of {tenant}"), "tenant": tenant});
    b.chain([
        message("shared", body(json!("acme"))),
        message("shared", body(json!("globex"))),
        message("shared", body(Value::Null)),
        Message { dies, ..tombstone("shared") },
        message("shared", json!({"id": "shared", "op": "delete"})),
        message("shared", json!({"id": "shared", "op": "delete", "tenant": "globex"})),
    ]);
    let traced = message("traced", json!({"text": "headers do no harm"}));
    b.chain([Message { headers: vec![("traceparent", Some("00-ab-cd-01")), ("empty", None)], ..traced }]);
}

/// Takes from a chain at random until all are empty. The generator is a linear congruential one with a fixed seed, so
/// every run has the same order.
fn shuffled(mut chains: Vec<Chain>) -> Vec<Message> {
    let mut state = 2026_u64;
    let mut out = Vec::new();
    while !chains.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) as usize % chains.len();
        out.extend(chains[at].pop_front());
        if chains[at].is_empty() {
            chains.swap_remove(at);
        }
    }
    out
}
