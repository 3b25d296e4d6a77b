use std::process::ExitCode;

/// Batches of vectors and pictures are large and short-lived, from many threads: what mimalloc is made for.
///
/// Where a sanitizer looks on (`scripts/sanitize`), it is the system's, which the sanitizer replaces by its own.
#[cfg(not(feature = "sanitized"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clipstream::cli::main()
}
