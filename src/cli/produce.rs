//! `clipstream produce`: sends JSON lines to a Kafka topic.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::output::counted;
use super::{CliError, Exit, Global, progress};
use crate::config::{KeySettings, is_pattern};
use crate::format::write_key;
use crate::redact;
use crate::source::{Line, LineReader, ProduceError, Producer, SourceError};

/// Unconfirmed deliveries, at most; further ones wait for the oldest.
const IN_FLIGHT_MAX: usize = 10_000;
/// Delivery timeout of a message, unless kafka.properties override it. librdkafka's own timeout of five minutes is long for
/// an interactive command.
const DELIVERY_TIMEOUT_MS: &str = "30000";

/// Sends JSON lines to a Kafka topic, one message per line, keyed by their id
///
/// Lines are only checked to be JSON objects; the worker validates the rest. A line {"id": "…", "op": "delete"} can be
/// sent as a tombstone with --tombstones. The broker confirms every message (acks=all).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream produce --topic catalog messages.jsonl --set kafka.brokers=localhost:9092")]
pub struct Args {
    /// A JSON Lines file, or - for standard input
    file: PathBuf,
    /// The topic to send to; default: the first of kafka.topics
    #[arg(long)]
    topic: Option<String>,
    /// Sends deletes as tombstones (messages without a value)
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
    let (keys, tombstones) = (settings.kafka.keys, args.tombstones);
    let mut sending = Sending { producer, topic, keys, tombstones, deliveries: VecDeque::new(), sent: 0 };
    let read = sending.lines_of(&args.file, &bar).await;
    // Also confirm messages before an invalid line: the error says that they are sent.
    sending.confirm(0).await?;
    bar.finish_and_clear();
    read?;
    let Sending { topic, sent, .. } = sending;
    let report = json!({ "topic": topic, "messages": sent });
    Ok(global.output().result(&report, || format!("{} in {topic}", counted(sent, "message")))?)
}

/// Patterns (`^…`) cannot be produced to.
fn first_topic(topics: &[String]) -> Option<String> {
    topics.iter().find(|topic| !is_pattern(topic)).cloned()
}

struct Sending {
    producer: Producer,
    topic: String,
    keys: KeySettings,
    tombstones: bool,
    deliveries: VecDeque<BoxFuture<'static, Result<(i32, i64), ProduceError>>>,
    /// Confirmed by the broker.
    sent: u64,
}

impl Sending {
    async fn lines_of(&mut self, file: &Path, bar: &ProgressBar) -> Result<(), CliError> {
        let mut lines = open(file).await?;
        while let Some(Line { number, text }) = lines.next().await.map_err(usage)? {
            let number = number + 1;
            let Fields { id, tenant, delete } = inspect(&text, number)?;
            let tombstone = self.tombstones && delete;
            if tombstone && tenant.is_some() && !self.keys.name_tenants() {
                let message = format!(
                    "line {number} deletes an asset of a tenant, and the tombstone would not contain the tenant"
                );
                let hint = "set kafka.tenant_header or kafka.key_template, or omit --tombstones";
                return Err(CliError::new(Exit::Usage, message).hint(hint));
            }
            let key = id.map(|id| write_key(&self.keys, tenant.as_deref(), &id)).transpose();
            let key = key.map_err(|why| CliError::new(Exit::Usage, format!("line {number}: {why}")))?;
            let value = if tombstone { None } else { Some(&*text) };
            let header = self.keys.tenant_header.as_deref();
            let headers: Vec<_> =
                header.map(|name| (name, Some(tenant.as_deref().unwrap_or_default().as_bytes()))).into_iter().collect();
            let delivery = self.producer.send(&self.topic, key.as_deref(), value, &headers).await;
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

async fn open(file: &Path) -> Result<LineReader, CliError> {
    if file.as_os_str() == "-" { Ok(LineReader::stdin()) } else { LineReader::open(file).await.map_err(usage) }
}

/// The fields of a line that determine its key.
struct Fields {
    id: Option<String>,
    tenant: Option<String>,
    delete: bool,
}

fn inspect(line: &[u8], number: i64) -> Result<Fields, CliError> {
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(message)) => {
            let text = |name: &str| message.get(name).and_then(Value::as_str);
            let owned = |name: &str| text(name).map(str::to_owned);
            Ok(Fields { id: owned("id"), tenant: owned("tenant"), delete: text("op") == Some("delete") })
        }
        other => {
            let why = other.err().map_or_else(String::new, |error| format!(" ({error})"));
            let shown = String::from_utf8_lossy(&line[..line.len().min(400)]);
            let message = format!(
                "line {number} is not a JSON object: {}{why}; the lines before it were sent",
                redact::excerpt(&shown, 80)
            );
            Err(CliError::new(Exit::Usage, message).hint("docs/messages.md describes the format"))
        }
    }
}

fn usage(error: SourceError) -> CliError {
    CliError::of(Exit::Usage, &error)
}

fn unavailable(error: ProduceError) -> CliError {
    CliError::of(Exit::Unavailable, &error)
}
