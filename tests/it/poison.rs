//! Messages that end the process that works on them, again and again; and processes that end again and again for other reasons.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use clipstream::tokenize::Tokenizer;
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::faulty_runtime::FaultyRuntime;
use crate::worker_failures::Topic;
use crate::worker_process::{Process, clipstream, set};

/// A member that comes back under its name has its partitions at once, as a pod of a StatefulSet does.
const SETTINGS: [(&str, &str); 7] = [
    ("pipeline.crashes_max", "2"),
    ("pipeline.backoff_cap_ms", "500"),
    ("pipeline.drain_deadline_ms", "500"),
    ("pipeline.commit_interval_ms", "100"),
    ("clip.recovery_max_ms", "1000"),
    ("kafka.properties.group.instance.id", "worker-0"),
    ("kafka.session_timeout_ms", "30000"),
];
const POISON: &str = r#"{"text": "a volcano"}"#;
const CAREFUL: &str = "processing started repeatedly at this offset and settled nothing, perhaps because of one of the messages \
in flight: they proceed one at a time, each after a trial in a separate process; every other start skips the trials (limit: \
pipeline.crashes_max)";
const DIED: &str = "a process that tried the message died";
const NOT_READY: &str = "no process becomes ready to try messages, which says nothing about them: they go on without a trial, one at a time";

fn token() -> i64 {
    let ids = Tokenizer::of_clip(77).unwrap().encode("volcano");
    let [_, token, _] = ids[..] else { panic!("more than one token: {ids:?}") };
    token
}

/// `before` and `after` good messages around the poison.
fn messages(before: usize, after: usize) -> Vec<String> {
    let good = |n: usize| format!(r#"{{"text": "a cat of number {n}"}}"#);
    let poison = [POISON.to_owned()].into_iter();
    (0..before).map(good).chain(poison).chain((before..before + after).map(good)).collect()
}

/// How often a worker may be started before a test gives up.
const STARTS_MAX: usize = 12;

/// What an orchestrator does: starts the worker again whenever it ends, until so many messages are settled. Gives how each ended but
/// the last, which ends in order.
async fn restart_until(committed: i64, topic: &Topic, start: impl Fn() -> Process) -> (Vec<Option<i32>>, Vec<Value>) {
    let (mut ends, mut log) = (Vec::new(), Vec::new());
    for _ in 0..STARTS_MAX {
        let mut worker = start();
        let ended = worker.ends_or(async |_| topic.committed() == committed).await;
        if !ended {
            worker.terminate();
        }
        let (code, lines) = worker.end().await;
        log.extend(lines.iter().filter_map(|line| serde_json::from_str(line).ok()));
        if !ended {
            assert_eq!(code, Some(0), "{lines:?}");
            return (ends, log);
        }
        ends.push(code);
    }
    panic!("{} of {committed} messages after {STARTS_MAX} starts: {ends:?}, {}", topic.committed(), topic.note());
}

fn count(log: &[Value], message: &str) -> usize {
    log.iter().filter(|event| event["message"] == message).count()
}

fn header(letter: &OwnedMessage, name: &str) -> String {
    let header = letter.headers().expect("headers").iter().find(|header| header.key == name);
    String::from_utf8(header.and_then(|header| header.value).expect("it has a value").to_vec()).unwrap()
}

/// A worker that was killed leaves no process behind that nobody would ever end.
#[tokio::test]
async fn a_trial_whose_model_hangs_ends_with_its_worker() {
    let Some(runtime) = FaultyRuntime::build("trial-orphan") else { return };
    runtime.begin("hang");
    let mut command = clipstream("run");
    set(&mut command, &[("clip.models", "demo-emoji/v1=demo/model"), ("kafka.topics", "t")]);
    command.arg("--trial").stdin(Stdio::piped());
    let mut trial = runtime.under(command).spawn().unwrap();
    wait_for("a tower runs", || runtime.was_hit("hang")).await;
    drop(trial.stdin.take());
    wait_for("the trial ends", || trial.try_wait().unwrap().is_some()).await;
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn becomes_a_letter(how: &str, told: &str, code: Option<i32>) {
    let test = format!("poison-{how}");
    let Some(runtime) = FaultyRuntime::build(&test) else { return };
    runtime.poison(token(), how);
    let all = messages(2, 8);
    let topic = Topic::with(&test, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let folder = tempfile::tempdir().unwrap();
    let start = || Process::spawn(&mut runtime.under(topic.run(&folder, &SETTINGS)));
    let (ends, log) = restart_until(all.len() as i64, &topic, start).await;
    // Two at one offset; before each of the two good messages perhaps one that settled nothing, and one that settled it.
    assert!((2..=6).contains(&ends.len()) && ends.iter().all(|end| *end == code), "{ends:?}");
    assert_eq!(count(&log, CAREFUL), 1);
    assert!(count(&log, DIED) >= 2);
    let letters = topic.letters();
    assert_eq!(letters.len(), 1, "{log:?}");
    assert_eq!(letters[0].payload(), Some(POISON.as_bytes()));
    assert_eq!(header(&letters[0], "__connect.errors.exception.class.name"), "kills_worker");
    let why = header(&letters[0], "__connect.errors.exception.message");
    assert!(
        why.contains("it ended 2 processes in a row") && why.contains("stage embed") && why.contains(told),
        "{why}"
    );
    assert!(!topic.note().contains("starts"), "{}", topic.note());
    assert_eq!(indexed(&folder).await, 10);
    topic.end().await;
}

/// Assets in the worker's store.
async fn indexed(folder: &TempDir) -> usize {
    let store = folder.path().join("store");
    let mut assets = BTreeSet::new();
    for modality in ["image", "text"] {
        let mut search = clipstream("search");
        set(&mut search, &[("clip.models", "demo-emoji/v1=demo/model"), ("store.path", store.to_str().unwrap())]);
        let output = search.args(["--in", modality, "--limit", "100", "--json", "a cat"]).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let hits = String::from_utf8(output.stdout).unwrap();
        assets.extend(hits.lines().map(|hit| serde_json::from_str::<Value>(hit).unwrap()["id"].to_string()));
    }
    assets.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_crashes_the_process_is_a_dead_letter_after_some_deaths_and_the_others_are_indexed() {
    becomes_a_letter("segv", "SIGSEGV", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_that_takes_all_memory() {
    becomes_a_letter("devour", "MiB of memory", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_in_a_quiet_topic_after_which_no_session_works() {
    becomes_a_letter("sicken", "CUDA failure", Some(6)).await;
}

/// A server that answers nobody until it is told to.
struct Slow {
    url: String,
    asked: mpsc::UnboundedReceiver<()>,
    answers: watch::Sender<bool>,
}

impl Slow {
    async fn start() -> Self {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/picture.webp", server.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        let (answers, wait) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = server.accept().await {
                let (tell, mut wait) = (tell.clone(), wait.clone());
                tokio::spawn(async move {
                    let mut request = [0; 8192];
                    if connection.read(&mut request).await.is_ok_and(|read| read > 0) {
                        let _ = tell.send(());
                        let _ = wait.wait_for(|answers| *answers).await;
                        let picture =
                            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/catalog/images/2764.webp"));
                        let picture = picture.unwrap();
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                            picture.len()
                        );
                        let _ = connection.write_all(&[head.as_bytes(), &picture].concat()).await;
                    }
                });
            }
        });
        Self { url, asked, answers }
    }
}

/// Good messages behind one whose picture is at this URL.
fn good_behind(url: &str) -> Vec<String> {
    let image = [format!(r#"{{"image": "{url}"}}"#)].into_iter();
    image.chain((0..6).map(|n| format!(r#"{{"text": "a cat of number {n}"}}"#))).collect()
}

/// Whatever a fleet of them goes through: the message is in flight each time.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_from_outside_again_and_again_make_no_good_message_a_dead_letter() {
    let mut media = Slow::start().await;
    let all = good_behind(&media.url);
    let topic = Topic::with("killed", &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [&SETTINGS[..], &[("media.allow_hosts", "127.0.0.1")]].concat();
    let start = || Process::spawn(&mut topic.run(&folder, &settings));
    let (mut with_trials, mut without) = (0, 0);
    for kill in 1..=10 {
        let mut worker = start();
        let asked = &mut media.asked;
        worker.wait_for("the message in flight", async |_| asked.try_recv().ok()).await;
        let careful = worker.logged(CAREFUL);
        assert_eq!(careful.len(), usize::from(kill > 2), "{:?}", worker.lines());
        match careful.first().map(|event| event["has_trials"] == true) {
            Some(true) => with_trials += 1,
            Some(false) => without += 1,
            None => {}
        }
        // SIGKILL.
        drop(worker);
        assert!(topic.note().contains(&format!("\"starts\":{kill}")), "{}", topic.note());
        assert_eq!((topic.committed(), topic.letters().len()), (0, 0));
    }
    assert_eq!((with_trials, without), (4, 4));
    media.answers.send(true).unwrap();
    let (ends, log) = restart_until(all.len() as i64, &topic, start).await;
    assert_eq!((ends, count(&log, CAREFUL), count(&log, DIED)), (vec![], 1, 0));
    assert_eq!((topic.letters().len(), indexed(&folder).await), (0, all.len()));
    topic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_crashes_on_everything_makes_nothing_a_dead_letter() {
    let Some(runtime) = FaultyRuntime::build("a_runtime_that_crashes_on_everything") else { return };
    let mut media = Slow::start().await;
    let all = good_behind(&media.url);
    let topic = Topic::with("crashing", &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [&SETTINGS[..], &[("media.allow_hosts", "127.0.0.1")]].concat();
    let start = || Process::spawn(&mut runtime.under(topic.run(&folder, &settings)));
    for kill in 1..=2 {
        let mut worker = start();
        let asked = &mut media.asked;
        worker.wait_for("the message in flight", async |_| asked.try_recv().ok()).await;
        runtime.begin("crash");
        media.answers.send(true).unwrap();
        let (code, lines) = worker.end().await;
        assert_eq!(code, None, "a signal: {lines:?}");
        runtime.end("crash");
        media.answers.send(false).unwrap();
        assert!(topic.note().contains(&format!("\"starts\":{kill}")), "{}", topic.note());
    }
    // Now only where messages are tried.
    runtime.begin("apart");
    media.answers.send(true).unwrap();
    let (ends, log) = restart_until(all.len() as i64, &topic, start).await;
    assert_eq!((ends.len(), count(&log, CAREFUL), count(&log, NOT_READY)), (0, 1, 1));
    assert_eq!((topic.letters().len(), indexed(&folder).await), (0, all.len()));
    topic.end().await;
}

/// A start that ends in order is none that counts, also while nothing can be settled.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_stopped_in_order_are_not_counted() {
    let mut media = Slow::start().await;
    let image = format!(r#"{{"image": "{}"}}"#, media.url);
    let topic = Topic::with("stopped", &[&image]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [&SETTINGS[..], &[("media.allow_hosts", "127.0.0.1")]].concat();
    for _ in 0..3 {
        let mut worker = Process::spawn(&mut topic.run(&folder, &settings));
        let asked = &mut media.asked;
        worker.wait_for("the message in flight", async |_| asked.try_recv().ok()).await;
        assert!(topic.note().contains("\"starts\":1"), "{}", topic.note());
        worker.terminate();
        assert_eq!(worker.end().await.0, Some(0));
        assert!(!topic.note().contains("starts"), "{}", topic.note());
    }
    topic.end().await;
}
