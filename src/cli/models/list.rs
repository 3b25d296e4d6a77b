//! `clipstream models list`: the registry as a table, and which models are installed.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{CliError, Exit, Global};
use crate::config::ClipSettings;
use crate::domain::ModelId;
use crate::domain::registry::{self, Checkpoint};
use crate::hub::Record;
use crate::model::precisions_of;

/// Lists the known models, and those of clip.models
///
/// With --json: one line {"model", "dimension", "image_size", "context_length", "activation", "sources": [{"repository",
/// "layout", "commit"}], "directory", "installed", "precisions"} per model; unknown values are null.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models list ViT-B-32")]
pub struct Args {
    /// Only models whose name contains this text, ignoring case
    name: Option<String>,
}

/// One line: a model of the table, or one of clip.models that is not in it.
struct Row {
    id: ModelId,
    known: Option<&'static Checkpoint>,
}

pub fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let rows = rows(&settings.clip, args.name.as_deref().unwrap_or_default());
    if let Some(name) = &args.name
        && rows.is_empty()
    {
        let near = registry::resolve(name).map_or_else(|unknown| unknown.nearest, Some);
        let error = CliError::new(Exit::Failed, format!("no model's name contains {name:?}"));
        return Err(error.hint(near.map_or("clipstream models list".into(), |id| format!("did you mean {id}?"))));
    }
    let output = global.output();
    if output.is_json() {
        for row in &rows {
            output.json_line(&row.json(&settings.clip))?;
        }
        return Ok(());
    }
    let mut table = crate::cli::output::table();
    table.set_header(["model", "dimension", "pixels", "activation", "ONNX from", "installed"]);
    for row in &rows {
        table.add_row(row.cells(&settings.clip));
    }
    Ok(output.line(table)?)
}

fn rows(settings: &ClipSettings, name: &str) -> Vec<Row> {
    let known = registry::all().iter().map(|row| Row { id: row.id(), known: Some(row) });
    let custom = settings.models.iter().filter(|entry| registry::find(&entry.id).is_none());
    let custom = custom.map(|entry| Row { id: entry.id.clone(), known: None });
    let name = name.to_lowercase();
    known.chain(custom).filter(|row| row.id.to_string().to_lowercase().contains(&name)).collect()
}

impl Row {
    fn json(&self, settings: &ClipSettings) -> Value {
        let directory = super::directory_of(&self.id, settings);
        let sources = self.known.map(|row| {
            let source = |s: &registry::Source| {
                let commits: Option<Vec<_>> = s.repositories().map(registry::pinned_commit).collect();
                json!({
                    "repository": s.repositories().collect::<Vec<_>>().join("+"),
                    "layout": s.layout.as_str(),
                    "commit": commits.map(|commits| commits.join("+")),
                })
            };
            row.sources.iter().map(source).collect::<Vec<_>>()
        });
        json!({
            "model": self.id.to_string(),
            "dimension": self.known.map(|row| row.dimension),
            "image_size": self.known.map(|row| row.image_size),
            "context_length": self.known.map(|row| row.context_length),
            "activation": self.known.map(|row| row.activation.as_str()),
            "sources": sources,
            "directory": directory.display().to_string(),
            "installed": directory.is_dir(),
            "precisions": precisions(&directory),
        })
    }

    fn cells(&self, settings: &ClipSettings) -> [String; 6] {
        let fact = |fact: &dyn Fn(&Checkpoint) -> String| self.known.map_or("?".to_owned(), fact);
        [
            self.id.to_string(),
            fact(&|row| row.dimension.to_string()),
            fact(&|row| row.image_size.to_string()),
            fact(&|row| row.activation.to_string()),
            fact(&|row| match row.sources {
                [] => "export it".to_owned(),
                sources => sources.iter().map(|s| s.layout.as_str()).collect::<Vec<_>>().join(", "),
            }),
            installed(&super::directory_of(&self.id, settings)),
        ]
    }
}

/// The precisions if they are known, otherwise whether the directory exists.
fn installed(directory: &Path) -> String {
    match precisions(directory) {
        Some(precisions) => precisions.join(", "),
        None if directory.is_dir() => "yes".to_owned(),
        None => String::new(),
    }
}

/// As recorded by the pull or the export.
fn precisions(directory: &Path) -> Option<Vec<String>> {
    let exported = || precisions_of(directory).map(|all| all.iter().map(ToString::to_string).collect());
    Record::read(directory).map(|record| record.precisions).or_else(exported)
}
