//! What the fault campaign tells of a worker that crashed.

#[path = "../chaos/crash.rs"]
mod crash;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use clipstream_test_support::needs::{self, Need};

use crash::Words;

#[test]
fn a_sanitizers_report_is_told_without_what_others_log_meanwhile() {
    // As GCC's libasan writes it.
    let report = ["==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60", "    #0 0x5 in over a.c:3"];
    let logged = r#"{"message":"processed"}"#;
    let quoted = r#"{"message":"it says: ERROR: AddressSanitizer: heap-buffer-overflow"}"#;
    let mut words = Words::default();
    for line in [logged, quoted] {
        words.hear(line);
    }
    assert_eq!(words.report(), None);
    for line in ["=====", report[0], logged, report[1]] {
        words.hear(line);
    }
    assert_eq!(words.report().as_deref(), Some(&*format!("\n    {}\n    {}", report[0], report[1])));
    for n in 0..20 {
        words.hear(&format!("line {n}"));
    }
    let last = words.last();
    assert!(last.starts_with("\n    line 12\n") && last.ends_with("\n    line 19"), "{last}");
}

#[test]
fn a_crash_is_told_with_its_stack() {
    let folder = tempfile::tempdir().unwrap();
    let (shell, stacks) = (Path::new("/bin/sh"), folder.path().join("stacks"));
    let since = SystemTime::now();
    let crashes = "ulimit -c unlimited 2>/dev/null; kill -SEGV $$";
    let ended = Command::new(shell).args(["-c", crashes]).current_dir(folder.path()).status().unwrap();
    assert_eq!(ended.signal(), Some(11), "{ended}");
    let told = crash::stack(shell, folder.path(), since, &stacks);
    if !ended.core_dumped() || crash::pattern().is_err() {
        needs::go_without(Need::CoreFiles, &format!("a crash's stack is left out\n{told}"));
        assert!(told.starts_with("no core file"), "{told}");
    } else if Command::new("gdb").arg("--version").output().is_err() {
        needs::go_without(Need::Gdb, "a crash's stack is left out");
        assert!(told.contains("no gdb to read it"), "{told}");
    } else {
        assert!(told.starts_with("its stack, of ") && told.contains("\n    #0 "), "{told}");
        assert!(std::fs::read_to_string(stacks).unwrap().contains("SIGSEGV"), "{told}");
    }
}
