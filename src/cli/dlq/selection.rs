//! Selection of letters, and where reading continues; shared by `list` and `replay`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::PossibleValuesParser;

use crate::cli::output::counted;
use crate::cli::{CliError, Exit};
use crate::config::{Settings, nearest};
use crate::dead_letter::read::{self, Found, Letters, Start, Unreadable};
use crate::dead_letter::{Selection, StoredLetter};
use crate::domain::{AnyReason, Class, Position, Stage};

// Both verbs have further arguments, and clap names a group after a struct.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Which dead letters")]
pub struct Args {
    /// The dead-letter topic to read; default: those of kafka.topics, named by dead_letter.topic
    #[arg(long, conflicts_with = "file")]
    topic: Option<String>,
    /// A file of dead letters (dead_letter.file) to read instead, or - for standard input
    #[arg(long)]
    file: Option<PathBuf>,
    /// Only letters of this class; several with commas
    #[arg(long, value_delimiter = ',', value_parser = [Class::Permanent.as_str(), Class::Transient.as_str()])]
    class: Vec<String>,
    /// Only letters that failed in this stage; several with commas
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(stages_with_letters()))]
    stage: Vec<String>,
    /// Only letters with this reason, such as http_not_found; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_reason)]
    reason: Vec<AnyReason>,
    /// Only messages that came from this topic; several with commas
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    source_topic: Vec<String>,
    /// Only failures at or after this time: 2026-11-25T06:00:00Z, or an age: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Only failures before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
    /// Starts at this letter, as printed by an earlier run; several with commas
    #[arg(long, value_name = "TOPIC:PARTITION:OFFSET", value_delimiter = ',', value_parser = parse_start)]
    from: Vec<(String, i32, i64)>,
    /// Number of letters, at most
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Args {
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// Starts to read.
    pub fn open(&self, settings: &Settings) -> Result<Selected, CliError> {
        let start: Start = self.from.iter().map(|(topic, n, offset)| ((topic.clone(), *n), *offset)).collect();
        let letters = if let Some(file) = &self.file {
            read::from_file(file, start.clone())
        } else {
            if settings.kafka.brokers.is_empty() {
                return Err(CliError::new(Exit::Usage, "kafka.brokers is not set; reading dead letters needs it")
                    .hint("for example --set kafka.brokers=localhost:9092; --file reads a file instead"));
            }
            if self.topic.is_none() && settings.kafka.topics.is_empty() {
                return Err(CliError::new(Exit::Usage, "no topic to read; expected --topic, --file or kafka.topics"));
            }
            read::from_topics(&settings.kafka, &settings.dead_letter, self.topic.clone(), start.clone())
        };
        let selection = Selection {
            classes: self.class.clone(),
            stages: self.stage.clone(),
            reasons: self.reason.iter().map(ToString::to_string).collect(),
            source_topics: self.source_topic.clone(),
            since: self.since,
            until: self.until,
        };
        Ok(Selected { letters, selection, left: self.limit, read: 0, unreadable: 0, next: start })
    }
}

/// Reads the letters that match.
pub struct Selected {
    letters: Letters,
    selection: Selection,
    /// How many more to return, if limited.
    left: Option<u64>,
    /// Letters read.
    pub read: u64,
    /// Letters that were skipped because they are unreadable.
    pub unreadable: u64,
    /// The first letter that was not read, per topic and partition.
    pub next: Start,
}

impl Selected {
    pub async fn next(&mut self) -> Result<Option<StoredLetter>, CliError> {
        if self.left == Some(0) {
            return Ok(None);
        }
        while let Some(found) = self.letters.recv().await.transpose()? {
            let letter = match found {
                Found::Letter(letter) => *letter,
                Found::Unreadable(Unreadable { position, why }) => {
                    tracing::warn!(%position, "skipped an unreadable letter: {why}");
                    self.unreadable += 1;
                    self.passed(&position);
                    continue;
                }
            };
            self.read += 1;
            self.passed(&letter.position);
            if self.selection.matches(&letter) {
                self.left = self.left.map(|left| left - 1);
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    fn passed(&mut self, position: &Position) {
        let next = self.next.entry((position.topic.to_string(), position.partition)).or_default();
        *next = (position.offset + 1).max(*next);
    }

    /// For the last line; empty if all letters were readable.
    pub fn unreadable_note(&self) -> String {
        match self.unreadable {
            0 => String::new(),
            n => format!("; skipped {} (see the warnings)", counted(n, "unreadable letter")),
        }
    }
}

/// The value of `--from` that continues after what was read; `None` if nothing was.
pub fn cursor(next: &BTreeMap<(String, i32), i64>) -> Option<String> {
    let parts = next.iter().map(|((topic, partition), offset)| format!("{topic}:{partition}:{offset}"));
    Some(parts.collect::<Vec<_>>().join(",")).filter(|cursor| !cursor.is_empty())
}

fn stages_with_letters() -> impl Iterator<Item = &'static str> {
    Stage::ALL.into_iter().filter(|stage| stage.has_letters()).map(Stage::as_str)
}

fn parse_reason(text: &str) -> Result<AnyReason, String> {
    AnyReason::from_code(text).ok_or_else(|| match nearest(text, AnyReason::all().map(AnyReason::as_str)) {
        Some(near) => format!("no such reason; did you mean {near}?"),
        None => "no such reason; docs/messages.md lists them".to_owned(),
    })
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let ago = text.char_indices().next_back().and_then(|(end, unit)| {
        let number: i64 = text[..end].parse().ok().filter(|n| *n >= 0)?;
        match unit {
            's' => TimeDelta::try_seconds(number),
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            _ => None,
        }
    });
    let at = ago.and_then(|ago| Utc::now().checked_sub_signed(ago));
    at.ok_or_else(|| "expected a time such as 2026-11-25T06:00:00Z, or an age: 90s, 30m, 2h, 7d".to_owned())
}

fn parse_start(text: &str) -> Result<(String, i32, i64), String> {
    let mut parts = text.rsplitn(3, ':');
    let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
    let offset = offset.and_then(|n| n.parse().ok()).filter(|n| *n >= 0);
    let partition = partition.and_then(|n| n.parse().ok()).filter(|n| *n >= 0);
    let start = topic.filter(|topic| !topic.is_empty()).zip(partition).zip(offset);
    let start = start.map(|((topic, partition), offset)| (topic.to_owned(), partition, offset));
    start.ok_or_else(|| "expected TOPIC:PARTITION:OFFSET, for example catalog.dlq:0:17".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MediaReason;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(parse_time("2026-11-25T07:00:00+01:00").unwrap().to_rfc3339(), "2026-11-25T06:00:00+00:00");
        let at = parse_time("2h").unwrap();
        let ago = Utc::now() - at;
        assert!((7200..7260).contains(&ago.num_seconds()), "{ago}");
        for wrong in ["", "h", "2", "-2h", "2w", "99999999999999999999d", "9223372036854775807d", "yesterday", "2 ü"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reason_is_one_of_those_that_there_are() {
        assert_eq!(parse_reason("http_not_found"), Ok(MediaReason::HttpNotFound.into()));
        assert_eq!(parse_reason("http_notfound").unwrap_err(), "no such reason; did you mean http_not_found?");
        assert!(parse_reason("zebra").unwrap_err().contains("docs/messages.md"));
    }

    #[test]
    fn a_cursor_is_read_back() {
        assert_eq!(cursor(&Start::new()), None);
        let next: Start = [(("a.dlq".to_owned(), 0), 17), (("C:/dead.jsonl".to_owned(), 0), 4)].into();
        let cursor = cursor(&next).unwrap();
        let back = cursor.split(',').map(parse_start).map(|part| part.map(|(t, p, o)| ((t, p), o)));
        assert_eq!(back.collect::<Result<Start, _>>().unwrap(), next);
        for wrong in ["", "a", "a:1", ":1:2", "a:x:2", "a:1:-2", "a:1:"] {
            assert!(parse_start(wrong).is_err(), "{wrong}");
        }
    }
}
