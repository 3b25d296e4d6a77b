use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Broker, clipstream, finish, run, run_with_input};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_cannot_be_sent_is_explained() {
    run(&["produce", "-"]).ended(2).says("no topic to send to; expected --topic or kafka.topics");
    run(&["produce", "-", "--topic", "t"]).ended(2).says("kafka.brokers is not set");
    let to_nobody = ["produce", "-", "--topic", "t", "--set", "kafka.brokers=127.0.0.1:1"];
    let ran = run_with_input(&to_nobody, b"[1]\n").ended(2);
    ran.says("line 1 is not a JSON object: [1]");
    let mut command = clipstream(&to_nobody);
    command.env("CLIPSTREAM__KAFKA__PROPERTIES__MESSAGE_TIMEOUT_MS", "500");
    let ran = finish(command, b"{\"id\": \"a\", \"text\": \"b\"}\n").ended(3);
    ran.says("check kafka.brokers and that they are running");
    assert_eq!(ran.stdout, "");
}

#[tokio::test]
async fn lines_arrive_as_messages() {
    let broker = Broker::new();
    let (brokers, topic) = (broker.address.as_str(), broker.topic("produce").await);
    let set = [format!("kafka.brokers={brokers}"), format!("kafka.topics={topic}")];
    let lines = "{\"id\": \"a\", \"text\": \"one\"}\n\n{\"id\": \"b\", \"op\": \"delete\"}\n{\"text\": \"no id\"}\n";

    let ran = run_with_input(
        &["produce", "-", "--tombstones", "--json", "--set", &set[0], "--set", &set[1]],
        lines.as_bytes(),
    )
    .ended(0);
    assert_eq!(ran.lines(), [serde_json::json!({ "topic": topic, "messages": 3 })]);
    let received = read(brokers, &topic, 3);
    let key = |n: usize| received[n].0.as_deref();
    assert_eq!([key(0), key(1), key(2)], [Some("a"), Some("b"), None]);
    assert_eq!(received[0].1.as_deref(), Some("{\"id\": \"a\", \"text\": \"one\"}"));
    assert_eq!(received[1].1, None, "a tombstone");

    let check = ["check", "--json", "--set", &set[0], "--set", &set[1], "--set", "telemetry.listen="];
    let store = tempfile::tempdir().unwrap();
    let path = format!("store.path={}", store.path().display());
    let all: Vec<&str> = check.into_iter().chain(["--set", &path]).collect();
    let lines = run(&all).lines();
    let kafka = lines.iter().find(|line| line["check"] == "kafka").expect("Kafka is checked");
    let said = kafka.to_string();
    assert!(said.contains(&format!("{topic}.dlq")), "the dead-letter topic is looked for: {said}");
    let absent = format!("kafka.topics={topic}-absent");
    let lines = run(&[&all[..], &["--set", &absent]].concat()).ended(3).lines();
    let kafka = lines.iter().find(|line| line["check"] == "kafka").expect("Kafka is checked");
    assert!(kafka["reason"].as_str().unwrap().contains("Unknown topic"), "{kafka}");
}

/// A delete of a tenant's asset keeps its tenant as a tombstone, in a header or in the key; or is not sent.
#[tokio::test]
async fn tombstones_tell_their_tenant() {
    let broker = Broker::new();
    let (brokers, topic) = (broker.address.as_str(), broker.topic("produce-tenants").await);
    let lines = "\u{feff}{\"id\": \"a\", \"op\": \"delete\", \"tenant\": \"acme\"}\n";
    let set = [format!("kafka.brokers={brokers}"), format!("kafka.topics={topic}")];
    let produce = |more: &[&str]| {
        let mut arguments = vec!["produce", "-", "--tombstones", "--json", "--set", &set[0], "--set", &set[1]];
        more.iter().for_each(|setting| arguments.extend(["--set", setting]));
        run_with_input(&arguments, lines.as_bytes())
    };
    produce(&[]).ended(2).says("line 1 deletes an asset of a tenant, and the tombstone would not contain the tenant");
    produce(&["kafka.tenant_header=shop"]).ended(0);
    produce(&["kafka.key_template={tenant}/{id}"]).ended(0);
    let sent = read(brokers, &topic, 2);
    assert_eq!(sent, [(Some("a".to_owned()), None), (Some("acme/a".to_owned()), None)]);
}

/// Key and value of the topic's first messages.
fn read(brokers: &str, topic: &str, count: usize) -> Vec<(Option<String>, Option<String>)> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", topic).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let (start, mut received) = (Instant::now(), Vec::new());
    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).expect("UTF-8"));
    while received.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count} messages arrived", received.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            received.push((text(message.key()), text(message.payload())));
        }
    }
    received
}
