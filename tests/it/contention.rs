//! Two workers that patch one asset from two topics, at once and all the time: nobody's message is to blame for that.

use std::process::Command;
use std::time::Duration;

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::source::Producer;
use clipstream::store;
use clipstream_test_support::qdrant::QdrantEndpoint;
use serde_json::json;

use crate::kafka::Kafka;
use crate::worker_process::{Process, clipstream, set};

/// In each topic, a round.
const MESSAGES: usize = 60;
const ROUNDS_MAX: usize = 20;

fn worker(kafka: &Kafka, store_url: &str, topic: &str) -> Process {
    let mut command: Command = clipstream("run");
    set(
        &mut command,
        &[
            ("clip.models", "demo-emoji/v1=demo/model"),
            ("store.kind", "qdrant"),
            ("store.url", store_url),
            ("store.guard", "strict"),
            ("kafka.brokers", &kafka.brokers.join(",")),
            ("kafka.topics", topic),
            ("kafka.topic_ops", &format!("{topic}=patch")),
            ("kafka.group_id", topic),
            // A lost race is no attempt: one would be the last otherwise.
            ("pipeline.attempts_max", "1"),
            ("pipeline.backoff_base_ms", "5"),
            ("pipeline.backoff_cap_ms", "10000"),
            ("telemetry.listen", ""),
        ],
    );
    Process::spawn(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_races_for_a_hot_asset_are_run_again_and_make_no_letters() {
    let (kafka, folder) = (Kafka::start("contention"), tempfile::tempdir().unwrap());
    let endpoint = QdrantEndpoint::start(folder.path());
    let run = uuid::Uuid::from_u128(rand::random()).simple().to_string();
    let topics = ["captions", "prices"].map(|name| format!("contention-{name}-{run}"));
    let letters = topics.each_ref().map(|topic| format!("{topic}.dlq"));
    for topic in topics.iter().chain(&letters) {
        kafka.create_topic(topic, 1).await;
    }
    let producer = Producer::new(&kafka.settings()).unwrap();
    let mut workers = topics.each_ref().map(|topic| worker(&kafka, &endpoint.url(), topic));
    let mut sent = 0;
    // Until they have met: one worker may be done before the other one has started.
    while endpoint.faults().calls("Points/UpdateBatch") <= 2 * sent {
        assert!(sent < ROUNDS_MAX * MESSAGES, "{sent} messages in each topic: no race was lost, nothing was tried");
        for n in sent..sent + MESSAGES {
            let caption = json!({ "text": format!("caption {n}"), "payload": { "caption": n } });
            for (topic, message) in topics.iter().zip([caption, json!({ "payload": { "price": n } })]) {
                drop(producer.send(topic, Some(b"hot"), Some(message.to_string().as_bytes()), &[]).await.unwrap());
            }
        }
        producer.flush(Duration::from_secs(60)).await.unwrap();
        sent += MESSAGES;
        for (worker, topic) in workers.iter_mut().zip(&topics) {
            let done = async |_: &Process| (kafka.committed(topic, topic) == kafka.ends(topic)).then_some(());
            worker.wait_for("everything to be committed", done).await;
        }
    }
    for worker in workers {
        worker.terminate();
        let (code, lines) = worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");
    }
    for topic in &letters {
        assert!(kafka.ends(topic).is_empty(), "a letter in {topic}");
    }
    let settings = StoreSettings { kind: StoreKind::Qdrant, url: endpoint.url(), ..StoreSettings::default() };
    let store = store::open(&settings).await.unwrap();
    let points = store.scroll("catalog__demo-emoji__v1", None, 10).await.unwrap();
    assert_eq!(points.len(), 1);
    let (payload, last) = (&points[0].payload, sent - 1);
    assert_eq!((&payload["caption"], &payload["price"]), (&json!(last), &json!(last)));
    let hash = clipstream::domain::Recorded::read(payload["clipstream"].as_object().unwrap()).text_sha256;
    assert!(points[0].text.is_some() && hash.is_some(), "{payload:?}");
    store.close().await.unwrap();
    endpoint.stop().await;
    kafka.delete_topics(&topics.iter().chain(&letters).map(String::as_str).collect::<Vec<_>>()).await;
}
