//! `clipstream index`: the worker without Kafka.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::output::{counted, watch};
use super::{CliError, Exit, Global};
use crate::dead_letter::FileDeadLetters;
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::source::{DirectorySource, LinesSource, Source};
use crate::telemetry::Health;
use crate::worker::{Worker, WorkerError};

/// Indexes a directory of pictures, a JSON Lines file, or standard input
///
/// In a directory every picture becomes an asset named by its path. A line is a message as in docs/messages.md; an
/// image without a scheme is a path relative to the file. What cannot be indexed goes to dead_letter.file, or to
/// standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream index photos/ --set store.catalog=photos")]
pub struct Args {
    /// A directory, a JSON Lines file, or - for standard input
    what: PathBuf,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let mut settings = global.start_quiet()?;
    let (source, root) = open(&args.what).await?;
    settings.media.allow_file_roots.insert(0, root.display().to_string());
    let shutdown = Shutdown::new();
    shutdown.listen().map_err(|e| CliError::new(Exit::Failed, format!("cannot listen for signals: {e}")))?;
    let dead_letters = FileDeadLetters::new(settings.dead_letter.file.as_deref()).map_err(WorkerError::from)?;
    let worker = Worker::assemble(&settings, Health::new(), Arc::default()).await?;
    let counts = Arc::new(Progress::default());
    let bar = watch(None, counts.clone());
    let ended = worker.ingest(source, Arc::new(dead_letters), shutdown, counts.clone()).await;
    drop(bar);
    let (_, collection) = &worker.models()[0];
    let points = worker.store().count(collection).await.map_err(WorkerError::from)?;
    worker.store().close().await.map_err(WorkerError::from)?;
    let summary = ended?;
    let seconds = counts.elapsed().as_secs_f64();
    let report = json!({
        "messages": summary.settled, "dead_letters": summary.dead_lettered, "abandoned": summary.abandoned,
        "seconds": seconds, "collection": collection, "points": points,
    });
    global.output().result(&report, || {
        format!(
            "{} in {seconds:.1} s, {}; collection {collection} has {}",
            counted(summary.settled, "message"),
            counted(summary.dead_lettered, "dead letter"),
            counted(points, "point")
        )
    })?;
    match (summary.dead_lettered, summary.abandoned) {
        (0, 0) => Ok(()),
        (0, left) => Err(CliError::new(Exit::Failed, format!("stopped with {} not indexed", counted(left, "message")))),
        (dead, _) => Err(CliError::new(Exit::Failed, format!("{} could not be indexed", counted(dead, "message")))
            .hint("their dead letters say why; set dead_letter.file to keep them")),
    }
}

/// The source, and the folder that its pictures may be read from.
async fn open(what: &Path) -> Result<(Box<dyn Source>, PathBuf), CliError> {
    let failed = |e: std::io::Error| {
        CliError::new(Exit::Usage, format!("cannot open {}: {e}", what.display()))
            .hint("expected a directory of pictures, a JSON Lines file, or - for standard input")
    };
    if what == Path::new("-") {
        let here = std::env::current_dir().map_err(failed)?;
        return Ok((Box::new(LinesSource::stdin()), here));
    }
    let path = std::fs::canonicalize(what).map_err(failed)?;
    if path.is_dir() {
        return Ok((Box::new(DirectorySource::new(&path).map_err(WorkerError::from)?), path));
    }
    let root = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    Ok((Box::new(LinesSource::open(&path).await.map_err(WorkerError::from)?), root))
}
