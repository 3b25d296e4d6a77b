//! `clipstream dlq`: lists and replays dead letters.

mod list;
mod replay;
mod selection;

use clap::Subcommand;

use super::{CliError, Exit, Global};
use crate::dead_letter::DeadLetterError;

/// Lists dead letters and replays them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream dlq list --since 2h --reason http_not_found")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::Args),
    Replay(replay::Args),
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    match args.action {
        Action::List(args) => list::run(&args, global).await,
        Action::Replay(args) => replay::run(&args, global).await,
    }
}

impl From<DeadLetterError> for CliError {
    fn from(error: DeadLetterError) -> Self {
        Self::of(Exit::Unavailable, &error)
    }
}
