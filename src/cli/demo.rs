//! `clipstream demo`: the whole pipeline without servers.

use std::path::PathBuf;

use super::output::watch;
use super::{CliError, Exit, Global, stop_on_signals};
use crate::demo::{self, DemoError, Options};

/// Indexes the demo catalog through an in-process Kafka and searches it by text
///
/// Needs no servers. The pictures are written to the embedded store (store.path), so that `clipstream search` finds them
/// afterwards. With --json, the last line is {"messages", "points", "dead_letters", "pictures_unchanged", "items_per_s",
/// "model_items_per_s", "bound_items_per_s", "recall_at_1", "recall_at_5", "page"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream demo")]
pub struct Args {
    /// The folder with catalog/
    #[arg(long, value_name = "DIRECTORY", default_value = "demo")]
    assets: PathBuf,
    /// Where the page with the search results is written
    #[arg(long, value_name = "FILE", default_value = "data/demo.html")]
    page: PathBuf,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let shutdown = stop_on_signals(None)?;
    let options = Options { assets: args.assets, page: args.page };
    let mut bar = None;
    let ended =
        demo::run(settings, options, shutdown, |total, counts| bar = Some(watch("messages", Some(total), counts)))
            .await;
    drop(bar);
    let report = ended?;
    let output = global.output();
    output.result(&report, || {
        let mut table = crate::cli::output::table();
        for (name, value) in report.figures() {
            table.add_row([name, value]);
        }
        format!("{table}\nResults page: {}\nNow try: clipstream search \"a red heart\"", report.page.display())
    })?;
    Ok(())
}

impl From<DemoError> for CliError {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Worker(error) => error.into(),
            DemoError::Search(error) => error.into(),
            DemoError::Store(error) => crate::worker::WorkerError::from(error).into(),
            other => Self::of(Exit::Failed, &other),
        }
    }
}
