//! `clipstream bench embed`.

use std::path::PathBuf;

use comfy_table::Table;

use crate::bench::{BenchError, EmbedBench, EmbedReport};
use crate::cli::output::{Watch, waiting};
use crate::cli::{CliError, Global, parse_model, stop_on_signals};
use crate::config::cores;
use crate::domain::{ModelId, Precision};

/// Measures a model's towers over batch sizes, threads and precisions, beside ONNX Runtime alone
///
/// Each row is measured in alternating rounds: the queue as the pipeline uses it, and ONNX Runtime alone (same graph and
/// batches, inputs in place). Results are medians. Texts are also run at the whole context length. With --json: one line
/// {"model", "tower", "precision", "threads", "batch", "items_per_s", "onnxruntime_items_per_s", "ratio"} per row. Texts
/// that run at their real length add "padded_items_per_s", "over_padded", "padded_difference_max"; precisions other than
/// fp32 add "over_fp32", "fp32_cosine_min".
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream bench embed --batch 1,16 --threads 1,2")]
pub(super) struct Args {
    /// One of clip.models; default: the first
    #[arg(long, value_name = "MODEL", value_parser = parse_model)]
    model: Option<ModelId>,
    /// Batch sizes: items in one run, at most
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Vec<u16>,
    /// Threads of one run; default: one, and the number of cores
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// fp32, fp16, int8, int4; default: all in the model's directory
    #[arg(long, value_delimiter = ',')]
    precision: Vec<Precision>,
    /// A folder with catalog.jsonl
    #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
    catalog: PathBuf,
    /// Pictures per round
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    /// Texts per round
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    texts: u32,
    /// Rounds; medians are reported
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let output = global.output();
    let threads = if args.threads.is_empty() {
        let cores = cores();
        if cores > 1 { vec![1, cores] } else { vec![1] }
    } else {
        args.threads.iter().copied().map(usize::from).collect()
    };
    let bench = EmbedBench {
        model: args.model,
        catalog: args.catalog,
        batches: args.batch.iter().copied().map(usize::from).collect(),
        threads,
        precisions: args.precision,
        pictures: args.pictures as usize,
        texts: args.texts as usize,
        rounds: args.rounds as usize,
    };
    let shutdown = stop_on_signals(None)?;
    let (mut rows, mut bar) = (Vec::new(), None::<Watch>);
    let report = |row: EmbedReport| {
        if output.is_json() {
            let unwritten = |source| BenchError::Io { what: "cannot write a result".to_owned(), source };
            return output.json_line(&row).map_err(unwritten);
        }
        rows.push(row);
        Ok(())
    };
    let ended = bench.run(&settings, &shutdown, |what| bar = Some(waiting(what)), report).await;
    drop(bar);
    ended?;
    if output.is_json() { Ok(()) } else { Ok(output.line(table(&rows))?) }
}

fn table(rows: &[EmbedReport]) -> Table {
    let mut table = crate::cli::output::table();
    table.set_header([
        "tower",
        "precision",
        "threads",
        "batch",
        "items/s",
        "ONNX Runtime/s",
        "ratio",
        "padded/s",
        "x padded",
        "difference",
        "x fp32",
        "cosine",
    ]);
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |v| format!("{v:.digits$}"));
    for row in rows {
        table.add_row([
            row.tower.to_owned(),
            row.precision.to_owned(),
            row.threads.to_string(),
            row.batch.to_string(),
            number(Some(row.items_per_s), 1),
            number(Some(row.onnxruntime_items_per_s), 1),
            number(Some(row.ratio), 3),
            number(row.padded_items_per_s, 1),
            number(row.over_padded, 2),
            row.padded_difference_max.map_or(String::new(), |d| format!("{d:.1e}")),
            number(row.over_fp32, 2),
            number(row.fp32_cosine_min.map(f64::from), 5),
        ]);
    }
    table
}
