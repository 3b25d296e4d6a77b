//! Pulling models from a hub that misbehaves in every way that hubs and networks do.

mod cli;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clipstream::config::HubSettings;
use clipstream::domain::registry::{Layout, Pin};
use clipstream::domain::{Class, HubReason, Precision};
use clipstream::hub::{Hub, HubError, Origin, Progress, Pull, Pulled};
use clipstream::redact::Secret;
use serde_json::json;
use server::{COMMIT, FakeHub, Fault};
use sha2::{Digest, Sha256};

const REPOSITORY: &str = "immich-app/ViT-B-32__laion2b-s34b-b79k";
const GRAPH: &str = "visual/model.onnx";

/// What was reported on the way.
#[derive(Default)]
struct Notes {
    notes: Mutex<Vec<String>>,
    files: Mutex<Vec<String>>,
    total: Mutex<u64>,
    at: Mutex<u64>,
}

impl Progress for Notes {
    fn total(&self, bytes: u64) {
        *self.total.lock().unwrap() = bytes;
    }

    fn at(&self, bytes: u64) {
        *self.at.lock().unwrap() = bytes;
    }

    fn file(&self, path: &str, _: u64) {
        self.files.lock().unwrap().push(path.to_owned());
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// A hub with one model, and a folder to pull it to.
struct World {
    hub: FakeHub,
    settings: HubSettings,
    folder: tempfile::TempDir,
    notes: Notes,
}

fn graph() -> Vec<u8> {
    (0..50_000u32).map(|i| (i % 251) as u8).collect()
}

impl World {
    async fn new() -> Self {
        let hub = FakeHub::start().await;
        hub.has(
            REPOSITORY,
            &[
                ("README.md", b"read me"),
                ("config.json", b"{}"),
                (GRAPH, &graph()),
                ("visual/model.armnn", b"for others"),
                ("visual/model_int8.onnx", b"small image graph"),
                ("visual/preprocess_cfg.json", br#"{"size": [224, 224]}"#),
                ("textual/model.onnx", b"text graph"),
                ("textual/model_int8.onnx", b"small text graph"),
                ("textual/tokenizer.json", b"{\"version\": \"1.0\"}"),
                ("rknpu/rk3588/visual/model.rknn", b"for others"),
            ],
        );
        let settings =
            HubSettings { endpoint: hub.endpoint.clone(), read_timeout_ms: 10_000, ..HubSettings::default() };
        Self { hub, settings, folder: tempfile::tempdir().unwrap(), notes: Notes::default() }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("models").join("ViT-B-32__laion2b_s34b_b79k")
    }

    fn wanted(&self) -> Pull {
        Pull {
            id: "ViT-B-32/laion2b_s34b_b79k".parse().unwrap(),
            origin: Origin { repositories: vec![REPOSITORY.to_owned()], layout: Some(Layout::Immich) },
            revision: None,
            pins: &[],
            precision: Precision::Fp32,
            directory: self.directory(),
            force: false,
        }
    }

    async fn pull(&self, pull: &Pull) -> Result<Pulled, HubError> {
        Hub::new(&self.settings).unwrap().pull(pull, &self.notes).await
    }

    fn says(&self, part: &str) -> bool {
        self.notes.notes.lock().unwrap().iter().any(|note| note.contains(part))
    }

    #[track_caller]
    fn is_whole(&self) {
        assert_eq!(
            files(&self.directory()),
            [
                "config.json",
                "pulled.json",
                "textual/model.onnx",
                "textual/tokenizer.json",
                GRAPH,
                "visual/preprocess_cfg.json"
            ]
        );
        assert_eq!(std::fs::read(self.directory().join(GRAPH)).unwrap(), graph());
        // Beside it nothing but the lock.
        let beside: Vec<_> = std::fs::read_dir(self.folder.path().join("models")).unwrap().collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }

    #[track_caller]
    fn is_not_there(&self) {
        assert!(!self.directory().exists());
    }
}

/// Paths of all files below `directory`, in order.
fn files(directory: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|e| e.file_type().is_file())
        .map(|e| e.path().strip_prefix(directory).unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_the_model_needs_is_put_in_place_at_once() {
    let mut world = World::new().await;
    world.settings.token = Some(Secret::new("hf_secret"));
    let pulled = world.pull(&world.wanted()).await.unwrap();
    world.is_whole();
    assert!(pulled.fetched);
    assert_eq!((pulled.precision, pulled.record.sources[0].commit.as_str()), (Precision::Fp32, COMMIT));
    assert_eq!(*world.notes.total.lock().unwrap(), *world.notes.at.lock().unwrap());
    assert_eq!(world.notes.files.lock().unwrap().len(), 5);
    // The token is for the hub, not for whom it redirects to.
    let seen = world.hub.seen();
    for request in &seen {
        let token = (request.server == "hub").then(|| "Bearer hf_secret".to_owned());
        assert_eq!(request.authorization, token, "{request:?}");
    }
    // Once there, nobody is asked.
    let again = world.pull(&world.wanted()).await.unwrap();
    assert!(!again.fetched && again.directory == world.directory());
    assert_eq!(world.hub.seen().len(), seen.len());
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_broke() {
    let mut world = World::new().await;
    world.settings.read_timeout_ms = 300;
    world.hub.breaks(GRAPH, &[Fault::Cut(20_000), Fault::Stall(10_000)]);
    world.pull(&world.wanted()).await.unwrap();
    world.is_whole();
    let seen: Vec<_> = world.hub.seen().into_iter().filter(|s| s.server == "cdn").collect();
    let starts: Vec<_> = seen.iter().map(|s| s.range.as_deref()).collect();
    assert_eq!(starts, [None, Some("bytes=20000-"), Some("bytes=30000-")]);
    assert!(seen[1].if_range.is_some(), "the rest must be of the same version");
    assert!(world.says("silent for too long"));
}

#[tokio::test]
async fn a_later_pull_goes_on_where_an_earlier_one_ended() {
    let mut world = World::new().await;
    world.settings.attempts_max = 1;
    world.hub.breaks(GRAPH, &[Fault::Cut(20_000)]);
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert!(error.class == Class::Transient && error.to_string().contains("it resumes"), "{error}");
    assert!(!error.to_string().contains("signature-of-the-cdn"), "{error}");
    world.is_not_there();
    world.pull(&world.wanted()).await.unwrap();
    world.is_whole();
    assert_eq!(world.hub.ranges("cdn", GRAPH), [None, Some("bytes=20000-".to_owned())]);
}

#[tokio::test]
async fn a_part_that_cannot_be_continued_is_fetched_anew() {
    let world = World::new().await;
    world.hub.breaks(GRAPH, &[Fault::Cut(20_000), Fault::IgnoreRange]);
    world.pull(&world.wanted()).await.unwrap();
    world.is_whole();
    // What an earlier process left under the same name and is not the file's beginning.
    let other = World::new().await;
    let partial = other.folder.path().join("models/.partial-ViT-B-32__laion2b_s34b_b79k/visual");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join("model.onnx.part"), [9; 700]).unwrap();
    std::fs::write(partial.join("leftover.onnx"), "of another model").unwrap();
    other.pull(&other.wanted()).await.unwrap();
    other.is_whole();
    assert!(other.says("checksum"));
    assert_eq!(other.hub.ranges("cdn", GRAPH), [Some("bytes=700-".to_owned()), None]);
}

#[tokio::test]
async fn a_wrong_checksum_is_never_put_in_place() {
    for path in [GRAPH, "textual/tokenizer.json"] {
        let world = World::new().await;
        world.hub.breaks(path, &[Fault::Garble, Fault::Garble]);
        let error = world.pull(&world.wanted()).await.unwrap_err();
        assert_eq!(error.reason, HubReason::ChecksumWrong, "{error}");
        world.is_not_there();
        // The line was at fault, and is well again.
        world.pull(&world.wanted()).await.unwrap();
        world.is_whole();
    }
    let world = World::new().await;
    world.hub.breaks(GRAPH, &[Fault::Longer]);
    assert_eq!(world.pull(&world.wanted()).await.unwrap_err().reason, HubReason::SizeWrong);
    world.is_not_there();
}

/// Checksums are found in the tree, and where there is none, those of large files in the hub's redirects.
#[tokio::test]
async fn a_mirror_that_lists_names_only_is_checked_all_the_same() {
    for tree in [true, false] {
        let world = World::new().await;
        world.hub.is_terse(tree);
        world.hub.breaks(GRAPH, &[Fault::Garble, Fault::Garble]);
        let error = world.pull(&world.wanted()).await.unwrap_err();
        assert_eq!(error.reason, HubReason::ChecksumWrong, "{error}");
        world.is_not_there();
        world.hub.breaks(GRAPH, &[Fault::Cut(20_000)]);
        world.pull(&world.wanted()).await.unwrap();
        world.is_whole();
    }
}

#[tokio::test]
async fn a_busy_hub_is_waited_for_as_long_as_it_asks() {
    let world = World::new().await;
    world.hub.breaks(GRAPH, &[Fault::Status(429, &[("retry-after", "1")]), Fault::Status(503, &[])]);
    world.pull(&world.wanted()).await.unwrap();
    world.is_whole();
    assert!(world.says("HTTP 429 Too Many Requests") && world.says("trying again in 1.0 s"));
    let mut world = World::new().await;
    world.settings.attempts_max = 2;
    world.hub.breaks(GRAPH, &[Fault::Status(503, &[]), Fault::Status(503, &[])]);
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, HubReason::Busy), "{error}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let mut world = World::new().await;
    for (status, code, reason, part) in [
        (401, "RepoNotFound", HubReason::Unauthorized, "set HF_TOKEN or hub.token if it is private"),
        (403, "GatedRepo", HubReason::Gated, "accept its conditions"),
        (404, "RevisionNotFound", HubReason::RevisionMissing, "check --revision"),
        (404, "", HubReason::NotFound, "check the repository's name"),
        (400, "", HubReason::Status, "check hub.endpoint"),
    ] {
        world.hub.lists(REPOSITORY, status, code, json!({}));
        let error = world.pull(&world.wanted()).await.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains(REPOSITORY), "{error}");
    }
    world.settings.token = Some(Secret::new("hf_secret"));
    world.hub.lists(REPOSITORY, 401, "", json!({}));
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert!(error.to_string().contains("the token (HF_TOKEN, hub.token) may not read it"), "{error}");
    world.is_not_there();
    world.settings.endpoint = "http://127.0.0.1:1".into();
    world.settings.attempts_max = 1;
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn listings_that_are_none_or_leave_the_folder_are_refused() {
    let world = World::new().await;
    for (answer, part) in [
        (json!("<html>"), "not a listing of a repository"),
        (json!({ "sha": "../x", "siblings": [] }), "expected a hash"),
        (json!({ "sha": COMMIT, "siblings": [{ "rfilename": "visual/../../../model.onnx" }] }), "has no ONNX graphs"),
        (json!("x".repeat(17 << 20)), "bytes, expected at most 16777216"),
        (json!({ "sha": COMMIT, "siblings": [{ "rfilename": "model.bin" }] }), "has no ONNX graphs"),
    ] {
        world.hub.lists(REPOSITORY, 200, "", answer);
        let error = world.pull(&world.wanted()).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        world.is_not_there();
    }
}

#[tokio::test]
async fn offline_nobody_is_asked_and_what_is_there_is_enough() {
    let mut world = World::new().await;
    world.settings.offline = true;
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert_eq!(error.reason, HubReason::Offline, "{error}");
    assert_eq!(world.hub.seen(), []);
    world.settings.offline = false;
    world.pull(&world.wanted()).await.unwrap();
    world.settings.offline = true;
    assert!(!world.pull(&world.wanted()).await.unwrap().fetched);
}

#[tokio::test]
async fn another_precision_is_added_from_the_same_commit() {
    let world = World::new().await;
    world.pull(&world.wanted()).await.unwrap();
    let int8 = Pull { precision: Precision::Int8, ..world.wanted() };
    // A file of one's own that has the name of one of the repository's is not replaced, any other stays.
    let own = |path: &str| world.directory().join(path);
    std::fs::create_dir(own("notes")).unwrap();
    std::fs::write(own("notes/mine.txt"), "mine").unwrap();
    std::fs::write(own("visual/model_int8.onnx"), "mine").unwrap();
    let error = world.pull(&int8).await.unwrap_err();
    assert!(error.to_string().contains("its visual/model_int8.onnx is not the repository's"), "{error}");
    std::fs::remove_file(own("visual/model_int8.onnx")).unwrap();
    let pulled = world.pull(&int8).await.unwrap();
    assert_eq!(pulled.record.precisions, ["fp32", "int8"]);
    assert_eq!(std::fs::read_to_string(own("notes/mine.txt")).unwrap(), "mine");
    assert_eq!(std::fs::read(world.directory().join(GRAPH)).unwrap(), graph());
    assert_eq!(std::fs::read(world.directory().join("visual/model_int8.onnx")).unwrap(), b"small image graph");
    assert_eq!(world.hub.ranges("cdn", GRAPH).len(), 1, "what is there is not fetched again");
    let lists: Vec<_> = world.hub.seen().into_iter().map(|s| s.what).filter(|w| w.starts_with("list")).collect();
    assert_eq!(lists, ["list main".to_owned(), format!("list {COMMIT}"), format!("list {COMMIT}")]);
    let fp16 = Pull { precision: Precision::Fp16, ..world.wanted() };
    let error = world.pull(&fp16).await.unwrap_err();
    assert!(error.to_string().contains("has the precisions fp32, int8, not fp16"), "{error}");
}

#[tokio::test]
async fn a_directory_with_something_else_is_replaced_only_by_force() {
    let world = World::new().await;
    std::fs::create_dir_all(world.directory()).unwrap();
    std::fs::write(world.directory().join("own.onnx"), "mine").unwrap();
    let error = world.pull(&world.wanted()).await.unwrap_err();
    assert_eq!(error.reason, HubReason::DirectoryTaken, "{error}");
    assert_eq!(files(&world.directory()), ["own.onnx"]);
    let forced = Pull { force: true, ..world.wanted() };
    // Not even by force where it is no model.
    let error = world.pull(&forced).await.unwrap_err();
    assert!(error.to_string().contains("does not contain a model, and is not replaced; remove it"), "{error}");
    assert_eq!(files(&world.directory()), ["own.onnx"]);
    std::fs::write(world.directory().join("visual.onnx"), "mine").unwrap();
    world.pull(&forced).await.unwrap();
    world.is_whole();
    // Damage is seen, and put right the same way.
    std::fs::write(world.directory().join(GRAPH), "cut").unwrap();
    assert!(world.pull(&world.wanted()).await.unwrap_err().to_string().contains("another size"));
    world.pull(&forced).await.unwrap();
    world.is_whole();
}

#[tokio::test]
async fn pulls_at_the_same_time_make_one_model() {
    let world = World::new().await;
    let wanted = world.wanted();
    let (one, other) = tokio::join!(world.pull(&wanted), world.pull(&wanted));
    assert!(one.unwrap().fetched != other.unwrap().fetched);
    world.is_whole();
    assert_eq!(world.hub.ranges("cdn", GRAPH).len(), 1);
}

#[tokio::test]
async fn a_pair_of_repositories_becomes_two_folders() {
    let world = World::new().await;
    world.hub.has("q/clip-vision", &[("model.onnx", &graph()), ("preprocessor_config.json", b"{}")]);
    world.hub.has("q/clip-text", &[("model.onnx", b"text"), ("tokenizer.json", b"{}")]);
    let origin = Origin { repositories: vec!["q/clip-vision".into(), "q/clip-text".into()], layout: None };
    world.pull(&Pull { origin, ..world.wanted() }).await.unwrap();
    assert_eq!(
        files(&world.directory()),
        [
            "pulled.json",
            "text/model.onnx",
            "text/tokenizer.json",
            "vision/model.onnx",
            "vision/preprocessor_config.json"
        ]
    );
}

fn pinned(files: &[(&'static str, &[u8])]) -> &'static [Pin] {
    let sha256 = |content: &[u8]| &*format!("{:x}", Sha256::digest(content)).leak();
    let files: Vec<_> = files.iter().map(|(path, content)| (*path, sha256(content))).collect();
    vec![Pin { repository: REPOSITORY, commit: COMMIT, files: files.leak() }].leak()
}

#[tokio::test]
async fn what_is_pinned_is_pulled_at_its_commit_and_is_what_it_was() {
    let world = World::new().await;
    let pins = pinned(&[(GRAPH, &graph()), ("config.json", b"{}")]);
    let pulled = world.pull(&Pull { pins, ..world.wanted() }).await.unwrap();
    world.is_whole();
    assert!(pulled.fetched && !world.says("not pinned"));
    assert_eq!(world.hub.seen()[0].what, format!("list {COMMIT}"), "not main");
    // Unpinned, the owner's branch decides, and that is said.
    let other = World::new().await;
    other.pull(&other.wanted()).await.unwrap();
    assert_eq!(other.hub.seen()[0].what, "list main");
    assert!(other.says(&format!("{REPOSITORY} is not pinned")) && other.says(COMMIT));
}

/// The hub's own checksums are right: they are of what it has now.
#[tokio::test]
async fn what_differs_from_its_pin_is_not_put_in_place() {
    let mut changed = graph();
    changed[7] ^= 1;
    for (path, was) in [(GRAPH, &changed[..]), ("config.json", b"{\"was\": 1}")] {
        let world = World::new().await;
        let pins = pinned(&[(path, was)]);
        let error = world.pull(&Pull { pins, ..world.wanted() }).await.unwrap_err();
        assert!([HubReason::PinDiffers, HubReason::ChecksumWrong].contains(&error.reason), "{error}");
        assert!(error.to_string().contains(path) && !error.reason.is_of_repository(), "{error}");
        world.is_not_there();
        // Somebody has looked, and takes it.
        let revision = Some("main".to_owned());
        world.pull(&Pull { pins: &[], revision, ..world.wanted() }).await.unwrap();
        world.is_whole();
    }
    let world = World::new().await;
    let pins: &[Pin] = vec![Pin { commit: "89abcdef0123456789abcdef0123456789abcdef", ..pinned(&[])[0] }].leak();
    let error = world.pull(&Pull { pins, ..world.wanted() }).await.unwrap_err();
    assert!(error.to_string().contains("was requested"), "another commit: {error}");
    world.is_not_there();
}
