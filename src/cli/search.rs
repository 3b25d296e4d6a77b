//! `clipstream search`: searches by text or by picture.

use clap::ValueEnum;
use comfy_table::Table;
use serde_json::{Value, json};

use super::{CliError, Exit, Global, parse_model};
use crate::api::{SearchHit, SearchRequest, Searcher};
use crate::domain::{Modality, ModelId, RESERVED_KEY};
use crate::redact;

/// Longest payload shown in a table cell, in characters.
const CELL_CHARS_MAX: usize = 120;

/// Finds assets by text or by picture
///
/// With --json: one line {"id", "score", "probability", "modality", "payload"} per hit, nearest first. "probability" is that text and
/// picture belong together, for models that were trained with a sigmoid (SigLIP) and whose files have its scale and bias; else null.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: clipstream search \"a red running shoe\" --limit 5
         clipstream search --image photo.jpg --filter '{\"must\": [{\"key\": \"lang\", \"match\": {\"value\": \"en\"}}]}'")]
pub struct Args {
    /// The text to search for
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    text: Option<String>,
    /// Searches for similar pictures instead: a path or a URL
    #[arg(long, value_name = "PATH|URL")]
    image: Option<String>,
    /// The vectors to search in
    #[arg(long = "in", value_enum, default_value_t = In::Image)]
    modality: In,
    /// Number of hits, at most
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Payload filter in the form of Qdrant's REST API
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// One of clip.models, as VARIANT/CHECKPOINT; default: the first
    #[arg(long, value_name = "MODEL", value_parser = parse_model)]
    model: Option<ModelId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum In {
    Image,
    Text,
}

impl From<In> for Modality {
    fn from(modality: In) -> Self {
        match modality {
            In::Image => Self::Image,
            In::Text => Self::Text,
        }
    }
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let filter = args.filter.as_deref().map(parse_filter).transpose()?;
    let searcher = Searcher::open(&settings, args.model.as_ref()).await?;
    let (query, of) = match (&args.text, &args.image) {
        (Some(text), _) => (searcher.embedder().embed_query(text).await?, Modality::Text),
        (None, Some(image)) => (searcher.embedder().embed_image(image.as_str().into()).await?, Modality::Image),
        (None, None) => return Err(CliError::new(Exit::Usage, "nothing to search for; expected a text or --image")),
    };
    let modality = Modality::from(args.modality);
    let hits = searcher.search(SearchRequest { query, of, modality, limit: args.limit.into(), filter }).await?;
    searcher.close().await?;
    let output = global.output();
    if output.is_json() {
        for hit in &hits {
            output.json_line(&json!({
                "id": asset_id(hit), "score": hit.score, "probability": hit.probability, "modality": modality.as_str(),
                "payload": hit.payload,
            }))?;
        }
        return Ok(());
    }
    Ok(output.line(table(&hits))?)
}

fn parse_filter(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|e| {
        CliError::new(Exit::Usage, format!("--filter is not JSON: {e}; found {}", redact::cut(text, CELL_CHARS_MAX)))
            .hint(r#"for example {"must": [{"key": "lang", "match": {"value": "en"}}]}"#)
    })
}

/// The asset id, or the point id if another program wrote the point.
fn asset_id(hit: &SearchHit) -> String {
    hit.asset_id().map_or_else(|| hit.id.to_string(), str::to_owned)
}

fn table(hits: &[SearchHit]) -> Table {
    let mut table = crate::cli::output::table();
    table.set_header(["score", "id", "payload"]);
    for hit in hits {
        let payload = hit.payload.iter().filter(|(key, _)| *key != RESERVED_KEY);
        let payload: Vec<String> = payload.map(|(key, value)| format!("{key}: {value}")).collect();
        table.add_row([
            format!("{:.3}", hit.score),
            redact::cut(&asset_id(hit), CELL_CHARS_MAX),
            redact::cut(&payload.join(", "), CELL_CHARS_MAX),
        ]);
    }
    table
}
