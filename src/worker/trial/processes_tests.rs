//! Trials with shell scripts in place of the trial process.

use super::*;
use crate::domain::PipelineReason;

const READY: &str = r#"echo '{"trial":"ready"}'; "#;
const ENTERED: &str = r#"read -r line; echo '{"trial":"entered","stage":"embed"}'; "#;

struct Bench {
    folder: tempfile::TempDir,
    thread: Thread,
}

impl Bench {
    /// The script's `$0` is a temporary file that gets a line for each start.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let starts = folder.path().join("starts");
        let script = format!("echo started >> \"$0\"; {script}");
        let command =
            TrialCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into(), starts.into_os_string()] };
        let settings = TrialSettings { command, crashes_max: 3, answer_max: Duration::from_secs(60) };
        let thread = Thread { settings, metrics: Arc::default(), process: None, unable_until: None, in_row: 0 };
        Self { folder, thread }
    }

    fn starts(&self) -> usize {
        let starts = std::fs::read_to_string(self.folder.path().join("starts"));
        starts.map_or(0, |starts| starts.lines().count())
    }

    fn settle(&mut self) -> TrialOutcome {
        let (reply, _waits) = oneshot::channel();
        let message = Message { value: Some(b"{}".as_slice().into()), ..Message::empty("t", 0, 7) };
        self.thread.settle(&message, &reply)
    }
}

fn dies(how: &str) -> String {
    format!("{READY}{ENTERED}{how}")
}

#[test]
fn a_message_that_ends_three_processes_of_its_own_is_condemned_once_another_is_well() {
    for (how, expected) in [
        ("kill -SEGV $$; sleep 60", "SIGSEGV (signal 11)"),
        ("kill -ABRT $$; sleep 60", "SIGABRT (signal 6)"),
        ("exit 9", "exit code 9"),
        (r#"echo '{"trial":"broken","why":"no device"}'; sleep 60"#, "no device"),
    ] {
        let mut bench = Bench::new(&dies(how));
        let TrialOutcome::Poison(failure) = bench.settle() else { panic!("{how}") };
        assert_eq!((failure.fault.reason, failure.stage), (PipelineReason::KillsWorker.into(), Stage::Embed));
        assert!(
            failure.fault.message.contains(expected) && failure.fault.message.contains("it ended 3 processes"),
            "{failure}"
        );
        assert_eq!(bench.starts(), 4, "{how}: the last one for what is known to be good");
    }
}

#[test]
fn what_comes_from_outside_never_counts() {
    for signal in ["KILL", "TERM", "USR1"] {
        let mut bench = Bench::new(&dies(&format!("kill -{signal} $$; sleep 60")));
        assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Inconclusive, UNCLEAR_MAX as usize), "{signal}");
    }
}

/// Checked without sending signals: a shell ignores some of them if its parent does.
#[cfg(target_os = "linux")]
#[test]
fn only_faults_that_a_process_makes_itself_are_its_own() {
    use std::os::unix::process::ExitStatusExt;

    let own = (1..=31).filter(|signal| described(ExitStatus::from_raw(*signal)).1);
    // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, by signal(7).
    assert_eq!(own.collect::<Vec<_>>(), [4, 5, 6, 7, 8, 11]);
    assert!(described(ExitStatus::from_raw(9 << 8)).1, "an exit code");
}

#[test]
fn nobody_is_blamed_where_what_is_known_to_be_good_does_not_go_well() {
    let mut bench = Bench::new("kill -SEGV $$; sleep 60");
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Inconclusive, 1));
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Inconclusive, 1), "nor is it tried at once again");
    // The last process does not become ready.
    let once_sick = format!("if [ $(wc -l < \"$0\") -gt 3 ]; then exit 3; fi; {}", dies("kill -SEGV $$; sleep 60"));
    let mut bench = Bench::new(&once_sick);
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Inconclusive, 4));
    let mut bench = Bench::new(READY);
    bench.thread.settings.command.program = "/nonexistent".into();
    assert_eq!(bench.settle(), TrialOutcome::Inconclusive);
}

#[test]
fn a_process_that_dies_before_it_has_the_message_says_nothing_about_it() {
    let mut bench = Bench::new(&format!("{READY}read -r line; kill -SEGV $$; sleep 60"));
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Inconclusive, UNCLEAR_MAX as usize));
}

#[test]
fn one_survival_is_enough_and_the_process_goes_on_to_the_next() {
    let survives = format!(r#"{READY}while {ENTERED} do echo noise; echo '{{"trial":"passed"}}'; done"#);
    let survives = survives.replace("read -r line; ", "read -r line && ").replace("; do", " && true; do");
    let mut bench = Bench::new(&survives);
    for _ in 0..3 {
        assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Passed, 1));
    }
    // Two deaths, then a survival.
    let script = format!(
        r#"{READY}{ENTERED} if [ $(wc -l < "$0") -lt 3 ]; then kill -SEGV $$; sleep 60; fi; echo '{{"trial":"passed"}}'; read -r line"#
    );
    let mut bench = Bench::new(&script);
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Passed, 3));
}

#[test]
fn a_death_in_a_process_that_had_others_before_does_not_count() {
    // The first message survives, the second one does not.
    let script = format!(
        r#"{READY}{ENTERED} if [ $(wc -l < "$0") -gt 1 ]; then kill -SEGV $$; sleep 60; fi; echo '{{"trial":"passed"}}'; {ENTERED} kill -SEGV $$; sleep 60"#
    );
    let mut bench = Bench::new(&script);
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Passed, 1));
    assert!(matches!(bench.settle(), TrialOutcome::Poison(_)));
    assert_eq!(bench.starts(), 1 + 3 + 1);
}

#[test]
fn a_run_without_end_counts_and_a_fetch_without_end_does_not() {
    for (stage, condemned) in [("embed", true), ("fetch", false)] {
        let script = dies("sleep 60").replace("embed", stage);
        let mut bench = Bench::new(&script);
        bench.thread.settings.answer_max = Duration::from_millis(300);
        assert_eq!(matches!(bench.settle(), TrialOutcome::Poison(_)), condemned, "{stage}");
    }
}

#[test]
fn each_request_of_a_message_has_the_time_of_one() {
    let each = r#"echo '{"trial":"request"}'; echo '{"trial":"entered","stage":"embed"}'; sleep 0.7;"#;
    let script =
        format!(r#"{READY}read -r line; for n in 1 2 3 4; do {each} done; echo '{{"trial":"passed"}}'; read -r line"#);
    let mut bench = Bench::new(&script);
    bench.thread.settings.answer_max = Duration::from_secs(2);
    assert_eq!((bench.settle(), bench.starts()), (TrialOutcome::Passed, 1));
}

#[test]
fn not_everybody_in_a_row_is_to_blame() {
    let mut bench = Bench::new(&dies("exit 9"));
    bench.thread.settings.crashes_max = 1;
    for _ in 0..ROW_MAX {
        assert!(matches!(bench.settle(), TrialOutcome::Poison(_)));
    }
    assert_eq!(bench.settle(), TrialOutcome::Inconclusive);
}

#[test]
fn a_trial_that_nobody_waits_for_ends_and_takes_its_process_along() {
    let mut bench = Bench::new(&dies("sleep 60"));
    let (reply, waits) = oneshot::channel();
    drop(waits);
    assert_eq!(bench.thread.settle(&Message::empty("t", 0, 7), &reply), TrialOutcome::Inconclusive);
    assert!(bench.thread.process.is_none());
}
