//! `clipstream bench`: how fast this machine is.

mod embed;
mod store;
mod tokenize;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::output::{Watch, counted, waiting, watch};
use super::{CliError, Exit, Global, stop_on_signals};
use crate::bench::{BenchError, NeighboursBench, Peer, PipelineBench, PreprocessBench};
use crate::pipeline::Progress;

/// Measures the pipeline against the model alone and beside failing hosts, a model against ONNX Runtime alone, tokenizers, and preprocessing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream bench pipeline --messages 1852 --json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Runs pictures with captions through the embedded pipeline, against the model alone and against what the cores can do
    ///
    /// Items are pictures and captions. The model alone runs with all cores, one tower after the other. The bound is the number of
    /// cores divided by the processor time that decoding, both towers and the store take when each is measured alone. Then runs the
    /// same messages again, which must embed nothing, and into an empty store with pipeline.skip_unchanged off, to measure its cost.
    /// If several models are configured, the first one is measured. With --json: {"messages", "cores", "items_per_s",
    /// "model_items_per_s", "ratio", "bound_items_per_s", "bound_ratio", "processor_ms": {"decode", "image_tower", "text_tower",
    /// "store"}, "replay": {"items_per_s", "speedup", "images_not_embedded"}, "recall_ratio"}; "images_not_embedded" is 1 for all,
    /// "recall_ratio" the rate with skip_unchanged over the rate without.
    #[command(after_help = "Example: clipstream bench pipeline --messages 1852")]
    Pipeline {
        /// A folder with catalog.jsonl
        #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
        catalog: PathBuf,
        /// Number of messages; the catalog is repeated as needed
        #[arg(long, default_value_t = 1852, value_parser = clap::value_parser!(u32).range(1..))]
        messages: u32,
    },
    /// Measures how much messages of failing media hosts (refuse, do not answer, stall) slow down good messages
    ///
    /// Uses one, eight and a thousand failing hosts, each an address of the loopback network (only on Linux; other systems have one
    /// address), with the configured limits and timeouts. Rounds alternate; results are medians. With --json: {"messages",
    /// "bad_messages", "undisturbed_per_s", "neighbours": [{"what", "hosts", "per_s", "ratio"}]}; "ratio" is the rate of the good
    /// messages divided by their rate alone.
    #[command(after_help = "Example: clipstream bench neighbours --messages 1000 --bad 500")]
    Neighbours {
        /// A folder with catalog.jsonl
        #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
        catalog: PathBuf,
        /// Number of good messages; the catalog is repeated as needed
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
        messages: u32,
        /// Number of messages of failing hosts
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        bad: u32,
        /// Number of rounds
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    Embed(embed::Args),
    Store(store::Args),
    Tokenize(tokenize::Args),
    /// Measures decoding, resizing and normalising on one core, exact and fast; with --peers, beside Pillow + torchvision
    ///
    /// With --json: {"sets": [{"what", "pictures", "bytes", "exact", "fast", "peer"}], "fast_cosine"}; "exact" and "fast"
    /// have {"decode_ms", "resize_normalise_ms", "total_ms"}, medians; "peer" is null without --peers, else {"total_ms",
    /// "decode_ms", "with", "exact_ratio", "fast_ratio"}; "fast_cosine" is {"pictures", "min", "mean"} of the first
    /// configured model's vectors, null if no model can be loaded.
    #[command(after_help = "Example: clipstream bench preprocess --image photo.jpg --peers .venv/bin/python")]
    Preprocess {
        /// A folder with catalog.jsonl
        #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
        catalog: PathBuf,
        /// Pictures to measure one by one; default: a generated 12-megapixel JPEG
        #[arg(long, value_name = "FILE")]
        image: Vec<PathBuf>,
        /// Number of runs per picture
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
        /// A Python with OpenCLIP (make export-env prints one): times Pillow + torchvision on the same files
        #[arg(long, value_name = "PYTHON")]
        peers: Option<PathBuf>,
    },
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    match args.what {
        What::Pipeline { catalog, messages } => pipeline(catalog, messages as usize, global).await,
        What::Neighbours { catalog, messages, bad, rounds } => {
            let (messages, bad, rounds) = (messages as usize, bad as usize, rounds as usize);
            neighbours(NeighboursBench { catalog, messages, bad, rounds }, global).await
        }
        What::Embed(args) => embed::run(args, global).await,
        What::Store(args) => store::run(args, global).await,
        What::Tokenize(args) => tokenize::run(args, global),
        What::Preprocess { catalog, image, repeat, peers } => {
            preprocess(PreprocessBench { catalog, images: image, repeat: repeat as usize, peers }, global).await
        }
    }
}

async fn pipeline(catalog: PathBuf, messages: usize, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let shutdown = stop_on_signals(None)?;
    let mut bar: Option<Watch> = None;
    let bench = PipelineBench { catalog, messages };
    let part = |what: &'static str, counts: Option<(u64, Arc<Progress>)>| {
        // One bar at a time.
        bar = None;
        bar = Some(match counts {
            Some((total, counts)) => watch(what, Some(total), counts),
            None => waiting(what),
        });
    };
    let ended = bench.run(settings, shutdown, part).await;
    drop(bar);
    let report = ended?;
    Ok(global.output().result(&report, || {
        let each = report.processor_ms;
        format!(
            "{} messages on {}: {:.0} items/s end to end\n\
             model alone, all cores: {:.0} items/s, ratio {:.3}\n\
             bound of the cores: {:.0} items/s, ratio {:.3}; processor ms of one item: decode {:.2}, image tower {:.2}, \
             text tower {:.2}, store {:.2}\n\
             replay: {:.0} items/s, {:.1} times as fast, {:.1} % of the pictures not embedded\n\
             skip_unchanged: {:.3} times the speed without it, into an empty store",
            report.messages,
            counted(report.cores as u64, "core"),
            report.items_per_s,
            report.model_items_per_s,
            report.ratio,
            report.bound_items_per_s,
            report.bound_ratio,
            each.decode,
            each.image_tower,
            each.text_tower,
            each.store,
            report.replay.items_per_s,
            report.replay.speedup,
            100.0 * report.replay.images_not_embedded,
            report.recall_ratio
        )
    })?)
}

async fn neighbours(bench: NeighboursBench, global: &Global) -> Result<(), CliError> {
    // Outages and dead letters are what it measures.
    let settings = global.start_filtered("off")?;
    let shutdown = stop_on_signals(None)?;
    let mut bar = None;
    let ended = bench.run(settings, shutdown, |total, counts| bar = Some(watch("messages", Some(total), counts))).await;
    drop(bar);
    let report = ended?;
    Ok(global.output().result(&report, || {
        let mut table = crate::cli::output::table();
        table.set_header(["failing hosts", "failure", "good messages/s", "ratio"]);
        table.add_row([
            "0".to_owned(),
            "undisturbed".to_owned(),
            format!("{:.0}", report.undisturbed_per_s),
            "1".into(),
        ]);
        for found in &report.neighbours {
            let (per_s, ratio) = (format!("{:.0}", found.per_s), format!("{:.3}", found.ratio));
            table.add_row([found.hosts.to_string(), found.what.to_owned(), per_s, ratio]);
        }
        format!("{} good messages, {} of failing hosts\n{table}", report.messages, report.bad_messages)
    })?)
}

async fn preprocess(bench: PreprocessBench, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let report = bench.run(&settings).await?;
    Ok(global.output().result(&report, || {
        let mut table = crate::cli::output::table();
        table.set_header([
            "what",
            "pictures",
            "mode",
            "decode ms",
            "resize + normalise ms",
            "total ms",
            "times as fast",
        ]);
        let ms = |value: f64| format!("{value:.2}");
        for set in &report.sets {
            let ratio =
                |pick: fn(&Peer) -> f64| set.peer.as_ref().map_or("-".to_owned(), |p| format!("{:.2}", pick(p)));
            for (mode, times, ratio) in
                [("exact", set.exact, ratio(|p| p.exact_ratio)), ("fast", set.fast, ratio(|p| p.fast_ratio))]
            {
                let (decode, rest, total) = (ms(times.decode_ms), ms(times.resize_normalise_ms), ms(times.total_ms));
                table.add_row([
                    set.what.clone(),
                    set.pictures.to_string(),
                    mode.to_owned(),
                    decode,
                    rest,
                    total,
                    ratio,
                ]);
            }
            if let Some(peer) = &set.peer {
                let (decode, total) = (ms(peer.decode_ms), ms(peer.total_ms));
                let rest = ms(peer.total_ms - peer.decode_ms);
                table.add_row([
                    set.what.clone(),
                    "1".to_owned(),
                    peer.with.clone(),
                    decode,
                    rest,
                    total,
                    "1".to_owned(),
                ]);
            }
        }
        let cosine = report.fast_cosine.map_or(String::new(), |found| {
            format!(
                "\nfast mode's vectors: cosine with exact {:.5} on average, at least {:.5}, over {} large JPEGs",
                found.mean, found.min, found.pictures
            )
        });
        format!("{table}{cosine}")
    })?)
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Worker(error) => error.into(),
            BenchError::Embed(error) => error.into(),
            BenchError::Model(error) => error.into(),
            other => Self::of(Exit::Failed, &other),
        }
    }
}
