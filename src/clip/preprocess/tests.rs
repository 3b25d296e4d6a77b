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

/// Measured against Pillow 13 (libjpeg-turbo 3.2): zune-jpeg's inverse transform is one or two levels off on 2 to 4 % of
/// the values, its chroma upsampling rounds differently on about 30 % of them. WebP is exact.
fn bound(picture: &str) -> Distance {
    if picture.ends_with(".webp") {
        Distance { levels: 0, per_mille: 0 }
    } else if picture.contains("_420") {
        Distance { levels: 7, per_mille: 360 }
    } else if picture.contains("_422") {
        Distance { levels: 4, per_mille: 220 }
    } else {
        Distance { levels: 2, per_mille: 40 }
    }
}

#[test]
fn lossy_pictures_stay_within_their_measured_distance_to_openclips() {
    for case in lines::<Case>("pixels.jsonl") {
        let Some(expected) = &case.expected else { continue };
        let preprocess = Preprocess::from_json(&case.config.to_string()).unwrap();
        let found = distance(&preprocess.rgb(&open(&case.picture)), &expected_pixels(expected));
        let bound = bound(&case.picture);
        println!("{}: {found:?}", case.picture);
        assert!(found.levels <= bound.levels && found.per_mille <= bound.per_mille, "{}: {found:?}", case.picture);
    }
}

#[derive(Deserialize)]
struct Decoded {
    picture: String,
    expected: String,
}

/// The decoders alone, before any resize.
#[test]
fn decoded_lossy_pictures_stay_within_their_measured_distance_to_pils() {
    for case in lines::<Decoded>("decoded.jsonl") {
        let found = match open(&case.picture).samples {
            Samples::Rgb { data, .. } | Samples::Rgba(data) => data,
            Samples::Grey { data, .. } => modes::rgb_from_grey(&data),
            Samples::Cmyk(data) => modes::rgb_from_cmyk(&data),
            other => panic!("{}: not a lossy format's mode: {other:?}", case.picture),
        };
        let found = distance(&found, &expected_pixels(&case.expected));
        println!("{}: {found:?}", case.picture);
        // Larger than after a resize, which averages the differences away.
        let levels = if case.picture.ends_with(".webp") { 0 } else { 24 };
        assert!(found.levels <= levels, "{}: {found:?}", case.picture);
    }
}

#[derive(Deserialize)]
struct Normalised {
    picture: String,
    config: serde_json::Value,
    step: usize,
    bits: Vec<u32>,
}

#[test]
fn normalised_values_equal_torchs_bit_for_bit() {
    let text = std::fs::read_to_string(fixture("normalised.json")).expect("the fixture is in the repository");
    for case in serde_json::from_str::<Vec<Normalised>>(&text).expect("fixtures are valid JSON") {
        let preprocess = Preprocess::from_json(&case.config.to_string()).unwrap();
        let pixels = preprocess.apply(&open(&case.picture));
        assert_eq!(pixels.data.len(), 3 * pixels.height * pixels.width);
        let found: Vec<u32> = pixels.data.iter().step_by(case.step).map(|v| v.to_bits()).collect();
        assert_eq!(found, case.bits, "{}", preprocess.canonical());
    }
}

#[test]
fn configurations_are_read_strictly() {
    let error = |json: &str| Preprocess::from_json(json).unwrap_err().to_string();
    assert!(error(r#"{"sizes": 224}"#).contains("did you mean `size`?"), "{}", error(r#"{"sizes": 224}"#));
    assert!(error(r#"{"interpolation": "lanczos"}"#).contains("bicubic, bilinear, random"));
    assert!(error(r#"{"size": 0}"#).contains("size: found 0"));
    assert!(error(r#"{"std": [0, 1, 1]}"#).contains("above 0"));
    assert!(error(r#"{"background": [0, 0, 256]}"#).contains("background"));
    assert!(error("[]").contains("an object"));
    assert!(error("{").contains("not JSON"));
}

#[test]
fn the_canonical_text_says_what_is_done_and_nothing_else() {
    let canonical = |json: &str| Preprocess::from_json(json).unwrap().canonical();
    assert_eq!(
        canonical(r#"{"size": [56, 80], "mean": 0.5, "std": [0.5, 0.5, 0.25], "background": [255, 255, 255]}"#),
        "80x56 shortest bicubic mean=0.5,0.5,0.5 std=0.5,0.5,0.25 background=#ffffff orientation=ignore"
    );
    // Bicubic either way, see `config::parse`; the fill colour is never used.
    assert_eq!(canonical(r#"{"interpolation": "random", "fill_color": 3}"#), canonical("{}"));
}
