use std::path::PathBuf;

use turbojpeg::PixelFormat;

use super::*;
use crate::picture::decode::turbo::{Colors, Decoder, Part};

fn picture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    std::fs::read(path).expect("the fixture is in the repository")
}

/// All of a file by this decoder and by libjpeg-turbo.
fn both(name: &str, reduction: usize) -> (Vec<u8>, Vec<u8>) {
    let bytes = picture(name);
    let decoder = Decoder::new().unwrap();
    let header = decoder.header(&bytes).unwrap();
    let Size { width, height } = header.size;
    let whole = Size { width: width.div_ceil(reduction), height: height.div_ceil(reduction) };
    let format = if header.colors == Colors::Grey { PixelFormat::GRAY } else { PixelFormat::RGB };
    let mut expected = vec![0; whole.width * whole.height * format.size()];
    decoder.decode(&bytes, Part { reduction, whole, region: None }, format, &mut expected).unwrap();
    let found = decode(&bytes, header.size, reduction, whole.whole()).unwrap_or_else(|| panic!("{name} is served"));
    (found, expected)
}

#[test]
fn an_eighth_without_subsampling_is_libjpegs_own() {
    for name in ["grey.jpg", "baseline_444.jpg", "best_quality.jpg", "sampling_444_as_22.jpg"] {
        let (found, expected) = both(name, 8);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn other_scales_and_subsamplings_come_close() {
    let names =
        ["baseline_420.jpg", "baseline_422.jpg", "baseline_440.jpg", "baseline_444.jpg", "restart_420.jpg", "grey.jpg"];
    for name in names {
        for reduction in [4, 8] {
            let (found, expected) = both(name, reduction);
            let sum: u64 = found.iter().zip(&expected).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / found.len() as f64;
            println!("{name} at 1/{reduction}: {mean:.2} levels off on average");
            // The pictures are fine lines: libjpeg lets more of what is finer than a quarter of a block through.
            assert!(mean < 16.0, "{name} at 1/{reduction}: {mean}");
        }
    }
}

#[test]
fn a_flat_picture_and_a_slope_come_out_as_they_are() {
    let (width, height) = (160, 96);
    let slope: Vec<u8> = (0..width * height).map(|at| (40 + at % width + at / width / 2) as u8).collect();
    let image = turbojpeg::Image { pixels: &*slope, width, pitch: width, height, format: PixelFormat::GRAY };
    let bytes = turbojpeg::compress(image, 95, turbojpeg::Subsamp::Gray).unwrap();
    let size = Size { width, height };
    let region = Region { left: 3, top: 2, width: 20, height: 10 };
    let found = decode(&bytes, size, 4, region).unwrap();
    for (at, &level) in found.iter().enumerate() {
        let (x, y) = (region.left + at % region.width, region.top + at / region.width);
        let mean = 40.0 + (x * 4) as f64 + 1.5 + ((y * 4) as f64 + 1.0) / 2.0;
        assert!((f64::from(level) - mean).abs() < 1.5, "{x} {y}: {level}, expected {mean}");
    }
}

#[test]
fn what_is_not_served_is_left_to_libjpeg() {
    let size = |bytes: &[u8]| Decoder::new().unwrap().header(bytes).unwrap().size;
    for name in ["progressive_420.jpg", "progressive_grey.jpg", "cmyk_adobe.jpg"] {
        let bytes = picture(name);
        assert!(decode(&bytes, size(&bytes), 8, Region { left: 0, top: 0, width: 1, height: 1 }).is_none(), "{name}");
    }
    let bytes = picture("restart_420.jpg");
    let part = Region { left: 0, top: 0, width: 5, height: 5 };
    assert!(decode(&bytes, size(&bytes), 8, part).is_some());
    // A restart marker out of order, data that goes on, data that ends early.
    let marker = bytes.windows(2).position(|pair| pair == [0xFF, 0xD1]).expect("a restart marker");
    let mut wrong = bytes.clone();
    wrong[marker + 1] = 0xD2;
    assert!(decode(&wrong, size(&bytes), 8, part).is_none());
    let mut long = bytes.clone();
    long.splice(bytes.len() - 2..bytes.len() - 2, [0; 20]);
    assert!(decode(&long, size(&bytes), 8, part).is_none());
    let mut short = bytes.clone();
    short.drain(bytes.len() - 40..bytes.len() - 2);
    assert!(decode(&short, size(&bytes), 8, part).is_none());
}
