//! `clipstream bench store`.

use crate::bench::{Rates, StoreBench};
use crate::cli::output::{table, watch};
use crate::cli::{CliError, Global, stop_on_signals};

/// Measures patches of payload alone through the pipeline, against the same writes given straight to the store
///
/// First of new assets, then of the same ones. The store is the configured one: the embedded one in a temporary folder, or a
/// server, where it makes collections of its own and names them in the end: they stay there. Results are medians. With --json:
/// {"messages", "new", "existing", "left_behind"}; "new" and "existing" have {"messages_per_s", "store_per_s", "streams",
/// "ratio"}, where "streams" is how many writes at once were fastest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream bench store --messages 20000 --json")]
pub struct Args {
    /// Number of patches in each measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Number of rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?;
    let shutdown = stop_on_signals(None)?;
    let mut bar = None;
    let bench = StoreBench { messages: args.messages as usize, rounds: args.rounds as usize };
    let ended = bench.run(settings, shutdown, |total, counts| bar = Some(watch("messages", Some(total), counts))).await;
    drop(bar);
    let report = ended?;
    Ok(global.output().result(&report, || {
        let mut table = table();
        table.set_header(["assets", "messages/s", "store alone, writes/s", "writes at once", "ratio"]);
        let mut add = |assets: &str, rates: &Rates| {
            table.add_row([
                assets.to_owned(),
                format!("{:.0}", rates.messages_per_s),
                format!("{:.0}", rates.store_per_s),
                rates.streams.to_string(),
                format!("{:.3}", rates.ratio),
            ]);
        };
        add("new", &report.new);
        add("existing", &report.existing);
        let left = match report.left_behind.is_empty() {
            true => String::new(),
            false => format!("\nleft behind on the server: {}", report.left_behind.join(", ")),
        };
        format!("{} patches of payload alone\n{table}{left}", report.messages)
    })?)
}
