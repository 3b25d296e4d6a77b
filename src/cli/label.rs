//! `clipstream label`: how well labels fit pictures.

use std::path::PathBuf;

use futures::{StreamExt, stream};
use serde_json::json;

use super::{CliError, Exit, Global, parse_model};
use crate::api::{Embedder, Labels};
use crate::domain::{Explain, Finding, ModelId};
use crate::encoding::text_of;
use crate::redact;

/// Concurrent pictures: enough to fill a batch twice.
const INPUTS_IN_FLIGHT: usize = 64;

/// Says which labels fit pictures, without training (zero-shot)
///
/// For models trained with a softmax (CLIP), the probabilities of all labels add up to 1: give labels for everything that a picture may
/// show. For models trained with a sigmoid (SigLIP), each label has a probability of its own. With --json: one line per picture, in order:
/// {"input", "model", "labels": [{"label", "probability"}]}, the most probable first. For a picture that fails, the line has "error" and
/// "hint" instead of "labels".
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream label --label cat --label dog --template \"a photo of a {}\" photo.jpg")]
pub struct Args {
    /// Paths and URLs of pictures
    #[arg(required = true)]
    inputs: Vec<String>,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "LABEL", required_unless_present = "file")]
    labels: Vec<String>,
    /// A file with a label per line; empty lines and those that begin with # are left out
    #[arg(long = "labels", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The text around a label, with {} in its place; several are averaged
    #[arg(long = "template", value_name = "TEXT", default_value = "a photo of a {}")]
    templates: Vec<String>,
    /// Labels per picture, at most
    #[arg(long, short = 'n', value_name = "LABELS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Only labels with at least this probability
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0)]
    threshold: f32,
    /// One of clip.models, as VARIANT/CHECKPOINT; default: the first
    #[arg(long, value_name = "MODEL", value_parser = parse_model)]
    model: Option<ModelId>,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    if !(0.0..=1.0).contains(&args.threshold) {
        return Err(CliError::new(Exit::Usage, format!("--threshold {}: expected 0 to 1", args.threshold)));
    }
    let mut names = args.labels;
    if let Some(file) = &args.file {
        let unreadable = |why: String| {
            CliError::new(Exit::Usage, format!("cannot read {}: {why}", file.display()))
                .hint("expected a label per line")
        };
        let text = std::fs::read(file).map_err(|e| unreadable(e.to_string()))?;
        let text = text_of(text).map_err(unreadable)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        names.extend(lines.map(str::to_owned));
    }
    let embedder = Embedder::open(&settings, args.model.as_ref()).await?;
    let labels = Labels::embed(&embedder, names, &args.templates).await?;
    let (output, model) = (global.output(), embedder.model().to_string());
    let mut failed = 0;
    let embed = async |input: String| {
        let embedded = embedder.embed_image(input.as_str().into()).await;
        (redact::url(&input), embedded)
    };
    let mut results = stream::iter(args.inputs).map(embed).buffered(INPUTS_IN_FLIGHT);
    while let Some((input, result)) = results.next().await {
        let found = match &result {
            Ok(picture) => labels.of(picture),
            Err(error) => {
                failed += 1;
                let Finding { message, hint } = error.explain();
                let line = json!({"input": input, "model": model, "error": message, "hint": hint});
                output.result(&line, || format!("{input}  {message}"))?;
                continue;
            }
        };
        let fitting = found.into_iter().filter(|(_, probability)| *probability >= args.threshold);
        let fitting: Vec<_> = fitting.take(args.limit.into()).collect();
        let shown = fitting.iter().map(|(label, probability)| json!({"label": label, "probability": probability}));
        let line = json!({"input": input, "model": model, "labels": shown.collect::<Vec<_>>()});
        output.result(&line, || {
            let labels = fitting.iter().map(|(label, probability)| format!("{label} {probability:.3}"));
            format!("{input}  {}", labels.collect::<Vec<_>>().join(", "))
        })?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Failed, "1 picture has no labels; its line says why")),
        n => Err(CliError::new(Exit::Failed, format!("{n} pictures have no labels; their lines say why"))),
    }
}
