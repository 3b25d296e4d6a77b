//! `clipstream bench`: how fast this machine is.

mod embed;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{Table, presets};

use super::output::watch;
use super::{CliError, Exit, Global};
use crate::bench::{self, BenchError, PipelineBench};
use crate::shutdown::Shutdown;

/// Measures the pipeline against the model alone, a model against ONNX Runtime alone, and preprocessing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream bench pipeline --messages 1852 --json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pictures with captions through the embedded path, against the model alone at the same batches and threads
    ///
    /// With --json: {"messages", "items_per_s", "model_items_per_s", "ratio"}.
    #[command(after_help = "Example: clipstream bench pipeline --messages 1852")]
    Pipeline {
        /// A folder with catalog.jsonl
        #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
        catalog: PathBuf,
        /// How many messages; the catalog repeats as needed
        #[arg(long, default_value_t = 1852, value_parser = clap::value_parser!(u32).range(1..))]
        messages: u32,
    },
    Embed(embed::Args),
    /// Decode, resize and normalise, on one core
    ///
    /// With --json: one line {"what", "pictures", "decode_ms", "resize_normalise_ms", "total_ms"} per set; medians.
    #[command(after_help = "Example: clipstream bench preprocess --image photo.jpg")]
    Preprocess {
        /// A folder with catalog.jsonl
        #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
        catalog: PathBuf,
        /// Pictures to measure one by one; default: a 12-megapixel JPEG that is made for it
        #[arg(long, value_name = "FILE")]
        image: Vec<PathBuf>,
        /// How often each of them
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
    },
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    match args.what {
        What::Pipeline { catalog, messages } => pipeline(catalog, messages as usize, global).await,
        What::Embed(args) => embed::run(args, global).await,
        What::Preprocess { catalog, image, repeat } => {
            tokio::task::block_in_place(|| preprocess(&catalog, &image, repeat as usize, global))
        }
    }
}

async fn pipeline(catalog: PathBuf, messages: usize, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let shutdown = Shutdown::new();
    shutdown.listen().map_err(|e| CliError::new(Exit::Failed, format!("cannot listen for signals: {e}")))?;
    let mut bar = None;
    let bench = PipelineBench { catalog, messages };
    let ended = bench.run(settings, shutdown, |total, counts| bar = Some(watch(Some(total), counts))).await;
    drop(bar);
    let report = ended?;
    Ok(global.output().result(&report, || {
        format!(
            "{} messages: {:.0} items/s end to end, {:.0} items/s model alone, ratio {:.3}",
            report.messages, report.items_per_s, report.model_items_per_s, report.ratio
        )
    })?)
}

fn preprocess(catalog: &Path, images: &[PathBuf], repeat: usize, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let reports = bench::preprocess(catalog, images, repeat, settings.media.pixels_max)?;
    let output = global.output();
    if output.is_json() {
        for report in &reports {
            output.json_line(report)?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["what", "pictures", "decode ms", "resize + normalise ms", "total ms"]);
    for r in &reports {
        let ms = |value: f64| format!("{value:.2}");
        table.add_row([
            r.what.clone(),
            r.pictures.to_string(),
            ms(r.decode_ms),
            ms(r.resize_normalise_ms),
            ms(r.total_ms),
        ]);
    }
    Ok(output.line(table)?)
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Worker(error) => error.into(),
            BenchError::Embed(error) => error.into(),
            BenchError::Model(error) => error.into(),
            other => Self::new(Exit::Failed, other.to_string()),
        }
    }
}
