//! `clipstream produce`: JSON lines to a Kafka topic.

use std::collections::VecDeque;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{CliError, Exit, Global, progress};
use crate::redact;
use crate::source::Producer;

/// Deliveries that are not confirmed yet; more wait for the oldest.
const IN_FLIGHT_MAX: usize = 10_000;

/// Sends JSON lines to a Kafka topic, one message per line, keyed by their id
///
/// Lines are checked to be JSON objects, no more: the worker judges the rest. A line {"id": "…", "op": "delete"} can be
/// sent as a tombstone with --tombstones. The broker confirms every message (acks=all).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream produce --topic catalog messages.jsonl --set kafka.brokers=localhost:9092")]
pub struct Args {
    /// A JSON Lines file, or - for standard input
    file: PathBuf,
    /// Where to send; default: the first of kafka.topics
    #[arg(long)]
    topic: Option<String>,
    /// Send deletes as messages without a value
    #[arg(long)]
    tombstones: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let Some(topic) = args.topic.clone().or_else(|| settings.kafka.topics.first().cloned()) else {
        return Err(CliError::new(Exit::Usage, "no topic to send to; expected --topic or kafka.topics"));
    };
    if settings.kafka.brokers.is_empty() {
        return Err(CliError::new(Exit::Usage, "kafka.brokers is not set; producing needs it")
            .hint("for example --set kafka.brokers=localhost:9092"));
    }
    let producer = Producer::new(&settings.kafka).map_err(unavailable)?;
    let mut lines = open(&args.file).await?.lines();
    let bar = progress("messages", None);
    let (mut sent, mut number, mut deliveries) = (0u64, 0u64, VecDeque::new());
    while let Some(line) = lines.next_line().await.map_err(|e| unreadable(&args.file, &e))? {
        number += 1;
        if line.trim().is_empty() {
            continue;
        }
        let (key, tombstone) = inspect(&line, number)?;
        let value = if args.tombstones && tombstone { None } else { Some(line.as_bytes()) };
        let delivery =
            producer.send(&topic, key.as_deref().map(str::as_bytes), value, &[]).await.map_err(unavailable)?;
        deliveries.push_back(delivery);
        if deliveries.len() >= IN_FLIGHT_MAX
            && let Some(oldest) = deliveries.pop_front()
        {
            oldest.await.map_err(unavailable)?;
            sent += 1;
        }
        bar.inc(1);
    }
    for delivery in deliveries {
        delivery.await.map_err(unavailable)?;
        sent += 1;
    }
    bar.finish_and_clear();
    let report = json!({ "topic": topic, "messages": sent });
    Ok(global.output().result(&report, || format!("{sent} messages in {topic}"))?)
}

async fn open(file: &PathBuf) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, CliError> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let opened = tokio::fs::File::open(file).await.map_err(|e| unreadable(file, &e))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The line's id, and whether it is a delete.
fn inspect(line: &str, number: u64) -> Result<(Option<String>, bool), CliError> {
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(message)) => {
            let id = message.get("id").and_then(Value::as_str).map(str::to_owned);
            let delete = message.get("op").and_then(Value::as_str) == Some("delete");
            Ok((id, delete))
        }
        _ => Err(CliError::new(
            Exit::Usage,
            format!("line {number} is no JSON object: {}; what stood before it is sent", redact::cut(line, 80)),
        )),
    }
}

fn unavailable(error: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Unavailable, error.to_string())
}

fn unreadable(file: &std::path::Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::Usage, format!("cannot read {}: {error}", file.display()))
}
