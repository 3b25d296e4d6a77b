//! `clipstream models`: lists, downloads, inspects and verifies models.

mod inspect;
mod list;
mod named;
mod path;
mod pull;
mod verify;

use clap::Subcommand;

use super::{CliError, Exit, Global};
use crate::config::ClipSettings;
use crate::domain::{Class, HubReason, ModelId};
use crate::hub::HubError;

/// Lists, downloads, inspects and verifies models
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models pull ViT-B-32/openai")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::Args),
    Pull(pull::Args),
    Path(path::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    match args.action {
        Action::List(args) => list::run(&args, global),
        Action::Pull(args) => pull::run(args, global).await,
        Action::Path(args) => path::run(&args, global),
        Action::Inspect(args) => inspect::run(args, global).await,
        Action::Verify(args) => verify::run(args, global).await,
    }
}

/// Where the worker would load the model from.
fn directory_of(id: &ModelId, settings: &ClipSettings) -> std::path::PathBuf {
    settings.model_directory(settings.entry(Some(id)).unwrap_or(&id.clone().into()))
}

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        let code = match error.reason {
            HubReason::SettingsInvalid
            | HubReason::RepositoryInvalid
            | HubReason::PrecisionMissing
            | HubReason::DirectoryTaken => Exit::Usage,
            HubReason::Offline => Exit::Unavailable,
            _ if error.class == Class::Transient => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self::of(code, &error)
    }
}
