use std::process::ExitCode;

/// Batches of vectors and pictures are large, short-lived and allocated on many threads: mimalloc is made for this.
///
/// With the sanitizer (`scripts/sanitize`), the system's allocator is used, which the sanitizer replaces by its own.
#[cfg(not(feature = "sanitized"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clipstream::cli::main()
}
