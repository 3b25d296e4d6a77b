//! A TCP proxy that harms what passes through it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BACKLOG: u32 = 1024;
const CHUNK: usize = 64 * 1024;
/// A slow link: this much, then a pause. About 20 kB/s.
const SLOW_CHUNK: usize = 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(50);

/// What happens to connections. `every`: 1 = all of them, 2 = every second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    None,
    /// New connections are closed at once; those that are there live on.
    Refuse,
    /// Nobody listens: the system refuses new connections. Those that are there live on.
    Gone,
    /// Bytes are held, in both directions, and delivered when the harm is over: however late, and whoever sent them.
    Stall {
        every: u64,
    },
    Slow {
        every: u64,
    },
    /// An answer breaks off in the middle, and its connection with it.
    HalfAnswers {
        every: u64,
    },
}

impl Harm {
    fn hits(self, connection: u64) -> bool {
        match self {
            Self::None | Self::Refuse | Self::Gone => false,
            Self::Stall { every } | Self::Slow { every } | Self::HalfAnswers { every } => {
                connection.is_multiple_of(every)
            }
        }
    }
}

/// Dropping it ends its connections.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<io::Result<()>>,
}

struct Shared {
    upstream: watch::Sender<Option<SocketAddr>>,
    harm: watch::Sender<Harm>,
    /// Counts the cuts, each with what it hits.
    cut: watch::Sender<(u64, u64)>,
    /// Connections refused, held, slowed, broken or cut so far.
    harmed: AtomicU64,
}

impl Proxy {
    /// Refuses everybody until it is told where to lead to.
    pub async fn bind() -> io::Result<Self> {
        // Bound for as long as the proxy lives, and never listening: nobody else gets the port while it is gone.
        let kept = bound((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = kept.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: watch::Sender::new(None),
            harm: watch::Sender::new(Harm::None),
            cut: watch::Sender::new((0, 1)),
            harmed: AtomicU64::new(0),
        });
        let server = tokio::spawn(serve(kept, bound(address)?.listen(BACKLOG)?, shared.clone()));
        Ok(Self { address, shared, server })
    }

    pub fn lead_to(&self, upstream: SocketAddr) {
        self.shared.upstream.send_replace(Some(upstream));
    }

    pub fn set(&self, harm: Harm) {
        self.shared.harm.send_replace(harm);
    }

    /// Breaks the connections of now.
    pub fn cut(&self, every: u64) {
        self.shared.cut.send_modify(|(count, hits)| (*count, *hits) = (*count + 1, every));
    }

    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.cut.send_modify(|(count, hits)| (*count, *hits) = (*count + 1, 1));
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// `_kept` has the port, see [`Proxy::bind`].
async fn serve(_kept: TcpSocket, listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (mut connection, mut harm, mut listener) = (0, shared.harm.subscribe(), listener);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            gone = async { harm.wait_for(|now| *now == Harm::Gone).await.map(drop) } => {
                gone.map_err(io::Error::other)?;
                drop(listener);
                harm.wait_for(|now| *now != Harm::Gone).await.map_err(io::Error::other)?;
                listener = bound(address)?.listen(BACKLOG)?;
                continue;
            }
        };
        let Ok((client, _)) = accepted else { continue };
        if *shared.harm.borrow() == Harm::Refuse {
            shared.harmed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        connection += 1;
        tokio::spawn(carry(connection, client, shared.clone()));
    }
}

async fn carry(connection: u64, client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cut.subscribe();
    let Some(upstream) = *shared.upstream.borrow() else { return };
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    // Fails only on a socket that is gone, which the first read notices.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let harm = || shared.harm.subscribe();
    let up = pump(connection, from_client, to_server, harm(), &shared, false);
    let down = pump(connection, from_server, to_client, harm(), &shared, true);
    let both = async { tokio::try_join!(up, down) };
    let cut = async {
        while cuts.changed().await.is_ok() {
            let (_, every) = *cuts.borrow_and_update();
            if connection.is_multiple_of(every) {
                shared.harmed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    };
    // Whichever ends first drops both sockets.
    tokio::select! {
        _ = both => {}
        () = cut => {}
    }
}

async fn pump(
    connection: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut harm: watch::Receiver<Harm>,
    shared: &Shared,
    answers: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let is_stalled = |harm: &Harm| matches!(harm, Harm::Stall { .. }) && harm.hits(connection);
        if is_stalled(&harm.borrow_and_update()) {
            shared.harmed.fetch_add(1, Ordering::Relaxed);
            harm.wait_for(|now| !is_stalled(now)).await.map_err(io::Error::other)?;
        }
        let now = *harm.borrow_and_update();
        let hit = now.hits(connection);
        match now {
            Harm::HalfAnswers { .. } if hit && answers => {
                shared.harmed.fetch_add(1, Ordering::Relaxed);
                to.write_all(&buffer[..count / 2]).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Harm::Slow { .. } if hit => {
                shared.harmed.fetch_add(1, Ordering::Relaxed);
                for piece in buffer[..count].chunks(SLOW_CHUNK) {
                    to.write_all(piece).await?;
                    // Over at once when the harm is.
                    let _ = tokio::time::timeout(SLOW_PAUSE, harm.wait_for(|now| !now.hits(connection))).await;
                }
            }
            _ => to.write_all(&buffer[..count]).await?,
        }
    }
}
