//! What a picture takes in memory, by kind: what is reserved for it is never less than what it takes, and
//! `docs/operations.md` says the same numbers.

use std::process::Command;

use clipstream::domain::{Decoding, Orientation};
use clipstream::picture::{Preprocess, decode_picture, picture_bytes};
use serde_json::{Value, json};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};
use zlib_rs::{DeflateConfig, compress_slice};

use super::formats::{picture, png_chunk, process};
use super::lossless;

/// Set for the process that measures: other tests take memory, too.
const CHILD: &str = "CLIPSTREAM_TEST_COSTS";

const WIDTH: u32 = 3000;
const HEIGHT: u32 = 2500;
const PIXELS: usize = WIDTH as usize * HEIGHT as usize;
const PIXELS_MAX: u64 = 100_000_000;
/// What the system counts that no decoder asked for: pages of the allocator, of code that runs for the first time.
const NOISE_BYTES: u64 = 3 * 1024 * 1024 / 2;

/// A picture of each kind that takes memory in its own way.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    use png::BitDepth::{Eight, One, Sixteen};
    use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    vec![
        ("JPEG, baseline, grey", jpeg(PixelFormat::GRAY, Subsamp::Gray, false)),
        ("JPEG, baseline, colour", jpeg(PixelFormat::RGB, Subsamp::None, false)),
        ("JPEG, baseline, CMYK", jpeg(PixelFormat::CMYK, Subsamp::None, false)),
        ("JPEG, progressive, 4:2:0", jpeg(PixelFormat::RGB, Subsamp::Sub2x2, true)),
        ("JPEG, progressive, 4:4:4", jpeg(PixelFormat::RGB, Subsamp::None, true)),
        ("JPEG, progressive, CMYK", jpeg(PixelFormat::CMYK, Subsamp::None, true)),
        ("PNG, palette, or grey of 1 to 8 bits", png(Indexed, Eight)),
        ("PNG, 1 bit", png(Grayscale, One)),
        ("PNG, grey of 16 bits", png(Grayscale, Sixteen)),
        ("PNG, grey with alpha, 8 or 16 bits", png(GrayscaleAlpha, Sixteen)),
        ("PNG, RGB of 8 or 16 bits", png(Rgb, Sixteen)),
        ("PNG, RGBA of 8 bits", png(Rgba, Eight)),
        ("PNG, RGBA of 16 bits", png(Rgba, Sixteen)),
        ("PNG, RGBA of 16 bits, interlaced", interlaced_png()),
        ("WebP, lossy", large("lossy.webp")),
        ("WebP, lossy with alpha", large("lossy_alpha.webp")),
        ("WebP, lossless", webp(image_webp::ColorType::Rgb8, 3)),
        ("WebP, lossless with alpha", webp(image_webp::ColorType::Rgba8, 4)),
        ("WebP, lossless, of 1,000 groups of the largest codes", costly_webp()),
        ("WebP, lossy with such alpha", lossless::with_alpha(&large("lossy_alpha.webp"), costly)),
        ("GIF", gif()),
        ("BMP, palette, run-length encoded or not", bmp(8)),
        ("BMP, 16 or 24 bits", bmp(24)),
        ("TIFF, black and white, grey or palette", tiff(1, 1, 8, 1, 8)),
        ("TIFF, grey of 16 bits", tiff(1, 1, 16, 1, 8)),
        ("TIFF, floating-point, or whole numbers of 32 bits", tiff(1, 1, 32, 3, 1)),
        ("TIFF, RGB of 8 or 16 bits", tiff(2, 3, 16, 1, 8)),
        ("TIFF, RGBA or CMYK of 8 or 16 bits", tiff(5, 4, 16, 1, 8)),
        ("TIFF, RGB, JPEG in one strip", tiff_of_jpeg()),
        ("PNM, colour", [format!("P6 {WIDTH} {HEIGHT} 255\n").into_bytes(), vec![7; 3 * PIXELS]].concat()),
    ]
}

fn large(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/large").join(name)).unwrap()
}

/// Bytes that differ, and still compress.
fn samples(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n / 7 + n / 1999 * 3) as u8).collect()
}

fn jpeg(format: PixelFormat, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let pixels = samples(PIXELS * format.size());
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let image = Image { pixels: &*pixels, width, pitch: width * format.size(), height, format };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_progressive(progressive).unwrap();
    compressor.set_quality(60).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

fn png(color: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.set_palette(samples(768));
    let mut writer = encoder.write_header().unwrap();
    let row = (WIDTH as usize * color.samples() * depth as usize).div_ceil(8);
    writer.write_image_data(&samples(row * HEIGHT as usize)).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Seven passes of zeros.
fn interlaced_png() -> Vec<u8> {
    let passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2u32)];
    let raw: usize = passes
        .iter()
        .map(|&(x, y, across, down)| {
            let (columns, rows) = ((WIDTH - x).div_ceil(across), (HEIGHT - y).div_ceil(down));
            rows as usize * (1 + 8 * columns as usize)
        })
        .sum();
    let header = [&WIDTH.to_be_bytes()[..], &HEIGHT.to_be_bytes(), &[16, 6, 0, 0, 1]].concat();
    let data = deflated(&vec![0; raw]);
    [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk(b"IHDR", &header), &png_chunk(b"IDAT", &data), &png_chunk(b"IEND", b"")]
        .concat()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zlib_rs::compress_bound(data.len())];
    compress_slice(&mut out, data, DeflateConfig::new(1)).0.to_vec()
}

fn webp(color: image_webp::ColorType, channels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = samples(channels * PIXELS);
    image_webp::WebPEncoder::new(&mut bytes).encode(&pixels, WIDTH, HEIGHT, color).unwrap();
    bytes
}

/// What no encoder writes: tables and trees of 85 kB for each group.
fn costly_webp() -> Vec<u8> {
    lossless::lossless(WIDTH, HEIGHT, &costly(WIDTH, HEIGHT))
}

fn costly(width: u32, height: u32) -> lossless::Stream {
    lossless::costly(width, height, 1_000)
}

/// A small frame on a large screen.
fn gif() -> Vec<u8> {
    let mut gif = picture("plain.gif");
    gif[6..8].copy_from_slice(&(WIDTH as u16).to_le_bytes());
    gif[8..10].copy_from_slice(&(HEIGHT as u16).to_le_bytes());
    gif
}

fn bmp(bits: u16) -> Vec<u8> {
    let palette = if bits == 8 { samples(1024) } else { Vec::new() };
    let mut bytes = b"BM\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend((54 + palette.len() as u32).to_le_bytes());
    bytes.extend([40, WIDTH, HEIGHT].map(u32::to_le_bytes).concat());
    bytes.extend([1, bits].map(u16::to_le_bytes).concat());
    bytes.extend([0; 24]);
    bytes.extend(palette);
    bytes.extend(samples((WIDTH as usize * usize::from(bits) / 8).next_multiple_of(4) * HEIGHT as usize));
    bytes
}

/// One strip, compressed by deflate (8) or not (1).
fn tiff(photometric: u32, channels: u32, bits: u32, format: u32, compression: u32) -> Vec<u8> {
    let raw = samples(PIXELS * (channels * bits / 8) as usize);
    let data = if compression == 8 { deflated(&raw) } else { raw };
    tiff_with(photometric, channels, bits, format, compression, &data)
}

fn tiff_of_jpeg() -> Vec<u8> {
    tiff_with(6, 3, 8, 1, 7, &jpeg(PixelFormat::RGB, Subsamp::None, false))
}

fn tiff_with(photometric: u32, channels: u32, bits: u32, format: u32, compression: u32, data: &[u8]) -> Vec<u8> {
    let at = 8 + data.len() as u32;
    let behind = at + 2 + 10 * 12 + 4;
    let many = |value: u32| if channels > 2 { (3u16, channels, behind) } else { (3, channels, value) };
    let entries = [
        (256u16, (4u16, 1, WIDTH)),
        (257, (4, 1, HEIGHT)),
        (258, many(bits)),
        (259, (3, 1, compression)),
        (262, (3, 1, photometric)),
        (273, (4, 1, 8)),
        (277, (3, 1, channels)),
        (278, (4, 1, HEIGHT)),
        (279, (4, 1, data.len() as u32)),
        (339, (3, 1, format)),
    ];
    let mut bytes = [&b"II*\0"[..], &at.to_le_bytes(), data, &10u16.to_le_bytes()].concat();
    for (tag, (kind, count, value)) in entries {
        bytes.extend([tag, kind].map(u16::to_le_bytes).concat());
        bytes.extend([count, value].map(u32::to_le_bytes).concat());
    }
    bytes.extend([0; 4]);
    bytes.extend([bits as u16; 6].map(u16::to_le_bytes).concat());
    bytes
}

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
    let line = |(kind, bytes): &(&str, Vec<u8>)| {
        let taken = picture_bytes(bytes, PIXELS_MAX, u64::MAX, &[&model]).unwrap();
        let per_pixel = taken as f64 / PIXELS as f64;
        let mib = (per_pixel * 12e6 / 1_048_576.0).ceil();
        format!("| {kind} | {per_pixel:.1} | {mib} |")
    };
    kinds().iter().map(line).collect()
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
    // Where the system does not say what is resident there is nothing to measure.
    if !reset_peak() {
        return;
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
        // And not far more: a budget that is used badly is a slow worker. Of some JPEGs a part is decoded, and of a GIF's
        // screen a part is touched.
        let is_part =
            row["kind"] == "GIF" || row["kind"].as_str().is_some_and(|kind| kind.starts_with("JPEG, baseline"));
        if taken > reserved + NOISE_BYTES || (!is_part && reserved > 2 * taken + 4 * NOISE_BYTES) {
            wrong.push(row.to_string());
        }
    }
    assert!(report.as_array().unwrap().len() > 60 && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of each kind, for each model: what is reserved, and what was resident at most above what was before.
fn measured() -> Vec<Value> {
    let mut rows = Vec::new();
    for (kind, bytes) in kinds() {
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
    assert_eq!(error.reason, "image_too_large");
    assert!(error.message.contains("clip.decode_bytes_max") && error.message.contains("10000000 x 1"), "{error}");
}

/// What costs more than the whole budget is refused by its header; nothing is decoded for it.
#[test]
fn a_picture_beyond_the_budget_names_the_setting() {
    let model = Preprocess::from_json("{}").unwrap();
    let bytes = png(png::ColorType::Rgba, png::BitDepth::Sixteen);
    let reserved = picture_bytes(&bytes, PIXELS_MAX, u64::MAX, &[&model]).unwrap();
    assert_eq!(picture_bytes(&bytes, PIXELS_MAX, reserved, &[&model]).unwrap(), reserved);
    let error = picture_bytes(&bytes, PIXELS_MAX, reserved - 1, &[&model]).unwrap_err();
    assert_eq!(error.reason, "image_too_large");
    assert!(error.message.contains("raise clip.decode_bytes_max"), "{error}");
    assert!(decode_picture(&bytes, PIXELS_MAX, &[&model]).is_ok());
}
