//! `clipstream index`: the worker without Kafka.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::output::{counted, watch};
use super::{CliError, Exit, Global, stop_on_signals};
use crate::dead_letter::FileDeadLetters;
use crate::domain::Modality;
use crate::picture::sniff_picture;
use crate::pipeline::Progress;
use crate::redact;
use crate::source::{DirectorySource, LinesSource, SkippedFileKind, SkippedFiles, Source, SourceError, Walk};
use crate::telemetry::Health;
use crate::worker::{Worker, WorkerError};

/// Indexes a directory of pictures, a JSON Lines file, or standard input
///
/// In a directory, every picture becomes an asset named by its path. A file is a picture by its extension or, with another
/// extension, by its content. Other files are skipped and counted, and so are hidden files and folders (names that begin with a
/// dot, and system folders and files: @eaDir, #recycle, Thumbs.db, ...). A line is a message as in docs/messages.md; an image
/// without a scheme is a path relative to the file. Messages that cannot be indexed go to dead_letter.file, or to standard error.
///
/// Exit code 0 if nothing failed, even if files were skipped; 1 if there are dead letters, or files or folders that could not
/// be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream index photos/ --set store.catalog=photos")]
pub struct Args {
    /// A directory, a JSON Lines file, or - for standard input
    what: PathBuf,
    /// Includes hidden files and folders
    #[arg(long)]
    hidden: bool,
}

/// Of a first line that is looked at beforehand.
const FIRST_LINE_BYTES: u64 = 64 * 1024;

/// Where messages come from.
struct Input {
    source: Box<dyn Source>,
    /// Pictures may be read below this folder.
    root: PathBuf,
    /// For a directory only.
    skipped: Option<SkippedFiles>,
    /// Towers that the first message needs.
    towers: Vec<Modality>,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let mut settings = global.start_quiet()?;
    let Input { source, root, skipped, towers } = open(&args).await?;
    settings.media.allow_file_roots.insert(0, root.display().to_string());
    let shutdown = stop_on_signals(Some(Duration::from_millis(settings.pipeline.drain_deadline_ms)))?;
    let dead_letters = FileDeadLetters::new(settings.dead_letter.file.as_deref()).map_err(WorkerError::from)?;
    let worker = Worker::assemble(&settings, Health::new(), Arc::default()).await?;
    worker.open_towers(&towers).await?;
    let counts = Arc::new(Progress::default());
    let bar = watch("messages", None, counts.clone());
    let ended = worker.ingest(source, Arc::new(dead_letters), shutdown, counts.clone()).await;
    drop(bar);
    let (_, collection) = &worker.models()[0];
    let points = worker.store().count(collection).await.map_err(WorkerError::from)?;
    let collection = collection.clone();
    worker.close().await?;
    let summary = ended?;
    let seconds = counts.elapsed().as_secs_f64();
    let kinds = skipped.map(|skipped| skipped.kinds());
    let mut report = json!({
        "messages": summary.settled, "dead_letters": summary.dead_lettered, "abandoned": summary.abandoned,
        "seconds": seconds, "collection": collection, "points": points,
    });
    if let Some(kinds) = &kinds {
        let kind =
            |kind: &SkippedFileKind| json!({ "kind": kind.kind, "count": kind.count, "examples": kind.examples });
        report["skipped"] = kinds.iter().map(kind).collect();
    }
    let kinds = kinds.unwrap_or_default();
    global.output().result(&report, || {
        format!(
            "{} in {seconds:.1} s, {}; collection {collection} has {}{}",
            counted(summary.settled, "message"),
            counted(summary.dead_lettered, "dead letter"),
            counted(points, "point"),
            listed(&kinds)
        )
    })?;
    if summary.settled == 0 && summary.abandoned == 0 {
        let what = if args.what.is_dir() { "picture" } else { "message" };
        eprintln!("nothing was indexed: there is no {what} in {}", args.what.display());
    }
    let unreadable: u64 =
        kinds.iter().filter(|kind| kind.kind == SkippedFiles::UNREADABLE).map(|kind| kind.count).sum();
    match (summary.dead_lettered, summary.abandoned) {
        (0, 0) if unreadable == 0 => Ok(()),
        (0, 0) => Err(CliError::new(Exit::Failed, format!("{unreadable} files or folders could not be read"))
            .hint("their names are above; give this user permission to read them")),
        (0, left) => Err(CliError::new(Exit::Failed, format!("stopped with {} not indexed", counted(left, "message")))),
        (dead, _) => Err(CliError::new(Exit::Failed, format!("{} could not be indexed", counted(dead, "message")))
            .hint("their dead letters say why; set dead_letter.file to keep them")),
    }
}

/// What was skipped, a line per kind.
fn listed(kinds: &[SkippedFileKind]) -> String {
    let line = |SkippedFileKind { kind, count, examples }: &SkippedFileKind| {
        let more = if *count > examples.len() as u64 { ", …" } else { "" };
        let examples: Vec<String> = examples.iter().map(|path| redact::cut(path, 80)).collect();
        format!("\nskipped: {count} {kind} ({}{more})", examples.join(", "))
    };
    kinds.iter().map(line).collect()
}

async fn open(args: &Args) -> Result<Input, CliError> {
    let what = &*args.what;
    let failed = |e: std::io::Error| {
        CliError::new(Exit::Usage, format!("cannot open {}: {e}", what.display()))
            .hint("expected a directory of pictures, a JSON Lines file, or - for standard input")
    };
    if what == Path::new("-") {
        let root = std::env::current_dir().map_err(failed)?;
        return Ok(Input { source: Box::new(LinesSource::stdin()), root, skipped: None, towers: Vec::new() });
    }
    let path = std::fs::canonicalize(what).map_err(failed)?;
    // Nothing was done yet, so this is a usage error.
    let usage = |e: SourceError| CliError::of(Exit::Usage, &e);
    if path.is_dir() {
        let walk = Walk { hidden: args.hidden, sniff: sniff_picture };
        let source = DirectorySource::new(&path, walk).map_err(usage)?;
        let skipped = Some(source.skipped());
        return Ok(Input { source: Box::new(source), root: path, skipped, towers: vec![Modality::Image] });
    }
    let root = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let source = LinesSource::open(&path).await.map_err(usage)?;
    let towers = towers_of_first_line(&path);
    Ok(Input { source: Box::new(source), root, skipped: None, towers })
}

/// Read ahead of the messages, so that the towers are open when they come. `None` if the line is long, or does not say.
fn towers_of_first_line(file: &Path) -> Vec<Modality> {
    let mut line = String::new();
    let read =
        std::fs::File::open(file).and_then(|file| BufReader::new(file.take(FIRST_LINE_BYTES)).read_line(&mut line));
    let first: Value = read.ok().and_then(|_| serde_json::from_str(&line).ok()).unwrap_or_default();
    let has = |modality: &Modality| first[modality.as_str()].is_string();
    Modality::ALL.into_iter().filter(has).collect()
}
