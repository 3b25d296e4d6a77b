//! The verbs as a user of the binary meets them: results on standard output, everything else on standard error, exit
//! codes, and the next step in every error.

mod check;
mod demo;
mod dlq;
mod embed;
mod index;
mod label;
mod models_verify;
mod produce;
mod search;
mod worker;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clipstream::config::KafkaSettings;
use clipstream::source::ensure_topics;
use clipstream_test_support::needs;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::Value;

/// What finds ONNX Runtime and the home folder; everything else in the environment is a test's own.
const KEPT: [&str; 6] = ["HOME", "PATH", "XDG_CACHE_HOME", "CLIPSTREAM_ORT_DYLIB", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"];

/// The binary, in the project's folder.
fn clipstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clipstream"));
    command.current_dir(project()).env_clear().args(arguments).stdin(Stdio::null());
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How a run ended and what it said.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Standard output, which is JSON Lines and nothing else.
    fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} on standard output: {line}\n{}", self.stderr))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// Asserts the exit code; shows what was said where it differs.
    #[track_caller]
    fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn says(&self, part: &str) {
        assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.stderr);
    }
}

fn run(arguments: &[&str]) -> Ran {
    finish(clipstream(arguments), b"")
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Ran {
    finish(clipstream(arguments), input)
}

fn finish(mut command: Command, input: &[u8]) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the binary starts");
    if let Some(mut stdin) = child.stdin.take() {
        // A verb that refuses its arguments does not read on.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().expect("the binary ends");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A folder with a store of its own, and optionally the first pictures of the demo catalog.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary folders have UTF-8 names").to_owned()
    }

    /// `--set store.path=…` for this home's own store.
    fn store(&self) -> String {
        format!("store.path={}", self.text("store"))
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, b"")
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let store = self.store();
        let all: Vec<&str> = arguments.iter().copied().chain(["--set", &store]).collect();
        run_with_input(&all, input)
    }

    /// The first `count` items of the demo catalog as `catalog.jsonl`, with their pictures beside it.
    fn catalog(&self, count: usize) -> Vec<Value> {
        let source = project().join("demo/catalog");
        let all = std::fs::read_to_string(source.join("catalog.jsonl")).expect("the demo catalog is there");
        let lines: Vec<&str> = all.lines().take(count).collect();
        std::fs::create_dir_all(self.path("images")).unwrap();
        std::fs::write(self.path("catalog.jsonl"), lines.join("\n")).unwrap();
        let items: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for item in &items {
            let image = item["image"].as_str().unwrap();
            std::fs::copy(source.join(image), self.path(image)).unwrap();
        }
        items
    }

    /// The demo model, preprocessing pictures otherwise: `--set` value of `clip.models`.
    fn other_preprocessing(&self) -> String {
        let (source, copy) = (project().join("demo/model"), self.path("model"));
        for file in ["visual/model.onnx", "textual/model.onnx", "textual/tokenizer.json", "config.json"] {
            std::fs::create_dir_all(copy.join(file).parent().unwrap()).unwrap();
            std::fs::copy(source.join(file), copy.join(file)).unwrap();
        }
        let config = std::fs::read_to_string(source.join("visual/preprocess_cfg.json")).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["mean"] = serde_json::json!([0.5, 0.5, 0.5]);
        std::fs::write(copy.join("visual/preprocess_cfg.json"), config.to_string()).unwrap();
        format!("clip.models=demo-emoji/v1={}", copy.display())
    }

    /// A folder of the demo model with a manifest that says `more` of it.
    fn with_manifest(&self, more: &Value) -> String {
        let (source, copy) = (project().join("demo/model"), self.path("said"));
        let files = ["visual/model.onnx", "visual/preprocess_cfg.json", "textual/model.onnx", "textual/tokenizer.json"];
        for file in files.into_iter().chain(["config.json"]) {
            std::fs::create_dir_all(copy.join(file).parent().unwrap()).unwrap();
            std::fs::copy(source.join(file), copy.join(file)).unwrap();
        }
        let mut manifest = serde_json::json!({
            "format": 1, "model": "demo-emoji/v1", "dimension": 256, "image_size": 96, "context_length": 77, "activation": "gelu",
        });
        for (key, value) in more.as_object().unwrap() {
            manifest[key] = value.clone();
        }
        std::fs::write(copy.join("clipstream.json"), manifest.to_string()).unwrap();
        copy.to_str().unwrap().to_owned()
    }
}

fn vector(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list of numbers").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Apache Kafka (`CLIPSTREAM_TEST_KAFKA=host:port`), or librdkafka's mock cluster in this process, which the binary
/// reaches over the loopback interface like any broker.
struct Broker {
    address: String,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Broker {
    fn new() -> Self {
        match needs::kafka("the verbs talk to librdkafka's MOCK CLUSTER") {
            Some(address) => Self { address, mock: None },
            None => {
                let mock = MockCluster::new(1).expect("a mock cluster");
                Self { address: mock.bootstrap_servers(), mock: Some(mock) }
            }
        }
    }

    fn settings(&self) -> KafkaSettings {
        KafkaSettings { brokers: self.address.split(',').map(str::to_owned).collect(), ..KafkaSettings::default() }
    }

    /// A new topic with one partition.
    async fn topic(&self, name: &str) -> String {
        let nanoseconds = std::time::UNIX_EPOCH.elapsed().expect("the clock is right").as_nanos();
        let topic = format!("{name}-{}-{nanoseconds}", std::process::id());
        match &self.mock {
            Some(mock) => mock.create_topic(&topic, 1, 1).expect("a topic"),
            None => ensure_topics(&self.settings(), &[&topic], 1).await.expect("the broker creates the topic"),
        }
        topic
    }
}
