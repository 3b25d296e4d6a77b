//! Files that ask for more than they have.

use std::path::Path;
use std::time::{Duration, Instant};

use super::boxes::Problem;
use super::coded::Grid;
use super::sequence::Sequence;
use super::{Header, container};
use crate::domain::PictureReason;
use crate::picture::decode::Limit;

const LIMIT: Limit = Limit { pixels_max: 100_000_000 };

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &kind[..], body].concat()
}

/// `word`: version and flags.
fn full(kind: &[u8; 4], word: u32, body: &[u8]) -> Vec<u8> {
    boxed(kind, &[&word.to_be_bytes(), body].concat())
}

fn file(brands: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let handler = full(b"hdlr", 0, b"\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0");
    [boxed(b"ftyp", brands), full(b"meta", 0, &[&[&handler[..]][..], parts].concat().concat())].concat()
}

fn problem(file: &[u8]) -> Problem {
    container::read(file).expect_err("this must not be read")
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    std::fs::read(folder.join(name)).expect("the fixture is in the repository")
}

/// Pieces without places and lengths: a megabyte of memory in ten bytes.
#[test]
fn pieces_that_take_no_bytes_are_counted() {
    let items: Vec<u8> = (1..=3u32).flat_map(|id| [&id.to_be_bytes()[..], b"\0\0\0\0\xFF\xFF"].concat()).collect();
    let places = full(b"iloc", 2 << 24, &[&[0, 0, 0, 0, 0, 3][..], &items].concat());
    assert_eq!(
        problem(&file(b"avif\0\0\0\0", &[&places])),
        Problem::Unsupported("an AVIF picture of more than 131,072 pieces")
    );
}

#[test]
fn boxes_of_associations_are_counted() {
    let properties = |count: u32| {
        let boxes = (0..count).flat_map(|n| full(b"ipma", n << 1, &[0; 4]));
        file(b"avif\0\0\0\0", &[&boxed(b"iprp", &[boxed(b"ipco", b""), boxes.collect()].concat())])
    };
    assert_eq!(problem(&properties(16)), Problem::Damaged("its primary item is missing"));
    assert_eq!(problem(&properties(17)), Problem::Damaged("it has too many boxes of associations"));
}

#[test]
fn properties_and_tracks_are_counted() {
    let free = boxed(b"free", b"").repeat(32_768);
    let properties = |count: usize| boxed(b"iprp", &boxed(b"ipco", &free[..8 * count]));
    assert_eq!(
        problem(&file(b"avif\0\0\0\0", &[&properties(32_767)])),
        Problem::Damaged("its primary item is missing")
    );
    assert!(matches!(problem(&file(b"avif\0\0\0\0", &[&properties(32_768)])), Problem::Unsupported(_)));
    let track = boxed(b"trak", &full(b"tkhd", 0, &[0; 80]));
    let movie = |count| [boxed(b"ftyp", b"avis\0\0\0\0"), boxed(b"moov", &track.repeat(count))].concat();
    assert_eq!(problem(&movie(64)), Problem::Damaged("it has no AV1 track"));
    assert!(matches!(problem(&movie(65)), Problem::Unsupported(_)));
}

/// Each box behind the items once cost a walk over all of them.
#[test]
fn boxes_behind_many_items_cost_no_more_than_others() {
    let info = |id: u16| full(b"infe", 2 << 24, &[&id.to_be_bytes()[..], b"\0\0av01\0"].concat());
    let infos: Vec<u8> = (1..=60_000).flat_map(info).collect();
    let infos = full(b"iinf", 0, &[&60_000u16.to_be_bytes()[..], &infos].concat());
    let mut file = file(b"avif\0\0\0\0tmap", &[&infos]);
    file.extend(boxed(b"free", b"").repeat(2_000_000));
    let started = Instant::now();
    assert_eq!(problem(&file), Problem::Damaged("the file is cut off: it has no picture"));
    // It takes tens of milliseconds; it took minutes.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Memory for it is computed by these sides.
#[test]
fn a_grid_of_alpha_is_no_larger_than_a_picture_may_be() {
    let bytes = fixture("avif_alpha.avif");
    let mut picture = container::read(&bytes).unwrap();
    let alpha = picture.alpha.as_mut().expect("a picture with alpha");
    alpha.grid = Some(Grid { rows: 1, columns: 1, width: u32::MAX, height: u32::MAX });
    let error = Header::of(picture, LIMIT).unwrap_err();
    assert_eq!(error.reason, PictureReason::TooLarge);
    assert!(error.message.contains("4294967295 x 4294967295"), "{error}");
}

/// Memory is reserved for the largest frames that any sequence header of the data allows.
#[test]
fn the_costliest_of_several_sequences_counts() {
    let files = ["avif_grey.avif", "avif_12_bits_alpha.avif"].map(fixture);
    let [grey, deep] = files.each_ref().map(|file| container::read(file).unwrap().color.tiles[0].data.to_vec());
    let bytes = |data: &[u8]| {
        let sequence = Sequence::read(data).unwrap();
        sequence.bytes(sequence.samples(33 * 21))
    };
    assert!(bytes(&deep) > bytes(&grey));
    for both in [[&grey[..], &deep].concat(), [&deep[..], &grey].concat()] {
        assert!(bytes(&both) >= bytes(&deep), "{} {}", bytes(&both), bytes(&deep));
        assert_eq!(Sequence::read(&both).unwrap().frames, 2);
    }
}
