//! `clipstream check`: tries every dependency and shows all results.

mod dependencies;

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde_json::json;

use super::{CliError, Exit, Global, Output};
use crate::domain::Finding;

/// Deadline of one check.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tries every dependency and shows all results; exit code 3 if any fails
///
/// With --json: one line {"check", "ok", "detail" | "reason", "next_step"} per check. After a success, "next_step" is present only
/// if something should be improved.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream check --config worker.toml")]
pub struct Args {}

/// The next step if the failure has no hint.
const DEFAULT_HINT: &str = "clipstream check --log-level debug";

/// A short result, or why the check failed. A result may have a next step, too: see [`Checklist::add`].
type Verdict = Result<String, Finding>;

/// Named checks. They run concurrently; results are shown in the order in which they were added.
#[derive(Default)]
pub struct Checklist {
    checks: Vec<Check>,
}

struct Check {
    name: String,
    deadline: Duration,
    verdict: Pin<Box<dyn Future<Output = Result<Finding, Finding>> + Send>>,
}

impl Checklist {
    /// Adds a check whose result is text, or a finding with what should be improved although nothing fails.
    pub fn add<T: Into<Finding>>(
        &mut self,
        name: impl Into<String>,
        check: impl Future<Output = Result<T, Finding>> + Send + 'static,
    ) {
        self.add_slow(name, DEADLINE, check);
    }

    /// Adds a check that needs a longer deadline.
    pub fn add_slow<T: Into<Finding>>(
        &mut self,
        name: impl Into<String>,
        deadline: Duration,
        check: impl Future<Output = Result<T, Finding>> + Send + 'static,
    ) {
        let verdict = Box::pin(async move { check.await.map(Into::into) });
        self.checks.push(Check { name: name.into(), deadline, verdict });
    }

    /// Shows each result as soon as it and those before it are complete. Returns the number of failures.
    pub async fn run(self, output: Output) -> Result<usize, CliError> {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut running: FuturesOrdered<_> = self.checks.into_iter().map(one).collect();
        let mut failed = 0;
        while let Some((name, verdict)) = running.next().await {
            failed += usize::from(verdict.is_err());
            show(output, &name, width, &verdict)?;
        }
        Ok(failed)
    }
}

async fn one(Check { name, deadline, verdict }: Check) -> (String, Result<Finding, Finding>) {
    let started = Instant::now();
    let verdict = tokio::time::timeout(deadline, verdict).await.unwrap_or_else(|_| {
        let silent = Finding::new(format!("no answer within {} s", deadline.as_secs()));
        Err(silent.hint("check that it is running and reachable"))
    });
    tracing::debug!(check = %name, ok = verdict.is_ok(), took_ms = started.elapsed().as_millis() as u64, "checked");
    (name, verdict)
}

fn show(output: Output, name: &str, width: usize, verdict: &Result<Finding, Finding>) -> std::io::Result<()> {
    let (mut json, mark, message, next_step) = match verdict {
        Ok(Finding { message, hint }) => {
            (json!({ "check": name, "ok": true, "detail": message }), '✓', message, hint.as_deref())
        }
        Err(Finding { message, hint }) => {
            let hint = hint.as_deref().unwrap_or(DEFAULT_HINT);
            (json!({ "check": name, "ok": false, "reason": message }), '✗', message, Some(hint))
        }
    };
    if let Some(next_step) = next_step {
        json["next_step"] = next_step.into();
    }
    output.result(&json, || {
        let next_step = next_step.map(|step| format!("\n  {:<width$}  next step: {step}", "")).unwrap_or_default();
        format!("{mark} {name:<width$}  {message}{next_step}")
    })
}

pub async fn run(_: Args, global: &Global) -> Result<(), CliError> {
    let output = global.output();
    let settings = match global.start_quiet() {
        Ok(settings) => settings,
        Err(error) => {
            // The other checks need a valid configuration.
            let unusable = Finding::new("cannot be used; see below").hint("clipstream config validate");
            show(output, "configuration", 0, &Err(unusable))?;
            return Err(error);
        }
    };
    match dependencies::all(&settings).run(output).await? {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Unavailable, "1 check failed")),
        failed => Err(CliError::new(Exit::Unavailable, format!("{failed} checks failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_does_not_answer_fails_and_the_others_are_shown() {
        let mut checks = Checklist::default();
        checks.add_slow("silent", Duration::ZERO, std::future::pending::<Verdict>());
        checks.add("fine", async { Ok("up".to_owned()) });
        assert_eq!(checks.run(Output::new(true)).await.unwrap(), 1);
    }
}
