//! Small files that ask for much: memory, pixels, frames, tables, time. Each is refused by a reason or decoded at the cost
//! of its honest size.

use std::time::{Duration, Instant};

use clipstream::domain::{Decoding, Orientation, PictureReason};
use clipstream::picture::{PictureError, Preprocess, picture_bytes};

use super::av1::{Av1, avif};
use super::formats::{picture, png_chunk, process, repair_png, set_tiff};
use super::kinds::{PLAIN_AVIF, Sides};

const PIXELS_MAX: u64 = 100_000_000;
/// Far above what any of these takes, far below what the bombs would.
const PATIENCE: Duration = Duration::from_secs(20);

fn model() -> Preprocess {
    Preprocess::from_json(r#"{"size": 32}"#).unwrap()
}

#[track_caller]
fn decoded(bytes: &[u8]) -> Result<Vec<f32>, PictureError> {
    let started = Instant::now();
    let found = process(bytes, PIXELS_MAX, &model());
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    found
}

#[track_caller]
fn refused(bytes: &[u8], reason: PictureReason, part: &str) {
    let error = decoded(bytes).expect_err("a bomb");
    assert_eq!(error.reason, reason, "{error}");
    assert!(error.message.contains(part), "{error}");
}

/// A grey PNG of zeros: 400 MB of pixels in some 400 kB.
pub fn png_of_zeros(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; side as usize];
    for _ in 0..side {
        std::io::Write::write_all(&mut stream, &row).unwrap();
    }
    stream.finish().unwrap();
    writer.finish().unwrap();
    bytes
}

/// Files of every format whose header says 65535 x 65535.
pub fn huge_sides() -> Vec<(&'static str, Vec<u8>)> {
    let huge = 65_535u32;
    let mut png = picture("rgb.png");
    png[16..20].copy_from_slice(&huge.to_be_bytes());
    png[20..24].copy_from_slice(&huge.to_be_bytes());
    repair_png(&mut png);
    let mut gif = picture("plain.gif");
    gif[6..10].fill(0xFF);
    let mut bmp = picture("rgb.bmp");
    bmp[18..22].copy_from_slice(&huge.to_le_bytes());
    bmp[22..26].copy_from_slice(&huge.to_le_bytes());
    let mut tiff = picture("rgb.tif");
    set_tiff(&mut tiff, 256, huge);
    set_tiff(&mut tiff, 257, huge);
    // All rows in one strip, of which there is one.
    set_tiff(&mut tiff, 278, u32::MAX);
    let mut avif = picture("avif_420.avif");
    let size = avif.windows(4).position(|kind| kind == b"ispe").unwrap() + 8;
    avif[size..size + 4].copy_from_slice(&huge.to_be_bytes());
    avif[size + 4..size + 8].copy_from_slice(&huge.to_be_bytes());
    let mut webp = picture("lossy_alpha.webp");
    assert_eq!(&webp[12..16], b"VP8X");
    // Sides less one, of 24 bits each.
    webp[24..30].copy_from_slice(&[0xFE, 0xFF, 0, 0xFE, 0xFF, 0]);
    let mut jpeg = picture("progressive_large.jpg");
    set_jpeg_sides(&mut jpeg, u16::MAX);
    vec![("png", png), ("gif", gif), ("bmp", bmp), ("tiff", tiff), ("webp", webp), ("avif", avif), ("jpeg", jpeg)]
}

/// Of a progressive JPEG: height and width, after marker, length and precision.
pub fn set_jpeg_sides(bytes: &mut [u8], side: u16) {
    let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC2]).expect("a progressive frame");
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
}

#[test]
fn sides_of_65535_are_refused_by_the_header() {
    let huge = 65_535u32;
    for (format, bytes) in huge_sides() {
        match format {
            // A bound of libjpeg's own.
            "jpeg" => refused(&bytes, PictureReason::Undecodable, "65500 pixels"),
            // What its frame says is compared first.
            "webp" => refused(&bytes, PictureReason::Undecodable, "another size than its header says"),
            _ => refused(&bytes, PictureReason::TooLarge, "65535 x 65535"),
        }
    }
    // A screen that is small, and a frame that is not.
    let mut gif = picture("plain.gif");
    let frame = gif.iter().rposition(|b| *b == 0x2C).unwrap();
    let at = (13..gif.len()).find(|&at| gif[at] == 0x2C && gif[at + 1..at + 5] == [0; 4]).unwrap_or(frame);
    gif[at + 5..at + 9].fill(0xFF);
    refused(&gif, PictureReason::TooLarge, "65535 x 65535");

    let mut bmp = picture("rgb.bmp");
    bmp[22..26].copy_from_slice(&huge.to_le_bytes());
    bmp[18..22].copy_from_slice(&i32::MIN.to_le_bytes());
    refused(&bmp, PictureReason::TooLarge, "2147483648 x 65535");

    let mut tiff = picture("rgb.tif");
    set_tiff(&mut tiff, 278, u32::MAX);
    set_tiff(&mut tiff, 256, u32::MAX);
    set_tiff(&mut tiff, 257, u32::MAX);
    refused(&tiff, PictureReason::TooLarge, "4294967295 x 4294967295");

    let mut webp = picture("lossy_alpha.webp");
    // More pixels than a WebP file may have, 2^32 - 1.
    webp[24..30].fill(0xFF);
    refused(&webp, PictureReason::Undecodable, "WebP");
}

/// The container says 1 x 1 or so, the frame in it 16383 x 16383: a decoder that believes the frame takes 400 MB.
#[test]
fn webp_frames_beyond_their_canvas_are_refused_before_they_are_allocated() {
    let mut webp = picture("lossy_alpha.webp");
    let frame = webp.windows(3).position(|part| part == [0x9D, 0x01, 0x2A]).expect("a lossy frame");
    webp[frame + 3..frame + 7].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    refused(&webp, PictureReason::Undecodable, "its frame has another size than its header says");
    // The same frame in an animation of one pixel.
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut chunk = [&kind[..], &(body.len() as u32).to_le_bytes(), body].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let lossy = chunk(b"VP8 ", &webp[frame - 3..]);
    let canvas = chunk(b"VP8X", &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let body =
        [&b"WEBP"[..], &canvas, &chunk(b"ANIM", &[0; 6]), &chunk(b"ANMF", &[&[0; 16][..], &lossy].concat())].concat();
    refused(&chunk(b"RIFF", &body), PictureReason::Undecodable, "its first frame lies outside of the picture");
}

#[test]
fn compressed_zeros_cost_what_the_header_says() {
    let mut bomb = png_of_zeros(20_000);
    assert!(bomb.len() < 4_000_000, "{} bytes", bomb.len());
    refused(&bomb, PictureReason::TooLarge, "20000 x 20000");
    // The same data behind a header of one pixel: the rest of it is not unpacked.
    bomb[16..20].copy_from_slice(&1u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&1u32.to_be_bytes());
    repair_png(&mut bomb);
    let _ = decoded(&bomb);
    // And as a comment, a colour profile, international text.
    let at = bomb.windows(4).position(|part| part == b"IDAT").unwrap();
    let length = u32::from_be_bytes(bomb[at - 4..at].try_into().unwrap()) as usize;
    let packed = &bomb[at + 4..at + 4 + length];
    let plain = picture("rgb.png");
    let expected = decoded(&plain).unwrap();
    for (kind, head) in [(b"zTXt", &b"a\0\0"[..]), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\x01\0\0\0")] {
        let chunk = png_chunk(kind, &[head, packed].concat());
        let bytes = [&plain[..33], &chunk.repeat(20), &plain[33..]].concat();
        match decoded(&bytes) {
            Ok(found) => assert_eq!(found, expected),
            // Colour profiles may come once.
            Err(error) => assert_eq!(error.reason, PictureReason::Undecodable, "{error}"),
        }
    }
}

#[test]
fn only_the_first_of_endless_frames_is_decoded() {
    let gif = picture("animated.gif");
    let trailer = gif.len() - 1;
    let first = decoded(&gif).unwrap();
    let table = 13 + if gif[10] & 0x80 != 0 { 3 << ((gif[10] & 7) + 1) } else { 0 };
    let mut endless = gif[..trailer].to_vec();
    while endless.len() < 30_000_000 {
        endless.extend_from_slice(&gif[table..trailer]);
    }
    assert_eq!(decoded(&endless).unwrap(), first);
    // Nothing but extensions, for ever.
    let mut comments = gif[..table].to_vec();
    comments.extend([0x21, 0xFE, 1, b'x', 0].repeat(2_000_000));
    refused(&comments, PictureReason::Undecodable, "GIF");
}

#[test]
fn tiff_directories_cannot_ask_for_more_than_the_picture() {
    let original = picture("rgb.tif");
    let (rows_per_strip, strip_bytes, next) = (278, 279, 8);
    for value in [0, 1, u32::MAX] {
        let mut tiff = original.clone();
        set_tiff(&mut tiff, rows_per_strip, value);
        let _ = decoded(&tiff);
        let mut tiff = original.clone();
        set_tiff(&mut tiff, strip_bytes, value);
        let _ = decoded(&tiff);
        // So many strips.
        let mut tiff = original.clone();
        let entry = super::formats::tiff_entry(&tiff, strip_bytes);
        tiff[entry + 4..entry + 8].copy_from_slice(&value.to_le_bytes());
        let _ = decoded(&tiff);
    }
    // A directory that follows itself.
    let mut tiff = original.clone();
    let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(tiff[directory..directory + 2].try_into().unwrap()) as usize;
    let link = directory + 2 + 12 * count;
    tiff[link..link + 4].copy_from_slice(&(directory as u32).to_le_bytes());
    // The first one is all that is read.
    assert_eq!(decoded(&tiff).unwrap(), decoded(&original).unwrap());
    tiff[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&tiff, PictureReason::Undecodable, "TIFF");
    tiff[4..8].copy_from_slice(&(next as u32).to_le_bytes());
    let _ = decoded(&tiff);
}

/// A tile of 60,000 x 60,000 in a picture of 98 x 66 or so.
#[test]
fn tiff_tiles_are_no_larger_than_their_picture_allows() {
    let mut tiff = picture("rgb.tif");
    // Rows per strip, strip offsets and strip sizes become tile width, tile offsets and tile sizes.
    for (tag, tile_tag) in [(278u16, 322u16), (273, 324), (279, 325)] {
        let at = super::formats::tiff_entry(&tiff, tag);
        tiff[at..at + 2].copy_from_slice(&tile_tag.to_le_bytes());
    }
    set_tiff(&mut tiff, 322, 60_000);
    let at = super::formats::tiff_entry(&tiff, 284);
    tiff[at..at + 2].copy_from_slice(&323u16.to_le_bytes());
    set_tiff(&mut tiff, 323, 60_000);
    refused(&tiff, PictureReason::Undecodable, "TIFF");
}

/// Progressive files walk the whole picture for every scan; a scan may have a few bytes only.
/// Each of them costs a pass over all pixels, in a hundred bytes.
#[test]
fn frames_of_an_avif_are_counted() {
    let sides = Sides { width: 640, height: 480 };
    let of = |frames| avif(sides, Av1 { frames, ..PLAIN_AVIF });
    assert_eq!(decoded(&of(8)).unwrap(), decoded(&of(1)).unwrap());
    refused(&of(9), PictureReason::Unsupported, "an AVIF picture of 9 frames where 8 are expected at most");
    // What they take is reserved.
    let reserved = |frames| picture_bytes(&of(frames), PIXELS_MAX, u64::MAX, &[&model()]).unwrap();
    assert!(reserved(8) >= reserved(1) + 7 * 640 * 512 * 3 / 2, "{} {}", reserved(8), reserved(1));
}

#[test]
fn jpeg_scans_are_counted() {
    let bytes = picture("progressive_large.jpg");
    let scan = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap();
    let mut endless = bytes[..scan].to_vec();
    let one = &bytes[scan..bytes.len() - 2];
    while endless.len() < 8_000_000 {
        endless.extend_from_slice(one);
    }
    endless.extend_from_slice(&[0xFF, 0xD9]);
    refused(&endless, PictureReason::Undecodable, "scans");
}

/// Tables cost the fast decoder more than they cost the file.
#[test]
fn jpeg_tables_are_counted_by_the_fast_decoder() {
    let fast = Preprocess::from_json(r#"{"size": 16}"#).unwrap().with(Orientation::Ignore, Decoding::Fast);
    let bytes = picture("large_420.jpg");
    let expected = process(&bytes, PIXELS_MAX, &fast).unwrap();
    // A table that is never used: class 0, number 3, one code of one bit.
    let table = [&[0x03, 1][..], &[0; 15], &[0]].concat();
    let tables = table.repeat(3_600);
    let length = u16::try_from(tables.len() + 2).unwrap().to_be_bytes();
    let segment = [&[0xFF, 0xC4][..], &length, &tables].concat();
    let bomb = [&bytes[..2], &segment.repeat(200), &bytes[2..]].concat();
    let started = Instant::now();
    // Libjpeg, which then decodes it, knows no such bound and needs none; its pixels are not quite the fast decoder's.
    let found = process(&bomb, PIXELS_MAX, &fast).unwrap();
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert_eq!(found.len(), expected.len());
}

#[test]
fn drawings_are_refused_by_name() {
    for text in [
        "<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>",
        "\u{feff}  <!-- a comment --><SVG></SVG>",
    ] {
        refused(text.as_bytes(), PictureReason::Unsupported, "an SVG drawing");
    }
    refused(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0], PictureReason::Unsupported, "a gzip file");
}

/// The thinnest pictures that the cap allows: what is made of them is as small as of any other.
#[test]
fn the_thinnest_pictures_are_pixels() {
    for (width, height) in [(65_500, 1), (1, 65_500), (1_000_000, 1), (1, 1_000_000)] {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&vec![200; 4 * width as usize * height as usize]).unwrap();
        writer.finish().unwrap();
        for model in super::formats::models() {
            let started = Instant::now();
            process(&bytes, PIXELS_MAX, &model).unwrap();
            assert!(started.elapsed() < PATIENCE, "{width} x {height}: {:?}", started.elapsed());
        }
    }
}
