//! Libraries of ours that stand between a worker and its system (`clock.c`, `refusals.c`).

use std::path::{Path, PathBuf};
use std::process::Command;

use clipstream_test_support::needs::{self, Need};

/// The library of `NAME.c` beside this file, in `folder`. `None`, and it says what is not done for it: this machine cannot have
/// it, or it would not be loaded.
pub fn library(folder: &Path, name: &str, not_done: &str) -> Option<PathBuf> {
    let library = folder.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/chaos/{name}.c"));
    match compile(&source, &library) {
        Ok(()) if cfg!(target_os = "linux") => return Some(library),
        Ok(()) => needs::go_without(Need::Preload, &format!("this is no Linux; {not_done}")),
        Err(why) => needs::go_without(Need::Preload, &format!("no glibc or no cc; {not_done}\n{why}")),
    }
    None
}

/// # Errors
/// What the compiler says, or that there is none.
pub fn compile(source: &Path, library: &Path) -> Result<(), String> {
    let compiled =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).args([library, source]).arg("-ldl").output();
    match compiled {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("no C compiler: {error}")),
    }
}
