//! The binary: sets the allocator up and calls `cli`.

#[cfg(not(feature = "sanitized"))]
mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(not(feature = "sanitized"))]
    allocator::give_back_soon();
    clipstream::cli::main()
}
