//! `clipstream dlq replay`: sends dead letters back to the topics of their messages.

use std::collections::{BTreeMap, VecDeque};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::selection::{self, Selected, cursor};
use crate::cli::output::counted;
use crate::cli::{CliError, Exit, Global, progress, stop_on_signals};
use crate::dead_letter::StoredLetter;
use crate::dead_letter::read::Start;
use crate::domain::{Explain as _, Finding, Position};
use crate::shutdown::Shutdown;
use crate::source::{ProduceError, Producer};

/// Unconfirmed deliveries, at most; further ones wait for the oldest.
const IN_FLIGHT_MAX: usize = 1_000;
/// Producer properties, unless kafka.properties override them. librdkafka's own timeout of five minutes is long for an
/// interactive command, and a message that its topic accepted once must not be too large here.
const PROPERTIES: [(&str, &str); 2] = [("message.timeout.ms", "30000"), ("message.max.bytes", "1000000000")];
/// The next step for a letter that cannot go back to where it came from.
const ELSEWHERE: &str = "send letters to another topic, by their keys, with --to TOPIC";

/// Sends the messages of dead letters to their topics again
///
/// A message goes, without the headers that describe the failure, to the topic and partition that it came from. It is
/// appended as a new message. The broker confirms each (acks=all). Letters stay in their topic; the last line prints the
/// --from that skips them the next time. The header clipstream.replays counts the replays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: clipstream dlq replay --since 2h --reason fetch_timeout --dry-run
         clipstream dlq replay --file dead.jsonl --to catalog")]
pub struct Args {
    /// Sends to this topic instead, each message to the partition of its key
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Skips letters whose messages were replayed this many times
    #[arg(long, value_name = "N", default_value_t = 3)]
    replays_max: u32,
    /// Only counts what would be sent
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    which: selection::Args,
}

pub async fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let mut settings = global.start_quiet()?;
    if args.which.file().is_some() && args.to.is_none() {
        return Err(CliError::new(Exit::Usage, "letters in a file have no Kafka topic; expected --to TOPIC")
            .hint("docs/operations.md says how `clipstream index` reads them again"));
    }
    let producer = if args.dry_run {
        None
    } else {
        if settings.kafka.brokers.is_empty() {
            return Err(CliError::new(Exit::Usage, "kafka.brokers is not set; replaying needs it")
                .hint("for example --set kafka.brokers=localhost:9092"));
        }
        for (key, value) in PROPERTIES {
            settings.kafka.properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        Some(Producer::new(&settings.kafka).map_err(unavailable)?)
    };
    let shutdown = stop_on_signals(None)?;
    let mut selected = args.which.open(&settings)?;
    let mut replay = Replay { producer, args, deliveries: VecDeque::new(), report: Report::default() };
    let ended = replay.all(&mut selected, &shutdown).await;
    let mut report = replay.report;
    report.advance(&selected.next);
    let (value, text) = (report.json(args.dry_run, &selected), report.text(args.dry_run, &selected));
    global.output().result(&value, || text)?;
    ended?;
    if let Some(why) = report.first_failure {
        let code = if report.undelivered > 0 { Exit::Unavailable } else { Exit::Failed };
        let failed = counted(report.failed, "letter");
        let hint = why.hint.unwrap_or("the last line says how to continue".into());
        return Err(
            CliError::new(code, format!("{failed} could not be replayed; the first: {}", why.message)).hint(hint)
        );
    }
    if shutdown.is_requested() {
        return Err(CliError::new(Exit::Failed, "stopped by a signal; the messages sent are counted above"));
    }
    Ok(())
}

/// A letter, its target topic, and the result of its delivery.
type Delivery = (Position, String, BoxFuture<'static, Result<(i32, i64), ProduceError>>);

struct Replay<'a> {
    /// `None`: letters are only counted.
    producer: Option<Producer>,
    args: &'a Args,
    deliveries: VecDeque<Delivery>,
    report: Report,
}

impl Replay<'_> {
    /// Runs until there are no more letters, a stop is requested, or a broker refuses one.
    async fn all(&mut self, selected: &mut Selected, shutdown: &Shutdown) -> Result<(), CliError> {
        let bar = progress("letters", None);
        let mut ended = Ok(());
        while ended.is_ok() && self.report.undelivered == 0 {
            let next = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                next = selected.next() => next,
            };
            match next {
                Ok(Some(letter)) => self.one(&letter).await,
                Ok(None) => break,
                Err(error) => ended = Err(error),
            }
            self.confirm(IN_FLIGHT_MAX).await;
            bar.inc(1);
        }
        self.confirm(0).await;
        bar.finish_and_clear();
        ended
    }

    async fn one(&mut self, letter: &StoredLetter) {
        self.report.matched += 1;
        if letter.replays() >= self.args.replays_max {
            self.report.skipped_loop_guard += 1;
            return;
        }
        // Back to the same partition, whichever partitioner chose it, so that the key's messages stay in order.
        let (topic, partition) = match (&self.args.to, &letter.source) {
            (Some(topic), _) => (topic.as_str(), None),
            (None, Some(source)) => (&*source.topic, Some(source.partition)),
            (None, None) => {
                let finding = Finding::new(format!("{}: it has no source topic", letter.position));
                self.report.failed(finding.hint(ELSEWHERE));
                return;
            }
        };
        if topic == &*letter.position.topic {
            let finding = Finding::new(format!("{}: {topic:?} is the dead-letter topic itself", letter.position));
            self.report.failed(finding.hint(ELSEWHERE));
            return;
        }
        let Some(producer) = &self.producer else {
            self.report.replayed(topic);
            return;
        };
        let headers = letter.headers_to_replay();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let sent = producer.send_to(topic, partition, letter.key.as_deref(), letter.value.as_deref(), &headers).await;
        match sent {
            Ok(delivery) => self.deliveries.push_back((letter.position.clone(), topic.to_owned(), delivery.boxed())),
            Err(error) => self.report.undelivered(&letter.position, &error),
        }
    }

    /// Waits until at most `waiting_max` deliveries are not confirmed.
    async fn confirm(&mut self, waiting_max: usize) {
        while self.deliveries.len() > waiting_max
            && let Some((position, topic, delivery)) = self.deliveries.pop_front()
        {
            match delivery.await {
                Ok(_) => self.report.replayed(&topic),
                Err(error) => self.report.undelivered(&position, &error),
            }
        }
    }
}

#[derive(Default)]
struct Report {
    matched: u64,
    skipped_loop_guard: u64,
    /// Including those that the broker refused.
    failed: u64,
    undelivered: u64,
    first_failure: Option<Finding>,
    /// Messages sent, by topic.
    topics: BTreeMap<String, u64>,
    /// The first letter to read the next time, per topic and partition.
    next: Start,
}

impl Report {
    fn replayed(&mut self, topic: &str) {
        *self.topics.entry(topic.to_owned()).or_default() += 1;
    }

    fn failed(&mut self, why: Finding) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }

    fn undelivered(&mut self, letter: &Position, error: &ProduceError) {
        self.undelivered += 1;
        self.failed(error.explain().about(letter));
        let first = self.next.entry((letter.topic.to_string(), letter.partition)).or_insert(letter.offset);
        *first = letter.offset.min(*first);
    }

    /// Moves past the letters read, but not past undelivered ones.
    fn advance(&mut self, looked_at: &Start) {
        for (partition, offset) in looked_at {
            self.next.entry(partition.clone()).or_insert(*offset);
        }
    }

    fn json(&self, dry_run: bool, selected: &Selected) -> Value {
        json!({
            "read": selected.read,
            "unreadable": selected.unreadable,
            "matched": self.matched,
            "replayed": self.topics.values().sum::<u64>(),
            "skipped_loop_guard": self.skipped_loop_guard,
            "failed": self.failed,
            "topics": self.topics,
            "dry_run": dry_run,
            "next": cursor(&self.next),
        })
    }

    fn text(&self, dry_run: bool, selected: &Selected) -> String {
        let replayed = counted(self.topics.values().sum(), "letter");
        let topics: Vec<String> = self.topics.iter().map(|(topic, n)| format!("{topic}: {n}")).collect();
        let topics = if topics.is_empty() { String::new() } else { format!(" ({})", topics.join(", ")) };
        let verb = if dry_run { "would be replayed" } else { "replayed" };
        let next =
            cursor(&self.next).map_or_else(String::new, |from| format!("\ncontinue after them with --from {from}"));
        format!(
            "{replayed} {verb}{topics}; {} of {} read matched, {} skipped by the loop guard, {} failed{}{next}",
            self.matched,
            selected.read,
            self.skipped_loop_guard,
            self.failed,
            selected.unreadable_note()
        )
    }
}

fn unavailable(error: ProduceError) -> CliError {
    CliError::of(Exit::Unavailable, &error)
}
