//! Keys and tombstones as other programs write them: a delete hits what an upsert made, or is a dead letter. A real worker,
//! started anew for each step, so that it has seen nothing of what came before.

use std::collections::BTreeMap;

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::source::Producer;
use clipstream::store;
use rdkafka::message::{Headers, Message as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::worker_process::{Process, clipstream, set};

struct World {
    kafka: Kafka,
    /// And the group's.
    topic: String,
    folder: TempDir,
    settings: Vec<(&'static str, &'static str)>,
}

/// Key, value (none: a tombstone) and the header `shop`.
type Sent<'a> = (&'a [u8], Option<Value>, Option<&'a str>);

impl World {
    async fn new(settings: &[(&'static str, &'static str)]) -> Self {
        let topic = format!("keys-{}", uuid::Uuid::from_u128(rand::random()).simple());
        let folder = tempfile::tempdir().unwrap();
        let world = Self { kafka: Kafka::start("message_keys"), topic, folder, settings: settings.to_vec() };
        world.kafka.create_topic(&world.topic, 1).await;
        world.kafka.create_topic(&format!("{}.dlq", world.topic), 1).await;
        world
    }

    /// Sends the messages, and has a worker of their own settle them. The points there are then, by tenant and id.
    async fn settle(&self, messages: &[Sent<'_>]) -> Vec<String> {
        let producer = Producer::new(&self.kafka.settings()).unwrap();
        for (key, value, tenant) in messages {
            let value = value.as_ref().map(Value::to_string);
            let headers: Vec<_> = tenant.iter().map(|tenant| ("shop", Some(tenant.as_bytes()))).collect();
            let value = value.as_deref().map(str::as_bytes);
            producer.send(&self.topic, Some(key), value, &headers).await.unwrap().await.unwrap();
        }
        let mut command = clipstream("run");
        let path = self.folder.path().join("store");
        set(
            &mut command,
            &[
                ("clip.models", "demo-emoji/v1=demo/model"),
                ("store.path", path.to_str().unwrap()),
                ("kafka.brokers", &self.kafka.brokers.join(",")),
                ("kafka.topics", &self.topic),
                ("kafka.group_id", &self.topic),
                ("pipeline.commit_interval_ms", "100"),
                ("telemetry.listen", ""),
            ],
        );
        set(&mut command, &self.settings);
        let mut worker = Process::spawn(&mut command);
        let ends = self.kafka.ends(&self.topic);
        let done = async |_: &Process| (self.kafka.committed(&self.topic, &self.topic) == ends).then_some(());
        worker.wait_for("everything to be settled", done).await;
        worker.terminate();
        let (code, lines) = worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");

        let settings = StoreSettings { kind: StoreKind::Embedded, path, ..StoreSettings::default() };
        let store = store::open(&settings).await.unwrap();
        let points = store.scroll("catalog__demo-emoji__v1", None, 100).await.unwrap();
        store.close().await.unwrap();
        let mut names: Vec<String> = points
            .into_iter()
            .map(|point| {
                let record = &point.payload["clipstream"];
                format!("{}/{}", record["tenant"].as_str().unwrap_or_default(), record["asset_id"].as_str().unwrap())
            })
            .collect();
        names.sort();
        names
    }

    /// The reasons of all letters so far, by offset, with what they say.
    fn letters(&self) -> BTreeMap<i64, (String, String)> {
        let letters = self.kafka.read(&format!("{}.dlq", self.topic));
        let letter = |letter: &rdkafka::message::OwnedMessage| {
            let header = |name: &str| {
                let header = letter.headers().unwrap().iter().find(|header| header.key == name).unwrap();
                String::from_utf8(header.value.unwrap().to_vec()).unwrap()
            };
            let offset = header("__connect.errors.offset").parse().unwrap();
            let reason = header("__connect.errors.exception.class.name");
            (offset, (reason, header("__connect.errors.exception.message")))
        };
        letters.iter().map(letter).collect()
    }

    async fn end(self) {
        self.kafka.delete_topics(&[&self.topic, &format!("{}.dlq", self.topic)]).await;
    }
}

fn upsert(id: Option<&str>, tenant: Option<&str>) -> Option<Value> {
    let mut value = json!({ "text": "a red shoe" });
    id.into_iter().for_each(|id| value["id"] = id.into());
    tenant.into_iter().for_each(|tenant| value["tenant"] = tenant.into());
    Some(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_of_a_tenants_asset_is_refused_where_nothing_tells_the_tenant() {
    let world = World::new(&[]).await;
    let points = world.settle(&[(b"a", upsert(None, Some("acme")), None), (b"b", upsert(None, None), None)]).await;
    assert_eq!(points, ["/b", "acme/a"]);
    // A worker that has seen nothing asks the store; what the tenant never had is deleted.
    let points = world.settle(&[(b"a", None, None), (b"b", None, None)]).await;
    assert_eq!(points, ["acme/a"]);
    let letters = world.letters();
    assert_eq!(letters.keys().collect::<Vec<_>>(), [&2], "{letters:?}");
    assert_eq!(letters[&2].0, "tenant_unknown");
    assert!(letters[&2].1.contains("kafka.tenant_header"), "{letters:?}");
    // Right behind the message that brings the tenant, which is not in the store yet.
    let points = world.settle(&[(b"c", upsert(None, Some("acme")), None), (b"c", None, None)]).await;
    assert_eq!(points, ["acme/a", "acme/c"]);
    assert_eq!(world.letters()[&5].0, "tenant_unknown");
    // A message says it.
    let delete = |tenant: &str| Some(json!({ "op": "delete", "tenant": tenant }));
    let points = world.settle(&[(b"a", delete("acme"), None), (b"c", delete("acme"), None), (b"a", None, None)]).await;
    assert_eq!(points, Vec::<String>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_delete_what_headers_and_keys_say() {
    let world = World::new(&[("kafka.tenant_header", "shop"), ("kafka.key_format", "json")]).await;
    let messages: [Sent<'_>; 6] = [
        (b"\"a\"", upsert(None, None), Some("acme")),
        (b"\"a\"", upsert(None, None), Some("globex")),
        (b"{\"id\": 4}", upsert(None, None), Some("acme")),
        (b"{\"schema\": {}, \"payload\": {\"id\": 5}}", upsert(Some("5"), Some("acme")), Some("acme")),
        (b"\"b\"", upsert(None, None), Some("")),
        (b"\"c\"", upsert(None, Some("acme")), Some("globex")),
    ];
    assert_eq!(world.settle(&messages).await, ["/b", "acme/4", "acme/5", "acme/a", "globex/a"]);
    let tombstones: [Sent<'_>; 5] = [
        (b"\"a\"", None, Some("acme")),
        (b"{\"id\": 4}", None, Some("acme")),
        (b"{\"schema\": {}, \"payload\": {\"id\": 5}}", None, Some("acme")),
        (b"\"b\"", None, Some("")),
        (b"\"a\"", None, None),
    ];
    assert_eq!(world.settle(&tombstones).await, ["globex/a"]);
    let letters: Vec<_> = world.letters().into_iter().map(|(offset, (reason, _))| (offset, reason)).collect();
    assert_eq!(letters, [(5, "tenant_conflict".to_owned()), (10, "tenant_missing".to_owned())]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_plain_text_are_understood_or_refused() {
    let world = World::new(&[]).await;
    let messages: [Sent<'_>; 3] = [
        (b"\"sku-3\"", upsert(None, None), None),
        (b"{\"id\":4}", upsert(Some("sku-4"), None), None),
        (b"\0\0\0\x07", upsert(Some("sku-7"), None), None),
    ];
    assert_eq!(world.settle(&messages).await, ["/sku-3", "/sku-4", "/sku-7"]);
    let tombstones: [Sent<'_>; 5] = [
        (b"\"sku-3\"", None, None),
        (b"{\"id\":4}", None, None),
        (b"{\"schema\":{\"type\":\"struct\"},\"payload\":{\"id\":\"sku-4\"}}", None, None),
        (b"\0\0\0\x07", None, None),
        (b"\0\0\0\0\x07\x0asku-4", None, None),
    ];
    assert_eq!(world.settle(&tombstones).await, ["/sku-4", "/sku-7"]);
    let letters = world.letters();
    assert_eq!(letters.keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7], "{letters:?}");
    for (offset, part) in [(4, "\"json\""), (5, "\"json\""), (6, "\"integer\""), (7, "Schema Registry")] {
        assert!(letters[&offset].1.contains(part), "{:?}", letters[&offset]);
    }
    world.end().await;
}
