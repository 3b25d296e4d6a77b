//! `scripts/preflight` and `scripts/nasm` on systems that have no assembler.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A machine's programs: a folder that is the whole `PATH`, on an x86 processor.
struct Machine(tempfile::TempDir);

impl Machine {
    /// Without nasm and yasm. A package manager only has to be there.
    fn with(managers: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let tools =
            ["sh", "bash", "env", "dirname", "id", "sed", "cargo", "cc", "c++", "make", "cmake", "perl", "python3"];
        for tool in tools {
            // What is missing here is reported by preflight as well.
            if let Some(path) = found(tool) {
                symlink(path, machine.0.path().join(tool)).unwrap();
            }
        }
        machine.script("uname", "echo x86_64");
        managers.iter().for_each(|name| machine.script(name, "exit 1"));
        machine
    }

    fn script(&self, name: &str, does: &str) {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str, without_simd: Option<&str>) -> Output {
        let mut command = Command::new("/bin/sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script));
        command.env("PATH", self.0.path()).env("XDG_CACHE_HOME", self.0.path());
        command
            .env_remove("CLIPSTREAM_WITHOUT_SIMD")
            .envs(without_simd.map(|value| ("CLIPSTREAM_WITHOUT_SIMD", value)));
        command.output().unwrap()
    }
}

/// Where a program is that this machine has.
fn found(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(tool)).find(|path| path.is_file())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_that_installs_nasm_is_that_of_the_system() {
    for (managers, command) in [
        (&["apt-get"][..], "apt-get install nasm"),
        (&["dnf"], "dnf install nasm"),
        (&["zypper"], "zypper install nasm"),
        (&["pacman"], "pacman -S nasm"),
        (&["apk"], "apk add nasm"),
        (&["brew"], "run: brew install nasm"),
        (&[], "install it from https://www.nasm.us"),
    ] {
        let output = Machine::with(managers).run("nasm", None);
        let said = said(&output);
        assert!(!output.status.success() && said.trim_end().ends_with(command), "{managers:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn preflight_stops_without_nasm_unless_told_to_go_on() {
    let machine = Machine::with(&["dnf"]);
    for stops in [None, Some(""), Some("0")] {
        let output = machine.run("preflight", stops);
        let said = said(&output);
        assert!(!output.status.success(), "{stops:?}: {said}");
        assert!(said.contains("dnf install nasm") && said.contains("CLIPSTREAM_WITHOUT_SIMD=1"), "{stops:?}: {said}");
    }
    let output = machine.run("preflight", Some("1"));
    assert!(!said(&output).contains("nasm"), "{}", said(&output));
    machine.script("nasm", "exit 0");
    let output = machine.run("preflight", None);
    assert!(!said(&output).contains("nasm"), "{}", said(&output));
}
