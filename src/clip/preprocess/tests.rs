//! Against pixels that OpenCLIP's own transform made (`tools/make_fixtures.py`).

use std::path::PathBuf;

use base64::Engine as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use crate::clip::decode_picture;

const PIXELS_MAX: u64 = 1_000_000;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("fixtures are valid JSON")).collect()
}

fn open(name: &str) -> Picture {
    let bytes = std::fs::read(fixture("pictures").join(name)).expect("the fixture is in the repository");
    decode_picture(&bytes, PIXELS_MAX).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pixels of a PNG that a fixture line carries.
fn expected_pixels(encoded: &str) -> Vec<u8> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("fixtures are base64");
    match decode_picture(&bytes, PIXELS_MAX).expect("our own PNG").samples {
        Samples::Rgb { data, .. } | Samples::Rgba(data) => data,
        other => panic!("expected RGB or RGBA, found {other:?}"),
    }
}

/// How far two pictures are apart.
#[derive(Debug, PartialEq)]
struct Distance {
    /// Largest difference of a value, in levels of 255.
    levels: u8,
    /// Values that differ at all, per thousand, rounded up.
    per_mille: usize,
}

fn distance(found: &[u8], expected: &[u8]) -> Distance {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let levels = differences.clone().max().unwrap_or(0);
    let differing = differences.filter(|d| *d > 0).count();
    Distance { levels, per_mille: (differing * 1000).div_ceil(found.len()) }
}

#[derive(Deserialize)]
struct Case {
    picture: String,
    config: serde_json::Value,
    sha256: String,
    /// Kept for lossy formats.
    expected: Option<String>,
}

#[test]
fn lossless_pictures_equal_openclips_bit_for_bit() {
    let cases: Vec<Case> = lines("pixels.jsonl");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in cases.iter().filter(|case| case.expected.is_none()) {
        let preprocess = Preprocess::from_json(&case.config.to_string()).unwrap();
        let rgb = preprocess.rgb(&open(&case.picture));
        compared += 1;
        if format!("{:x}", Sha256::digest(&rgb)) != case.sha256 {
            wrong.push(format!("{} {}", case.picture, preprocess.canonical()));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "{compared} cases are left of the fixtures");
}

#[test]
fn print_lossy() {
    for case in lines::<Case>("pixels.jsonl") {
        if let Some(expected) = &case.expected {
            let preprocess = Preprocess::from_json(&case.config.to_string()).unwrap();
            let d = distance(&preprocess.rgb(&open(&case.picture)), &expected_pixels(expected));
            println!("{} {:?} {}", case.picture, d, preprocess.canonical());
        }
    }
}
