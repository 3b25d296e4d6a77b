//! A worker that is fed everything hostile at once, between good messages: good ones keep flowing, each hostile one is a
//! dead letter with its reason, and the process stays within what its settings allow it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clipstream::domain::Reason as _;
use clipstream::picture::Preprocess;
use clipstream_test_support::needs::{self, Need};
use clipstream_test_support::qdrant::QdrantEndpoint;
use rdkafka::message::{Headers, Message as _};
use serde_json::json;
use tempfile::TempDir;

use super::formats::process;
use super::servers::{self, Served};
use crate::worker_failures::Topic;
use crate::worker_process::{Process, set};

/// For how long hostile pictures come; unset: one round of them. Then it also says how it went every ten seconds.
pub const MINUTES: &str = "CLIPSTREAM_TEST_HOSTILE_MINUTES";

const MIB: u64 = 1024 * 1024;
const PIXELS_MAX: u64 = 4_000_000;
const MEDIA_BYTES_MAX: u64 = 8 * MIB;
const IN_FLIGHT_BYTES_MAX: u64 = 64 * MIB;
/// So many that what they decode would be far more than is allowed, if nothing kept it in bounds.
const THREADS: u64 = 8;
/// What a fetch may take, and how often it is tried: tarpits end.
const FETCH_TIMEOUT_MS: u64 = 2_000;
/// `clip.decode_bytes_max`: of all pictures that are being decoded; one of `PIXELS_MAX` may take most of it.
const DECODE_BYTES_MAX: u64 = 64 * MIB;
/// Buffers of JPEGs that threads keep, of three channels (docs/operations.md).
const KEPT_BYTES_MAX: u64 = 3 * PIXELS_MAX * THREADS;
/// Inputs of the model that wait for a batch: `pipeline.in_flight_max` of 96 x 96 pixels in three floats.
const INPUT_BYTES_MAX: u64 = 256 * 96 * 96 * 12;
/// Read ahead from Kafka, by librdkafka and by us.
const READ_AHEAD_BYTES: u64 = 32 * MIB;
/// What allocators keep, stacks, buffers of connections.
const SLACK_BYTES: u64 = 64 * MIB;

/// `--set` of every worker here. Tarpits have hosts of their own, and are not waited for.
fn settings(store: &str) -> Vec<(&'static str, String)> {
    vec![
        ("store.kind", "qdrant".to_owned()),
        ("store.url", store.to_owned()),
        ("clip.preprocess_threads", THREADS.to_string()),
        ("clip.decode_bytes_max", DECODE_BYTES_MAX.to_string()),
        ("clip.intra_op_threads", "1".to_owned()),
        ("media.allow_hosts", "127.0.0.1".to_owned()),
        ("media.pixels_max", PIXELS_MAX.to_string()),
        ("media.media_bytes_max", MEDIA_BYTES_MAX.to_string()),
        ("media.fetch_timeout_ms", FETCH_TIMEOUT_MS.to_string()),
        ("media.connect_timeout_ms", "1000".to_owned()),
        ("media.host_outage_hold_ms", "0".to_owned()),
        ("pipeline.media_in_flight_bytes_max", IN_FLIGHT_BYTES_MAX.to_string()),
        ("pipeline.attempts_max", "2".to_owned()),
        ("pipeline.backoff_base_ms", "10".to_owned()),
        // Far more than half of the messages may be hostile.
        ("pipeline.dead_letters_in_row_max", "0".to_owned()),
        ("pipeline.dead_letters_percent_max", "0".to_owned()),
        ("store.batch_points_max", "16".to_owned()),
    ]
}

struct Trial {
    topic: Topic,
    worker: Process,
    store: QdrantEndpoint,
    /// Dropped after what has files in them.
    _folders: [TempDir; 2],
    /// Resident, before anything hostile came.
    base: u64,
    /// Messages so far, and the reason of each that must become a dead letter.
    sent: i64,
    dead: BTreeMap<String, &'static str>,
    began: Instant,
}

impl Trial {
    /// A worker that has loaded its model and has indexed one text.
    async fn start(test: &str) -> Self {
        let topic = Topic::with(test, &[r#"{"text": "a cat"}"#]).await;
        topic.take_large_messages().await;
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = QdrantEndpoint::start(folders[1].path());
        let mut command = topic.run(&folders[0], &[]);
        let settings = settings(&store.url());
        set(&mut command, &settings.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
        let mut worker = Process::spawn(&mut command);
        worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
        let base = worker.resident().map_or(0, |resident| resident.most);
        let (dead, began) = (BTreeMap::new(), Instant::now());
        Self { topic, _folders: folders, store, worker, base, sent: 1, dead, began }
    }

    /// `dies`: the reason, of a message that must become a dead letter. Its key names it.
    async fn send(&mut self, messages: &[(String, Vec<u8>, Option<&'static str>)]) {
        let pairs: Vec<(&str, &[u8])> =
            messages.iter().map(|(key, value, _)| (key.as_str(), value.as_slice())).collect();
        self.topic.produce_pairs(&pairs).await;
        self.sent += messages.len() as i64;
        self.dead.extend(messages.iter().filter_map(|(key, _, dies)| Some((key.clone(), (*dies)?))));
    }

    async fn until_done(&mut self) {
        let (topic, sent) = (&self.topic, self.sent);
        self.worker.wait_for("everything is done", async |_| (topic.committed() == sent).then_some(())).await;
    }

    fn told(&self, bound: u64) -> serde_json::Value {
        let (seconds, good) = (self.began.elapsed().as_secs_f64(), self.sent as usize - 1 - self.dead.len());
        let resident = self.worker.resident();
        json!({
            "seconds": seconds.round(), "good": good, "hostile": self.dead.len(),
            "messages_per_s": (self.sent as f64 / seconds * 10.0).round() / 10.0,
            "resident_mib": resident.map(|r| r.now / MIB), "resident_most_mib": resident.map(|r| r.most / MIB),
            "before_mib": self.base / MIB, "bound_mib": bound / MIB,
        })
    }

    /// Ends the worker and judges; `allowed`: bytes above what was resident before.
    async fn end(self, allowed: u64) {
        let bound = self.base + allowed;
        println!("{}", self.told(bound));
        let resident = self.worker.resident();
        let mut found = BTreeMap::new();
        for letter in self.topic.letters() {
            let reason = letter.headers().unwrap().iter().find(|h| h.key == "__connect.errors.exception.class.name");
            let reason = String::from_utf8(reason.unwrap().value.unwrap().to_vec()).unwrap();
            found.insert(String::from_utf8(letter.key().unwrap().to_vec()).unwrap(), reason);
        }
        let dead: BTreeMap<String, String> =
            self.dead.iter().map(|(key, why)| (key.clone(), (*why).to_owned())).collect();
        self.worker.terminate();
        let (code, lines) = self.worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");
        assert_eq!(found, dead, "each hostile message is a dead letter, and nothing else");
        match resident.map(|resident| resident.most) {
            None => needs::go_without(Need::ResidentMemory, "what a worker takes is not measured"),
            Some(most) => {
                assert!(most <= bound, "{} MiB were resident, expected at most {}", most / MIB, bound / MIB);
            }
        }
        self.topic.end().await;
        self.store.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_pictures_and_servers_cost_no_more_memory_than_the_settings_allow() {
    let minutes: Option<f64> = std::env::var(MINUTES).ok().map(|minutes| minutes.parse().expect("a number"));
    let lasts = Duration::from_secs_f64(minutes.unwrap_or_default() * 60.0);
    let mut trial = Trial::start("hostile-pictures").await;
    let model = Preprocess::from_json(r#"{"size": 96}"#).unwrap();
    // What a picture comes to is the library's to say; what that costs a worker is looked at here.
    let pictures: Vec<(String, Served, Option<&'static str>)> = servers::pictures(PIXELS_MAX)
        .into_iter()
        .map(|(name, bytes)| {
            let dies = match process(&bytes, PIXELS_MAX, &model) {
                _ if bytes.len() as u64 > MEDIA_BYTES_MAX => Some("media_too_large"),
                Ok(_) => None,
                Err(error) => Some(error.reason.as_str()),
            };
            (name, Served::Picture(bytes), dies)
        })
        .chain([
            ("endless".to_owned(), Served::Endless, Some("media_too_large")),
            ("gzip".to_owned(), Served::Compressed, Some("media_too_large")),
        ])
        .collect();
    let of_pictures = pictures.iter().filter(|(.., dies)| dies.is_some()).count();
    assert!(of_pictures >= 14 && pictures.len() - of_pictures > 4, "{} of {} die", of_pictures, pictures.len());
    let names: Vec<_> = pictures.iter().map(|(name, _, dies)| (name.clone(), *dies)).collect();
    let server = servers::http(pictures.into_iter().map(|(name, served, _)| (name, served)).collect()).await;
    // A host that does not answer in time is soon asked by one request at a time.
    let mut tarpits = Vec::new();
    for way in ["head", "drip", "silent"] {
        tarpits.push((way, servers::tarpit(MEDIA_BYTES_MAX).await));
    }
    let (mut round, mut told) = (0, Instant::now());
    loop {
        let mut messages = Vec::new();
        let mut message = |name: &str, url: String, dies| {
            let key = format!("{name}-{round}-{}", messages.len());
            messages.push((key, json!({"image": url}).to_string().into_bytes(), dies));
        };
        for (n, (name, dies)) in names.iter().enumerate() {
            // So many good ones for each.
            for good in 0..4 {
                message("good", format!("http://{}/good/{}?{round}-{n}", server.address, 4 * n + good), None);
            }
            message(name, format!("http://{}/{name}?{round}", server.address), *dies);
            if n % 4 == 0 {
                let (way, tarpit) = &tarpits[n / 4 % tarpits.len()];
                message(way, format!("http://{}/{way}?{round}-{n}", tarpit.address), Some("fetch_timeout"));
            }
        }
        trial.send(&messages).await;
        round += 1;
        if trial.began.elapsed() > lasts {
            break;
        }
        trial.until_done().await;
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            println!("{}", trial.told(trial.base));
        }
    }
    trial.until_done().await;
    let pictures = DECODE_BYTES_MAX + KEPT_BYTES_MAX + INPUT_BYTES_MAX;
    trial.end(IN_FLIGHT_BYTES_MAX + pictures + READ_AHEAD_BYTES + SLACK_BYTES).await;
}

/// Small as text, and many times larger in memory: lists of ones, and of objects.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_cost_no_more_memory_than_the_settings_allow() {
    let mut trial = Trial::start("hostile-messages").await;
    let list = |item: &str, bytes: usize| vec![item; bytes / (item.len() + 1)].join(",");
    let payload = |payload: String| format!(r#"{{"text": "a cat", "payload": {{"a": {payload}}}}}"#).into_bytes();
    // What the mock cluster takes is too small for some.
    let takes_large = trial.topic.takes_large_messages();
    let large = if takes_large { 10_000_000 } else { 900_000 };
    let mut messages = Vec::new();
    for n in 0..24 {
        let mut message = |name: &str, value: Vec<u8>, dies| messages.push((format!("{name}-{n}"), value, dies));
        message("ones", payload(format!("[{}]", list("1", 900_000))), None);
        message("good", br#"{"text": "a cat"}"#.to_vec(), None);
        if n % 6 == 0 {
            message("text", format!(r#"{{"text": "{}"}}"#, "cats ".repeat(large / 5)).into_bytes(), None);
            message("string", payload(format!("\"{}\"", "x".repeat(large))), None);
            if takes_large {
                for (name, item) in [("objects", r#"{"a":1}"#), ("lists", "[]"), ("exponents", "1e1")] {
                    // It is refused before its end, which is missing.
                    message(name, payload(format!("[{}", list(item, large))), Some("message_too_large"));
                }
            }
        }
    }
    trial.send(&messages).await;
    trial.until_done().await;
    // Beside what is in flight: one message more, which is let in by the last of the room; what two writers make of their
    // batches; letters and the read ahead in librdkafka.
    let one = 3 * 64 * MIB;
    let batches = 2 * 128 * MIB;
    trial.end(IN_FLIGHT_BYTES_MAX + one + batches + READ_AHEAD_BYTES + SLACK_BYTES + 4 * large as u64).await;
}
