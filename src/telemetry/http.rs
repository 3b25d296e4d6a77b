//! `/metrics`, `/livez` and `/readyz` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Health, Metrics};

/// Value of the `Server` header, by which `clipstream check` knows a worker that is already there.
pub const SERVER: &str = concat!("clipstream/", env!("CARGO_PKG_VERSION"));

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON_LINES: &str = "application/jsonl";
const TEXT: &str = "text/plain; charset=utf-8";

/// The address cannot be listened on. Names the address and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ListenError(String);

type Live = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Health,
    live: Live,
}

/// Serves until `stop` completes; requests under way are finished first. Listens before it returns, and returns the
/// address that it got (`address` may have port 0).
///
/// - `/metrics`: OpenMetrics text.
/// - `/livez`: 200 while `live` is `Ok`; 503 and its reason otherwise, which asks an orchestrator for a restart.
/// - `/readyz`: 200 when nothing is unready, with a line for each of the health's notes; 503 with one JSON line `{"component", "reason"}` each otherwise.
///
/// Let `stop` complete after the drain, so that a draining worker stays observable.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    health: Health,
    live: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<std::io::Result<()>>), ListenError> {
    let unusable = |error: std::io::Error| {
        ListenError(format!(
            "cannot listen on {address} for metrics and health: {error}; stop what uses it, or set telemetry.listen \
             to another IP address:port (empty: not served)"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let router = Router::new()
        .route("/metrics", get(self::metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Shared { metrics, health, live: Arc::new(live) });
    let server = axum::serve(listener, router).with_graceful_shutdown(stop);
    Ok((bound, tokio::spawn(server.into_future())))
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
    match (shared.live)() {
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
        let line = serde_json::json!({ "component": component, "reason": reason });
        format!("{line}\n")
    });
    reply(StatusCode::SERVICE_UNAVAILABLE, JSON_LINES, lines.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> (u16, String, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        assert_eq!(response.headers()[header::SERVER], SERVER);
        (response.status().as_u16(), kind, response.text().await.unwrap())
    }

    #[tokio::test]
    async fn tells_the_truth_and_stops_when_asked() {
        let (metrics, health) = (Arc::new(Metrics::default()), Health::new());
        let dead = Arc::new(Mutex::new(None::<String>));
        let live = dead.clone();
        let live = move || live.lock().unwrap().clone().map_or(Ok(()), Err);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, server) = serve(any, metrics, health.clone(), live, stopped).await.unwrap();

        let (status, kind, text) = fetch(address, "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, OPENMETRICS));
        assert!(text.ends_with("# EOF\n"), "{text}");

        assert_eq!(fetch(address, "/readyz").await.0, 200);
        health.unready("store", "qdrant does not answer");
        let (status, _, text) = fetch(address, "/readyz").await;
        assert_eq!((status, text.as_str()), (503, "{\"component\":\"store\",\"reason\":\"qdrant does not answer\"}\n"));
        health.ready("store");
        assert_eq!(fetch(address, "/readyz").await.2, "ready\n");
        health.note("model a/b", "fp32 on cpu");
        assert_eq!(fetch(address, "/readyz").await.2, "ready\nmodel a/b: fp32 on cpu\n");

        assert_eq!(fetch(address, "/livez").await.0, 200);
        *dead.lock().unwrap() = Some("stage embed is gone".into());
        assert_eq!(fetch(address, "/livez").await.2, "stage embed is gone\n");

        let taken = serve(address, Arc::default(), Health::new(), || Ok(()), std::future::pending()).await;
        let error = taken.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("telemetry.listen"), "{error}");

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
