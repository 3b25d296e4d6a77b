//! The base deployment has room for what `docs/operations.md` (Sizing) adds up: the worst pictures that its settings allow.

use std::path::Path;

use clipstream::config::{Layers, Settings};

const MIB: u64 = 1024 * 1024;
/// The demo model and ONNX Runtime, before anything came (docs/operations.md).
const IDLE_BYTES: u64 = 150 * MIB;
/// Buffers that threads keep, and what is read ahead from Kafka.
const KEPT_BYTES: u64 = 128 * MIB;
const READ_AHEAD_BYTES: u64 = 32 * MIB;
/// Of the demo model: 96 x 96 pixels in three floats.
const INPUT_BYTES: u64 = 96 * 96 * 12;

#[test]
fn the_base_deployment_has_room_for_its_worst_pictures() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/base");
    let read = |name: &str| std::fs::read_to_string(base.join(name)).unwrap();
    let settings = Settings::load(Layers::default().with_text("base", &read("clipstream.toml"))).unwrap();
    let yaml = read("deployment.yaml");
    let limit = yaml.lines().find_map(|line| line.trim().strip_prefix("limits: { memory: ")?.strip_suffix("Gi }"));
    let limit = limit.expect("a limit in GiB").parse::<u64>().unwrap() * 1024 * MIB;
    // Without a CPU limit the defaults would be the node's cores.
    assert!(settings.clip.preprocess_threads > 0 && settings.clip.intra_op_threads > 0);
    assert_eq!(settings.clip.decode_bytes_max, 0, "a third of what the container may have");
    let writes = settings.store.batch_bytes_max as u64 * settings.store.writes_in_flight_max as u64;
    let waiting = settings.pipeline.in_flight_max as u64 * INPUT_BYTES;
    let media = settings.pipeline.media_in_flight_bytes_max;
    let sum = IDLE_BYTES + media + limit / 3 + KEPT_BYTES + waiting + READ_AHEAD_BYTES + writes;
    // The last quarter is for messages and for what allocators keep.
    assert!(sum <= limit * 3 / 4, "{} MiB of {}", sum / MIB, limit / MIB);
}
