//! Against pixels that OpenCLIP's own transform made (`tools/make_fixtures.py`).

use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;
use crate::picture::decode_picture;

const PIXELS_MAX: u64 = 1_000_000;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("fixtures are valid JSON")).collect()
}

fn open(name: &str, models: &[&Preprocess]) -> Picture {
    let bytes = std::fs::read(fixture("pictures").join(name)).expect("the fixture is in the repository");
    decode_picture(&bytes, PIXELS_MAX, models).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Deserialize)]
struct Case {
    picture: String,
    config: serde_json::Value,
    sha256: String,
    /// Of a damaged JPEG, where libjpeg-turbo was built without an assembler.
    sha256_without_simd: Option<String>,
    /// `apply` where it is not `ignore`.
    orientation: Option<String>,
}

impl Case {
    fn preprocess(&self) -> Preprocess {
        let orientation = if self.orientation.is_some() { Orientation::Apply } else { Orientation::Ignore };
        Preprocess::from_json(&self.config.to_string()).unwrap().with(orientation, Decoding::Exact)
    }
}

/// Lossy formats too: libjpeg-turbo is PIL's decoder, and WebP leaves no choice to decoders.
#[test]
fn pictures_equal_openclips_bit_for_bit() {
    let cases: Vec<Case> = lines("pixels.jsonl");
    let mut wrong = Vec::new();
    for case in &cases {
        let preprocess = case.preprocess();
        let rgb = preprocess.rgb(&open(&case.picture, &[&preprocess]));
        let is = format!("{:x}", Sha256::digest(&rgb));
        if is != case.sha256 && Some(is) != case.sha256_without_simd {
            wrong.push(format!("{} {}", case.picture, preprocess.canonical()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 250, "{} cases are left of the fixtures", cases.len());
}

/// A picture that is decoded for several models serves each of them as if it were alone.
#[test]
fn one_decode_serves_every_model() {
    let models = ["{}", r#"{"size": 96}"#, r#"{"size": 64, "resize_mode": "squash"}"#, r#"{"size": [40, 200]}"#]
        .map(|json| Preprocess::from_json(json).unwrap());
    for name in ["large_420.jpg", "tall_420.jpg", "progressive_420.jpg", "cmyk_adobe.jpg", "rgba.png"] {
        for decoding in Decoding::ALL {
            let models = models.clone().map(|model| model.with(Orientation::Apply, decoding));
            let together = open(name, &models.each_ref());
            for model in &models {
                let alone = open(name, &[model]);
                if decoding == Decoding::Exact {
                    assert_eq!(model.rgb(&together), model.rgb(&alone), "{name} {}", model.canonical());
                }
                // In fast mode the most demanding model chooses the scale.
                assert!(together.decoded.width >= alone.decoded.width, "{name} {}", model.canonical());
                assert_eq!(model.rgb(&together).len(), model.rgb(&alone).len());
            }
        }
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
        let pixels = preprocess.apply(&open(&case.picture, &[&preprocess]));
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
    let text = |orientation, decoding| Preprocess::from_json("{}").unwrap().with(orientation, decoding).canonical();
    assert!(text(Orientation::Apply, Decoding::Exact).ends_with(" orientation=apply"));
    assert!(text(Orientation::Ignore, Decoding::Fast).ends_with(" orientation=ignore decoding=fast"));
    // Bicubic either way, see `config::parse`; the fill colour is never used.
    assert_eq!(canonical(r#"{"interpolation": "random", "fill_color": 3}"#), canonical("{}"));
}
