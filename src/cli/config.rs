//! `clipstream config`: shows the settings in effect, or reports problems.

use clap::Subcommand;
use serde_json::json;

use super::output::counted;
use super::{CliError, Exit, Global};
use crate::config::Settings;

/// Shows or validates the configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream config show --config worker.toml")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints every key with its value in effect and its origin; secrets as REDACTED
    ///
    /// Prints TOML. With --json: one line {"key", "value", "origin"} per key, with the value as in TOML.
    #[command(after_help = "Example: clipstream config show --config worker.toml")]
    Show,
    /// Reports all problems at once; exit code 2 if there are any
    ///
    /// With --json: one line {"key", "found", "origin", "expected", "hint"} per problem on standard output.
    #[command(after_help = "Example: clipstream config validate --config worker.toml")]
    Validate,
}

pub fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let output = global.output();
    match args.action {
        Action::Show => {
            let settings = Settings::load(global.layers())?;
            if !output.is_json() {
                return Ok(output.line(settings.show().trim_end())?);
            }
            for entry in settings.effective.entries() {
                let origin = entry.origin.as_deref().unwrap_or("default");
                output.json_line(&json!({ "key": entry.key, "value": entry.shown, "origin": origin }))?;
            }
            Ok(())
        }
        Action::Validate => match Settings::load(global.layers()) {
            Ok(settings) => {
                let keys = settings.effective.entries();
                let set = keys.iter().filter(|entry| entry.origin.is_some()).count();
                let text = || {
                    format!(
                        "the configuration is valid: {} set, the others have their defaults",
                        counted(set as u64, "key")
                    )
                };
                Ok(output.result(&json!({ "valid": true, "keys_set": set }), text)?)
            }
            Err(errors) if output.is_json() => {
                for p in &errors.0 {
                    output.json_line(&json!({
                        "key": p.key, "found": p.found, "origin": p.origin, "expected": p.expected, "hint": p.hint,
                    }))?;
                }
                Err(CliError::new(
                    Exit::Usage,
                    format!("the configuration has {}", counted(errors.0.len() as u64, "problem")),
                ))
            }
            Err(errors) => Err(errors.into()),
        },
    }
}
