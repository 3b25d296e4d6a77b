use std::path::PathBuf;

use super::*;

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
        (b"\0\0\0\x1cftypavif", "an AVIF picture"),
        (b"BMW is a car maker", "plain text"),
        (b"\x01\x02\x03\x04", "begins with 01 02 03 04"),
    ];
    for (bytes, found) in cases {
        let error = error(bytes, PIXELS_MAX);
        assert_eq!(error.reason, "image_unsupported");
        assert!(
            error.message.contains(found) && error.message.contains("JPEG, PNG, WebP, GIF, BMP or TIFF"),
            "{error}"
        );
    }
}

#[test]
fn every_format_is_found_by_its_content_and_capped_by_its_header() {
    for (name, mime) in [
        ("baseline_420.jpg", "image/jpeg"),
        ("rgb.png", "image/png"),
        ("lossy.webp", "image/webp"),
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
        assert_eq!(error.reason, "image_too_large", "{name}");
        assert!(error.message.contains("media.pixels_max"), "{error}");
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
            assert_eq!(error.reason, "image_undecodable", "{name} at {percent} %");
        }
    }
    // Even the last byte of a JPEG counts, as in PIL.
    let bytes = picture("baseline_420.jpg");
    assert!(error(&bytes[..bytes.len() - 1], PIXELS_MAX).message.contains("cut off"));
}

/// Damage at any place is an error or a picture, never a panic that gets out.
#[test]
fn damaged_files_do_not_panic() {
    let names = [
        "baseline_420.jpg",
        "progressive_420.jpg",
        "palette_16.png",
        "lossy_alpha.webp",
        "inner_frame.gif",
        "bilevel.bmp",
        "rgb.tif",
    ];
    for name in names {
        let original = picture(name);
        for at in (0..original.len()).step_by(original.len().div_ceil(60)) {
            let mut bytes = original.clone();
            bytes[at] ^= 0xFF;
            let _ = decode_picture(&bytes, PIXELS_MAX, &[]);
        }
    }
}
