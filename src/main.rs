use std::process::ExitCode;

/// Batches of vectors and pictures are large and short-lived, from many threads: what mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clipstream::cli::main()
}
