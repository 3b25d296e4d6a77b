//! The verbs, as a user of the binary meets them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::server::{COMMIT, FakeHub, Fault};

/// Of an export, which nothing but this says of.
const MANIFEST: &str = r#"{"format": 1, "model": "ViT-L-14-336/openai", "dimension": 768, "image_size": 336,
    "context_length": 77, "activation": "quick_gelu", "precisions": ["fp32", "int8"]}"#;

/// The binary with an empty environment but for what it needs to find ONNX Runtime, and `environment`.
async fn clipstream(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clipstream"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().args(arguments).stdin(Stdio::null());
    for name in ["HOME", "PATH", "XDG_CACHE_HOME", "CLIPSTREAM_ORT_DYLIB", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().expect("the binary starts")).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
}

#[tokio::test]
async fn a_model_is_pulled_found_and_loaded() {
    let hub = FakeHub::start().await;
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model");
    let paths = super::files(&demo);
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(demo.join(path)).unwrap()).collect();
    let files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
    hub.has("me/demo", &files);
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("clip.models_directory={}", folder.path().display());
    let environment = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_TOKEN", "hf_secret")];

    let missing = clipstream(&["models", "path", "ours/v1", "--set", &directory], &environment).await;
    ended(&missing, 3);
    assert!(text(&missing.stderr).contains("clipstream models pull ours/v1"), "{}", text(&missing.stderr));

    let pull = ["models", "pull", "ours/v1", "--source", "me/demo", "--json", "--set", &directory];
    let pulled = clipstream(&pull, &environment).await;
    ended(&pulled, 0);
    let line: Value = serde_json::from_slice(&pulled.stdout).unwrap();
    assert_eq!((&line["fetched"], &line["precision"]), (&true.into(), &"fp32".into()), "{line}");
    let all = [&pulled.stdout[..], &pulled.stderr].concat();
    assert!(!text(&all).contains("hf_secret"));

    // The source need not be named again, nor be there.
    let offline = [("HF_HUB_OFFLINE", "1")];
    let again = clipstream(&["models", "pull", "ours/v1", "--json", "--set", &directory], &offline).await;
    ended(&again, 0);
    let line: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&line["fetched"], &line["sources"][0]["repository"]), (&false.into(), &"me/demo".into()), "{line}");

    let path = clipstream(&["models", "path", "ours/v1", "--set", &directory], &[]).await;
    ended(&path, 0);
    assert_eq!(text(&path.stdout).trim(), folder.path().join("ours__v1").display().to_string());

    let arguments = ["embed", "text", "a red heart", "--set", &directory, "--set", "clip.models=ours/v1"];
    let embedded = clipstream(&arguments, &[]).await;
    ended(&embedded, 0);
    let line: Value = serde_json::from_slice(&embedded.stdout).unwrap();
    assert_eq!(line["model"], "ours/v1");
}

#[tokio::test]
async fn the_first_source_that_the_hub_has_is_taken_and_kept_to() {
    let hub = FakeHub::start().await;
    let files: [(&str, &[u8]); 6] = [
        ("visual/model.onnx", b"image"),
        ("visual/model_int8.onnx", b"image"),
        ("visual/preprocess_cfg.json", b"{}"),
        ("textual/model.onnx", b"text"),
        ("textual/model_int8.onnx", b"text"),
        ("textual/tokenizer.json", b"{}"),
    ];
    hub.has("immich-app/ViT-B-16__openai", &files);
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("clip.models_directory={}", folder.path().display());
    let pull = ["models", "pull", "ViT-B/16", "--json", "--set", &directory];
    let environment = [("HF_ENDPOINT", hub.endpoint.as_str())];
    let pulled = clipstream(&pull, &environment).await;
    ended(&pulled, 0);
    assert!(text(&pulled.stderr).contains("trying immich-app/ViT-B-16__openai"), "{}", text(&pulled.stderr));
    let again = clipstream(&[&pull[..], &["--precision", "int8"]].concat(), &environment).await;
    ended(&again, 0);
    let line: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&line["model"], &line["precision"]), (&"ViT-B-16/openai".into(), &"int8".into()), "{line}");
    assert!(!text(&again.stderr).contains("trying"), "{}", text(&again.stderr));
    let missing = clipstream(&["models", "pull", "ViT-L-14/dfn2b", "--set", &directory], &environment).await;
    ended(&missing, 1);
    assert!(text(&missing.stderr).contains("no such repository, or a private one"), "{}", text(&missing.stderr));
}

/// One line, with the licence's name: of weights that the registry knows, else of what the repository says.
#[tokio::test]
async fn a_licence_that_forbids_commercial_use_is_a_warning() {
    let hub = FakeHub::start().await;
    let files: [(&str, &[u8]); 5] = [
        ("onnx/model.onnx", b"both"),
        ("onnx/model.onnx_data", b"weights"),
        ("preprocessor_config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("tokenizer_config.json", b"{}"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("clip.models_directory={}", folder.path().display());
    for (model, repository, licence, warning) in [
        ("ours/jina", "jinaai/jina-clip-v2", "cc-by-nc-4.0", Some("the licence of jinaai/jina-clip-v2, cc-by-nc-4.0,")),
        ("ours/free", "me/free", "apache-2.0", None),
        // Whatever a repository says of weights that are known.
        (
            "ViT-B-32/metaclip_400m",
            "me/meta",
            "mit",
            Some("the licence of ViT-B-32/metaclip_400m's weights, CC-BY-NC-4.0,"),
        ),
    ] {
        hub.has(repository, &files);
        hub.licenses(repository, licence);
        let pull = ["models", "pull", model, "--source", repository, "--set", &directory];
        let pulled = clipstream(&pull, &[("HF_ENDPOINT", hub.endpoint.as_str())]).await;
        ended(&pulled, 0);
        let warnings: Vec<_> = text(&pulled.stderr).lines().filter(|line| line.contains("warning: ")).collect();
        let expected: Vec<_> =
            warning.into_iter().map(|begins| format!("warning: {begins} forbids commercial use")).collect();
        assert_eq!(warnings, expected, "{model}");
    }
    // The combined graph, its weights, and what is beside the tokenizer.
    let pulled = folder.path().join("ours__jina");
    assert!(files.iter().all(|(path, content)| std::fs::read(pulled.join(path)).unwrap() == *content));
}

#[tokio::test]
async fn a_pull_that_is_killed_leaves_nothing_to_load_and_is_resumed() {
    let hub = FakeHub::start().await;
    let graph = vec![7; 100_000];
    let files: [(&str, &[u8]); 4] = [
        ("visual/model.onnx", &graph),
        ("visual/preprocess_cfg.json", b"{}"),
        ("textual/model.onnx", b"text"),
        ("textual/tokenizer.json", b"{}"),
    ];
    hub.has("me/model", &files);
    hub.breaks("visual/model.onnx", &[Fault::Stall(60_000)]);
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("clip.models_directory={}", folder.path().display());
    let arguments = ["models", "pull", "ours/v1", "--source", "me/model", "--set", &directory];
    let mut killed = Command::new(env!("CARGO_BIN_EXE_clipstream"))
        .env_clear()
        .env("HF_ENDPOINT", &hub.endpoint)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let part = folder.path().join(".partial-ours__v1/visual/model.onnx.part");
    while std::fs::metadata(&part).map_or(0, |found| found.len()) < 60_000 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before it was killed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!folder.path().join("ours__v1").exists());
    let pulled = clipstream(&arguments, &[("HF_ENDPOINT", &hub.endpoint)]).await;
    ended(&pulled, 0);
    assert_eq!(std::fs::read(folder.path().join("ours__v1/visual/model.onnx")).unwrap(), graph);
    assert_eq!(hub.ranges("cdn", "visual/model.onnx"), [None, Some("bytes=60000-".to_owned())]);
}

#[tokio::test]
async fn the_registry_is_a_table_and_names_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let environment = [("XDG_CACHE_HOME", cache)];
    let listed = clipstream(&["models", "list", "ViT-B-32/openai"], &environment).await;
    ended(&listed, 0);
    assert!(text(&listed.stdout).contains("pull"), "{}", text(&listed.stdout));
    let listed = clipstream(&["models", "list", "--json"], &environment).await;
    let lines: Vec<Value> = text(&listed.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let openai = lines.iter().find(|line| line["model"] == "ViT-L-14-336/openai").unwrap();
    assert_eq!((&openai["image_size"], &openai["installed"]), (&336.into(), &false.into()));
    // By default beside ONNX Runtime's library, whatever the working directory.
    let place = format!("{cache}/clipstream/models/ViT-L-14-336__openai");
    assert_eq!(openai["directory"], place.as_str());
    let names = lines.iter().filter(|line| !line["family"].is_null());
    assert_eq!(names.count(), 196, "as many as OpenCLIP 3.3.0 publishes");
    let twin = lines.iter().find(|line| line["model"] == "ViT-L-14-336-quickgelu/openai").unwrap();
    assert_eq!((&twin["same_as"], &twin["directory"]), (&"ViT-L-14-336/openai".into(), &place.as_str().into()));
    // The demo model is one of clip.models, and not OpenCLIP's.
    assert!(lines.iter().any(|line| line["model"] == "demo-emoji/v1" && line["dimension"].is_null()));

    let pull = ["models", "pull", "ViT-B/32"];
    let misled = clipstream(&pull, &[&environment[..], &[("HF_ENDPOINT", "mirror.example")]].concat()).await;
    ended(&misled, 2);
    assert!(text(&misled.stderr).contains("HF_ENDPOINT (or hub.endpoint"), "{}", text(&misled.stderr));

    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(format!("{place}/clipstream.json"), MANIFEST).unwrap();
    let listed = clipstream(&["models", "list", "ViT-L-14-336/openai", "--json"], &environment).await;
    let line: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&line["installed"], &line["precisions"]), (&true.into(), &json!(["fp32", "int8"])));
    let filters = ["models", "list", "--family", "siglip2", "--dimension-max", "768", "--multilingual", "--json"];
    let listed = clipstream(&filters, &environment).await;
    let lines = text(&listed.stdout);
    assert_eq!(lines.lines().count(), 5, "B-32-256, and B-16 at four sizes: {lines}");
    assert!(lines.lines().all(|line| line.contains("\"licence\":\"Apache-2.0\"")), "{lines}");
    let path = clipstream(&["models", "path", "ViT-L/14@336px"], &environment).await;
    ended(&path, 0);
    assert_eq!(text(&path.stdout).trim(), place);

    for (arguments, code, part) in [
        (&["models", "path", "vit-b-23"][..], 2, "did you mean ViT-B-32/openai?"),
        (&["models", "list", "ViT-B-23"], 1, "did you mean ViT-B-32/openai?"),
        (&["models", "list", "--family", "SigLIP3"], 2, "SigLIP, SigLIP2"),
        (&["models", "list", "--family", "CLIP", "--multilingual"], 1, "leave out a filter"),
        (&["models", "pull", "ViT-B-32/laion400m_e32"], 1, "--model ViT-B-32 --pretrained laion400m_e32"),
        (&["models", "pull", "ViT-B/32", "--set", "hub.offline=true"], 3, "hub.offline"),
        (&["config", "validate", "--set", "clip.models=ViT-B-23/openai"], 2, "did you mean ViT-B-32/openai?"),
        (&["embed", "text", "x", "--set", "clip.models=clip-ViT-B-32"], 3, "clipstream models pull ViT-B-32/openai"),
    ] {
        let output = clipstream(arguments, &environment).await;
        ended(&output, code);
        assert!(text(&output.stderr).contains(part), "{part:?} is not in {}", text(&output.stderr));
    }
}

/// The tool asks a hub for what `src/domain/registry/pins.rs` holds, and prints it in the same form.
#[tokio::test]
async fn pins_are_printed_as_the_table_has_them() {
    let hub = FakeHub::start().await;
    let graph = vec![7; 5000];
    let files: [(&str, &[u8]); 4] = [
        ("onnx/vision_model.onnx", &graph),
        ("tokenizer.json", b"{}"),
        ("README.md", b"read me"),
        ("model.safetensors", b""),
    ];
    hub.has("me/model", &files);
    let mut command = Command::new("python3");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tools/pin_models.py", "me/model"]);
    command.env("HF_ENDPOINT", &hub.endpoint).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("python3")).await.unwrap();
    ended(&output, 0);
    let sha256 = |content: &[u8]| format!("{:x}", Sha256::digest(content));
    let expected = format!(
        "    Pin {{\n        repository: \"me/model\",\n        commit: \"{COMMIT}\",\n        files: &[\n            \
         (\"onnx/vision_model.onnx\", \"{}\"),\n            (\"tokenizer.json\", \"{}\"),\n        ],\n    }},\n",
        sha256(&graph),
        sha256(b"{}"),
    );
    assert_eq!(text(&output.stdout), expected);
}
