//! Pictures of every format and kind, and the parts of files that hostile ones change.

use std::path::Path;

use clipstream::domain::{Decoding, Orientation};
use clipstream::picture::{PictureError, Preprocess, decode_picture};

/// Name and bytes of every fixture picture and of some of the demo catalog, in order of name.
pub fn pictures() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut out = Vec::new();
    for (folder, most) in [("tests/fixtures/pictures", usize::MAX), ("demo/catalog/images", 12)] {
        let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
            .expect("the folder is in the repository")
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                ["jpg", "png", "webp", "avif", "gif", "bmp", "tif"].iter().any(|e| name.ends_with(&format!(".{e}")))
            })
            .collect();
        names.sort();
        names.truncate(most);
        out.extend(names.into_iter().map(|name| (name.clone(), std::fs::read(root.join(folder).join(name)).unwrap())));
    }
    out
}

pub fn picture(name: &str) -> Vec<u8> {
    pictures().into_iter().find(|(found, _)| found == name).expect("a fixture of that name").1
}

/// Models that treat pictures in every way there is: cropped, padded, squashed; exact and fast; turned or not.
pub fn models() -> Vec<Preprocess> {
    let ways = [
        (r#"{"size": 32}"#, Orientation::Ignore, Decoding::Exact),
        (r#"{"size": 24, "resize_mode": "longest", "fill_color": 7}"#, Orientation::Apply, Decoding::Exact),
        (
            r#"{"size": [20, 30], "resize_mode": "squash", "interpolation": "bilinear"}"#,
            Orientation::Apply,
            Decoding::Exact,
        ),
        (r#"{"size": 16}"#, Orientation::Apply, Decoding::Fast),
    ];
    ways.map(|(json, orientation, decoding)| Preprocess::from_json(json).unwrap().with(orientation, decoding)).to_vec()
}

/// What the worker does with a picture: decode, and make a model's input of it.
pub fn process(bytes: &[u8], pixels_max: u64, model: &Preprocess) -> Result<Vec<f32>, PictureError> {
    let picture = decode_picture(bytes, pixels_max, &[model])?;
    let pixels = model.apply(&picture);
    assert_eq!((pixels.height, pixels.width), model.input_size());
    assert_eq!(pixels.data.len(), 3 * pixels.height * pixels.width);
    assert!(pixels.data.iter().all(|value| value.is_finite()), "every value is a number");
    Ok(pixels.data.into_vec())
}

/// Makes the checksums of a PNG's chunks right again, as far as it still has chunks.
pub fn repair_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= bytes.len()) else { return };
        let sum = crc32(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

/// PNG's checksum (ISO 3309), a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A chunk of a PNG.
pub fn png_chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = (body.len() as u32).to_be_bytes().to_vec();
    chunk.extend_from_slice(kind);
    chunk.extend_from_slice(body);
    let sum = crc32(&chunk[4..]);
    chunk.extend_from_slice(&sum.to_be_bytes());
    chunk
}

/// Where the entry of a little-endian TIFF's first directory is that has this tag.
pub fn tiff_entry(bytes: &[u8], tag: u16) -> usize {
    assert_eq!(bytes[..4], *b"II*\0", "a little-endian fixture");
    let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(bytes[directory..directory + 2].try_into().unwrap()) as usize;
    (0..count)
        .map(|n| directory + 2 + 12 * n)
        .find(|&at| bytes[at..at + 2] == tag.to_le_bytes())
        .expect("the tag is in the fixture")
}

/// Sets the one value of an entry, as a 32-bit number.
pub fn set_tiff(bytes: &mut [u8], tag: u16, value: u32) {
    let at = tiff_entry(bytes, tag);
    bytes[at + 2..at + 4].copy_from_slice(&4u16.to_le_bytes());
    bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
}
