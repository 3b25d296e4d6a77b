//! What a picture takes in memory, by kind: what is reserved for it is never less than what it takes, and
//! `docs/operations.md` says the same numbers.

use std::process::Command;

use clipstream::domain::{Decoding, Orientation, PictureReason};
use clipstream::picture::{Preprocess, decode_picture, picture_bytes};
use clipstream_test_support::needs::{self, Need};
use serde_json::{Value, json};

use super::formats::process;
use super::kinds::{DEEP_PNG, KINDS, Kind, Sides, png};

/// Set for the process that measures: other tests take memory, too.
const CHILD: &str = "CLIPSTREAM_TEST_COSTS";

const SIDES: Sides = Sides { width: 3000, height: 2500 };
const PIXELS_MAX: u64 = 100_000_000;
/// What the system counts that no decoder asked for: pages of the allocator, of code that runs for the first time.
const NOISE_BYTES: u64 = 3 * 1024 * 1024 / 2;

/// Models that take memory in their own ways: cropped, composed on a background, turned, squashed.
fn models() -> Vec<Preprocess> {
    let model = |json: &str| Preprocess::from_json(json).unwrap();
    vec![
        model(r#"{"size": 224}"#),
        model(r#"{"size": 378, "resize_mode": "squash", "background": [10, 20, 30]}"#),
        model(r#"{"size": 224, "resize_mode": "longest"}"#).with(Orientation::Apply, Decoding::Exact),
    ]
}

/// The table of the documentation, one line per kind: bytes per pixel, and MiB of 12 million pixels.
fn table() -> Vec<String> {
    let model = Preprocess::from_json(r#"{"size": 224}"#).unwrap();
    let line = |&(kind, make): &Kind| {
        let taken = picture_bytes(&make(SIDES), PIXELS_MAX, u64::MAX, &[&model]).unwrap();
        let per_pixel = taken as f64 / SIDES.pixels() as f64;
        let mib = (per_pixel * 12e6 / 1_048_576.0).ceil();
        format!("| {kind} | {per_pixel:.1} | {mib} |")
    };
    KINDS.iter().map(line).collect()
}

#[test]
fn the_documentation_says_what_is_reserved() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let table = table();
    let missing: Vec<_> = table.iter().filter(|line| !text.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md should say\n{}", table.join("\n"));
}

#[test]
fn no_kind_of_picture_takes_more_than_is_reserved_for_it() {
    if std::env::var(CHILD).is_ok() {
        println!("{}", json!(measured()));
        return;
    }
    if !reset_peak() {
        return needs::go_without(Need::ResidentMemory, "what pictures take is not measured");
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::costs::no_kind_of_picture_takes_more_than_is_reserved_for_it", "--nocapture"])
        .env(CHILD, "1")
        // Whatever is large is given back at once, so that one picture does not live in what another has left.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "65536")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let report = report.unwrap_or_else(|| panic!("no report: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let mut wrong = Vec::new();
    for row in report.as_array().unwrap() {
        let [reserved, taken] = ["reserved", "taken"].map(|key| row[key].as_u64().unwrap());
        println!("{row}");
        // And not far more: a budget that is used badly is a slow worker. Of some JPEGs a part is decoded.
        let is_part = row["kind"].as_str().is_some_and(|kind| kind.starts_with("JPEG, baseline"));
        if taken > reserved + NOISE_BYTES || (!is_part && reserved > 2 * taken + 4 * NOISE_BYTES) {
            wrong.push(row.to_string());
        }
    }
    assert!(report.as_array().unwrap().len() > 60 && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of each kind, for each model: what is reserved, and what was resident at most above what was before.
fn measured() -> Vec<Value> {
    let mut rows = Vec::new();
    for (kind, make) in KINDS {
        let bytes = make(SIDES);
        for (n, model) in models().iter().enumerate() {
            let reserved = picture_bytes(&bytes, PIXELS_MAX, u64::MAX, &[model]).unwrap();
            reset_peak();
            let before = resident("VmRSS:");
            process(&bytes, PIXELS_MAX, model).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let taken = resident("VmHWM:").saturating_sub(before);
            rows.push(json!({"kind": kind, "model": n, "reserved": reserved, "taken": taken}));
        }
    }
    rows
}

/// Bytes of this process, by a line of its status.
fn resident(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Begins the highest resident size anew; false where that cannot be done.
fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok() && resident("VmHWM:") > 0
}

/// A picture may be one row, or one column: then it is its windows that cost.
#[test]
fn the_thinnest_pictures_reserve_their_windows() {
    let squash = Preprocess::from_json(r#"{"size": 224, "resize_mode": "squash"}"#).unwrap();
    let mut encoded = Vec::new();
    let mut writer = png::Encoder::new(&mut encoded, 10_000_000, 1);
    writer.set_color(png::ColorType::Grayscale);
    writer.write_header().unwrap().write_image_data(&vec![9; 10_000_000]).unwrap();
    let reserved = picture_bytes(&encoded, PIXELS_MAX, u64::MAX, &[&squash]).unwrap();
    // Four weights per column, each once as a fraction and once as a whole number.
    assert!(reserved > 10_000_000 * 4 * 12, "{reserved}");
    let error = picture_bytes(&encoded, PIXELS_MAX, 100 << 20, &[&squash]).unwrap_err();
    assert_eq!(error.reason, PictureReason::TooLarge);
    assert!(error.to_string().contains("clip.decode_bytes_max") && error.message.contains("10000000 x 1"), "{error}");
}

/// What costs more than the whole budget is refused by its header; nothing is decoded for it.
#[test]
fn a_picture_beyond_the_budget_names_the_setting() {
    let model = Preprocess::from_json("{}").unwrap();
    let bytes = png(SIDES, DEEP_PNG);
    let reserved = picture_bytes(&bytes, PIXELS_MAX, u64::MAX, &[&model]).unwrap();
    assert_eq!(picture_bytes(&bytes, PIXELS_MAX, reserved, &[&model]).unwrap(), reserved);
    let error = picture_bytes(&bytes, PIXELS_MAX, reserved - 1, &[&model]).unwrap_err();
    assert_eq!(error.reason, PictureReason::TooLarge);
    assert!(error.to_string().contains("raise clip.decode_bytes_max"), "{error}");
    assert!(decode_picture(&bytes, PIXELS_MAX, &[&model]).is_ok());
}
