//! Exhausted resources of this process: file descriptors, memory or disk. The peer (for example a media host) and the item are
//! not to blame for such a failure: it is an outage until the resource is available again.
//!
//! Ports ask [`exhausted`] before they blame a peer, and make the failure an outage.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::redact;

/// Too many open files in the process or in the system. The same numbers on Linux, macOS and the BSDs (`errno.h`).
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// No buffer space for sockets. `errno.h` of Linux and of the BSDs.
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// For this long after descriptors were exhausted, other failures count as caused by that: `getaddrinfo` answers "no such name"
/// if it cannot open `/etc/hosts` or a socket, and before this is checked another thread may have closed a descriptor.
const AFTERMATH: Duration = Duration::from_secs(1);

/// When descriptors were last exhausted.
static SHORT_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// The exhausted resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    Descriptors,
    Memory,
    Disk,
    ReadOnlyDisk,
}

impl Exhausted {
    /// By the number or kind of an error.
    fn of(error: &io::Error) -> Option<Self> {
        match (error.raw_os_error(), error.kind()) {
            (Some(EMFILE | ENFILE), _) => Some(Self::Descriptors),
            (Some(ENOBUFS), _) | (_, ErrorKind::OutOfMemory) => Some(Self::Memory),
            (_, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some(Self::Disk),
            (_, ErrorKind::ReadOnlyFilesystem) => Some(Self::ReadOnlyDisk),
            _ => None,
        }
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "this process has no file descriptors left",
            Self::Memory => "the system has no memory left for this process",
            Self::Disk => "the disk is full, or its quota",
            Self::ReadOnlyDisk => "the disk is read-only",
        })
    }
}

/// The exhausted resource that caused `error`, if any. Decided by the error and its causes or, if they are not conclusive, by
/// opening a file that always exists, which only needs a descriptor.
///
/// Call it after failures of operations that need descriptors, memory or disk, not for every "not found".
pub fn exhausted(error: &(dyn Error + 'static)) -> Option<Exhausted> {
    judged(error, &SHORT_AT)
}

fn judged(error: &(dyn Error + 'static), short_at: &Mutex<Option<Instant>>) -> Option<Exhausted> {
    let own = redact::causes(error).find_map(|cause| Exhausted::of(cause.downcast_ref::<io::Error>()?));
    let found = own.or_else(|| File::open("/dev/null").err().as_ref().and_then(Exhausted::of));
    let mut short_at = short_at.lock().unwrap_or_else(PoisonError::into_inner);
    match found {
        Some(Exhausted::Descriptors) => *short_at = Some(Instant::now()),
        None if short_at.is_some_and(|at| at.elapsed() < AFTERMATH) => return Some(Exhausted::Descriptors),
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own errors, wrapped as clients wrap them.
    #[test]
    fn errors_of_this_process_are_distinguished_from_those_of_the_other_side() {
        let number = io::Error::from_raw_os_error;
        let short_at = Mutex::new(None);
        let exhausted = |error: &(dyn Error + 'static)| judged(error, &short_at);
        // Before the one about descriptors, which affects later ones.
        let others = [104, 110, 111].map(number).into_iter().chain([ErrorKind::NotFound.into()]);
        for other in others {
            assert_eq!(exhausted(&other), None, "{other}");
        }
        assert_eq!(exhausted(&io::Error::from(ErrorKind::StorageFull)), Some(Exhausted::Disk));
        assert_eq!(exhausted(&io::Error::other(io::Error::from(ErrorKind::OutOfMemory))), Some(Exhausted::Memory));
        if cfg!(target_os = "linux") {
            for (errno, expected) in [(28, Exhausted::Disk), (122, Exhausted::Disk), (30, Exhausted::ReadOnlyDisk)] {
                assert_eq!(exhausted(&number(errno)), Some(expected), "{}", number(errno));
            }
            assert!(number(EMFILE).to_string().starts_with("Too many open files"), "{}", number(EMFILE));
        }
        for errno in [EMFILE, ENFILE] {
            let wrapped = io::Error::other(io::Error::other(number(errno)));
            assert_eq!(exhausted(&wrapped), Some(Exhausted::Descriptors));
        }
        let no_name = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(exhausted(&no_name), Some(Exhausted::Descriptors), "shortly after descriptors were exhausted");
    }
}
