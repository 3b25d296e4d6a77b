//! Why a model could not be pulled. Each error is one line: what was found, what was expected, the next step. URLs are
//! redacted, the token is never part of one.

use std::path::Path;
use std::time::Duration;

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HubError {
    /// Short stable code in snake case.
    pub reason: &'static str,
    pub message: String,
    /// A later attempt may succeed.
    pub transient: bool,
    /// How long the hub asked to wait before that.
    pub(super) retry_after: Option<Duration>,
}

impl HubError {
    pub(super) fn permanent(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), transient: false, retry_after: None }
    }

    pub(super) fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self { transient: true, ..Self::permanent(reason, message) }
    }

    /// Whether it is this repository that is not there, not ours to read, or without what is needed: another one may do.
    pub fn is_of_repository(&self) -> bool {
        let reasons = [
            "hub_unauthorized",
            "hub_gated",
            "hub_forbidden",
            "hub_not_found",
            "hub_file_missing",
            "hub_precision_missing",
        ];
        reasons.contains(&self.reason)
    }

    /// What the disk says about `path`.
    pub(super) fn disk(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::permanent(
                "disk_full",
                format!("{path}: no room left on the disk; make room and run it again: what is there already is kept"),
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::permanent(
                "disk_forbidden",
                format!("{path} cannot be written ({error}); set clip.models_directory to a folder that can be"),
            ),
            _ => Self::permanent("disk_failed", format!("{path}: {error}; check the disk and clip.models_directory")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_the_disk_says_becomes_a_next_step() {
        for (kind, reason, part) in [
            (ErrorKind::StorageFull, "disk_full", "make room and run it again"),
            (ErrorKind::PermissionDenied, "disk_forbidden", "set clip.models_directory to a folder that can be"),
            (ErrorKind::NotADirectory, "disk_failed", "check the disk and clip.models_directory"),
        ] {
            let error = HubError::disk(Path::new("/models/x"), &Error::from(kind));
            assert_eq!(error.reason, reason);
            assert!(!error.transient && error.message.contains("/models/x"), "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }
}
