//! `clipstream dlq list`: dead letters as a table or as JSON lines.

use chrono::SecondsFormat;

use super::selection;
use crate::cli::output::counted;
use crate::cli::{CliError, Exit, Global};
use crate::dead_letter::StoredLetter;
use crate::redact;

/// Longest text in a table cell, in characters.
const CELL_CHARS_MAX: usize = 160;

/// Lists dead letters, without joining the worker's group and without committing anything
///
/// Reads each partition in order, from the beginning to its current end. With --json: one line {"letter": {"topic",
/// "partition", "offset"}, "source": {…}, "key", "timestamp_ms", "stage", "class", "reason", "message", "attempts",
/// "failed_at", "replays"} per letter; unknown values are null. Keys, values and headers that are not UTF-8 are
/// {"base64": "…"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: clipstream dlq list --since 2h --stage fetch
         clipstream dlq list --json --values --reason message_invalid | jq .value")]
pub struct Args {
    /// With --json: also prints the messages' values and headers
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    which: selection::Args,
}

pub async fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let output = global.output();
    if args.values && !output.is_json() {
        return Err(CliError::new(Exit::Usage, "--values needs --json; a table has no room for values"));
    }
    let mut selected = args.which.open(&settings)?;
    if output.is_json() {
        while let Some(letter) = selected.next().await? {
            output.json_line(&letter.describe(args.values))?;
        }
        return Ok(());
    }
    let mut table = crate::cli::output::table();
    table.set_header(["failed at", "letter", "source", "key", "class", "stage", "reason", "tries", "message"]);
    let mut matched = 0;
    while let Some(letter) = selected.next().await? {
        table.add_row(cells(&letter));
        matched += 1;
    }
    if matched > 0 {
        output.line(table)?;
    }
    let read = counted(selected.read, "dead letter");
    let next =
        selection::cursor(&selected.next).map_or_else(String::new, |from| format!("; continue with --from {from}"));
    Ok(output.line(format!("{matched} of {read} matched{}{next}", selected.unreadable_note()))?)
}

fn cells(letter: &StoredLetter) -> [String; 9] {
    let text = |text: Option<&str>| redact::cut(text.unwrap_or("-"), CELL_CHARS_MAX);
    let key = letter.key.as_deref().map(String::from_utf8_lossy);
    let replays = if letter.replays() > 0 { format!(" (replay {})", letter.replays()) } else { String::new() };
    [
        text(letter.time().map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).as_deref()),
        text(Some(&letter.position.to_string())),
        text(letter.source.as_ref().map(ToString::to_string).as_deref()),
        text(key.as_deref()),
        text(letter.class.as_deref()),
        text(letter.stage.as_deref()),
        text(letter.reason.as_deref()),
        letter.attempts.map_or_else(|| "-".to_owned(), |n| n.to_string()) + &replays,
        text(letter.message.as_deref()),
    ]
}
