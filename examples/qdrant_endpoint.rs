//! The tests' Qdrant endpoint as a process of its own: `--dir DIR [--port N] [--api-key KEY]`.
//!
//! Prints its URL when it is ready, and stops on SIGTERM or Ctrl-C after answering what is under way.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use clipstream_test_support::qdrant::Options;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Args {
    /// Where collections are kept; created when missing.
    #[arg(long)]
    dir: PathBuf,
    /// 0 takes a free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Refuse calls without this key.
    #[arg(long)]
    api_key: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut options = Options::new(&args.dir).port(args.port);
    if let Some(api_key) = &args.api_key {
        options = options.api_key(api_key);
    }
    let endpoint = options.start()?;
    println!("{}", endpoint.url());
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {},
        outcome = tokio::signal::ctrl_c() => outcome?,
    }
    endpoint.stop().await;
    Ok(())
}
