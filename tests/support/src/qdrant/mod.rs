//! A Qdrant endpoint for tests: Qdrant's own engine (`qdrant-edge`) behind Qdrant's own gRPC protocol, on a real socket.
//! It imitates Qdrant 1.18.3 ([`IMITATES`]), and, where a test asks for it ([`Trouble`]), what 1.17 and 1.19 say otherwise.
//!
//! So the real client can be tested for what it sends and for what an engine then makes of it, with no server to
//! install. The rules:
//!
//! - What the endpoint answers was done by the engine. A call, a field or a value that it does not support is refused
//!   with `Unimplemented` (or `InvalidArgument`, where Qdrant refuses it too), never ignored.
//! - Errors carry the code and the wording of a Qdrant server; [`status`] has them all, and says in which of its files they were read.
//! - A collection's strict mode is enforced as a server does. What else a server or cluster may be in (`Trouble`), or somebody
//!   may do to a collection ([`QdrantEndpoint::supplant`]), is for a test to ask for.
//! - An answered update is on disk: it outlives [`QdrantEndpoint::stop`], a drop, and the process.
//!
//! What it is not: no cluster, no optimizer (every search is a full scan, and exact), no sparse or multi vectors, no geo
//! conditions, no snapshots. An upsert batch holds its collection until it is done, while a server lets
//! other writers in between its operations.

mod collections;
mod convert;
mod engine;
mod gate;
mod operations;
mod points;
mod reads;
pub mod server;
mod service;
pub mod status;
mod strict;
mod trouble;
mod usage;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use axum::middleware;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use engine::Engine;
use gate::Gate;
pub use gate::{Faults, Traffic};
use service::Service;
pub use trouble::Trouble;

/// The server version that this is a double of.
pub const IMITATES: &str = "1.18.3";

/// How long a stop waits for calls under way, and a start for a predecessor to let go of the port.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running endpoint. Dropping it cuts every connection at once; [`stop`](Self::stop) first answers what is under way.
pub struct QdrantEndpoint {
    scheme: &'static str,
    address: SocketAddr,
    engine: Arc<Engine>,
    /// One for each endpoint of the engine: the last one closes it.
    users: Arc<()>,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), tonic::transport::Error>>>,
    /// Its own, so that dropping it also ends the connections, and a blocked test does not block the endpoint.
    runtime: Option<Runtime>,
}

/// How to start a [`QdrantEndpoint`].
pub struct Options {
    dir: PathBuf,
    port: u16,
    api_key: Option<String>,
    tls: Option<ServerTlsConfig>,
}

impl Options {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), port: 0, api_key: None, tls: None }
    }

    /// 0, the default, takes a free port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Refuses every call without this key.
    pub fn api_key(mut self, api_key: &str) -> Self {
        self.api_key = Some(api_key.to_owned());
        self
    }

    /// Serves over TLS; certificate and key are PEM.
    pub fn tls(mut self, certificate: &[u8], key: &[u8]) -> Self {
        // tonic's server asks rustls for the process's own provider, and there are two in this build. It may be there already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        self.tls = Some(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)));
        self
    }

    pub fn start(self) -> io::Result<QdrantEndpoint> {
        let engine = Engine::open(&self.dir).map_err(|status| io::Error::other(status.message().to_owned()))?;
        self.serve(Arc::new(engine), Arc::default())
    }

    fn serve(self, engine: Arc<Engine>, users: Arc<()>) -> io::Result<QdrantEndpoint> {
        let listener = bind(self.port)?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let gate = Arc::new(Gate { api_key: self.api_key, faults: Arc::clone(&faults) });
        let service = Service { engine: Arc::clone(&engine), faults: Arc::clone(&faults) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("qdrant-endpoint")
            .enable_all()
            .build()?;
        let incoming = {
            let _entered = runtime.enter();
            TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut builder = Server::builder();
        if let Some(tls) = self.tls {
            builder = builder.tls_config(tls).map_err(io::Error::other)?;
        }
        let server =
            runtime.spawn(builder.add_routes(routes(service, gate)).serve_with_incoming_shutdown(incoming, async {
                // An error means that the endpoint was dropped; the runtime then ends this task too.
                let _ = stopped.await;
            }));
        Ok(QdrantEndpoint {
            scheme,
            address,
            engine,
            users,
            faults,
            stop: Some(stop),
            server: Some(server),
            runtime: Some(runtime),
        })
    }
}

impl QdrantEndpoint {
    /// Starts on a free port with what `dir` holds, and no API key.
    ///
    /// # Panics
    /// When it cannot: a test cannot go on then.
    pub fn start(dir: &Path) -> Self {
        Options::new(dir).start().unwrap_or_else(|error| panic!("start the endpoint on {}: {error}", dir.display()))
    }

    /// Another node of the same cluster: it has the same collections, and a port and faults of its own. `port` 0: a free one.
    ///
    /// # Panics
    /// When it cannot.
    pub fn another_node(&self, port: u16) -> Self {
        let node = Options::new(Path::new("")).port(port).serve(self.engine.clone(), self.users.clone());
        node.unwrap_or_else(|error| panic!("start another node: {error}"))
    }

    /// What a client connects to.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Somebody deletes the collection. What was there is kept aside.
    ///
    /// # Panics
    /// When there is no such collection.
    pub fn put_aside(&self, collection: &str) {
        let done = self.engine.put_aside(collection);
        done.unwrap_or_else(|status| panic!("put {collection} aside: {}", status.message()));
    }

    /// Somebody makes one of the same name that is not ours, in the place of one that was put aside.
    ///
    /// # Panics
    /// When there is no such collection.
    pub fn supplant(&self, collection: &str, dimension: u64) {
        let done = self.engine.supplant(collection, dimension);
        done.unwrap_or_else(|status| panic!("supplant {collection}: {}", status.message()));
    }

    /// Undoes both; says how many points were written into what took the place.
    ///
    /// # Panics
    /// When the collection was not put aside.
    pub fn put_back(&self, collection: &str) -> usize {
        let done = self.engine.put_back(collection);
        done.unwrap_or_else(|status| panic!("put back {collection}: {}", status.message()))
    }

    /// Names of the collections.
    pub fn collections(&self) -> Vec<String> {
        self.engine.names().unwrap_or_default()
    }

    /// Names of the collections that were put aside.
    pub fn aside(&self) -> Vec<String> {
        self.engine.aside().unwrap_or_default()
    }

    /// Takes no more calls, answers those under way (for up to 10 s), and closes the files.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the server has ended already.
            let _ = stop.send(());
        }
        if let Some(server) = self.server.take() {
            // A connection that does not end in time is cut by the drop that follows.
            let _ = tokio::time::timeout(PATIENCE, server).await;
        }
        let end = tokio::task::spawn_blocking(move || drop(self));
        end.await.unwrap_or_else(|error| panic!("close the endpoint's files: {error}"));
    }
}

impl Drop for QdrantEndpoint {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if Arc::strong_count(&self.users) == 1 {
            self.engine.close();
        }
    }
}

fn routes(service: Service, gate: Arc<Gate>) -> Routes {
    macro_rules! server {
        ($server:ident) => {
            $server::new(service.clone())
                .max_decoding_message_size(usize::MAX)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
        };
    }
    let router = Routes::new(server!(QdrantServer))
        .add_service(server!(CollectionsServer))
        .add_service(server!(PointsServer))
        .into_axum_router()
        .layer(middleware::from_fn_with_state(gate, gate::admit));
    Routes::from(router)
}

/// Binds on the loopback address, waiting for an endpoint that was just dropped to free a given port.
#[expect(clippy::disallowed_methods, reason = "runs before there is a runtime, and a port that is freed wakes nobody")]
fn bind(port: u16) -> io::Result<TcpListener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
}
