//! The nodes of a Qdrant cluster. Any node takes any call, so a call that one cannot serve is repeated at the next.
//!
//! Every call may be repeated: reads change nothing, and a write applied twice has the effect of one. The first attempt
//! may still be running then, so a write in several steps is repeated under another claim (`Batch::resend`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use qdrant_client::qdrant::HealthCheckRequest;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::error::{self, CONNECT_FAILED};
use crate::redact;

/// Connections to a node, used in turn: one carries many calls, but only one packet at a time.
const CHANNELS: usize = 3;
/// How long a node that is away is skipped before it is probed: the first wait and the longest one; doubled each time.
/// If all nodes are away, all are tried.
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the probe's answer.
const BACK_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Nodes {
    nodes: Vec<Arc<Node>>,
    turn: AtomicUsize,
}

struct Node {
    /// Redacted, for messages.
    url: String,
    endpoint: Endpoint,
    channels: [RwLock<Option<Channel>>; CHANNELS],
    turn: AtomicUsize,
    /// Connections opened so far. After a new one, another server may answer.
    opened: AtomicU64,
    /// `None`: it answered, or was not asked yet.
    away: Mutex<Option<Away>>,
}

#[derive(Clone, Copy)]
struct Away {
    until: Instant,
    wait: Duration,
}

/// The node of a sequence of calls: the one that answered last.
pub(super) type Home = Arc<AtomicUsize>;

impl Nodes {
    /// Redacted addresses with their endpoints; at least one. Nodes connect on the first call, and again after a
    /// connection broke.
    pub fn new(endpoints: Vec<(String, Endpoint)>) -> Self {
        let node = |(url, endpoint)| Node {
            url,
            endpoint,
            channels: Default::default(),
            turn: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            away: Mutex::default(),
        };
        Self { nodes: endpoints.into_iter().map(node).map(Arc::new).collect(), turn: AtomicUsize::new(0) }
    }

    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.url.as_str())
    }

    /// The next node in turn that is not away.
    pub fn home(&self) -> Home {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        Home::new(self.order(start).first().copied().unwrap_or_default().into())
    }

    /// How often a connection to `node` was opened.
    pub fn opened(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.opened.load(Ordering::Relaxed))
    }

    /// Calls `home`. If it cannot serve the call, the first node that can becomes the new `home`.
    pub async fn call<T, F>(&self, home: &Home, call: impl Fn(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let alone = self.nodes.len() == 1;
        let mut said: Option<Status> = None;
        for n in self.order(home.load(Ordering::Relaxed)) {
            let result = self.nodes[n].call(&call, alone).await;
            if !alone {
                self.nodes[n].note(result.as_ref().err());
            }
            match result {
                Err(status) if may_be_served_elsewhere(&status) => {
                    // The error of a node that answers is more specific than that of an unreachable node.
                    if said.as_ref().is_none_or(|said| is_away(said) && !is_away(&status)) {
                        said = Some(status);
                    }
                }
                answer => {
                    home.store(n, Ordering::Relaxed);
                    return answer.map(Response::into_inner);
                }
            }
        }
        Err(said.unwrap_or_else(|| Status::unavailable(format!("{CONNECT_FAILED}no address is known"))))
    }

    /// Calls this node only.
    pub async fn call_at<T, F>(&self, node: usize, call: impl Fn(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.nodes[node].call(&call, true).await.map(Response::into_inner)
    }

    /// The order in which nodes are tried: from `start`, those that are away last.
    fn order(&self, start: usize) -> Vec<usize> {
        let count = self.nodes.len();
        let now = Instant::now();
        let all = (0..count).map(|n| start.wrapping_add(n) % count);
        let (away, here): (Vec<usize>, Vec<usize>) = all.partition(|n| Node::is_left_out(&self.nodes[*n], now));
        here.into_iter().chain(away).collect()
    }
}

impl Node {
    /// Repeats the call once if the connection broke, or if the only node timed out.
    async fn call<T, F>(&self, call: &impl Fn(Channel) -> F, alone: bool) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let place = &self.channels[self.turn.fetch_add(1, Ordering::Relaxed) % CHANNELS];
        let open = place.read().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = match open {
            Some(channel) => channel,
            None => self.connect(place).await?,
        };
        match call(channel).await {
            Err(status) if matches!(status.code(), Code::Cancelled) && !alone => Err(status),
            Err(status)
                if matches!(status.code(), Code::Internal | Code::Unavailable | Code::Cancelled | Code::Unknown) =>
            {
                // Reconnect, because the server's address may have changed.
                call(self.connect(place).await?).await
            }
            result => result,
        }
    }

    /// Opens a connection and replaces the old one.
    async fn connect(&self, place: &RwLock<Option<Channel>>) -> Result<Channel, Status> {
        let opened = self.endpoint.connect().await;
        let channel =
            opened.map_err(|why| Status::unavailable(format!("{CONNECT_FAILED}{}", redact::root_cause(&why))))?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        *place.write().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }

    fn note(&self, failed: Option<&Status>) {
        let mut away = self.away();
        match failed.filter(|status| is_away(status)) {
            Some(status) => {
                if away.is_none() {
                    let why = redact::cut(status.message(), 300);
                    tracing::warn!(node = self.url, "this Qdrant node is away, the others are asked: {why}");
                }
                let wait = away.map_or(AWAY_MIN, |away| (away.wait * 2).min(AWAY_MAX));
                *away = Some(Away { until: Instant::now() + wait, wait });
            }
            None => {
                if away.take().is_some() {
                    tracing::info!(node = self.url, "this Qdrant node is back");
                }
            }
        }
    }

    /// Probes the node in the background when it is due, so that no call waits for a node that may hang.
    fn is_left_out(node: &Arc<Self>, now: Instant) -> bool {
        let mut away = node.away();
        let Some(Away { until, wait }) = *away else { return false };
        if now >= until {
            *away = Some(Away { until: now + wait + BACK_TIMEOUT, wait });
            let node = node.clone();
            tokio::spawn(async move {
                let ask = |channel| async move { QdrantClient::new(channel).health_check(HealthCheckRequest {}).await };
                let answer = tokio::time::timeout(BACK_TIMEOUT, node.call(&ask, false)).await;
                let answer = answer.unwrap_or_else(|_| Err(Status::unavailable("it does not answer")));
                node.note(answer.as_ref().err());
            });
        }
        true
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        // A poisoned lock is safe to use: every change is one assignment.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the node is unreachable or does not answer at all.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) && !error::is_too_large(status)
}

/// Whether another node may serve the call. Besides nodes that are away: inactive replicas and unreachable leaders are
/// `Internal`, shards being moved or restored are `FailedPrecondition` or `Unavailable`, and a node that has just
/// joined does not know the collection yet (Qdrant's lib/storage/src/content_manager/conversions.rs and
/// lib/collection/src/shards/replica_set/update.rs).
fn may_be_served_elsewhere(status: &Status) -> bool {
    match status.code() {
        Code::Internal | Code::FailedPrecondition | Code::DataLoss => true,
        Code::NotFound => !error::is_missing_point(status),
        _ => is_away(status),
    }
}
