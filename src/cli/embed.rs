//! `clipstream embed`: vectors of texts and pictures.

use std::io::{IsTerminal, Read};

use clap::Subcommand;
use futures::{StreamExt, stream};
use serde_json::json;

use super::{CliError, Exit, Global, parse_model};
use crate::api::{EmbedError, Embedder, ImageInput};
use crate::domain::{Embedding, Explain, Finding, Modality, ModelId};
use crate::encoding::text_of;
use crate::redact;

/// Concurrent inputs: enough to fill a batch of either tower twice.
const INPUTS_IN_FLIGHT: usize = 64;

/// Prints unit-length vectors as JSON lines
///
/// One line per input, in order: {"input", "modality", "model", "embedding": [...]}. For an input that fails, the line has
/// "error" and "hint" (the next step, or null) instead of "embedding".
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream embed text \"a red running shoe\" \"a blue shoe\"")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Embeds texts
    #[command(after_help = "Example: clipstream embed text \"a red running shoe\"")]
    Text(Inputs),
    /// Embeds pictures
    #[command(after_help = "Example: clipstream embed image photo.jpg https://example.com/a.png")]
    Image(Inputs),
}

#[derive(Debug, clap::Args)]
struct Inputs {
    /// Texts, or paths and URLs of pictures. - is standard input: one text per line, or one picture
    #[arg(required = true)]
    inputs: Vec<String>,
    /// One of clip.models, as VARIANT/CHECKPOINT; default: the first
    #[arg(long, value_name = "MODEL", value_parser = parse_model)]
    model: Option<ModelId>,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let (modality, inputs) = match args.what {
        What::Text(inputs) => (Modality::Text, inputs),
        What::Image(inputs) => (Modality::Image, inputs),
    };
    let embedder = Embedder::open(&settings, inputs.model.as_ref()).await?;
    let inputs = match modality {
        Modality::Text => texts(inputs.inputs)?,
        Modality::Image => inputs.inputs,
    };
    let output = global.output();
    let mut failed = 0;
    let mut results = stream::iter(inputs)
        .map(async |input| {
            let result = match modality {
                Modality::Text => embedder.embed_query(&input).await,
                Modality::Image => image(&embedder, &input).await,
            };
            (input, result)
        })
        .buffered(INPUTS_IN_FLIGHT);
    while let Some((input, result)) = results.next().await {
        // Texts are shown as they are; a URL may contain secrets.
        let input = if modality == Modality::Image { redact::url(&input) } else { input };
        let model = embedder.model().to_string();
        let line = match result {
            Ok(embedding) => {
                json!({ "input": input, "modality": modality.as_str(), "model": model, "embedding": embedding.as_slice() })
            }
            Err(error) => {
                failed += 1;
                let Finding { message, hint } = error.explain();
                json!({
                    "input": input, "modality": modality.as_str(), "model": model, "error": message, "hint": hint,
                })
            }
        };
        output.json_line(&line)?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Failed, "1 input has no vector; its line says why")),
        n => Err(CliError::new(Exit::Failed, format!("{n} inputs have no vector; their lines say why"))),
    }
}

async fn image(embedder: &Embedder, input: &str) -> Result<Embedding, EmbedError> {
    if input != "-" {
        return embedder.embed_image(input.into()).await;
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|e| EmbedError::Input(format!("cannot read standard input: {e}")))?;
    embedder.embed_image(ImageInput::from(bytes)).await
}

/// Replaces `-` by the lines of standard input.
fn texts(inputs: Vec<String>) -> Result<Vec<String>, CliError> {
    let mut out = Vec::with_capacity(inputs.len());
    for input in inputs {
        if input != "-" {
            out.push(input);
            continue;
        }
        if std::io::stdin().is_terminal() {
            eprintln!("reading texts from the terminal, one per line; Ctrl-D ends");
        }
        let unreadable =
            |why: String| CliError::new(Exit::Usage, format!("cannot read standard input: {why}; expected UTF-8 text"));
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
        let text = text_of(bytes).map_err(unreadable)?;
        out.extend(text.lines().map(str::to_owned));
    }
    Ok(out)
}
