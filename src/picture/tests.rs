use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::area::Size;
use super::*;
use crate::domain::{Decoding, Orientation, PictureReason};

const PIXELS_MAX: u64 = 1_000_000;

fn picture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    std::fs::read(path).expect("the fixture is in the repository")
}

fn error(bytes: &[u8], pixels_max: u64) -> PictureError {
    decode_picture(bytes, pixels_max, &[]).expect_err("this must not decode")
}

#[test]
fn other_content_is_named() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "an empty file"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html><body>404", "an HTML page"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\0\0\0\x1cftypheic", "a HEIF picture"),
        (b"BMW is a car maker", "plain text"),
        (b"\x01\x02\x03\x04", "begins with 01 02 03 04"),
    ];
    for (bytes, found) in cases {
        let error = error(bytes, PIXELS_MAX);
        assert_eq!(error.reason, PictureReason::Unsupported);
        assert!(
            error.message.contains(found)
                && error.message.contains("JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PNM or ICO"),
            "{error}"
        );
    }
}

/// What phones send most and no decoder reads.
#[test]
fn a_heif_picture_is_refused_with_the_next_step() {
    let found = error(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", PIXELS_MAX);
    assert!(found.message.contains("a HEIF picture"), "{found}");
    assert!(found.to_string().contains("convert it to JPEG, PNG or AVIF"), "{found}");
}

#[test]
fn every_format_is_found_by_its_content_and_capped_by_its_header() {
    for (name, mime) in [
        ("baseline_420.jpg", "image/jpeg"),
        ("rgb.png", "image/png"),
        ("lossy.webp", "image/webp"),
        ("avif_420.avif", "image/avif"),
        ("avif_grid.avif", "image/avif"),
        ("plain.gif", "image/gif"),
        ("rgb.bmp", "image/bmp"),
        ("rgb.tif", "image/tiff"),
    ] {
        let bytes = picture(name);
        let found = decode_picture(&bytes, PIXELS_MAX, &[]).unwrap();
        assert_eq!(found.mime, mime);
        let pixels = u64::from(found.width) * u64::from(found.height);
        assert!(decode_picture(&bytes, pixels, &[]).is_ok());
        let error = error(&bytes, pixels - 1);
        assert_eq!(error.reason, PictureReason::TooLarge, "{name}");
        assert!(error.to_string().contains("media.pixels_max"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error() {
    for name in [
        "baseline_420.jpg",
        "progressive_420.jpg",
        "cmyk_adobe.jpg",
        "rgb.png",
        "interlaced.png",
        "palette.png",
        "lossy.webp",
        "lossless.webp",
        "lossy_alpha.webp",
        "avif_420.avif",
        "avif_alpha.avif",
        "avif_12_bits_alpha.avif",
        "plain.gif",
        "rgb.bmp",
        "palette.bmp",
        "bilevel.bmp",
        "rgb.tif",
        "grey.tif",
    ] {
        let bytes = picture(name);
        for percent in [10, 50, 90] {
            let error = error(&bytes[..bytes.len() * percent / 100], PIXELS_MAX);
            assert_eq!(error.reason, PictureReason::Undecodable, "{name} at {percent} %");
        }
    }
    // The end of a JPEG alone is no part of its pixels, where they come row by row; all that is before it is.
    let bytes = picture("baseline_420.jpg");
    let samples = |bytes: &[u8]| decode_picture(bytes, PIXELS_MAX, &[]).unwrap().samples.clone();
    assert_eq!(samples(&bytes[..bytes.len() - 2]), samples(&bytes));
    assert!(error(&bytes[..bytes.len() - 6], PIXELS_MAX).message.contains("cut off"));
    let bytes = picture("progressive_420.jpg");
    assert!(error(&bytes[..bytes.len() - 1], PIXELS_MAX).message.contains("cut off"));
}

/// Damage at any place is an error or a picture, never a panic that gets out.
#[test]
fn damaged_files_do_not_panic() {
    let names = ["palette_16.png", "lossy_alpha.webp", "inner_frame.gif", "bilevel.bmp", "rgb.tif", "exif_6.png"];
    for name in names {
        let original = picture(name);
        for at in (0..original.len()).step_by(original.len().div_ceil(60)) {
            let mut bytes = original.clone();
            bytes[at] ^= 0xFF;
            let _ = decode_picture(&bytes, PIXELS_MAX, &[]);
        }
    }
}

/// libjpeg-turbo is C: thousands of seeded changes of every kind of JPEG end as a picture of the size that is said, or as
/// one of our errors, for whole pictures as for parts of them.
#[test]
fn damaged_jpegs_are_pictures_or_errors() {
    let models = [("{}", Decoding::Exact), (r#"{"size": 20}"#, Decoding::Exact), (r#"{"size": 16}"#, Decoding::Fast)]
        .map(|(json, decoding)| Preprocess::from_json(json).unwrap().with(Orientation::Apply, decoding));
    let mut rng = StdRng::seed_from_u64(3);
    let (mut decoded, mut refused) = (0, 0);
    let names =
        ["odd_420.jpg", "restart_420.jpg", "progressive_420.jpg", "cmyk_420.jpg", "exif_6.jpg", "baseline_411.jpg"];
    for original in names.map(picture) {
        // Header and tables are a small part of a file and decide the most.
        let header = original.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap_or(0) + 14;
        for round in 0..500 {
            let mut bytes = original.clone();
            for _ in 0..rng.random_range(1..4) {
                let end = if rng.random_bool(0.6) { header } else { bytes.len() };
                let at = rng.random_range(2..end.min(bytes.len()));
                match rng.random_range(0..4) {
                    0 => bytes[at] = rng.random(),
                    1 => bytes[at] ^= 1 << rng.random_range(0..8),
                    2 => drop(bytes.drain(at..(at + rng.random_range(1..40)).min(bytes.len()))),
                    _ => bytes.truncate(at.max(4)),
                }
            }
            let model = &models[round % models.len()];
            match decode_picture(&bytes, PIXELS_MAX, &[model]) {
                Ok(picture) => {
                    let (height, width) = model.input_size();
                    assert_eq!(model.rgb(&picture).len(), 3 * height * width);
                    decoded += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        decoded > 300 && refused > 300,
        "{decoded} decoded, {refused} refused: the changes are too harsh or too mild"
    );
}

#[test]
fn a_jpeg_is_measured_by_its_header_before_anything_is_allocated() {
    for name in ["baseline_420.jpg", "progressive_420.jpg"] {
        let mut bytes = picture(name);
        let frame = bytes.windows(2).position(|pair| matches!(pair, [0xFF, 0xC0 | 0xC2])).expect("a frame header");
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
        let found = error(&bytes, 100_000_000);
        assert_eq!(found.reason, PictureReason::TooLarge);
        assert!(found.message.contains("65500 x 65500"), "{found}");
        // Longer than that is no side to libjpeg, nor to PIL.
        bytes[frame + 5..frame + 9].fill(0xFF);
        assert!(error(&bytes, u64::MAX).message.contains("dimension is 65500"));
        bytes[frame + 5..frame + 7].fill(0);
        assert_eq!(error(&bytes, 100_000_000).reason, PictureReason::Undecodable);
    }
}

#[test]
fn kinds_of_jpeg_that_nobody_serves_are_named() {
    let mut bytes = picture("baseline_420.jpg");
    let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a frame header");
    // Tables for other files, without a picture.
    let tables = [&bytes[..frame], &[0xFF, 0xD9]].concat();
    assert!(error(&tables, PIXELS_MAX).message.contains("holds no picture"));
    // SOF1, which may have 12 bits.
    bytes[frame + 1] = 0xC1;
    bytes[frame + 4] = 12;
    let found = error(&bytes, PIXELS_MAX);
    assert_eq!(found.reason, PictureReason::Unsupported);
    assert!(found.message.contains("12 bits"), "{found}");
}

/// A progressive file may say a scan again and again; each costs a walk over the whole picture.
#[test]
fn endless_scans_are_refused() {
    let bytes = picture("progressive_grey.jpg");
    let scan = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).expect("a scan");
    let mut endless = bytes[..scan].to_vec();
    for _ in 0..1000 {
        endless.extend_from_slice(&bytes[scan..bytes.len() - 2]);
    }
    endless.extend_from_slice(&[0xFF, 0xD9]);
    let found = error(&endless, PIXELS_MAX);
    assert_eq!(found.reason, PictureReason::Undecodable);
    assert!(found.message.contains("scans"), "{found}");
}

#[test]
fn arithmetic_coding_is_decoded_to_the_same_pixels() {
    let pixels: Vec<u8> = (0..90 * 70 * 3).map(|i| (i * i / 331 + i / 90) as u8).collect();
    let image =
        turbojpeg::Image { pixels: &*pixels, width: 90, pitch: 270, height: 70, format: turbojpeg::PixelFormat::RGB };
    let jpeg = |arithmetic| {
        let mut compressor = turbojpeg::Compressor::new().unwrap();
        compressor.set_subsamp(turbojpeg::Subsamp::Sub2x2).unwrap();
        compressor.set_arithmetic(arithmetic).unwrap();
        compressor.compress_to_vec(image).unwrap()
    };
    let samples = |bytes: &[u8]| decode_picture(bytes, PIXELS_MAX, &[]).unwrap().samples.clone();
    assert_eq!(samples(&jpeg(true)), samples(&jpeg(false)));
}

/// What is left out must not be seen in what is kept.
#[test]
fn a_part_of_a_jpeg_equals_that_part_of_the_whole() {
    let model = Preprocess::from_json(r#"{"size": [40, 40]}"#).unwrap();
    for name in
        ["tall_420.jpg", "wide_422.jpg", "extreme_420.jpg", "cmyk_420.jpg", "baseline_411.jpg", "baseline_440.jpg"]
    {
        let bytes = picture(name);
        let whole = decode_picture(&bytes, PIXELS_MAX, &[]).unwrap();
        let part = decode_picture(&bytes, PIXELS_MAX, &[&model]).unwrap();
        assert_eq!(whole.held, whole.size.whole(), "{name}");
        assert_eq!(model.rgb(&whole), model.rgb(&part), "{name}");
    }
    let part = decode_picture(&picture("tall_420.jpg"), PIXELS_MAX, &[&model]).unwrap();
    assert!(part.held.height < 300, "{:?} of {:?}", part.held, part.size);
}

/// The point's record is about the file, whatever is decoded of it.
#[test]
fn the_recorded_size_is_the_files() {
    let model = Preprocess::from_json(r#"{"size": 16}"#).unwrap().with(Orientation::Apply, Decoding::Fast);
    let found = decode_picture(&picture("exif_6.jpg"), PIXELS_MAX, &[&model]).unwrap();
    assert_eq!((found.width, found.height), (150, 98));
    assert_eq!((found.size, found.decoded), (Size { width: 98, height: 150 }, Size { width: 49, height: 75 }));
}
