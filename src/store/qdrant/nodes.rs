//! The nodes of a Qdrant cluster. Any of them takes any call, so a call that one cannot serve is made again at the next.
//!
//! Every call of ours may be repeated: reads change nothing, and a write that is applied twice is as one. What was sent first may
//! still be under way then, so that a write in several steps is sent under another name (`Batch::resend`).

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
/// How long a node that is away is left out before it is asked whether it is back, the first time and at most; doubled each
/// time. While all are away, all are asked.
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the answer to that.
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
    /// Connections opened so far. Whoever answers after one may not be who answered before it.
    opened: AtomicU64,
    /// None: it answered, or was not asked yet.
    away: Mutex<Option<Away>>,
}

#[derive(Clone, Copy)]
struct Away {
    until: Instant,
    wait: Duration,
}

/// The node that a sequence of calls belongs to: the one that answered last.
pub(super) type Home = Arc<AtomicUsize>;

impl Nodes {
    /// Redacted addresses with what opens connections to them; at least one. They connect with the first calls, and again
    /// after a connection broke.
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

    /// The next in turn of those that are there.
    pub fn home(&self) -> Home {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        Home::new(self.order(start).first().copied().unwrap_or_default().into())
    }

    /// How often a connection to `node` was opened.
    pub fn opened(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.opened.load(Ordering::Relaxed))
    }

    /// Calls `home`, or else whoever can serve the call, who is `home` from then on.
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
                    // Who answers says more than who does not.
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

    /// The same at one node, whoever else might serve it.
    pub async fn call_at<T, F>(&self, node: usize, call: impl Fn(Channel) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.nodes[node].call(&call, true).await.map(Response::into_inner)
    }

    /// Whom to ask, one after the other: from `start` on those that are there, then those that are away.
    fn order(&self, start: usize) -> Vec<usize> {
        let count = self.nodes.len();
        let now = Instant::now();
        let all = (0..count).map(|n| start.wrapping_add(n) % count);
        let (away, here): (Vec<usize>, Vec<usize>) = all.partition(|n| Node::is_left_out(&self.nodes[*n], now));
        here.into_iter().chain(away).collect()
    }
}

impl Node {
    /// Calls once more when the connection broke; where nobody else can be asked, also when the request timed out.
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
                // Anew, because the server's address may have changed.
                call(self.connect(place).await?).await
            }
            result => result,
        }
    }

    /// Opens a connection in the place of what was there.
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

    /// When its time has come, it is asked beside the work whether it is back: no call waits for one that may hang.
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
        // A panic elsewhere leaves it whole: every change is one assignment.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the node cannot be reached or does not answer, whatever it is asked.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) && !error::is_too_large(status)
}

/// Whether another node may do what this one cannot. Besides a node that is away: replicas that are not active and leaders
/// that cannot be reached are `Internal`, shards that are moved or restored `FailedPrecondition` or `Unavailable`, and a node
/// that has just joined does not know the collection yet (Qdrant's lib/storage/src/content_manager/conversions.rs and
/// lib/collection/src/shards/replica_set/update.rs).
fn may_be_served_elsewhere(status: &Status) -> bool {
    match status.code() {
        Code::Internal | Code::FailedPrecondition | Code::DataLoss => true,
        Code::NotFound => !error::is_missing_point(status),
        _ => is_away(status),
    }
}
