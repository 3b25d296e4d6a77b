//! `clipstream produce`: JSON lines to a Kafka topic.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::output::counted;
use super::{CliError, Exit, Global, progress};
use crate::config::is_pattern;
use crate::redact;
use crate::source::{ProduceError, Producer};

/// Deliveries that are not confirmed yet; more wait for the oldest.
const IN_FLIGHT_MAX: usize = 10_000;
/// How long a broker may take for a message, unless kafka.properties say otherwise. librdkafka's own five minutes are
/// long for somebody who waits for the prompt.
const DELIVERY_TIMEOUT_MS: &str = "30000";

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
    let mut settings = global.start_quiet()?;
    let Some(topic) = args.topic.clone().or_else(|| first_topic(&settings.kafka.topics)) else {
        return Err(CliError::new(Exit::Usage, "no topic to send to; expected --topic or kafka.topics"));
    };
    if settings.kafka.brokers.is_empty() {
        return Err(CliError::new(Exit::Usage, "kafka.brokers is not set; producing needs it")
            .hint("for example --set kafka.brokers=localhost:9092"));
    }
    let timeout = || DELIVERY_TIMEOUT_MS.to_owned();
    settings.kafka.properties.entry("message.timeout.ms".to_owned()).or_insert_with(timeout);
    let producer = Producer::new(&settings.kafka).map_err(unavailable)?;
    let bar = progress("messages", None);
    let tombstones = args.tombstones;
    let mut sending = Sending { producer, topic, tombstones, deliveries: VecDeque::new(), sent: 0 };
    let read = sending.lines_of(&args.file, &bar).await;
    // Those before a line that cannot be sent too: the error says that they are.
    sending.confirm(0).await?;
    bar.finish_and_clear();
    read?;
    let Sending { topic, sent, .. } = sending;
    let report = json!({ "topic": topic, "messages": sent });
    Ok(global.output().result(&report, || format!("{} in {topic}", counted(sent, "message")))?)
}

/// Patterns (`^…`) are for consuming.
fn first_topic(topics: &[String]) -> Option<String> {
    topics.iter().find(|topic| !is_pattern(topic)).cloned()
}

struct Sending {
    producer: Producer,
    topic: String,
    tombstones: bool,
    deliveries: VecDeque<BoxFuture<'static, Result<(i32, i64), ProduceError>>>,
    /// Confirmed by the broker.
    sent: u64,
}

impl Sending {
    async fn lines_of(&mut self, file: &Path, bar: &ProgressBar) -> Result<(), CliError> {
        let mut lines = open(file).await?.lines();
        let mut number = 0;
        while let Some(line) = lines.next_line().await.map_err(|e| unreadable(file, &e))? {
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            let (key, delete) = inspect(&line, number)?;
            let value = if self.tombstones && delete { None } else { Some(line.as_bytes()) };
            let delivery = self.producer.send(&self.topic, key.as_deref().map(str::as_bytes), value, &[]).await;
            self.deliveries.push_back(delivery.map_err(unavailable)?.boxed());
            self.confirm(IN_FLIGHT_MAX).await?;
            bar.inc(1);
        }
        Ok(())
    }

    /// Waits until at most `waiting_max` deliveries are not confirmed.
    async fn confirm(&mut self, waiting_max: usize) -> Result<(), CliError> {
        while self.deliveries.len() > waiting_max
            && let Some(oldest) = self.deliveries.pop_front()
        {
            oldest.await.map_err(unavailable)?;
            self.sent += 1;
        }
        Ok(())
    }
}

async fn open(file: &Path) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, CliError> {
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
            format!("line {number} is no JSON object: {}; what stood before it is sent", redact::excerpt(line, 80)),
        )
        .hint("docs/messages.md has the format")),
    }
}

fn unavailable(error: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Unavailable, error.to_string())
}

fn unreadable(file: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::Usage, format!("cannot read {}: {error}", file.display()))
}
