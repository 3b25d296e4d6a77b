//! `clipstream models list`: the registry as a table, and which models are installed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{CliError, Exit, Global};
use crate::config::ClipSettings;
use crate::domain::ModelId;
use crate::domain::registry::{self, Checkpoint};
use crate::hub::Record;
use crate::model::precisions_of;

/// Lists the known models, and those of clip.models
///
/// With --json: one line per model, {"model", "same_as", "family", "status", "dimension", "image_size", "resize_mode",
/// "interpolation", "mean", "std", "fill", "image_activation", "text_activation", "tokenizer", "context_length", "pooling", "causal", "sigmoid",
/// "matryoshka", "multilingual", "licence", "weights", "sources": [{"repository", "layout", "commit"}], "directory", "installed", "precisions"};
/// unknown values are null.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: clipstream models list --multilingual --dimension-max 768\n\nStatus: installed, or how to get it: pull \
                  (clipstream models pull) or export (docs/export.md). The licence is that of the weights, where it is known."
)]
pub struct Args {
    /// Only models whose name contains this text, ignoring case
    name: Option<String>,
    /// Only this family, ignoring case: CLIP, SigLIP2, ...
    #[arg(long)]
    family: Option<String>,
    /// Only models whose vectors have at most this many values
    #[arg(long, value_name = "VALUES")]
    dimension_max: Option<usize>,
    /// Only models whose texts are of many languages
    #[arg(long)]
    multilingual: bool,
}

/// One line: a model of the table, or one of clip.models that is not in it.
struct Row {
    id: ModelId,
    known: Option<&'static Checkpoint>,
}

pub fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    if let Some(family) = &args.family {
        check_family(family)?;
    }
    let rows = rows(&settings.clip, args);
    if rows.is_empty() && args.filters() {
        let message = "no known model is of this name, family and dimension";
        return Err(CliError::new(Exit::Failed, message).hint("leave out a filter"));
    }
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
    table.set_header(["model", "family", "dimension", "pixels", "languages", "licence", "status"]);
    for row in &rows {
        table.add_row(row.cells(&settings.clip));
    }
    Ok(output.line(table)?)
}

impl Args {
    /// Whether it asks for more than a name.
    fn filters(&self) -> bool {
        self.family.is_some() || self.dimension_max.is_some() || self.multilingual
    }

    fn takes(&self, row: &Row) -> bool {
        let name = self.name.as_deref().unwrap_or_default().to_lowercase();
        let of_table = |known: &Checkpoint| {
            self.family.as_deref().is_none_or(|family| known.family.eq_ignore_ascii_case(family))
                && self.dimension_max.is_none_or(|most| known.dimension <= most)
                && (known.multilingual || !self.multilingual)
        };
        row.id.to_string().to_lowercase().contains(&name) && row.known.map_or(!self.filters(), of_table)
    }
}

fn check_family(family: &str) -> Result<(), CliError> {
    let mut all: Vec<_> = registry::all().iter().map(|row| row.family).collect();
    all.sort_unstable();
    all.dedup();
    if all.iter().any(|known| known.eq_ignore_ascii_case(family)) {
        return Ok(());
    }
    Err(CliError::new(Exit::Usage, format!("--family {family:?}: expected one of {}", all.join(", "))))
}

fn rows(settings: &ClipSettings, args: &Args) -> Vec<Row> {
    let known = registry::all().iter().map(|row| Row { id: row.id(), known: Some(row) });
    let custom = settings.models.iter().filter(|entry| registry::find(&entry.id).is_none());
    let custom = custom.map(|entry| Row { id: entry.id.clone(), known: None });
    known.chain(custom).filter(|row| args.takes(row)).collect()
}

impl Row {
    fn directory(&self, settings: &ClipSettings) -> PathBuf {
        let own = self.known.and_then(|row| row.same_as?.parse().ok());
        super::directory_of(own.as_ref().unwrap_or(&self.id), settings)
    }

    fn json(&self, settings: &ClipSettings) -> Value {
        let directory = self.directory(settings);
        let source = |s: &registry::Source| {
            let commits: Option<Vec<_>> = s.repositories().map(registry::pinned_commit).collect();
            json!({
                "repository": s.repositories().collect::<Vec<_>>().join("+"),
                "layout": s.layout.as_str(),
                "commit": commits.map(|commits| commits.join("+")),
            })
        };
        let known = self.known;
        json!({
            "model": self.id.to_string(),
            "same_as": known.and_then(|row| row.same_as),
            "family": known.map(|row| row.family),
            "status": self.status(&directory),
            "dimension": known.map(|row| row.dimension),
            "image_size": known.map(|row| row.image_size),
            "resize_mode": known.map(|row| row.resize_mode),
            "interpolation": known.map(|row| row.interpolation),
            "mean": known.map(|row| row.mean),
            "std": known.map(|row| row.std),
            "fill": known.map(|row| row.fill),
            "image_activation": known.and_then(|row| row.image_activation),
            "text_activation": known.and_then(|row| row.text_activation),
            "tokenizer": known.map(|row| row.tokenizer),
            "context_length": known.map(|row| row.context_length),
            "pooling": known.map(|row| row.pooling),
            "causal": known.map(|row| row.causal),
            "sigmoid": known.map(|row| row.sigmoid),
            "matryoshka": known.map(|row| row.matryoshka),
            "multilingual": known.map(|row| row.multilingual),
            "licence": known.and_then(|row| row.licence),
            "weights": known.map(|row| row.weights),
            "sources": known.map(|row| row.sources.iter().map(source).collect::<Vec<_>>()),
            "directory": directory.display().to_string(),
            "installed": directory.is_dir(),
            "precisions": precisions(&directory),
        })
    }

    /// Whether it is installed, or how to get it; `None`: it is configured but absent, and no source of it is known.
    fn status(&self, directory: &Path) -> Option<&'static str> {
        match self.known {
            _ if directory.is_dir() => Some("installed"),
            Some(row) if row.sources.is_empty() => Some("export"),
            Some(_) => Some("pull"),
            None => None,
        }
    }

    fn cells(&self, settings: &ClipSettings) -> [String; 7] {
        let fact = |fact: &dyn Fn(&Checkpoint) -> String| self.known.map_or("?".to_owned(), fact);
        let directory = self.directory(settings);
        let status = match (self.status(&directory), precisions(&directory)) {
            (Some(status), Some(precisions)) => format!("{status} ({})", precisions.join(", ")),
            (status, _) => status.unwrap_or("absent").to_owned(),
        };
        [
            self.id.to_string(),
            fact(&|row| row.family.to_owned()),
            fact(&|row| row.dimension.to_string()),
            fact(&|row| row.image_size.to_string()),
            fact(&|row| if row.multilingual { "many" } else { "English" }.to_owned()),
            fact(&|row| row.licence.unwrap_or_default().to_owned()),
            status,
        ]
    }
}

/// As recorded by the pull or the export.
fn precisions(directory: &Path) -> Option<Vec<String>> {
    let exported = || precisions_of(directory).map(|all| all.iter().map(ToString::to_string).collect());
    Record::read(directory).map(|record| record.precisions).or_else(exported)
}
