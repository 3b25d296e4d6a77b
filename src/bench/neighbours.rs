//! Benchmark: good messages among those of failing hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{BenchError, catalog, input, median, read, scratch};
use crate::config::{Settings, StoreKind};
use crate::dead_letter::FileDeadLetters;
use crate::domain::Modality;
use crate::pipeline::{PipelineError, Progress};
use crate::shutdown::Shutdown;
use crate::source::LinesSource;
use crate::telemetry::{Health, Metrics};
use crate::worker::{Worker, WorkerError};

/// How often completion is checked.
const LOOK: Duration = Duration::from_millis(5);
/// The part of an answer that is sent before the body stalls.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n\x89PNG";

/// Measures the rate of good messages among messages of failing hosts (they refuse, do not answer, or stall in the body), and
/// their rate alone. Rounds alternate within one run.
pub struct NeighboursBench {
    /// A folder with `catalog.jsonl`.
    pub catalog: PathBuf,
    /// Good messages in each measurement.
    pub messages: usize,
    /// Messages of failing hosts.
    pub bad: usize,
    /// Number of rounds; medians are reported.
    pub rounds: usize,
}

/// The field names are the keys of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct NeighboursReport {
    pub messages: usize,
    pub bad_messages: usize,
    /// Good messages per second without bad ones.
    pub undisturbed_per_s: f64,
    pub neighbours: Vec<Disturbed>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Disturbed {
    /// How the hosts fail.
    pub what: &'static str,
    pub hosts: usize,
    /// Good messages per second.
    pub per_s: f64,
    /// Divided by the rate without bad ones.
    pub ratio: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refusing,
    Silent,
    Stalling,
}

const ALL: &[Kind] = &[Kind::Refusing, Kind::Silent, Kind::Stalling];
const NEIGHBOURS: [(&str, &[Kind], usize); 5] = [
    ("refuses connections", &[Kind::Refusing], 1),
    ("does not answer", &[Kind::Silent], 1),
    ("bodies stall", &[Kind::Stalling], 1),
    ("of all three kinds", ALL, 8),
    ("of all three kinds", ALL, 1000),
];

impl NeighboursBench {
    /// `watch` is called at the start of each measurement, with the number of good and bad messages together.
    pub async fn run(
        self,
        mut settings: Settings,
        shutdown: Shutdown,
        mut watch: impl FnMut(u64, Arc<Progress>),
    ) -> Result<NeighboursReport, BenchError> {
        let servers = Servers::start(self.pictures()?).await?;
        settings.clip.models.truncate(1);
        settings.store.kind = StoreKind::Embedded;
        settings.media.allow_networks.extend("127.0.0.0/8".parse::<ipnet::IpNet>());
        // This many dead letters are expected.
        settings.pipeline.dead_letters_in_row_max = 0;
        settings.pipeline.dead_letters_percent_max = 0;
        let mut rates = vec![Vec::new(); NEIGHBOURS.len() + 1];
        for _ in 0..self.rounds.max(1) {
            let rounds = [None].into_iter().chain(NEIGHBOURS.into_iter().map(Some));
            for (neighbours, rates) in rounds.zip(&mut rates) {
                let lines = self.messages(&servers, neighbours.map(|(_, kinds, hosts)| (kinds, hosts)));
                rates.push(self.measure(&mut settings, lines, &shutdown, &mut watch).await?);
            }
        }
        let mut rates = rates.into_iter().map(median);
        let undisturbed_per_s = rates.next().unwrap_or(f64::NAN);
        let neighbours = NEIGHBOURS.into_iter().zip(rates);
        Ok(NeighboursReport {
            messages: self.messages,
            bad_messages: self.bad,
            undisturbed_per_s,
            neighbours: neighbours
                .map(|((what, _, hosts), per_s)| Disturbed { what, hosts, per_s, ratio: per_s / undisturbed_per_s })
                .collect(),
        })
    }

    fn pictures(&self) -> Result<Vec<Bytes>, BenchError> {
        let items = catalog::read(&self.catalog)?;
        items.iter().map(|(image, _)| read(&self.catalog.join(image)).map(Bytes::from)).collect()
    }

    /// Good messages per second, from the first one taken to the last one stored.
    async fn measure(
        &self,
        settings: &mut Settings,
        lines: Vec<u8>,
        shutdown: &Shutdown,
        watch: &mut impl FnMut(u64, Arc<Progress>),
    ) -> Result<f64, BenchError> {
        let scratch = scratch()?;
        settings.store.path = scratch.path().join("store");
        let worker = Worker::assemble(settings, Health::new(), Arc::<Metrics>::default()).await?;
        worker.open_towers(&Modality::ALL).await?;
        let (progress, stop) = (Arc::new(Progress::default()), Shutdown::new());
        let total = lines.iter().filter(|byte| **byte == b'\n').count();
        watch(total as u64, progress.clone());
        let letters = Arc::new(FileDeadLetters::new(Some(&scratch.path().join("letters"))).map_err(WorkerError::from)?);
        let source = Box::new(LinesSource::new("bench", std::io::Cursor::new(lines)));
        let begun = Instant::now();
        let mut ingest = Box::pin(worker.ingest(source, letters, stop.clone(), progress.clone()));
        let good = || progress.settled().saturating_sub(progress.dead_lettered()) as usize;
        let done = async {
            while good() < self.messages {
                tokio::time::sleep(LOOK).await;
            }
        };
        let mut ended = None;
        tokio::select! {
            biased;
            result = &mut ingest => ended = Some(result),
            () = done => {}
            () = shutdown.requested() => {}
        }
        let took = begun.elapsed();
        let ended = match ended {
            Some(ended) => ended,
            None => {
                // Twice, to skip the drain: the remaining messages are bad ones.
                stop.request();
                stop.request();
                ingest.as_mut().await
            }
        };
        drop(ingest);
        match ended {
            Ok(_) | Err(WorkerError::Pipeline(PipelineError::Forced)) => {}
            Err(error) => return Err(error.into()),
        }
        let found = good();
        worker.close().await?;
        if found < self.messages {
            let expected = self.messages;
            return Err(input(format!("{found} good messages were stored, expected {expected}")));
        }
        Ok(found as f64 / took.as_secs_f64())
    }

    /// Spreads bad messages evenly between good ones, and over the hosts.
    fn messages(&self, servers: &Servers, neighbours: Option<(&[Kind], usize)>) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut add = |id: String, image: String| {
            lines.extend_from_slice(json!({ "id": id, "image": image }).to_string().as_bytes());
            lines.push(b'\n');
        };
        let mut bad = 0;
        for number in 0..self.messages {
            if let Some((kinds, hosts)) = neighbours {
                while bad * self.messages <= number * self.bad && bad < self.bad {
                    let host = bad % hosts;
                    let kind = kinds.get(host % kinds.len()).copied().unwrap_or(Kind::Silent);
                    add(format!("bad-{bad}"), servers.bad(kind, host, bad));
                    bad += 1;
                }
            }
            add(number.to_string(), servers.good(number));
        }
        lines
    }
}

/// Two servers: one serves the pictures, the other one fails. They stop when dropped.
struct Servers {
    good: SocketAddr,
    pictures: usize,
    bad: u16,
    /// Nothing listens on this port.
    closed: u16,
    _serving: [AbortOnDropHandle<()>; 2],
}

impl Servers {
    async fn start(pictures: Vec<Bytes>) -> Result<Self, BenchError> {
        let failed =
            |source| BenchError::Io { what: "cannot serve pictures on the loopback network".to_owned(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let good = listener.local_addr().map_err(failed)?;
        let count = pictures.len();
        let router = Router::new().route("/{number}", get(picture)).with_state(Arc::<[Bytes]>::from(pictures));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the benchmark's server ended");
            }
        });
        // Every address of the loopback network is a separate host. Other clients are rejected.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(failed)?;
        let bad = listener.local_addr().map_err(failed)?.port();
        let stalling = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((connection, peer)) = accepted && peer.ip().is_loopback() {
                            open.spawn(stall(connection));
                        }
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let closed = closed.local_addr().map_err(failed)?.port();
        let _serving = [AbortOnDropHandle::new(serving), AbortOnDropHandle::new(stalling)];
        Ok(Self { good, pictures: count, bad, closed, _serving })
    }

    fn good(&self, number: usize) -> String {
        format!("http://{}/{}", self.good, number % self.pictures)
    }

    fn bad(&self, kind: Kind, host: usize, number: usize) -> String {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + host as u32);
        let (port, path) = match kind {
            Kind::Refusing => (self.closed, "refused"),
            Kind::Silent => (self.bad, "silent"),
            Kind::Stalling => (self.bad, "stalls"),
        };
        format!("http://{address}:{port}/{path}/{number}")
    }
}

async fn picture(State(pictures): State<Arc<[Bytes]>>, Path(number): Path<usize>) -> Response {
    pictures.get(number).cloned().map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

/// Reads the request, starts an answer if requested, and waits until the client closes the connection.
async fn stall(mut connection: TcpStream) {
    let mut request = [0; 4096];
    let mut read = connection.read(&mut request).await.unwrap_or_default();
    if request.starts_with(b"GET /stalls") && connection.write_all(HEAD).await.is_err() {
        return;
    }
    while read > 0 {
        read = connection.read(&mut request).await.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_messages_are_spread_evenly_over_good_ones_and_hosts() {
        let servers = Servers::start(vec![Bytes::from_static(b"x")]).await.unwrap();
        let bench = NeighboursBench { catalog: PathBuf::new(), messages: 10, bad: 5, rounds: 1 };
        let lines = String::from_utf8(bench.messages(&servers, Some((ALL, 3)))).unwrap();
        let bad: Vec<bool> = lines.lines().map(|line| line.contains("bad-")).collect();
        assert_eq!((bad.len(), bad.iter().filter(|bad| **bad).count()), (15, 5));
        assert!(bad.windows(2).all(|pair| pair != [true, true]) && bad[0], "{lines}");
        for part in ["127.1.0.1:", "127.1.0.2:", "127.1.0.3:", "/refused/0", "/silent/1", "/stalls/2", "/refused/3"] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
        let alone = String::from_utf8(bench.messages(&servers, None)).unwrap();
        assert_eq!((alone.lines().count(), alone.contains("bad")), (10, false));
    }
}
