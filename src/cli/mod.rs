//! Verbs, arguments and exit codes. One file per verb: its arguments as `Args`, and `run`.

mod bench;
mod check;
mod config;
mod demo;
mod dlq;
mod embed;
mod exit;
mod index;
mod label;
mod models;
mod output;
mod produce;
mod run;
mod search;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

pub use check::Checklist;
pub use exit::{CliError, Exit};
pub use output::{LogWriter, Output, progress};

use crate::config::{Layers, Settings};
use crate::domain::{Explain as _, Finding, ModelId, registry};
use crate::shutdown::{Shutdown, THREADS_END_MAX};

/// Reads image URLs and texts from Kafka, computes CLIP vectors, and writes them to Qdrant.
#[derive(Debug, Parser)]
#[command(name = "clipstream", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Results go to standard output, everything else to standard error.
Exit codes:
  0    success
  1    failed
  2    wrong arguments or configuration
  3    a dependency is unavailable
  4    stopped by the second signal, or a stop that took longer than its bound
  5    stopped by the flood limit
  6    a model's sessions no longer work
  101  a bug
  128 + n  ended by signal n

Example: clipstream --config worker.toml --set media.fetch_timeout_ms=10000 config validate";

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Index(index::Args),
    Embed(embed::Args),
    Label(label::Args),
    Search(search::Args),
    Models(models::Args),
    Produce(produce::Args),
    Dlq(dlq::Args),
    Check(check::Args),
    Config(config::Args),
    Bench(bench::Args),
    Demo(demo::Args),
}

/// Arguments of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Configuration and output")]
pub struct Global {
    /// Configuration file (TOML); config/clipstream.toml documents every key [env: CLIPSTREAM_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Sets one key, overriding file and environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<String>,
    /// Prints results as JSON lines
    #[arg(long, global = true)]
    json: bool,
    /// Log filter, for example debug or info,clipstream=trace (telemetry.log_filter)
    #[arg(long, value_name = "FILTER", global = true)]
    log_level: Option<String>,
}

impl Global {
    /// Where results go.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// File, environment and flags, for a verb that adds its own flags before they are resolved.
    pub fn layers(&self) -> Layers {
        let mut layers = Layers::default().with_environment(std::env::vars_os());
        let from_environment = || std::env::var_os("CLIPSTREAM_CONFIG").filter(|path| !path.is_empty());
        if let Some(path) = &self.config {
            layers = layers.with_file(path.clone(), "--config");
        } else if let Some(path) = from_environment() {
            layers = layers.with_file(path.into(), "environment variable CLIPSTREAM_CONFIG");
        }
        for assignment in &self.set {
            layers = layers.with_flag("--set", assignment);
        }
        if let Some(filter) = &self.log_level {
            layers = layers.with_flag("--log-level", format!("telemetry.log_filter={filter}"));
        }
        layers
    }

    /// Resolves the configuration and starts logging: how most verbs begin.
    pub fn start(&self) -> Result<Settings, CliError> {
        self.start_with(self.layers())
    }

    /// Like [`Global::start`], for short-lived verbs: logs only warnings and errors unless configured otherwise.
    pub fn start_quiet(&self) -> Result<Settings, CliError> {
        self.start_filtered("warn,qdrant_edge=error,aws_config=error")
    }

    /// Like [`Global::start`], with this log filter unless configured otherwise.
    pub fn start_filtered(&self, filter: &str) -> Result<Settings, CliError> {
        let mut settings = Settings::load(self.layers())?;
        if settings.effective.entry("telemetry.log_filter").is_none_or(|entry| entry.origin.is_none()) {
            settings.telemetry.log_filter = filter.to_owned();
        }
        crate::telemetry::init_to(&settings.telemetry, LogWriter)?;
        Ok(settings)
    }

    /// Like [`Global::start`], from `layers` to which the verb added its own flags.
    pub fn start_with(&self, layers: Layers) -> Result<Settings, CliError> {
        let settings = Settings::load(layers)?;
        crate::telemetry::init_to(&settings.telemetry, LogWriter)?;
        Ok(settings)
    }
}

/// The model that an argument names.
fn parse_model(text: &str) -> Result<ModelId, Finding> {
    registry::resolve_or_custom(text).map_err(|unknown| unknown.explain())
}

/// A shutdown that SIGTERM and SIGINT request. `drain`: how long work in flight may take, if that is bounded.
fn stop_on_signals(drain: Option<Duration>) -> Result<Shutdown, CliError> {
    let shutdown = Shutdown::new();
    let listening = shutdown.listen(drain, exit::overdue);
    listening.map_err(|e| CliError::new(Exit::Failed, format!("cannot listen for signals: {e}")))?;
    Ok(shutdown)
}

/// The whole program: reads arguments, runs a verb, reports its error.
pub fn main() -> ExitCode {
    exit::install_panic_hook();
    let cli = match Cli::try_parse() {
        Ok(mut cli) => {
            cli.global.set = assignments(std::env::args_os().skip(1));
            cli
        }
        Err(error) => {
            // The reader of `--help | head` may close the pipe early.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    match dispatch(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            error.report();
            error.code.into()
        }
    }
}

/// The values of every `--set`. clap keeps only those behind the verb, where there are some before it, too.
fn assignments(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut arguments = arguments.take_while(|argument| argument != "--").map(|a| a.to_string_lossy().into_owned());
    let mut all = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--set") {
            Some("") => all.extend(arguments.next()),
            Some(value) => all.extend(value.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    all
}

fn dispatch(Cli { global, verb }: Cli) -> Result<(), CliError> {
    match verb {
        Verb::Run(args) => block_on(run::run(args, &global)),
        Verb::Index(args) => block_on(index::run(args, &global)),
        Verb::Embed(args) => block_on(embed::run(args, &global)),
        Verb::Label(args) => block_on(label::run(args, &global)),
        Verb::Search(args) => block_on(search::run(args, &global)),
        Verb::Models(args) => block_on(models::run(args, &global)),
        Verb::Produce(args) => block_on(produce::run(args, &global)),
        Verb::Dlq(args) => block_on(dlq::run(args, &global)),
        Verb::Bench(args) => block_on(bench::run(args, &global)),
        Verb::Demo(args) => block_on(demo::run(args, &global)),
        Verb::Check(args) => block_on(check::run(args, &global)),
        Verb::Config(args) => config::run(args, &global),
    }
}

fn block_on(verb: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::new(Exit::Failed, format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(verb);
    // Threads that read from a terminal or a pipe, or load a large model, cannot be cancelled.
    runtime.shutdown_timeout(THREADS_END_MAX);
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn keys_are_set_before_and_behind_the_verb() {
        let line = ["--set", "a.b=1", "models", "--set=c.d=--set", "list", "--set", "e.f=", "--", "--set", "g.h=2"];
        assert_eq!(assignments(line.into_iter().map(OsString::from)), ["a.b=1", "c.d=--set", "e.f="]);
    }

    #[test]
    fn arguments_are_consistent_and_every_verb_has_an_example() {
        fn examples(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: clipstream "), "{} has no example", command.get_name());
            for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
                examples(verb);
            }
        }
        let command = Cli::command();
        examples(&command);
        command.debug_assert();
    }
}
