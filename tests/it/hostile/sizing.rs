//! What `docs/operations.md` (Sizing) adds up; the base deployment has room for the worst pictures that its settings allow.

use std::path::{Path, PathBuf};

use clipstream::config::{Layers, Settings};

const MIB: u64 = 1024 * 1024;
/// The demo model and ONNX Runtime, before anything came (docs/operations.md).
const IDLE_BYTES: u64 = 150 * MIB;
/// Buffers that threads keep: each, and all.
const KEPT_BYTES: u64 = 64 * MIB;
const ALL_KEPT_BYTES: u64 = 128 * MIB;
/// From Kafka.
const READ_AHEAD_BYTES: u64 = 32 * MIB;
/// Of all that, what allocators keep for a moment after it was given back (measured in `peak`: up to a fortieth beyond the sum).
const ALLOCATOR_SHARE: u64 = 8;
/// Of the demo model: 96 x 96 pixels in three floats.
const INPUT_BYTES: u64 = 96 * 96 * 12;

/// What a worker of these settings with the demo model takes at most; messages, and what is made of them, not counted.
pub fn bytes(settings: &Settings, decode_bytes_max: u64) -> u64 {
    let media = settings.pipeline.media_in_flight_bytes_max;
    let media = media.max(media / 2 + settings.media.media_bytes_max);
    let kept = ALL_KEPT_BYTES.min(settings.clip.preprocess_threads() as u64 * KEPT_BYTES);
    let waiting = settings.pipeline.in_flight_max as u64 * INPUT_BYTES;
    let writes = settings.store.batch_bytes_max as u64 * settings.store.writes_in_flight_max as u64;
    let sum = IDLE_BYTES + media + decode_bytes_max + kept + waiting + READ_AHEAD_BYTES + writes;
    sum + sum / ALLOCATOR_SHARE
}

/// The file with the base deployment's settings.
pub fn base_config() -> PathBuf {
    base().join("clipstream.toml")
}

/// Its limit.
pub fn base_limit_bytes() -> u64 {
    let yaml = std::fs::read_to_string(base().join("deployment.yaml")).unwrap();
    let limit = yaml.lines().find_map(|line| line.trim().strip_prefix("limits: { memory: ")?.strip_suffix("Gi }"));
    limit.expect("a limit in GiB").parse::<u64>().unwrap() * 1024 * MIB
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/base")
}

#[test]
fn the_base_deployment_has_room_for_its_worst_pictures() {
    let settings = Settings::load(Layers::default().with_file(base_config(), "--config")).unwrap();
    let limit = base_limit_bytes();
    // Without a CPU limit the defaults would be the node's cores.
    assert!(settings.clip.preprocess_threads > 0 && settings.clip.intra_op_threads > 0);
    assert_eq!(settings.clip.decode_bytes_max, 0, "a third of what the container may have");
    let sum = bytes(&settings, limit / 3);
    // The last quarter is for messages.
    assert!(sum <= limit * 3 / 4, "{} MiB of {}", sum / MIB, limit / MIB);
}
