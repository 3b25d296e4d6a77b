//! The real worker, whose ONNX Runtime fails, hangs or cannot open a session from some moment on (`faulty_runtime.c`): a shared
//! thing that fails like an item.

use std::path::PathBuf;
use std::process::Command;

use clipstream::config::Settings;
use tempfile::TempDir;

use crate::worker_failures::Topic;
use crate::worker_process::{Endpoints, Process};

/// The library that stands before the real one, and its faults.
pub struct FaultyRuntime {
    folder: TempDir,
}

impl FaultyRuntime {
    /// None, and a word, on a machine without a C compiler.
    pub fn build(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(folder.path().join("libonnxruntime.so"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faulty_runtime.c"))
            .arg("-ldl")
            .status();
        match built {
            Ok(status) => assert!(status.success(), "faulty_runtime.c compiles"),
            Err(_) => {
                eprintln!("\n*** NO C COMPILER: {test} is left out ***\n");
                return None;
            }
        }
        Some(Self { folder })
    }

    pub fn under(&self, mut command: Command) -> Command {
        let real = clipstream::clip::load_runtime(&Settings::default().clip).expect("scripts/onnxruntime fetches it");
        command
            .env("CLIPSTREAM_ORT_DYLIB", self.folder.path().join("libonnxruntime.so"))
            .env("FAULTY_RUNTIME_REAL", real)
            .env("FAULTY_RUNTIME_FAULTS", self.folder.path());
        command
    }

    fn file(&self, fault: &str) -> PathBuf {
        self.folder.path().join(fault)
    }

    pub fn begin(&self, fault: &str) {
        std::fs::write(self.file(fault), "").unwrap();
    }

    /// Texts with this token do what the word says.
    pub fn poison(&self, token: i64, how: &str) {
        let path = self.file("poison");
        // In one step: workers read it at any time.
        let whole = self.folder.path().join("poison.new");
        std::fs::write(&whole, format!("{token} {how}")).unwrap();
        std::fs::rename(whole, path).unwrap();
    }

    /// Whether the fault has befallen somebody.
    pub fn was_hit(&self, fault: &str) -> bool {
        self.file(&format!("{fault}.hit")).exists()
    }

    pub fn end(&self, fault: &str) {
        std::fs::remove_file(self.file(fault)).unwrap();
    }
}

const TELEMETRY: (&str, &str) = ("telemetry.listen", "127.0.0.1:0");

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!(r#"{{"text": "a cat of number {n}"}}"#)).collect()
}

async fn produce(topic: &Topic, messages: &[String]) {
    topic.produce(&messages.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The audit's case: 1,600 good messages became 1,600 letters in 25 s, with a worker that was ready all along.
#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_fails_for_everything_is_an_outage_and_no_good_message_a_dead_letter() {
    let Some(runtime) = FaultyRuntime::build("a_runtime_that_fails_for_everything") else { return };
    let topic = Topic::with("sick", &[r#"{"text": "a dog"}"#]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [TELEMETRY, ("pipeline.backoff_cap_ms", "500"), ("clip.recovery_max_ms", "0")];
    let mut worker = Process::spawn(&mut runtime.under(topic.run(&folder, &settings)));
    worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
    let endpoints = Endpoints::of(&mut worker).await;
    assert_eq!(endpoints.get("/readyz").await.0, 200);

    runtime.begin("fail");
    produce(&topic, &texts(1_600)).await;
    let unready = async |_: &Process| Some(endpoints.get("/readyz").await).filter(|(status, _)| *status == 503);
    let (_, why) = worker.wait_for("unready", unready).await;
    assert!(why.contains(r#""component":"embed""#) && why.contains("opened anew"), "{why}");
    // Far more failures than attempts_max allows to all that are in flight.
    let failed = ["stage=\"embed\"", "class=\"outage\"", "reason=\"model_session_failed\""];
    let often =
        async |_: &Process| (endpoints.metric("clipstream_failures_total", &failed).await > 2_000.0).then_some(());
    worker.wait_for("many failures", often).await;
    assert_eq!(topic.letters().len(), 0);
    assert_eq!(topic.committed(), 1, "nothing is settled");
    assert_eq!(endpoints.get("/readyz").await.0, 503);
    assert_eq!(endpoints.get("/livez").await.0, 200, "a restart is not asked for");
    assert!(endpoints.metric("clipstream_sessions_reopened_total", &["outcome=\"failed\""]).await > 0.0);

    runtime.end("fail");
    worker.wait_for("all messages", async |_| (topic.committed() == 1_601).then_some(())).await;
    worker.wait_for("readiness", async |_| (endpoints.get("/readyz").await.0 == 200).then_some(())).await;
    assert!(endpoints.metric("clipstream_sessions_reopened_total", &["outcome=\"succeeded\""]).await > 0.0);
    worker.terminate();
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    let of_outage = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!((of_outage("outage, holding messages"), of_outage("outage is over")), (1, 1));
    assert_eq!(topic.letters().len(), 0);
    topic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_cannot_be_opened_anew_ends_the_worker_with_its_own_code_and_the_next_one_does_the_work() {
    let Some(runtime) = FaultyRuntime::build("a_runtime_that_cannot_be_opened_anew") else { return };
    let topic = Topic::with("lost", &[r#"{"text": "a dog"}"#]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [("pipeline.backoff_cap_ms", "500"), ("clip.recovery_max_ms", "1500")];
    let mut worker = Process::spawn(&mut runtime.under(topic.run(&folder, &settings)));
    worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
    runtime.begin("fail");
    runtime.begin("no_open");
    produce(&topic, &texts(20)).await;
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(6), "{lines:?}");
    let [.., why, hint] = &lines[..] else { panic!("it says why, and what to do: {lines:?}") };
    assert!(why.starts_with("error: model demo-emoji/v1 does not work: for "), "{why}");
    assert!(why.contains("no CUDA-capable device is detected"), "{why}");
    assert!(hint.starts_with("hint: ") && hint.contains("clip.recovery_max_ms"), "{hint}");
    assert_eq!((topic.committed(), topic.letters().len()), (1, 0));

    runtime.end("fail");
    runtime.end("no_open");
    let mut next = Process::spawn(&mut runtime.under(topic.run(&folder, &[])));
    next.wait_for("all messages", async |_| (topic.committed() == 21).then_some(())).await;
    next.terminate();
    assert_eq!(next.end().await.0, Some(0));
    assert_eq!(topic.letters().len(), 0);
    topic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_hangs_is_not_alive_and_does_not_keep_the_process_from_ending() {
    let Some(runtime) = FaultyRuntime::build("a_tower_that_hangs") else { return };
    let topic = Topic::with("hung", &[r#"{"text": "a dog"}"#]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [TELEMETRY, ("telemetry.hung_after_ms", "3000"), ("pipeline.drain_deadline_ms", "500")];
    let mut worker = Process::spawn(&mut runtime.under(topic.run(&folder, &settings)));
    worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
    let endpoints = Endpoints::of(&mut worker).await;
    assert_eq!(endpoints.get("/livez").await, (200, "live\n".to_owned()));

    runtime.begin("hang");
    produce(&topic, &texts(3)).await;
    let dead = async |_: &Process| Some(endpoints.get("/livez").await).filter(|(status, _)| *status == 503);
    let (_, why) = worker.wait_for("dead", dead).await;
    assert!(why.starts_with("the text tower of demo-emoji/v1 has not moved for "), "{why}");
    assert!(why.contains("telemetry.hung_after_ms"), "{why}");
    assert_eq!(topic.committed(), 1);
    // It ends as it is asked to, without the tower.
    worker.terminate();
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("left behind")), "{lines:?}");
    topic.end().await;
}
