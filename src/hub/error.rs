//! Errors of a pull. URLs are redacted, and the token is never part of an error.

use std::path::Path;

use crate::domain::{Fault, HubReason};

pub type HubError = Fault<HubReason>;

impl HubError {
    /// A disk error at `path`.
    pub(super) fn disk(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::new(HubReason::DiskFull, format!("{path}: no space left on the disk"))
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::new(HubReason::DiskForbidden, format!("{path} cannot be written ({error})"))
            }
            _ => Self::new(HubReason::DiskFailed, format!("{path}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::domain::Class;

    #[test]
    fn what_the_disk_says_becomes_a_next_step() {
        for (kind, reason, part) in [
            (ErrorKind::StorageFull, HubReason::DiskFull, "make room and run it again"),
            (
                ErrorKind::PermissionDenied,
                HubReason::DiskForbidden,
                "set clip.models_directory to a folder that can be",
            ),
            (ErrorKind::NotADirectory, HubReason::DiskFailed, "check the disk and clip.models_directory"),
        ] {
            let error = HubError::disk(Path::new("/models/x"), &Error::from(kind));
            assert_eq!(error.reason, reason);
            assert!(error.class == Class::Permanent && error.to_string().contains("/models/x"), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
