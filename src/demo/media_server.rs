//! The demo's picture server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves the catalog's pictures over HTTP on a free loopback port, so that the demo fetches as a worker does.
pub struct MediaServer {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl MediaServer {
    pub async fn start(directory: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/images/{name}", get(picture)).with_state(directory.join("images"));
        let serving = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, router).await {
                tracing::error!("the demo's media server ended: {e}");
            }
        });
        Ok(Self { address, serving })
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn picture(State(directory): State<PathBuf>, UrlPath(name): UrlPath<String>) -> Response {
    // One path segment only; names that could leave the folder are rejected.
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(directory.join(name)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/webp")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
