//! HTTPS before a picture server: `localhost`, with a certificate of an authority of our own (`tests/fixtures/tls`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Error;

/// Dropping it ends it, but not the connections that there are.
pub struct Front {
    pub address: SocketAddr,
    /// Handshakes that a client broke off because it does not trust us.
    distrusted: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

impl Front {
    pub async fn start(behind: SocketAddr) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_file(fixture("server.pem"))?;
        let key = PrivateKeyDer::from_pem_file(fixture("server.key"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, distrusted) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let server = serve(listener, TlsAcceptor::from(Arc::new(config)), behind, distrusted.clone());
        Ok(Self { address, distrusted, server: tokio::spawn(server) })
    }

    pub fn distrusted(&self) -> u64 {
        self.distrusted.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr, distrusted: Arc<AtomicU64>) {
    loop {
        // Fails where descriptors are short, for example, and for the one connection.
        let Ok((client, _)) = listener.accept().await else { continue };
        let (acceptor, distrusted) = (acceptor.clone(), distrusted.clone());
        tokio::spawn(async move {
            match acceptor.accept(client).await {
                Ok(mut client) => {
                    let Ok(mut server) = TcpStream::connect(behind).await else { return };
                    // Whoever ends first ends both.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
                Err(error) if is_alert(&error) => {
                    distrusted.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        });
    }
}

fn is_alert(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::AlertReceived(_)))
}
