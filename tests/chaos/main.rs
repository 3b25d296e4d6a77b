//! The fault campaign: real workers, a real broker, and everything that can happen to them (`docs/reliability.md`).
//!
//! `make chaos MINUTES=60 SEED=7`, or `cargo test --test chaos -- run --minutes 60 --seed 7`; and `make outages MINUTES=60`, or
//! `cargo test --test chaos -- outages --minutes 60`. Without `run` or `outages`, as one of all tests, it runs a few short
//! campaigns where there is a real Kafka.

mod broker;
mod campaign;
mod clock;
mod cores;
mod crash;
mod disk;
mod ending;
mod expected;
mod faults;
mod front;
mod journal;
mod kinds;
mod letters;
mod logs;
mod media;
mod misdate;
mod named;
mod oracle;
mod outages;
mod plan;
mod preload;
mod proxy;
mod refusals;
mod report;
mod settings;
mod shared;
mod store;
mod tenants;
mod topics;
mod workers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clipstream_test_support::needs::{self, Need};

use campaign::{Enough, Guard, Plan};
use workers::BUILT;

/// Whatever ends a campaign early: a test program tells it and ends.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What runs with all other tests.
const SHORT: [(u64, Guard, bool); 2] = [(1, Guard::Strict, true), (2, Guard::Check, false)];
/// Of faults, each; and of the outages.
const SHORT_FOR: Duration = Duration::from_secs(40);
/// So that the recovery is short as well.
const SHORT_BACKOFF_CAP: Duration = Duration::from_secs(2);

/// A fault campaign. It ends when all of minutes, messages and kills are reached.
#[derive(Debug, Parser)]
#[command(name = "chaos run")]
struct Args {
    /// Of faults, at least.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// At least.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Workers killed with SIGKILL, at least.
    #[arg(long, default_value_t = 0)]
    kills_min: u64,
    /// Ends the campaign whatever was reached, which is then a failure.
    #[arg(long, default_value_t = 180.0)]
    minutes_max: f64,
    /// The same seed gives the same messages and the same faults; what falls together is up to the machine.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// To begin with; some join and some leave.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// The workers' store.guard; with check, faults that it is not made for are left out.
    #[arg(long, value_enum, default_value_t = Guard::Strict)]
    guard: Guard,
    /// Messages that fail transiently go to retry topics. With strict only.
    #[arg(long)]
    retries: bool,
    /// Only faults with this in their name, to look closer at one kind.
    #[arg(long, default_value = "")]
    only: String,
    /// The program that the workers run, as one built with a sanitizer [default: the one built with this campaign]
    #[arg(long, value_name = "PATH", default_value = BUILT, hide_default_value = true)]
    worker: PathBuf,
    /// Where the result goes as well, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything that a worker needs is away for a while, each part for a worker of its own, all at the same time.
#[derive(Debug, Parser)]
#[command(name = "chaos outages")]
struct OutageArgs {
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// The program that the workers run, as one built with a sanitizer [default: the one built with this campaign]
    #[arg(long, value_name = "PATH", default_value = BUILT, hide_default_value = true)]
    worker: PathBuf,
    /// Where the result goes as well, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["store", folder, port] => store::serve(folder, port),
        ["run", rest @ ..] => run(Args::parse_from(["chaos run"].iter().chain(rest))),
        ["outages", rest @ ..] => outages(OutageArgs::parse_from(["chaos outages"].iter().chain(rest))),
        // As any other test binary: the arguments are the harness' options, or names of the tests that are wanted.
        words if words.iter().any(|w| !w.starts_with('-') && !"chaos".contains(w) || *w == "--list") => {
            Ok(ExitCode::SUCCESS)
        }
        _ => short(),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("chaos: {error}");
        ExitCode::FAILURE
    })
}

fn run(args: Args) -> Result<ExitCode, Error> {
    let minutes = |minutes: f64| Duration::try_from_secs_f64(minutes * 60.0);
    let enough = Enough {
        duration: minutes(args.minutes)?,
        messages: args.messages,
        kills: args.kills_min,
        duration_max: minutes(args.minutes_max)?,
    };
    let Args { seed, workers, guard, retries, only, .. } = args;
    if retries && guard != Guard::Strict {
        return Err("--retries takes --guard strict, as retry topics do".into());
    }
    let worker = program(&args.worker)?;
    let plan = Plan { seed, workers, guard, enough, retries, only, worker };
    finish(attempt(&plan, async |folder| campaign::run(&plan, folder).await)?, args.json)
}

fn outages(args: OutageArgs) -> Result<ExitCode, Error> {
    let outage = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let plan = outages::Plan { outage, backoff_cap: None, worker: program(&args.worker)? };
    finish(attempt(&plan, async |folder| outages::run(&plan, folder).await)?, args.json)
}

/// Workers run in folders of their own.
fn program(named: &Path) -> Result<PathBuf, Error> {
    Ok(named.canonicalize().map_err(|e| format!("--worker {}: {e}; expected a program", named.display()))?)
}

/// What was asked for by name must be possible.
fn finish(outcome: Option<impl Outcome>, json: Option<PathBuf>) -> Result<ExitCode, Error> {
    let outcome = outcome.ok_or("the campaign needs Kafka and S3 (see above)")?;
    if let Some(file) = json {
        std::fs::write(&file, format!("{}\n", outcome.json()))?;
    }
    Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn short() -> Result<ExitCode, Error> {
    if needs::kafka("the fault campaign does NOT RUN").is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut clean = true;
    // It has a Kafka of its own, like the one that is there.
    let mut note = |outcome: Option<bool>| match outcome {
        Some(is_clean) => clean &= is_clean,
        None => {
            needs::go_without(Need::S3, "the fault campaign does NOT RUN: it starts Kafka and an S3 server of its own")
        }
    };
    for (seed, guard, retries) in SHORT {
        let enough = Enough { duration: SHORT_FOR, messages: 0, kills: 0, duration_max: SHORT_FOR };
        let plan = Plan { seed, workers: 2, guard, enough, retries, only: String::new(), worker: BUILT.into() };
        note(attempt(&plan, async |folder| campaign::run(&plan, folder).await)?.map(|report| report.is_clean()));
    }
    let plan = outages::Plan { outage: SHORT_FOR, backoff_cap: Some(SHORT_BACKOFF_CAP), worker: BUILT.into() };
    note(attempt(&plan, async |folder| outages::run(&plan, folder).await)?.map(|report| report.is_clean()));
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a campaign ends with.
pub trait Outcome {
    fn is_clean(&self) -> bool;
    fn json(&self) -> serde_json::Value;
    fn print(&self);
}

/// Runs one and tells. What it leaves behind is kept when it failed.
fn attempt<R: Outcome>(
    plan: &impl std::fmt::Debug,
    run: impl AsyncFnOnce(&Path) -> Result<Option<R>, Error>,
) -> Result<Option<R>, Error> {
    let folder = tempfile::Builder::new().prefix("clipstream-chaos-").tempdir()?;
    eprintln!("chaos: {plan:?}, in {}", folder.path().display());
    cores::allow();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let ended = runtime.block_on(async {
        // Whatever ends the campaign drops it, and with it every process that it started.
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = run(folder.path()) => ended,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(30));
    let failed = match &ended {
        Ok(Some(outcome)) => {
            outcome.print();
            !outcome.is_clean()
        }
        Ok(None) => false,
        Err(_) => true,
    };
    if failed {
        let kept = folder.keep();
        eprintln!("chaos: FAILED: {plan:?}; logs of the workers and the store's folder are in {}", kept.display());
    }
    ended
}
