//! The same through `clipstream run`: 1,000 good messages while the store takes nothing, and not one dead letter.

use clipstream::domain::ModelId;
use clipstream::store::{self, CollectionDefinition, CollectionSpec};
use clipstream_test_support::qdrant::server::Server;
use clipstream_test_support::qdrant::{Trouble, status};
use qdrant_client::qdrant::StrictModeConfig;
use tempfile::TempDir;

use super::anew::{create, points};
use super::{MANY, WRITE, limit};
use crate::store_conformance::fixture::settings_of;
use crate::worker_failures::Topic;
use crate::worker_process::Process;

const MESSAGES: usize = 1000;
const FIRST: (&str, &str) = ("first", r#"{"text": "a cat"}"#);

/// A worker that has indexed one message.
struct Running {
    server: Server,
    topic: Topic,
    worker: Process,
    collection: String,
    ready_url: String,
    sent: i64,
    _folder: TempDir,
}

impl Running {
    async fn start(test: &str) -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
        let topic = Topic::with(test, &[]).await;
        let settings = [
            // Many batches, because a server looks rarely at how much there is.
            ("store.batch_points_max", "8"),
            ("pipeline.backoff_cap_ms", "1000"),
            ("telemetry.listen", "127.0.0.1:0"),
        ];
        let mut command = topic.run(&folder, &settings);
        server.configure(&mut command);
        let mut worker = Process::spawn(&mut command);
        let serving = "serving /metrics, /livez and /readyz";
        let event = worker.wait_for("it serves", async |w| w.logged(serving).into_iter().next()).await;
        let ready_url = format!("http://{}/readyz", event["address"].as_str().unwrap());
        let model: ModelId = "demo-emoji/v1".parse().unwrap();
        let collection = model.collection(&settings_of(server.address()).collection_template, &server.prefix);
        let mut running = Self { server, topic, worker, collection, ready_url, sent: 0, _folder: folder };
        running.send(&[FIRST]).await;
        running.all_done().await;
        running
    }

    async fn send(&mut self, messages: &[(&str, &str)]) {
        let messages: Vec<_> = messages.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        self.topic.produce_pairs(&messages).await;
        self.sent += messages.len() as i64;
    }

    /// Of assets of their own: texts, and patches without any vector.
    async fn send_many(&mut self) {
        let messages: Vec<(String, String)> = (0..MESSAGES)
            .map(|n| match n % 2 {
                0 => (format!("text-{n}"), format!(r#"{{"text": "a cat and {} mice"}}"#, n % 50)),
                _ => (format!("price-{n}"), format!(r#"{{"op": "patch", "payload": {{"price": {n}}}}}"#)),
            })
            .collect();
        let messages: Vec<_> = messages.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.send(&messages).await;
    }

    /// Held, and `/readyz` says why.
    async fn held(&mut self, why: &str) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = self.ready_url.clone();
        let unready = async |_: &Process| {
            let answer = client.get(&url).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            (status == 503 && text.contains(why)).then_some(())
        };
        self.worker.wait_for(why, unready).await;
    }

    async fn all_done(&mut self) {
        let (topic, sent) = (&self.topic, self.sent);
        self.worker.wait_for("all messages", async |_| (topic.committed() == sent).then_some(())).await;
    }

    /// Everything was done in the end, and nothing is dead.
    async fn end(mut self, expected: usize) {
        self.all_done().await;
        let letters: Vec<_> = self.topic.letters();
        let reasons = |letter: &rdkafka::message::OwnedMessage| format!("{letter:?}");
        assert_eq!(letters.len(), 0, "dead letters, the first: {:?}", letters.first().map(reasons));
        assert_eq!(points(&self.server.client(), &self.collection).await, expected as u64);
        self.worker.terminate();
        let (code, lines) = self.worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");
        self.topic.end().await;
        self.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_collection_holds_a_thousand_good_messages() {
    let mut running = Running::start("full").await;
    let limits = |points: u64| StrictModeConfig { max_points_count: Some(points), ..Default::default() };
    limit(&running.server, &running.collection, limits(1)).await;
    running.send_many().await;
    running.held("Max points count limit of 1 reached").await;
    assert_eq!(running.topic.letters().len(), 0);
    limit(&running.server, &running.collection, limits(1 << 40)).await;
    running.end(1 + MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_made_anew_holds_a_thousand_good_messages() {
    let mut running = Running::start("anew").await;
    let client = running.server.client();
    let own = store::open(&settings_of(running.server.address())).await.unwrap();
    let fingerprint = own.fingerprint(&running.collection).await.unwrap().unwrap();
    client.delete_collection(&running.collection).await.unwrap();
    running.send(&[("second", r#"{"op": "patch", "payload": {"price": 1}}"#)]).await;
    running.held("does not exist").await;
    create(&client, &running.collection, 128).await;
    running.send_many().await;
    running.held("found 128 dimensions").await;
    assert_eq!((points(&client, &running.collection).await, running.topic.letters().len()), (0, 0));
    client.delete_collection(&running.collection).await.unwrap();
    let (name, definition) = (running.collection.clone(), CollectionDefinition::built_in());
    own.ensure(&CollectionSpec { name, fingerprint, definition }).await.unwrap();
    own.close().await.unwrap();
    // The first is gone with the collection.
    running.end(1 + MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads_holds_a_thousand_good_messages() {
    let mut running = Running::start("read_only").await;
    // A key's rights are set by whoever runs the server.
    let Some(double) = running.server.double() else { return running.end(1).await };
    double.faults().refuse(WRITE, MANY, Trouble::ReadOnly.status());
    running.send_many().await;
    running.held("store.api_key and its rights").await;
    assert_eq!(running.topic.letters().len(), 0);
    running.server.double().unwrap().faults().clear();
    running.end(1 + MESSAGES).await;
}

/// The same code as a full collection's on the wire, and nothing in its words that we know.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_later_version_holds_a_thousand_good_messages() {
    let mut running = Running::start("later").await;
    let Some(double) = running.server.double() else { return running.end(1).await };
    double.faults().refuse(WRITE, MANY, status::bad_request("of a kind that is yet to come"));
    running.send_many().await;
    running.held("of a kind that is yet to come").await;
    assert_eq!(running.topic.letters().len(), 0);
    running.server.double().unwrap().faults().clear();
    running.end(1 + MESSAGES).await;
}
