//! `/metrics`, `/livez` and `/readyz` over HTTP, on their own thread and scheduler, so that a liveness probe is answered even
//! if everything else hangs.
//!
//! Bounded, because the port may be widely reachable: [`CONNECTIONS_MAX`] connections, each for one request and for
//! [`CONNECTION_MAX`] at most. A further connection closes the oldest, so open connections cannot block a probe. A few file
//! descriptors are reserved for the case that the process has none left.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Health, Metrics, Pulse};
use crate::domain::{Explain, Finding};

/// Value of the `Server` header, by which `clipstream check` recognises a running worker.
pub const SERVER: &str = concat!("clipstream/", env!("CARGO_PKG_VERSION"));

/// Connections at once; probes and scrapers need a handful.
const CONNECTIONS_MAX: usize = 32;
/// How long a request's head may take.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// How often pulses are checked, and how often the main scheduler beats.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Reserved file descriptors.
const SPARES: usize = 4;
/// How long pending requests may take when serving ends.
const END_MAX: Duration = Duration::from_millis(500);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON_LINES: &str = "application/jsonl";
const TEXT: &str = "text/plain; charset=utf-8";

/// Listening on the address failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ListenError(Finding);

impl Explain for ListenError {
    fn explain(&self) -> Finding {
        self.0.clone()
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Health,
}

/// Serves until `stop` completes; pending requests are finished first. Listens before it returns. Returns the bound address
/// (`address` may have port 0), and a receiver that completes when serving has ended.
///
/// - `/metrics`: OpenMetrics text.
/// - `/livez`: 200 while everything that must make progress does ([`Health::live`]), including the scheduler that this is
///   called on. Otherwise 503 with what hangs, which asks an orchestrator for a restart.
/// - `/readyz`: 200 if nothing is unready, with a line for each note. Otherwise 503, with one JSON line `{"component",
///   "reason"}` for each reason.
///
/// Let `stop` complete after the drain, so that a draining worker stays observable.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    health: Health,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, oneshot::Receiver<()>), ListenError> {
    let unusable = |error: std::io::Error| {
        let found = Finding::new(format!("cannot listen on {address} for metrics and health: {error}"));
        ListenError(found.hint(
            "stop the program that uses it, or set telemetry.listen to another IP address:port (empty: not served)",
        ))
    };
    let listener = StdListener::bind(address).map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let router = Router::new()
        .route("/metrics", get(self::metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, health: health.clone() });
    let scheduler = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
    let (ended, wait_ended) = oneshot::channel();
    let pulse = Pulse::new("the scheduler");
    // Beat now, because on a hanging scheduler the task below never runs.
    pulse.beat();
    health.watch(pulse.clone());
    let beating = tokio::spawn(beat(pulse));
    let serving = async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => Server::new(listener, router, health).run(stop).await,
            Err(error) => tracing::error!(%error, "metrics and health are not served"),
        }
        beating.abort();
        // The receiver may have been dropped.
        let _ = ended.send(());
    };
    let thread = std::thread::Builder::new().name("telemetry".into());
    thread.spawn(move || scheduler.block_on(serving)).map_err(unusable)?;
    Ok((bound, wait_ended))
}

/// Runs on the scheduler that is watched.
async fn beat(pulse: Pulse) {
    let mut tick = interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        pulse.beat();
    }
}

struct Server {
    listener: TcpListener,
    router: Router,
    health: Health,
    /// Oldest first.
    connections: VecDeque<AbortHandle>,
    spares: Spares,
}

/// Reserved file descriptors, held as open files.
#[derive(Clone, Default)]
struct Spares(Arc<Mutex<Vec<File>>>);

impl Spares {
    /// Releases one. `false`: there was none.
    fn give_up(&self) -> bool {
        self.lock().pop().is_some()
    }

    /// Reserves descriptors again, up to [`SPARES`].
    fn keep_back(&self) {
        let mut spares = self.lock();
        while spares.len() < SPARES {
            let Ok(spare) = File::open("/dev/null") else { return };
            spares.push(spare);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn new(listener: TcpListener, router: Router, health: Health) -> Self {
        Self { listener, router, health, connections: VecDeque::new(), spares: Spares::default() }
    }

    async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut tick = interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = tick.tick() => {
                    self.health.look(looked_at.elapsed());
                    looked_at = Instant::now();
                    self.connections.retain(|connection| !connection.is_finished());
                    self.spares.keep_back();
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream),
                    // The client disconnected, or there are no descriptors: release a reserved one.
                    Err(_) if self.spares.give_up() => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
        let under_way = async {
            while self.connections.iter().any(|connection| !connection.is_finished()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Remaining connections are dropped with the scheduler.
        let _ = timeout(END_MAX, under_way).await;
    }

    fn take(&mut self, stream: TcpStream) {
        self.connections.retain(|connection| !connection.is_finished());
        if self.connections.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.connections.pop_front()
        {
            oldest.abort();
        }
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router.clone()));
        // Errors on the connection do not matter to the server.
        let spares = self.spares.clone();
        let task = tokio::spawn(async move {
            drop(timeout(CONNECTION_MAX, serving).await);
            // At once, before another thread uses the descriptor that has just been closed.
            spares.keep_back();
        });
        self.connections.push_back(task.abort_handle());
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::SERVER, HeaderValue::from_static(SERVER)),
    ];
    (status, headers, body)
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    reply(StatusCode::OK, OPENMETRICS, shared.metrics.encode())
}

async fn livez(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.health.live() {
        Ok(()) => reply(StatusCode::OK, TEXT, "live\n".into()),
        Err(reason) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let reasons = shared.health.reasons();
    if reasons.is_empty() {
        let notes = shared.health.notes();
        let notes: String = notes.iter().map(|(subject, text)| format!("{subject}: {text}\n")).collect();
        return reply(StatusCode::OK, TEXT, format!("ready\n{notes}"));
    }
    let lines = reasons.iter().map(|(component, reason)| {
        let line = serde_json::json!({ "component": component.as_str(), "reason": reason });
        format!("{line}\n")
    });
    reply(StatusCode::SERVICE_UNAVAILABLE, JSON_LINES, lines.collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as StdStream;

    use super::*;
    use crate::domain::Stage;

    async fn fetch(address: SocketAddr, path: &str) -> (u16, String, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(response.headers()[header::SERVER], SERVER);
        (response.status().as_u16(), kind, response.text().await.unwrap())
    }

    /// Works without a scheduler, from any thread.
    fn fetch_blocking(address: SocketAddr, path: &str) -> String {
        let mut stream = StdStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    async fn serving(health: &Health) -> (SocketAddr, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let stopped = async move { drop(stopped.await) };
        let (address, ended) = serve(any, Arc::default(), health.clone(), stopped).await.unwrap();
        (address, ended, stop)
    }

    #[tokio::test]
    async fn tells_the_truth_and_stops_when_asked() {
        let health = Health::new();
        let (address, ended, stop) = serving(&health).await;

        let (status, kind, text) = fetch(address, "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, OPENMETRICS));
        assert!(text.ends_with("# EOF\n"), "{text}");

        assert_eq!(fetch(address, "/readyz").await.0, 200);
        health.unready(Stage::Upsert.into(), "qdrant does not answer");
        let (status, _, text) = fetch(address, "/readyz").await;
        assert_eq!(
            (status, text.as_str()),
            (503, "{\"component\":\"upsert\",\"reason\":\"qdrant does not answer\"}\n")
        );
        health.ready(Stage::Upsert.into());
        assert_eq!(fetch(address, "/readyz").await.2, "ready\n");
        health.note("model a/b", "fp32 on cpu");
        assert_eq!(fetch(address, "/readyz").await.2, "ready\nmodel a/b: fp32 on cpu\n");
        assert_eq!(fetch(address, "/livez").await.0, 200);

        let taken = serve(address, Arc::default(), Health::new(), std::future::pending()).await;
        let error = taken.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("telemetry.listen"), "{error}");

        stop.send(()).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn what_hangs_in_a_native_call_is_not_alive() {
        let health = Health::new().hung_after(Duration::from_secs(3));
        let pulse = Pulse::new("text tower of a/b");
        health.watch(pulse.clone());
        let (address, _ended, _stop) = serving(&health).await;
        assert_eq!(fetch(address, "/livez").await.0, 200);
        let working = pulse.work();
        let (status, text) = loop {
            let (status, _, text) = fetch(address, "/livez").await;
            if status != 200 {
                break (status, text);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(status, 503);
        assert!(text.starts_with("text tower of a/b has not moved for "), "{text}");
        drop(working);
        while fetch(address, "/livez").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A single-threaded scheduler that is blocked by one of its tasks.
    #[tokio::test]
    async fn a_scheduler_that_stands_still_is_not_alive_and_livez_says_so_all_the_same() {
        let health = Health::new().hung_after(Duration::from_secs(3));
        let (address, _ended, _stop) = serving(&health).await;
        let told = loop {
            // Nothing else runs on this scheduler meanwhile.
            let answer = fetch_blocking(address, "/livez");
            if answer.starts_with("HTTP/1.1 503") {
                break answer;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        };
        assert!(told.contains("the scheduler has not moved for "), "{told}");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_keep_a_probe_out_and_are_cut() {
        let health = Health::new();
        let (address, _ended, _stop) = serving(&health).await;
        let mut idle = Vec::new();
        for n in 0..3 * CONNECTIONS_MAX {
            let mut stream = StdStream::connect(address).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET /livez HTTP/1.1\r\nHost: slow\r\n").unwrap();
            }
            idle.push(stream);
            if n % CONNECTIONS_MAX == 0 {
                assert_eq!(fetch(address, "/livez").await.0, 200, "after {n}");
            }
        }
        assert_eq!(fetch(address, "/livez").await.0, 200);
        // All of them end after a while, the latest ones by the timeout of their head.
        let all_cut = tokio::task::spawn_blocking(move || {
            for mut stream in idle {
                stream.set_read_timeout(Some(2 * CONNECTION_MAX)).unwrap();
                let mut rest = Vec::new();
                match stream.read_to_end(&mut rest) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
                }
            }
        });
        all_cut.await.unwrap();
    }
}
