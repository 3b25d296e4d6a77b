//! A group of its own with one worker, whose messages have tenants in a header, and name pictures of hosts that never serve beside
//! those of one that always does. A message is tried three times: the good ones must be done, and the others be letters.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::message::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::faults::World;
use crate::journal::{Journal, Place};
use crate::kinds::Kind;
use crate::media::{self, Media, Picture};
use crate::plan::Workload;
use crate::settings;
use crate::topics::Topic;
use crate::workers::{Pool, WorkerSettings};

const TOPIC: Topic = Topic::Tenants;
/// Of the host that serves.
const PICTURES: usize = 8;
/// So many messages at once, so often.
const EACH: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// Hosts whose bodies stall, and messages of each in a burst.
const STALLING: u8 = 6;
const OF_EACH: usize = 2;
/// Messages of the host that refuses connections, in a burst.
const REFUSED: usize = 30;
/// Good ones behind them.
const BEHIND: usize = 4;
/// Between two bursts.
const BETWEEN: Duration = Duration::from_secs(12);
/// For the good ones of a burst, whatever else may be away. Later than this only the end of the campaign looks after them.
const BEHIND_MAX: Duration = Duration::from_secs(60);
const STALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: image/webp\r\n\r\nRIFF";

pub struct Tenants {
    pub pool: Arc<Pool>,
    pub pictures: BTreeMap<String, Picture>,
    stalling: Vec<SocketAddr>,
    /// Requests that were answered with a stall.
    stalled: Arc<AtomicU64>,
    /// Bound, and without a listener, so that the port is nobody else's and refuses.
    refusing: TcpSocket,
    _server: Media,
    _stalls: JoinSet<()>,
}

impl Tenants {
    pub async fn start(workers: &WorkerSettings, journal: &Arc<Journal>) -> Result<Self, Error> {
        let pool = Arc::new(Pool::new(settings::of_tenants(workers), 1, journal.clone()));
        let server = Media::start().await?;
        let pictures = media::names()?.0.into_iter().take(PICTURES);
        let pictures = pictures.map(|name| {
            let url = format!("http://{}/images/{name}", server.address);
            Ok((url, media::picture(&name)?))
        });
        let pictures = pictures.collect::<Result<_, Error>>()?;
        let (mut stalling, mut stalls, stalled) = (Vec::new(), JoinSet::new(), Arc::<AtomicU64>::default());
        for n in 1..=STALLING {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, n), 0)).await?;
            stalling.push(listener.local_addr()?);
            stalls.spawn(stall(listener, stalled.clone()));
        }
        let refusing = TcpSocket::new_v4()?;
        refusing.bind((Ipv4Addr::new(127, 0, 2, 1), 0).into())?;
        Ok(Self { pool, pictures, stalling, stalled, refusing, _server: server, _stalls: stalls })
    }

    /// Pictures of hosts that never serve, and good ones behind them in the same partition. Counts if the hosts were asked, and how
    /// long the good ones took.
    async fn burst(&self, workload: &mut Workload, world: &World, partition: i32) -> Result<(), Error> {
        let before = self.stalled.load(Ordering::Relaxed);
        let refusing = format!("http://{}/gone", self.refusing.local_addr()?);
        let mut messages = Vec::new();
        for host in &self.stalling {
            let url = format!("http://{host}/stalls");
            messages.extend((0..OF_EACH).map(|_| workload.unserved(&url, "body_stalled|fetch_timeout")));
        }
        messages.extend((0..REFUSED).map(|_| workload.unserved(&refusing, "connect_failed")));
        let bad = messages.len();
        messages.extend((0..BEHIND).map(|_| workload.served()));
        let delivered = world.broker.deliver(&messages, partition).await?;
        let begun = Instant::now();
        let place = |offset| (TOPIC, partition, offset);
        let behind: Vec<Place> = delivered.iter().skip(bad).map(|message| place(message.offset())).collect();
        while !behind.iter().all(|place| !world.journal.processed(*place).is_empty()) {
            if begun.elapsed() > BEHIND_MAX {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        if self.stalled.load(Ordering::Relaxed) > before {
            world.count(Kind::Unserved);
            world.journal.recovered(Kind::Unserved, begun.elapsed());
        }
        Ok(())
    }
}

/// Begins answers, and sends no more of them.
async fn stall(listener: TcpListener, stalled: Arc<AtomicU64>) {
    let mut open = JoinSet::new();
    loop {
        // Fails where descriptors are short, for example, and for the one connection.
        let Ok((mut connection, _)) = listener.accept().await else { continue };
        let stalled = stalled.clone();
        open.spawn(async move {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(STALL).await;
            stalled.fetch_add(1, Ordering::Relaxed);
            // Until the other side has enough of it.
            while connection.read(&mut request).await.is_ok_and(|bytes| bytes > 0) {}
        });
        while open.try_join_next().is_some() {}
    }
}

/// Sends bursts until it is over. Gives the hosts back: their messages may still be tried.
pub async fn unserved(
    tenants: Tenants,
    mut workload: Workload,
    world: Arc<World>,
    over: Arc<AtomicBool>,
) -> Result<Tenants, String> {
    let mut partition = 0;
    while !over.load(Ordering::Relaxed) {
        tenants.burst(&mut workload, &world, partition).await.map_err(|e| e.to_string())?;
        partition = (partition + 1) % TOPIC.partitions();
        let next = Instant::now() + BETWEEN;
        while Instant::now() < next && !over.load(Ordering::Relaxed) {
            sleep(PAUSE).await;
        }
    }
    Ok(tenants)
}

/// Sends until it is over.
pub async fn feed(mut workload: Workload, broker: Broker, over: Arc<AtomicBool>) -> Result<(), String> {
    while !over.load(Ordering::Relaxed) {
        for _ in 0..EACH {
            broker.send(&workload.of_tenant()).await.map_err(|e| e.to_string())?;
            broker.send(&workload.compacted()).await.map_err(|e| e.to_string())?;
        }
        sleep(PAUSE).await;
    }
    broker.flush().await.map_err(|e| e.to_string())
}
