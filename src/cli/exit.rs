//! How verbs end. A verb returns `Result<(), CliError>`. Nothing else exits the process, prints an error or chooses a code,
//! except [`overdue`], when a verb hangs. Users see a message that names what was found and expected, and a hint with the
//! next step; never a `Debug` dump or a stack trace.

use std::io::Write;
use std::process::ExitCode;

use crate::api::{EmbedError, SearchError};
use crate::clip::ClipError;
use crate::config::ConfigErrors;
use crate::domain::{Class, Explain, Finding, StoreReason};
use crate::pipeline::PipelineError;
use crate::worker::WorkerError;

/// Exit codes, a contract with scripts. Further codes: 101, a bug (a panic, which prints its location); 128 + n, ended by
/// signal n, for example 130 for Ctrl-C in a verb that has nothing to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The work failed completely or partly.
    Failed = 1,
    /// Wrong arguments or configuration; nothing was done.
    Usage = 2,
    /// A dependency is missing or does not answer: broker, store, model, ONNX Runtime.
    Unavailable = 3,
    /// Stopped by the second signal before everything in flight was settled, or because a stop took longer than its bound
    /// (`shutdown::stop_max`).
    Forced = 4,
    /// Stopped because too many messages became dead letters, in a row or among the latest ones.
    Flood = 5,
    /// Stopped because a model's sessions no longer work, and reopening them did not help. Restart, perhaps on another machine.
    Model = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb ends early.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    pub code: Exit,
    /// What was found and what was expected; empty: no output.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl CliError {
    pub fn new(code: Exit, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// From an error that may have a hint.
    pub fn of(code: Exit, error: &impl Explain) -> Self {
        let Finding { message, hint } = error.explain();
        Self { code, message, hint: hint.map(Into::into) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// `error: …` and `hint: …` on standard error.
    pub(super) fn report(&self) {
        if self.message.is_empty() {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Standard error may be closed.
        let _ = writeln!(stderr, "error: {}", self.message);
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }
}

/// For `?` on writes to standard output. If the reader has closed the pipe (`| head`), the verb ends quietly.
impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::new(Exit::Ok, "")
        } else {
            Self::new(Exit::Failed, format!("cannot write to standard output: {error}"))
        }
    }
}

impl From<ConfigErrors> for CliError {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(Exit::Usage, errors.to_string())
            .hint("config/clipstream.toml documents every key; `clipstream config show` prints what is in effect")
    }
}

impl From<crate::telemetry::LogError> for CliError {
    fn from(error: crate::telemetry::LogError) -> Self {
        Self::of(Exit::Usage, &error)
    }
}

impl From<WorkerError> for CliError {
    fn from(error: WorkerError) -> Self {
        let code = match &error {
            WorkerError::NoModel => Exit::Usage,
            WorkerError::Model(_) | WorkerError::Media(_) | WorkerError::Source(_) | WorkerError::DeadLetter(_) => {
                Exit::Unavailable
            }
            WorkerError::Store(e) => unless_permanent(e.class),
            WorkerError::Pipeline(PipelineError::Forced) => Exit::Forced,
            WorkerError::Pipeline(PipelineError::Flood(_)) => Exit::Flood,
            WorkerError::Pipeline(PipelineError::Model(_)) => Exit::Model,
            WorkerError::Pipeline(PipelineError::Source(_)) => Exit::Unavailable,
            WorkerError::Pipeline(PipelineError::Broken(_)) | WorkerError::Broken(_) => Exit::Failed,
        };
        Self::of(code, &error)
    }
}

impl From<ClipError> for CliError {
    fn from(error: ClipError) -> Self {
        Self::of(unless_permanent(error.class()), &error)
    }
}

impl From<EmbedError> for CliError {
    fn from(error: EmbedError) -> Self {
        let code = match &error {
            EmbedError::Model(e) => unless_permanent(e.class()),
            EmbedError::Media(e) => unless_permanent(e.class),
            EmbedError::NotConfigured(_) | EmbedError::Labels(_) => Exit::Usage,
            EmbedError::Input(_) => Exit::Failed,
        };
        Self::of(code, &error)
    }
}

impl From<SearchError> for CliError {
    fn from(error: SearchError) -> Self {
        let code = match error {
            SearchError::Embed(error) => return error.into(),
            SearchError::Store(ref e) if e.reason == StoreReason::FilterInvalid => Exit::Usage,
            SearchError::Store(ref e) => unless_permanent(e.class),
            SearchError::NoCollection { .. } | SearchError::Foreign { .. } | SearchError::Incomparable { .. } => {
                Exit::Failed
            }
        };
        Self::of(code, &error)
    }
}

impl From<crate::telemetry::ListenError> for CliError {
    fn from(error: crate::telemetry::ListenError) -> Self {
        Self::of(Exit::Unavailable, &error)
    }
}

/// A permanent failure is caused by the input; any other by a dependency.
fn unless_permanent(class: Class) -> Exit {
    if class == Class::Permanent { Exit::Failed } else { Exit::Unavailable }
}

/// Ends the process at once when a stop hangs.
#[expect(clippy::disallowed_methods, reason = "the code that should return to main hangs")]
pub(super) fn overdue(why: &str) {
    CliError::new(Exit::Forced, why).report();
    std::process::exit(i32::from(Exit::Forced as u8));
}

/// Prints one line that reports a bug and its location, instead of a stack trace. The process then ends with 101, or as
/// the code that joins the panicked task decides.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        // A damaged tokenizer.json is not a bug, and its error follows.
        if crate::tokenize::is_guarded() {
            return;
        }
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let at = panic.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let text = crate::redact::cut(&text, 300);
        let _ = writeln!(
            std::io::stderr(),
            "error: bug in clipstream {}{at} (thread {thread}): {text}; please report this line",
            env!("CARGO_PKG_VERSION")
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = CliError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((gone.code, gone.message.as_str()), (Exit::Ok, ""));
        let full = CliError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(full.code, Exit::Failed);
    }
}
