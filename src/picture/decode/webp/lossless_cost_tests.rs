use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::domain::PictureReason;
use crate::picture::decode::webp::{container, lossless_stream};
use crate::picture::samples::Samples;
use crate::picture::{decode_picture, picture_bytes};

#[path = "../../../../tests/it/hostile/lossless.rs"]
mod lossless;

use lossless::{Stream, costly, lossless, with_alpha};

const PIXELS_MAX: u64 = 10_000_000;

fn picture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    std::fs::read(path).expect("the fixture is in the repository")
}

fn samples(bytes: &[u8]) -> Samples {
    decode_picture(bytes, PIXELS_MAX, &[]).unwrap().samples.clone()
}

/// A stream whose groups have each a colour, and the group of each block. They are written as literals, as copies of what
/// lies to the left and as cached colours.
fn colored(width: u32, height: u32, groups: u32) -> (Stream, Vec<u32>) {
    let mut rng = StdRng::seed_from_u64(u64::from(groups));
    let mut stream = Stream::default();
    // No transforms, no cached colours, groups by blocks of four pixels a side.
    stream.put_all(&[(0, 1), (0, 1), (1, 1), (0, 3)]);
    // Of the blocks: 256 cached colours, and one distance.
    stream.put_all(&[(1, 1), (8, 4)]);
    stream.even(9);
    stream.even(8);
    stream.ones(&[0, 0, 1]);
    let count = (width.div_ceil(4) * height.div_ceil(4)) as usize;
    let place = |group: u32| 0x1E35_A7BD_u32.wrapping_mul(group << 8) >> 24;
    let (mut cached, mut blocks) = ([None; 256], vec![groups - 1]);
    let literal = |stream: &mut Stream, group: u32| {
        stream.symbol(group & 0xFF, 9);
        stream.symbol(group >> 8, 8);
    };
    literal(&mut stream, groups - 1);
    cached[place(groups - 1) as usize] = Some(groups - 1);
    let mut ways = [0; 3];
    while blocks.len() < count {
        let way = rng.random_range(0..3);
        let prefix = rng.random_range(0..12);
        let extra = if prefix < 4 { 0 } else { (prefix - 2) >> 1 };
        let more = rng.random_range(0..1 << extra);
        let length = if prefix < 4 { prefix + 1 } else { ((2 + (prefix & 1)) << extra) + more + 1 } as usize;
        let earlier = blocks[rng.random_range(0..blocks.len())];
        let symbol = 280 + place(earlier);
        if way == 0 && blocks.len() + length <= count {
            stream.symbol(256 + prefix, 9);
            stream.put(more, extra);
            blocks.resize(blocks.len() + length, blocks[blocks.len() - 1]);
            ways[0] += 1;
        } else if way == 1 && symbol < 512 && cached[place(earlier) as usize] == Some(earlier) {
            stream.symbol(symbol, 9);
            blocks.push(earlier);
            ways[1] += 1;
        } else {
            let group = rng.random_range(0..groups);
            literal(&mut stream, group);
            cached[place(group) as usize] = Some(group);
            blocks.push(group);
            ways[2] += 1;
        }
    }
    assert!(ways.iter().all(|times| *times > 10), "{ways:?}");
    (0..groups).for_each(|group| stream.plain(group >> 8, group & 0xFF));
    (stream, blocks)
}

#[test]
fn the_groups_are_those_that_the_decoder_finds() {
    let (width, height) = (203, 117);
    for groups in [2, 256, 700, 65_536] {
        let (stream, blocks) = colored(width, height, groups);
        let Samples::Rgb { data, .. } = &samples(&lossless(width, height, &stream)) else { panic!("it has no alpha") };
        for (pixel, n) in data.as_chunks::<3>().0.iter().zip(0..) {
            let block = blocks[(n / width / 4 * width.div_ceil(4) + n % width / 4) as usize];
            assert_eq!(u32::from(pixel[0]) << 8 | u32::from(pixel[1]), block, "pixel {n}");
        }
        let groups = u64::from(groups);
        let head = Head { transform_pixels: 0, blocks: blocks.len() as u64, groups, table_bytes: 0 };
        assert_eq!(Head::read(&stream.bytes, width, height), Some(head));
    }
}

#[test]
fn the_groups_of_alpha_are_counted_as_well() {
    let original = picture("lossy_alpha.webp");
    let mut written = None;
    let file = with_alpha(&original, |width, height| {
        let (stream, blocks) = colored(width, height, 300);
        written = Some((width, blocks));
        stream
    });
    let (width, blocks) = written.unwrap();
    let Samples::Rgba(data) = &samples(&file) else { panic!("it has alpha") };
    for (pixel, n) in data.as_chunks::<4>().0.iter().zip(0..) {
        let block = blocks[(n / width / 4 * width.div_ceil(4) + n % width / 4) as usize];
        assert_eq!(u32::from(pixel[3]), block & 0xFF, "pixel {n}");
    }
    let bytes = |file: &[u8]| picture_bytes(file, PIXELS_MAX, u64::MAX, &[]).unwrap();
    let (own, groups) = (bytes(&original) - original.len() as u64, bytes(&file) - file.len() as u64);
    assert!(groups > own + 200 * GROUP_BYTES, "{own} {groups}");
}

#[test]
fn a_code_costs_its_table_and_its_tree() {
    let stream = costly(60, 40, 100);
    let head = Head::read(&stream.bytes, 60, 40).unwrap();
    let table_bytes = 99 * ((4096 + 16) + (65_536 + 16) + 4 * (4096 + 16));
    assert_eq!(head, Head { transform_pixels: 2 * 150, blocks: 150, groups: 100, table_bytes });
    assert_eq!(head.bytes(), 4 * 300 + 2 * 150 + 128 * 420 + table_bytes);
    let lossy = picture("lossy_alpha.webp");
    for file in [lossless(60, 40, &stream), with_alpha(&lossy, |width, height| costly(width, height, 100))] {
        samples(&file);
        assert!(picture_bytes(&file, PIXELS_MAX, u64::MAX, &[]).unwrap() > head.bytes());
    }
}

#[test]
fn gigabytes_of_tables_are_refused_by_the_head() {
    let lossy = picture("lossy_alpha.webp");
    let files = [
        lossless(1028, 1024, &costly(1028, 1024, 65_536)),
        with_alpha(&lossy, |width, height| costly(width, height, 20_000)),
    ];
    for file in files {
        assert!(file.len() < 4_000_000, "{}", file.len());
        let error = picture_bytes(&file, PIXELS_MAX, 1 << 30, &[]).unwrap_err();
        assert_eq!(error.reason, PictureReason::TooLarge);
        assert!(error.to_string().contains("raise clip.decode_bytes_max"), "{error}");
    }
}

/// What encoders write has few groups, and costs little beside its pixels.
#[test]
fn pictures_of_encoders_cost_little_more_than_their_pixels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut heads = 0;
    for folder in ["tests/fixtures/pictures", "tests/fixtures/large", "demo/catalog/images"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "webp") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let frame = container::read(&bytes).unwrap().frame;
            let taken = picture_bytes(&bytes, PIXELS_MAX, u64::MAX, &[]);
            assert!(taken.is_ok(), "{}: {taken:?}", path.display());
            let Some(stream) = lossless_stream(frame.coded) else { continue };
            let head = Head::read(stream, frame.width, frame.height).unwrap();
            let pixels = u64::from(frame.width) * u64::from(frame.height);
            assert!(head.groups <= 2_600 && head.bytes() < pixels + 200_000, "{}: {head:?}", path.display());
            heads += 1;
        }
    }
    assert!(heads > 4, "{heads}");
}

#[test]
fn a_damaged_head_is_refused_as_its_decoder_would() {
    let (stream, _) = colored(203, 117, 300);
    let mut cut = stream;
    cut.bytes.truncate(cut.bytes.len() / 2);
    // A code of code lengths that has no length; one of four lengths where two have room.
    let mut empty = Stream::default();
    empty.put_all(&[(0, 3), (0, 1), (0, 4), (0, 12)]);
    let mut full = Stream::default();
    full.put_all(&[(0, 3), (0, 1), (0, 4), (0b001_001_001_001, 12)]);
    let mut twice = Stream::default();
    twice.put_all(&[(1, 1), (2, 2), (1, 1), (2, 2), (0, 32)]);
    for stream in [cut, empty, full, twice, Stream::default()] {
        let file = lossless(203, 117, &stream);
        for error in [
            picture_bytes(&file, PIXELS_MAX, u64::MAX, &[]).unwrap_err(),
            decode_picture(&file, PIXELS_MAX, &[]).unwrap_err(),
        ] {
            assert_eq!(error.reason, PictureReason::Undecodable, "{error}");
        }
    }
}

/// Whatever the decoder makes a picture of has a cost; the rest has one or is refused. Nothing panics.
#[test]
fn what_decodes_after_damage_has_a_cost() {
    let lossy = picture("lossy_alpha.webp");
    let originals = [
        picture("lossless.webp"),
        picture("lossless_alpha.webp"),
        picture("lossless_column.webp"),
        lossless(60, 40, &costly(60, 40, 12)),
        lossless(203, 117, &colored(203, 117, 300).0),
        with_alpha(&lossy, |width, height| colored(width, height, 20).0),
    ];
    let mut rng = StdRng::seed_from_u64(9);
    let (mut decoded, mut refused) = (0, 0);
    for original in &originals {
        // From the first stream's head on; most of it decides.
        let from = original.windows(4).position(|kind| kind == b"ALPH" || kind == b"VP8L").unwrap() + 13;
        for round in 0..200 {
            let mut bytes = original.clone();
            for _ in 0..rng.random_range(1..4) {
                let most = if round % 2 == 0 { bytes.len() } else { bytes.len().min(from + 60) };
                let at = rng.random_range(from..most);
                match rng.random_range(0..3) {
                    0 => bytes[at] = rng.random(),
                    1 => bytes[at] ^= 1 << rng.random_range(0..8),
                    _ => bytes[at..most].rotate_left(1),
                }
            }
            let taken = picture_bytes(&bytes, PIXELS_MAX, u64::MAX, &[]);
            match decode_picture(&bytes, PIXELS_MAX, &[]) {
                Ok(_) => {
                    assert!(taken.is_ok(), "{taken:?}");
                    decoded += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(decoded > 100 && refused > 100, "{decoded} {refused}");
}
