//! Catches panics of the crate `tokenizers`, which uses numbers of a file as indices without checks.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught and becomes an error, which says more than the panic does.
pub(crate) fn is_guarded() -> bool {
    IS_GUARDED.get()
}

/// Runs the crate on a file from outside. Its panic is an error.
pub(super) fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    IS_GUARDED.set(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(run));
    IS_GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its parts contradict each other".to_owned()),
    }
}
