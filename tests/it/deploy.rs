//! What the manifests promise a worker that stops, held against what it may take.

use std::path::Path;
use std::time::Duration;

use clipstream::config::{Layers, Settings};
use clipstream::shutdown;

/// Beyond what the worker's own bound says: an orchestrator's own delays.
const MARGIN: Duration = Duration::from_secs(10);

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The seconds of every `key: 75` or `key: 75s`.
fn seconds(text: &str, key: &str) -> Vec<u64> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    values.map(|value| value.trim_end_matches('s').parse().unwrap_or_else(|e| panic!("{key} {value}: {e}"))).collect()
}

#[test]
fn every_manifest_waits_longer_for_a_stop_than_it_may_take() {
    let least =
        |settings: &Settings| shutdown::stop_max(Duration::from_millis(settings.pipeline.drain_deadline_ms)) + MARGIN;
    let own = Layers::default().with_text("deploy", &read("deploy/kubernetes/base/clipstream.toml"));
    for (file, key, settings) in [
        ("deploy/kubernetes/base/deployment.yaml", "terminationGracePeriodSeconds", Settings::load(own).unwrap()),
        ("docker-compose.yml", "stop_grace_period", Settings::default()),
    ] {
        let found = seconds(&read(file), key);
        assert!(!found.is_empty(), "{file} has {key}");
        for found in found {
            let least = least(&settings);
            assert!(Duration::from_secs(found) >= least, "{file}: {key} is {found} s, expected {least:?} or more");
        }
    }
}

/// Cargo reads the manifests of all members before it builds one, and `build.rs` tells the library how libjpeg-turbo was built.
#[test]
fn the_image_is_built_from_all_that_cargo_reads() {
    let context = read(".dockerignore");
    let let_through: Vec<_> = context.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let needed = ["Cargo.toml", "Cargo.lock", "build.rs", "src"].into_iter().chain(members);
    let missing: Vec<_> = needed.filter(|path| !let_through.contains(path)).collect();
    assert!(missing.is_empty(), ".dockerignore keeps {missing:?} from the image's build");
}

/// Whatever image and manifest: the documents name the same sum.
#[test]
fn the_documented_bound_of_a_stop_is_the_real_one() {
    let defaults = Settings::default();
    let total = shutdown::stop_max(Duration::from_millis(defaults.pipeline.drain_deadline_ms)).as_secs();
    let after_drain = shutdown::stop_max(Duration::ZERO).as_secs();
    let operations = read("docs/operations.md");
    assert!(
        operations.contains(&format!("{total} s in all")),
        "docs/operations.md says that a stop takes {total} s in all"
    );
    let reference = read("config/clipstream.toml");
    assert!(reference.contains(&format!("{after_drain} s more")), "config/clipstream.toml says {after_drain} s more");
}
