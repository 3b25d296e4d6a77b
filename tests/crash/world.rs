//! What outlives a worker: Kafka with the messages, the pictures' server, the store; and workers as processes.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clipstream::config::{StoreKind, StoreSettings};
use clipstream::source::Producer;
use clipstream::store::{self, Store};
use clipstream_test_support::qdrant::QdrantEndpoint;
use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::worker::{ORDERS, Orders};

pub const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);

/// How the first worker ends.
#[derive(Clone, Debug)]
pub enum Death {
    None,
    /// By its own hand, the nth time that it passes this point.
    At(&'static str, u64),
    /// Killed while a server that it asked keeps it waiting.
    Held(Hold),
    /// By its own hand at this point of a rebalance that another worker causes while work is in flight.
    InRebalance(&'static str),
    /// After everything is done and committed, asked to stop.
    WhileLeaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A picture was asked for.
    Request,
    /// All of a picture's bytes were sent, and the body is not closed.
    Body,
    Read,
    ReadReply,
    Write,
    WriteReply,
}

/// What one message makes of its asset.
#[derive(Clone, Debug)]
pub struct Sent {
    pub partition: i32,
    pub offset: i64,
    pub asset: String,
    pub meant: Meant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// The point with the payload `n`, and whether it has a picture's vector.
    Point {
        n: u64,
        image: bool,
    },
    Deleted,
    Poison,
}

pub struct World {
    /// Its name in this binary.
    test: &'static str,
    pub kafka: Kafka,
    pub topic: String,
    pub sent: Vec<Sent>,
    pub store: Arc<dyn Store>,
    pub collection: String,
    endpoint: QdrantEndpoint,
    media: Arc<Media>,
    workers: AtomicU32,
    folder: TempDir,
}

impl World {
    pub async fn start(test: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kafka = Kafka::start(test);
        let topic = format!("crash-{test}-{}", uuid::Uuid::from_u128(rand::random()).simple());
        kafka.create_topic(&topic, PARTITIONS).await;
        kafka.create_topic(&format!("{topic}.dlq"), 1).await;
        let endpoint = QdrantEndpoint::start(&folder.path().join("store"));
        let media = Arc::new(Media::default());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(serve).with_state(media.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let settings = StoreSettings { kind: StoreKind::Qdrant, url: endpoint.url(), ..StoreSettings::default() };
        let store = store::open(&settings).await.expect("a client");
        let mut world = Self {
            test,
            collection: "catalog__demo-emoji__v1".to_owned(),
            sent: Vec::new(),
            workers: AtomicU32::new(0),
            kafka,
            topic,
            store,
            endpoint,
            media,
            folder,
        };
        world.produce(&origin).await;
        world
    }

    /// Sixteen messages: pictures, captions, later ones of the same assets with and without versions, a delete, poison.
    async fn produce(&mut self, origin: &str) {
        let pictures = pictures();
        let mut messages: Vec<(String, Value, Meant)> = Vec::new();
        for n in 0..6 {
            let mut value = json!({ "text": format!("picture {n}"), "payload": { "n": n } });
            value["image"] = format!("{origin}/{}", pictures[n as usize % pictures.len()]).into();
            messages.push((format!("picture-{n}"), value, Meant::Point { n, image: true }));
        }
        for n in 6..9 {
            let value = json!({ "text": format!("caption {n}"), "version": n, "payload": { "n": n } });
            messages.push((format!("caption-{n}"), value, Meant::Point { n, image: false }));
        }
        messages.push(("poison".into(), json!({ "txt": "no such field" }), Meant::Poison));
        messages.push(("gone".into(), json!({ "image": format!("{origin}/no-such.webp") }), Meant::Poison));
        for n in 11..14 {
            let value = json!({ "text": format!("later {n}"), "version": n, "payload": { "n": n } });
            messages.push((format!("caption-{}", n - 5), value, Meant::Point { n, image: false }));
        }
        messages.push(("picture-0".into(), json!({ "op": "delete" }), Meant::Deleted));
        let again = json!({ "text": "again", "payload": { "n": 15 } });
        messages.push(("picture-1".into(), again, Meant::Point { n: 15, image: false }));
        let producer = Producer::new(&self.kafka.settings()).expect("a producer");
        for (asset, value, meant) in messages {
            let value = value.to_string();
            let sent = producer.send(&self.topic, Some(asset.as_bytes()), Some(value.as_bytes()), &[]).await;
            let (partition, offset) = sent.expect("it is taken").await.expect("it is confirmed");
            self.sent.push(Sent { partition, offset, asset, meant });
        }
        assert_eq!(self.kafka.ends(&self.topic).len(), PARTITIONS as usize, "every partition has messages");
    }

    pub fn worker(&self, death: &Death) -> Running {
        let faults = self.endpoint.faults();
        match death {
            Death::Held(Hold::Read) => faults.hold("Points/Get", false),
            Death::Held(Hold::ReadReply) => faults.hold("Points/Get", true),
            Death::Held(Hold::Write) => faults.hold("Points/UpdateBatch", false),
            Death::Held(Hold::WriteReply) => faults.hold("Points/UpdateBatch", true),
            Death::Held(hold @ (Hold::Request | Hold::Body)) => *self.media.hold.lock().expect("a lock") = Some(*hold),
            // Work that is in flight when the rebalance comes.
            Death::InRebalance(_) => *self.media.hold.lock().expect("a lock") = Some(Hold::Request),
            Death::None | Death::At(..) | Death::WhileLeaving => {}
        }
        let die_at = match death {
            Death::At(point, times) => Some(((*point).to_owned(), *times)),
            Death::InRebalance(point) => Some(((*point).to_owned(), 1)),
            Death::WhileLeaving => Some(("close".to_owned(), 1)),
            Death::None | Death::Held(_) => None,
        };
        let number = self.workers.fetch_add(1, Ordering::AcqRel);
        let journal = self.folder.path().join(format!("taken-{number}"));
        let orders = Orders {
            brokers: self.kafka.brokers.clone(),
            topic: self.topic.clone(),
            store_url: self.endpoint.url(),
            die_at,
            journal: journal.clone(),
        };
        let orders = serde_json::to_string(&orders).expect("orders are JSON");
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args([self.test, "--exact", "--nocapture"])
            .env(ORDERS, orders)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("this binary starts");
        Running { child, journal }
    }

    /// What the group has committed, by partition; 0 where nothing is.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let committed = self.kafka.committed(&self.topic, &self.topic);
        (0..PARTITIONS).map(|n| (n, committed.get(&n).copied().unwrap_or(0))).collect()
    }

    pub fn is_done(&self) -> bool {
        self.committed() == self.kafka.ends(&self.topic)
    }

    pub async fn end(self) {
        self.store.close().await.expect("the client closes");
        self.kafka.delete_topics(&[&self.topic, &format!("{}.dlq", self.topic)]).await;
        self.endpoint.stop().await;
    }
}

/// A worker's process. Killed when dropped.
pub struct Running {
    child: Child,
    journal: PathBuf,
}

/// What a worker took, by partition, in its order.
pub type Taken = BTreeMap<i32, Vec<i64>>;

impl Running {
    pub async fn dies(mut self, world: &World, death: &Death) -> Taken {
        let mut second = None;
        match death {
            Death::Held(Hold::Request | Hold::Body) => {
                self.until("the picture's server holds", || world.media.held.load(Ordering::Acquire) > 0).await;
                self.child.kill().expect("it is killed");
            }
            Death::Held(_) => {
                self.until("the store holds", || world.endpoint.faults().held() > 0).await;
                self.child.kill().expect("it is killed");
            }
            Death::InRebalance(_) => {
                self.until("work is in flight", || world.media.held.load(Ordering::Acquire) > 0).await;
                second = Some(world.worker(&Death::None));
                // Only what is done can be drained.
                if !matches!(death, Death::InRebalance("revoking")) {
                    let joined = second.as_ref().expect("it was just started");
                    let journal = joined.journal.clone();
                    self.until("the second worker joins", || journal.exists()).await;
                    world.media.release();
                }
            }
            Death::WhileLeaving => {
                self.until("everything is committed", || world.is_done()).await;
                self.signal("TERM");
            }
            Death::None | Death::At(..) => {}
        }
        let status = self.wait().await;
        let signal = status.signal();
        // SIGABRT of its own, SIGKILL of ours; never an exit code.
        let expected = if matches!(death, Death::Held(_)) { 9 } else { 6 };
        assert_eq!(signal, Some(expected), "{death:?}: {status}");
        world.media.release();
        world.endpoint.faults().clear();
        let mut died = taken(&self.journal);
        if let Some(mut second) = second {
            second.child.kill().expect("it is killed");
            second.wait().await;
            // What it could take meanwhile it may have committed.
            for (partition, offsets) in taken(&second.journal) {
                died.entry(partition).or_default().extend(offsets);
            }
        }
        died
    }

    /// Everything is committed, and it stops in order.
    pub async fn finishes(mut self, world: &World) -> Taken {
        self.until("everything is committed", || world.is_done()).await;
        self.signal("TERM");
        let status = self.wait().await;
        assert!(status.success(), "{status}");
        taken(&self.journal)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("a shell").success(), "the signal is sent");
    }

    async fn until(&mut self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "{what}: ended {ended:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail on a process that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn taken(journal: &PathBuf) -> Taken {
    let mut taken = Taken::new();
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    for line in text.lines() {
        let (partition, offset) = line.split_once(' ').expect("partition and offset");
        taken.entry(partition.parse().expect("a number")).or_default().push(offset.parse().expect("a number"));
    }
    taken
}

/// The pictures' server: serves, and keeps the first request waiting where it is told to.
#[derive(Default)]
struct Media {
    hold: Mutex<Option<Hold>>,
    held: AtomicUsize,
    released: tokio::sync::Notify,
}

impl Media {
    fn release(&self) {
        *self.hold.lock().expect("a lock") = None;
        self.released.notify_waiters();
    }

    /// Waits until released.
    async fn keep(&self) {
        let released = self.released.notified();
        tokio::pin!(released);
        released.as_mut().enable();
        if self.hold.lock().expect("a lock").is_some() {
            self.held.fetch_add(1, Ordering::AcqRel);
            released.await;
        }
    }
}

async fn serve(State(media): State<Arc<Media>>, uri: Uri) -> Response {
    let hold = *media.hold.lock().expect("a lock");
    if hold == Some(Hold::Request) {
        media.keep().await;
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("demo/catalog/images");
    let Ok(bytes) = std::fs::read(path.join(uri.path().trim_start_matches('/'))) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if hold != Some(Hold::Body) {
        return bytes.into_response();
    }
    // All of it, and then not the end.
    let first = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from(bytes)) });
    let rest = futures::stream::once(async move {
        media.keep().await;
        Ok(Bytes::new())
    });
    Body::from_stream(first.chain(rest)).into_response()
}

/// A few of the demo catalog's.
fn pictures() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("demo/catalog/images");
    let files = std::fs::read_dir(folder).expect("the demo catalog");
    let mut names: Vec<String> =
        files.map(|file| file.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names.truncate(6);
    names
}
