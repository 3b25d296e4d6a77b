//! `clipstream models path`: prints where a model is.

use serde_json::json;

use crate::cli::{CliError, Exit, Global, parse_model};
use crate::domain::{ModelId, registry};

/// Prints the directory that a model is loaded from; exit code 3 if it is not installed
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models path ViT-B-32/openai")]
pub struct Args {
    /// Name, alias or VARIANT/CHECKPOINT of clip.models
    #[arg(value_parser = parse_model)]
    model: ModelId,
}

pub fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let (id, directory) = (&args.model, super::directory_of(&args.model, &settings.clip));
    if !directory.is_dir() {
        let next = match registry::find(id) {
            Some(_) => format!("clipstream models pull {id}"),
            None => format!(
                "set clip.models to {id}=DIRECTORY, or pull it: clipstream models pull {id} --source OWNER/NAME"
            ),
        };
        return Err(CliError::new(
            Exit::Unavailable,
            format!("{id} is not installed: there is no directory {}", directory.display()),
        )
        .hint(next));
    }
    let line = json!({ "model": id.to_string(), "directory": directory.display().to_string() });
    Ok(global.output().result(&line, || directory.display().to_string())?)
}
