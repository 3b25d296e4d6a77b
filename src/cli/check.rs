//! `clipstream check`: every dependency is tried, and every result is shown.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde_json::json;

use super::{CliError, Exit, Global, Output};
use crate::config::{ClipSettings, Settings};

/// One check may take this long; longer ones fail.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tries every dependency and shows all results; exit code 3 if any fails
///
/// With --json: one line {"check", "ok", "detail" | "reason", "next_step"} per check.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream check --config worker.toml")]
pub struct Args {}

/// Why a check failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: String,
    pub next_step: String,
}

impl Fault {
    pub fn new(reason: impl ToString, next_step: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), next_step: next_step.into() }
    }
}

/// What a check found, in a few words, or why it failed.
type Verdict = Result<String, Fault>;

/// A name, and what is tried under it.
type Check = (String, Pin<Box<dyn Future<Output = Verdict> + Send>>);

/// Named checks. They run at the same time and are shown in the order they were added in.
#[derive(Default)]
pub struct Checklist {
    checks: Vec<Check>,
}

impl Checklist {
    pub fn add(&mut self, name: impl Into<String>, check: impl Future<Output = Verdict> + Send + 'static) {
        self.checks.push((name.into(), Box::pin(check)));
    }

    /// Shows each result as soon as it and those before it are there. Returns how many failed.
    pub async fn run(self, output: Output) -> Result<usize, CliError> {
        let width = self.checks.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut running: FuturesOrdered<_> = self.checks.into_iter().map(one).collect();
        let mut failed = 0;
        while let Some((name, verdict)) = running.next().await {
            failed += usize::from(verdict.is_err());
            show(output, &name, width, &verdict)?;
        }
        Ok(failed)
    }
}

async fn one((name, check): Check) -> (String, Verdict) {
    let started = Instant::now();
    let verdict = tokio::time::timeout(DEADLINE, check).await.unwrap_or_else(|_| {
        Err(Fault::new(format!("no answer within {} s", DEADLINE.as_secs()), "see whether it is up and can be reached"))
    });
    tracing::debug!(check = %name, ok = verdict.is_ok(), took_ms = started.elapsed().as_millis() as u64, "checked");
    (name, verdict)
}

fn show(output: Output, name: &str, width: usize, verdict: &Verdict) -> std::io::Result<()> {
    match verdict {
        Ok(detail) => output
            .result(&json!({ "check": name, "ok": true, "detail": detail }), || format!("✓ {name:<width$}  {detail}")),
        Err(fault) => {
            let json = json!({ "check": name, "ok": false, "reason": fault.reason, "next_step": fault.next_step });
            output.result(&json, || {
                format!("✗ {name:<width$}  {}\n  {:<width$}  next step: {}", fault.reason, "", fault.next_step)
            })
        }
    }
}

pub async fn run(_: Args, global: &Global) -> Result<(), CliError> {
    let output = global.output();
    let settings = match global.start() {
        Ok(settings) => settings,
        Err(error) => {
            // Nothing else can be tried without knowing what is meant.
            let fault = Fault::new("cannot be used; see below", "clipstream config validate");
            show(output, "configuration", 0, &Err(fault))?;
            return Err(error);
        }
    };
    match all(&settings).run(output).await? {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Unavailable, "1 check failed")),
        failed => Err(CliError::new(Exit::Unavailable, format!("{failed} checks failed"))),
    }
}

/// Every dependency of a worker with these settings. A further check is one `add` here and one function.
fn all(settings: &Settings) -> Checklist {
    let mut checks = Checklist::default();
    let set = settings.effective.entries().iter().filter(|e| e.origin.is_some()).count();
    checks.add("configuration", async move { Ok(format!("valid, {set} keys set")) });
    if let Some((named_by, library)) = onnxruntime(&settings.clip) {
        checks.add("onnxruntime", async move { file_exists(&library, &named_by) });
    }
    checks.add("models", models(settings.clip.clone()));
    if let Some(address) = settings.telemetry.listen {
        checks.add("telemetry", telemetry_address(address));
    }
    checks
}

/// The library that was asked for by name, and by whom; none: it is searched for when a model is loaded.
fn onnxruntime(clip: &ClipSettings) -> Option<(String, PathBuf)> {
    let variable = |name: &str| {
        let path = std::env::var_os(name).filter(|path| !path.is_empty())?;
        Some((format!("environment variable {name}"), PathBuf::from(path)))
    };
    let configured = || Some(("clip.onnxruntime".to_owned(), clip.onnxruntime.clone()?));
    variable("CLIPSTREAM_ORT_DYLIB").or_else(|| variable("ORT_DYLIB_PATH")).or_else(configured)
}

fn file_exists(path: &Path, named_by: &str) -> Verdict {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(path.display().to_string()),
        Ok(_) => Err(Fault::new(format!("{} is no file", path.display()), format!("correct {named_by}"))),
        Err(e) => Err(Fault::new(format!("{}: {e}", path.display()), format!("correct {named_by}"))),
    }
}

/// Every model has a directory with graphs in it.
async fn models(clip: ClipSettings) -> Verdict {
    if clip.models.is_empty() {
        return Err(Fault::new("clip.models is empty", "set clip.models, for example ViT-B-32/openai=models/vit-b-32"));
    }
    let mut found = Vec::new();
    for model in &clip.models {
        let own = model.directory.clone();
        let directory =
            own.unwrap_or_else(|| clip.models_directory.join(format!("{}__{}", model.id.variant, model.id.checkpoint)));
        let is_graph = |file: &walkdir::DirEntry| file.path().extension().is_some_and(|e| e == "onnx");
        let graphs = walkdir::WalkDir::new(&directory).max_depth(3).follow_links(true).into_iter();
        let graphs = graphs.filter_map(Result::ok).filter(is_graph).count();
        if graphs == 0 {
            let (path, id) = (directory.display(), &model.id);
            let what = if directory.is_dir() { "has no .onnx file" } else { "is not there" };
            return Err(Fault::new(
                format!("{id}: {path} {what}"),
                format!("put the model's files there, or set clip.models to {id}=DIRECTORY"),
            ));
        }
        found.push(format!("{} in {}", model.id, directory.display()));
    }
    Ok(found.join(", "))
}

/// The address is free, or a worker of ours has it.
async fn telemetry_address(address: SocketAddr) -> Verdict {
    let error = match tokio::net::TcpListener::bind(address).await {
        Ok(_) => return Ok(format!("{address} is free")),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::AddrInUse && is_clipstream(address).await {
        return Ok(format!("{address} is served by a clipstream that is running"));
    }
    let next_step = "stop what uses it, or set telemetry.listen to another IP address:port (empty: not served)";
    Err(Fault::new(format!("cannot listen on {address}: {error}"), next_step))
}

async fn is_clipstream(address: SocketAddr) -> bool {
    // The address is our own configuration's, so no proxy is in between.
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build() else {
        return false;
    };
    let answer = client.get(format!("http://{address}/livez")).send().await;
    let server = answer.ok().and_then(|a| a.headers().get("server").cloned());
    server.is_some_and(|name| name.as_bytes().starts_with(b"clipstream/"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::{Health, Metrics, serve};

    #[tokio::test]
    async fn a_taken_address_is_a_fault_unless_we_took_it() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let other = tokio::net::TcpListener::bind(any).await.unwrap();
        let taken = other.local_addr().unwrap();
        // Whoever it is does not speak HTTP.
        let closing = tokio::spawn(async move {
            while let Ok((socket, _)) = other.accept().await {
                drop(socket)
            }
        });
        let fault = telemetry_address(taken).await.unwrap_err();
        assert!(fault.reason.contains(&taken.to_string()), "{fault:?}");
        closing.abort();

        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let metrics = Arc::new(Metrics::default());
        let stopped = async move { drop(stopped.await) };
        let (ours, server) = serve(any, metrics, Health::new(), || Ok(()), stopped).await.unwrap();
        assert!(telemetry_address(ours).await.unwrap().contains("clipstream that is running"));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        assert_eq!(telemetry_address(ours).await.unwrap(), format!("{ours} is free"));
    }

    #[tokio::test]
    async fn models_need_graphs() {
        let folder = tempfile::tempdir().unwrap();
        let clip = ClipSettings {
            models: vec![crate::config::ModelEntry { id: "v/c".parse().unwrap(), directory: None }],
            models_directory: folder.path().to_owned(),
            ..ClipSettings::default()
        };
        assert!(models(clip.clone()).await.unwrap_err().reason.ends_with("is not there"));
        let visual = folder.path().join("v__c/visual");
        std::fs::create_dir_all(&visual).unwrap();
        assert!(models(clip.clone()).await.unwrap_err().reason.ends_with("has no .onnx file"));
        std::fs::write(visual.join("model.onnx"), b"").unwrap();
        assert!(models(clip).await.unwrap().starts_with("v/c in "));
    }
}
