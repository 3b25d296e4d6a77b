//! `clipstream models pull`: downloads a model from the hub.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use indicatif::{HumanBytes, ProgressBar};
use serde_json::json;

use crate::cli::output::{LogWriter, progress_bytes};
use crate::cli::{CliError, Exit, Global, parse_model};
use crate::domain::{ModelId, Precision, registry};
use crate::hub::{Hub, Origin, Progress, Pull, Pulled, Record};

/// Downloads a model to where it is loaded from; resumes interrupted downloads, and does not change existing files
///
/// With --json: one line {"model", "directory", "precision", "sources": [{"repository", "commit"}], "bytes", "fetched"}.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models pull ViT-B-32/openai --precision int8")]
pub struct Args {
    /// Name, alias (ViT-B/32, clip-ViT-B-32, ...) or, with --source, any VARIANT/CHECKPOINT
    #[arg(value_parser = parse_model)]
    model: ModelId,
    /// One of its sources by layout (xenova, fastembed, immich, combined), or any repository: OWNER/NAME, or
    /// OWNER/IMAGE+OWNER/TEXT for a pair; default: the source of the installed model, else the first in `models list` that
    /// the hub has
    #[arg(long)]
    source: Option<String>,
    /// fp32, fp16, int8 or int4, if the source has it; default: clip.precision
    #[arg(long)]
    precision: Option<Precision>,
    /// Branch, tag or commit; default: the commit that this release pins, else main
    #[arg(long)]
    revision: Option<String>,
    /// Replaces the installed model and everything else in its directory
    #[arg(long)]
    force: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    // Its files are the same, whatever is kept of its vectors.
    let args = Args { model: args.model.whole(), ..args };
    let settings = global.start_quiet()?;
    let hub = Hub::new(&settings.hub)?;
    let directory = super::directory_of(&args.model, &settings.clip);
    let mut origins = match Record::read(&directory) {
        // An installed model is continued from its own source.
        Some(there) if args.source.is_none() => vec![origin_of(&args.model, &there)],
        _ => origins(&args.model, args.source.as_deref(), &directory)?,
    };
    if args.revision.is_some() {
        // A revision belongs to one repository.
        origins.truncate(1);
    }
    let (origin, others) = origins.split_first().ok_or_else(|| no_source(&args.model, &directory))?;
    let mut pull = Pull {
        origin: origin.clone(),
        directory,
        id: args.model,
        revision: args.revision,
        pins: registry::pins(),
        precision: args.precision.unwrap_or(settings.clip.precision),
        force: args.force,
    };
    let screen = Screen::default();
    if let Some(licence) = registry::find(&pull.id).and_then(registry::Checkpoint::not_commercial) {
        screen.note(&format!("warning: the licence of {}'s weights, {licence}, forbids commercial use", pull.id));
    }
    let mut pulled = hub.pull(&pull, &screen).await;
    for other in others {
        match &pulled {
            Err(error) if error.reason.is_of_repository() => {
                screen.note(&format!("{error}; trying {}", other.repositories.join(" and ")));
            }
            _ => break,
        }
        pull.origin = other.clone();
        pulled = hub.pull(&pull, &screen).await;
    }
    let Pulled { directory, precision, record, fetched } = pulled?;
    let bytes: u64 = record.files.values().sum();
    let line = json!({
        "model": record.model,
        "directory": directory.display().to_string(),
        "precision": precision.as_str(),
        "sources": record.sources,
        "bytes": bytes,
        "fetched": fetched,
    });
    let text = || {
        let from = record.sources.iter().map(|s| format!("{} at {}", s.repository, short(&s.commit)));
        format!(
            "{} {} in {}: {}, {}, from {}",
            record.model,
            if fetched { "is" } else { "was already" },
            directory.display(),
            record.precisions.join(" and "),
            HumanBytes(bytes),
            from.collect::<Vec<_>>().join(" and "),
        )
    };
    Ok(global.output().result(&line, text)?)
}

/// The requested source, or all of the registry's. At least one.
fn origins(id: &ModelId, source: Option<&str>, directory: &Path) -> Result<Vec<Origin>, CliError> {
    let known = sources(id);
    let Some(asked) = source else {
        return if known.is_empty() { Err(no_source(id, directory)) } else { Ok(known.iter().map(origin).collect()) };
    };
    if asked.contains('/') {
        let repositories: Vec<_> = asked.split('+').map(|r| r.trim().to_owned()).collect();
        if repositories.len() > 2 {
            let message = format!("--source has {} repositories; expected one, or a pair", repositories.len());
            return Err(CliError::new(Exit::Usage, message));
        }
        return Ok(vec![Origin { repositories, layout: None }]);
    }
    let source = known.iter().find(|s| s.layout.as_str().eq_ignore_ascii_case(asked));
    source.map(|source| vec![origin(source)]).ok_or_else(|| {
        let layouts: Vec<_> = known.iter().map(|s| s.layout.as_str()).chain(["OWNER/NAME"]).collect();
        let message = format!("{id} has no source {asked:?}; expected one of {}", layouts.join(", "));
        CliError::new(Exit::Usage, message)
    })
}

/// The source of the installed model.
fn origin_of(id: &ModelId, record: &Record) -> Origin {
    let repositories: Vec<_> = record.sources.iter().map(|s| s.repository.clone()).collect();
    let known = sources(id).iter().map(origin).find(|origin| origin.repositories == repositories);
    known.unwrap_or(Origin { repositories, layout: None })
}

fn sources(id: &ModelId) -> &'static [registry::Source] {
    registry::find(id).map_or(&[], |row| row.sources)
}

fn origin(source: &registry::Source) -> Origin {
    Origin { repositories: source.repositories().map(str::to_owned).collect(), layout: Some(source.layout) }
}

fn no_source(id: &ModelId, directory: &Path) -> CliError {
    if registry::find(id).is_some() {
        let error = CliError::new(Exit::Failed, format!("no repository is known to have {id} as ONNX"));
        return error.hint(format!(
            "export it: tools/export_openclip.py --model {} --pretrained {} --output {} (docs/export.md); or name a \
             repository: --source OWNER/NAME",
            id.variant,
            id.checkpoint,
            directory.display()
        ));
    }
    let near = registry::resolve(&id.to_string()).err().and_then(|unknown| unknown.nearest);
    let hint = near.map_or_else(|| "clipstream models list".to_owned(), |near| format!("did you mean {near}?"));
    CliError::new(Exit::Usage, format!("{id} is not a known model; expected one, or --source OWNER/NAME")).hint(hint)
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// A bar on a terminal; a line per file elsewhere.
#[derive(Default)]
struct Screen {
    bar: OnceLock<ProgressBar>,
}

impl Progress for Screen {
    fn total(&self, bytes: u64) {
        // The total changes if the pull continues with another source.
        self.bar.get_or_init(|| progress_bytes(bytes)).set_length(bytes);
    }

    fn at(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.set_position(bytes);
        }
    }

    fn file(&self, path: &str, bytes: u64) {
        self.note(&format!("{path}: {}", HumanBytes(bytes)));
    }

    fn note(&self, text: &str) {
        // Standard error may be closed.
        let _ = LogWriter.write_all(format!("{text}\n").as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registry::Layout;

    fn id(text: &str) -> ModelId {
        registry::resolve_or_custom(text).unwrap()
    }

    fn first(id: &ModelId, source: Option<&str>) -> Result<Origin, CliError> {
        origins(id, source, Path::new("there")).map(|mut origins| origins.remove(0))
    }

    #[test]
    fn a_source_is_the_first_the_asked_one_or_a_repository() {
        let openai = id("ViT-B/32");
        assert_eq!(first(&openai, None).unwrap().repositories, ["Xenova/clip-vit-base-patch32"]);
        let pair = first(&openai, Some("fastembed")).unwrap();
        assert_eq!(pair.layout, Some(Layout::FastEmbedPair));
        assert_eq!(pair.repositories, ["Qdrant/clip-ViT-B-32-vision", "Qdrant/clip-ViT-B-32-text"]);
        let own = first(&id("ours/v1"), Some("me/image+me/text")).unwrap();
        assert_eq!(own, Origin { repositories: vec!["me/image".into(), "me/text".into()], layout: None });
        let wrong = first(&openai, Some("immish")).unwrap_err();
        assert!(first(&openai, Some("a/b+c/d+e/f")).unwrap_err().message.contains("expected one, or a pair"));
        assert!(wrong.message.contains("expected one of xenova, fastembed, immich, OWNER/NAME"), "{wrong}");
    }

    #[test]
    fn without_a_source_the_next_step_is_named() {
        let error = first(&id("ViT-B-16/laion2b_s34b_b88k"), None).unwrap_err();
        assert!(error.hint.unwrap().contains("--model ViT-B-16 --pretrained laion2b_s34b_b88k --output there"));
        let error = first(&id("ViT-B-23/openai"), None).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean ViT-B-32/openai?"));
    }
}
