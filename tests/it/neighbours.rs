//! A real worker whose messages have bad neighbours: what is wrong with them must not delay the others for longer than it takes
//! to read past them. Settings are the defaults, but for the leave to ask hosts on the loopback network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::CONNECTION;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::worker_failures::Topic;
use crate::worker_process::{Endpoints, Process};

const PICTURE: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures/rgb.png"));
/// What good messages may take that have bad neighbours: far less than those take themselves.
const SOON: Duration = Duration::from_secs(30);

/// A server of one address. Gone when dropped.
struct Host {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn picture(State(asked): State<Arc<Mutex<Vec<String>>>>, Path(name): Path<String>) -> Response {
    asked.lock().unwrap().push(name);
    // A connection that is kept would outlive the server.
    ([(CONNECTION, "close")], PICTURE).into_response()
}

impl Host {
    /// Serves a picture under every name.
    async fn good(address: impl Into<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address.into()).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let router = Router::new().route("/{name}", get(picture)).with_state(asked.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, serving }
    }

    /// Takes requests, sends `answer`, and nothing more.
    async fn stalling(host: Ipv4Addr, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                open.spawn(async move {
                    let mut request = [0; 4096];
                    let _ = connection.read(&mut request).await;
                    let _ = connection.write_all(answer).await;
                    // Until the other side has enough of it.
                    while connection.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {}
                });
            }
        });
        Self { address, asked: Arc::default(), serving }
    }

    fn message(&self, name: &str) -> String {
        format!(r#"{{"image": "http://{}/{name}.png"}}"#, self.address)
    }

    fn messages(&self, name: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| self.message(&format!("{name}-{n}"))).collect()
    }
}

/// Messages that were taken before anything bad came.
struct Running {
    topic: Topic,
    worker: Process,
    endpoints: Endpoints,
    _folder: TempDir,
}

impl Running {
    /// A worker that has indexed one message.
    async fn start(test: &str, first: &str) -> Self {
        let topic = Topic::with(test, &[first]).await;
        let folder = tempfile::tempdir().unwrap();
        let settings = [("media.allow_networks", "127.0.0.0/8"), ("telemetry.listen", "127.0.0.1:0")];
        let mut worker = Process::spawn(&mut topic.run(&folder, &settings));
        worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
        let endpoints = Endpoints::of(&mut worker).await;
        Self { topic, worker, endpoints, _folder: folder }
    }

    async fn produce(&self, messages: &[String]) {
        self.topic.produce(&messages.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Waits until so many are indexed in all, and gives the time that it took.
    async fn until_indexed(&mut self, count: usize) -> Duration {
        let (begun, endpoints) = (Instant::now(), &self.endpoints);
        let indexed = async |_: &Process| {
            let found = endpoints.metric("clipstream_messages_total", &["outcome=\"indexed\""]).await;
            (found >= count as f64).then_some(())
        };
        self.worker.wait_for("the good ones", indexed).await;
        begun.elapsed()
    }

    async fn end(self) {
        self.worker.terminate();
        let (code, lines) = self.worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");
        self.topic.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_pictures_of_a_host_that_has_gone_do_not_stop_the_others() {
    let good = Host::good((Ipv4Addr::LOCALHOST, 0)).await;
    let bad = Host::good((Ipv4Addr::new(127, 0, 0, 2), 0)).await;
    let mut running = Running::start("gone", &bad.message("first")).await;
    let (address, messages) = (bad.address, bad.messages("bad", 300));
    drop(bad);
    running.produce(&[messages, good.messages("good", 20)].concat()).await;
    let took = running.until_indexed(21).await;
    assert!(took < SOON, "{took:?}");
    let unready = async |_: &Process| Some(running.endpoints.get("/readyz").await).filter(|(status, _)| *status == 503);
    let (_, why) = running.worker.wait_for("unready", unready).await;
    assert!(why.contains(r#""component":"fetch""#) && why.contains("is down"), "{why}");
    assert_eq!(running.topic.committed(), 1, "nothing beyond those that are held");
    let (worker, endpoints) = (&mut running.worker, &running.endpoints);
    let held = async |_: &Process| {
        (endpoints.metric("clipstream_queue_depth", &["queue=\"held\""]).await >= 200.0).then_some(())
    };
    worker.wait_for("most of them to be held", held).await;

    let _bad = Host::good(address).await;
    let topic = &running.topic;
    running.worker.wait_for("all of them", async |_| (topic.committed() == 321).then_some(())).await;
    assert_eq!(running.topic.letters().len(), 0, "it had served");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_pictures_of_a_host_that_does_not_answer_do_not_stop_the_others() {
    let good = Host::good((Ipv4Addr::LOCALHOST, 0)).await;
    let silent = Host::stalling(Ipv4Addr::new(127, 0, 0, 3), b"").await;
    let mut running = Running::start("silent", &good.message("first")).await;
    running.produce(&[silent.messages("bad", 300), good.messages("good", 20)].concat()).await;
    let took = running.until_indexed(21).await;
    assert!(took < SOON, "{took:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stall_on_many_hosts_do_not_stop_the_others() {
    let good = Host::good((Ipv4Addr::LOCALHOST, 0)).await;
    let mut running = Running::start("stalled", &good.message("first")).await;
    let (mut hosts, mut messages) = (Vec::new(), Vec::new());
    for n in 0..64 {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG";
        let host = Host::stalling(Ipv4Addr::new(127, 0, 1, n + 1), head).await;
        messages.extend(host.messages("bad", 16));
        hosts.push(host);
    }
    running.produce(&[messages, good.messages("good", 20)].concat()).await;
    let took = running.until_indexed(21).await;
    assert!(took < SOON, "{took:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flood_of_one_tenant_does_not_delay_another_one() {
    let host = Host::good((Ipv4Addr::LOCALHOST, 0)).await;
    let mut running = Running::start("tenants", &host.message("first")).await;
    let of = |tenant: &str, count: usize| -> Vec<String> {
        let message = |n| format!(r#"{{"tenant": "{tenant}", "image": "http://{}/{tenant}-{n}"}}"#, host.address);
        (0..count).map(message).collect()
    };
    running.produce(&[of("flood", 2000), of("small", 20)].concat()).await;
    let asked = || host.asked.lock().unwrap().clone();
    let all = async |_: &Process| {
        let small = asked().iter().filter(|name| name.starts_with("small")).count();
        (small == 20).then_some(())
    };
    running.worker.wait_for("the small ones", all).await;
    let (asked, is_small) = (asked(), |name: &String| name.starts_with("small"));
    let last = asked.iter().rposition(is_small).unwrap();
    assert!(last < 1000, "of 2,020, the last small one was number {last}");
    running.until_indexed(2021).await;
    running.end().await;
}
