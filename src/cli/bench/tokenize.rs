//! `clipstream bench tokenize`.

use std::path::PathBuf;

use crate::bench::{TokenizeBench, TokenizerPeer};
use crate::cli::output::table;
use crate::cli::{CliError, Global};

/// Measures tokenizers on one core; with --peers, beside OpenCLIP's in Python
///
/// The texts are the catalog's captions. With --json: {"texts", "tokenizers": [{"tokenizer", "vocabulary", "load_ms", "tokens",
/// "tokens_per_s", "peer"}]}; "peer" is null without --peers, else {"with", "load_ms", "tokens_per_s", "uncleaned_tokens_per_s",
/// "ratio"}: rates with OpenCLIP's cleaning and without, and our rate divided by the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream bench tokenize --tokenizer models/ours/tokenizer.json --context-length 64")]
pub struct Args {
    /// A folder with catalog.jsonl
    #[arg(long, value_name = "DIRECTORY", default_value = "demo/catalog")]
    catalog: PathBuf,
    /// Files like tokenizer.json; default: CLIP's own tokenizer
    #[arg(long, value_name = "FILE")]
    tokenizer: Vec<PathBuf>,
    /// Most tokens of a text
    #[arg(long, default_value_t = 77, value_parser = clap::value_parser!(u16).range(3..))]
    context_length: u16,
    /// Number of rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A Python with OpenCLIP (make export-env prints one): measures its tokenizers on the same texts
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
}

pub fn run(args: Args, global: &Global) -> Result<(), CliError> {
    global.start_quiet()?;
    let bench = TokenizeBench {
        catalog: args.catalog,
        tokenizers: args.tokenizer,
        context_length: args.context_length.into(),
        rounds: args.rounds as usize,
        peers: args.peers,
    };
    let report = tokio::task::block_in_place(|| bench.run())?;
    Ok(global.output().result(&report, || {
        let mut table = table();
        table.set_header(["tokenizer", "vocabulary", "load, ms", "tokens/s", "in Python", "load there, ms", "ratio"]);
        for one in &report.tokenizers {
            let of_peer = |text: fn(&TokenizerPeer) -> String| one.peer.as_ref().map_or_else(|| "–".to_owned(), text);
            table.add_row([
                one.tokenizer.clone(),
                one.vocabulary.to_string(),
                format!("{:.0}", one.load_ms),
                format!("{:.0}", one.tokens_per_s),
                of_peer(|peer| format!("{:.0} ({})", peer.tokens_per_s, peer.with)),
                of_peer(|peer| format!("{:.0}", peer.load_ms)),
                of_peer(|peer| format!("{:.1}", peer.ratio)),
            ]);
        }
        format!("{} captions\n{table}", report.texts)
    })?)
}
