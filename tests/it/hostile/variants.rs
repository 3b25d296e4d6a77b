//! Small pictures of every kind that files in the field have, whole and untidy, against what Pillow makes of them
//! (`tools/fixture_variants.py` and `tools/fixture_avif.py` have written both).

use clipstream::domain::PictureReason;
use clipstream::picture::{PictureError, Preprocess, decode_picture, picture_bytes};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const PIXELS_MAX: u64 = 10_000_000;
const FITTED: &str = r#"{"size": 16}"#;

#[derive(Debug, Deserialize)]
struct Variant {
    name: String,
    /// In hex.
    bytes: String,
    size: Option<[usize; 2]>,
    #[serde(flatten)]
    pixels: Option<Pixels>,
    /// Of a damaged JPEG, where libjpeg-turbo was built without an assembler.
    without_simd: Option<Pixels>,
    refused: Option<String>,
}

/// Their digests.
#[derive(Debug, PartialEq, Deserialize)]
struct Pixels {
    rgb: String,
    fitted: String,
}

impl Variant {
    fn bytes(&self) -> Vec<u8> {
        let pairs = self.bytes.as_bytes().as_chunks::<2>().0;
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}

fn variants() -> Vec<Variant> {
    let files: [&[u8]; 2] =
        [include_bytes!("../../fixtures/variants.jsonl.zlib"), include_bytes!("../../fixtures/avif.jsonl.zlib")];
    files.into_iter().flat_map(unpacked).collect()
}

fn unpacked(packed: &[u8]) -> Vec<Variant> {
    let (length, packed) = packed.split_first_chunk().unwrap();
    let mut lines = vec![0; u32::from_le_bytes(*length) as usize];
    let mut inflate = zlib_rs::Inflate::new(true, 15);
    inflate.decompress(packed, &mut lines, zlib_rs::InflateFlush::Finish).unwrap();
    assert_eq!(inflate.total_out() as usize, lines.len());
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The pixels as `convert("RGB")` has them, and resized and cropped; their digests as the tool writes them.
fn found(bytes: &[u8]) -> Result<Pixels, PictureError> {
    let digest = |rgb: &[u8]| Sha256::digest(rgb).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let fitted = Preprocess::from_json(FITTED).unwrap();
    picture_bytes(bytes, PIXELS_MAX, u64::MAX, &[])?;
    let picture = decode_picture(bytes, PIXELS_MAX, &[])?;
    // A TIFF is turned as it is loaded.
    let [width, height] = upright(bytes, picture.width, picture.height);
    let whole = Preprocess::from_json(&format!(r#"{{"size": [{height}, {width}], "resize_mode": "squash"}}"#)).unwrap();
    Ok(Pixels { rgb: digest(&whole.rgb(&picture)), fitted: digest(&fitted.rgb(&picture)) })
}

/// Sides of the picture as PIL has it: those of a model's input tell whether it was turned.
fn upright(bytes: &[u8], width: u32, height: u32) -> [u32; 2] {
    let little = bytes.first() == Some(&b'I');
    let is_tiff = matches!(bytes, [b'I', b'I', ..] | [b'M', b'M', ..]);
    let orientation = if little { [0x12, 0x01, 3, 0, 1, 0, 0, 0] } else { [0x01, 0x12, 0, 3, 0, 0, 0, 1] };
    let at = bytes.windows(8).position(|entry| entry == orientation).filter(|_| is_tiff);
    let number = at.map_or(1, |at| if little { bytes[at + 8] } else { bytes[at + 9] });
    if (5..=8).contains(&number) { [height, width] } else { [width, height] }
}

/// What Pillow opens and we do not, as `docs/exactness.md` says: the beginning of its name, and of our reason.
const STRICTER: [(&str, PictureReason); 10] = [
    // libavif scales what is coded.
    ("avif container with a ", PictureReason::Unsupported),
    // The same, where damage has made the coded size another.
    ("avif damaged ", PictureReason::Unsupported),
    ("avif same data in all tiles", PictureReason::Unsupported),
    ("DDS", PictureReason::Unsupported),
    ("JPEG2000", PictureReason::Unsupported),
    ("PCX", PictureReason::Unsupported),
    ("QOI", PictureReason::Unsupported),
    ("SGI", PictureReason::Unsupported),
    ("TGA", PictureReason::Unsupported),
    // LAB, palettes with alpha, compressions that are rare.
    ("tiff", PictureReason::Unsupported),
];

/// Where Pillow's pixels are an accident of its unpackers, and ours are the picture (`docs/exactness.md`).
fn is_better(name: &str) -> bool {
    let big = name.starts_with("tiff big ");
    let wide = ["grey 16", "1 x 16", "integers 16", "integers 32", "float"].iter().any(|kind| name.contains(kind));
    (big && wide)
        || name.starts_with("tiff little planes 16") && name.ends_with("compression 1")
        || name.starts_with("tiff big planes 16") && name.ends_with("compression 1")
        || name == "bmp 2 colours said, black and white"
        || name == "bmp 1 colour said, black"
        || name == "bmp runs, black and white"
}

#[test]
fn what_pillow_opens_is_opened_to_the_same_pixels() {
    let (mut wrong, mut equal, mut stricter, mut better, mut looser) = (Vec::new(), 0, 0, 0, 0);
    let all = variants();
    for variant in &all {
        let name = &variant.name;
        match (found(&variant.bytes()), &variant.pixels) {
            (Ok(pixels), Some(expected)) => {
                if pixels == *expected || Some(pixels) == variant.without_simd {
                    equal += 1;
                } else if is_better(name) {
                    better += 1;
                } else {
                    wrong.push(format!("{name}: other pixels than Pillow's, of {:?}", variant.size));
                }
            }
            (Err(error), Some(_)) => {
                let is_known =
                    |&(start, reason): &(&str, PictureReason)| name.starts_with(start) && error.reason == reason;
                if STRICTER.iter().any(is_known) {
                    stricter += 1;
                } else {
                    wrong.push(format!("{name}: Pillow opens it: {error}"));
                }
            }
            (Ok(_), None) => looser += 1,
            (Err(_), None) => assert!(variant.refused.is_some()),
        }
    }
    println!("{} variants: {equal} equal, {stricter} stricter, {better} better, {looser} looser", all.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    assert!(equal > 700 && stricter < 60, "{equal} {stricter}");
}

/// A file that is intact is never called damaged.
#[test]
fn what_is_not_read_is_not_called_damaged() {
    for variant in variants().iter().filter(|variant| variant.pixels.is_some()) {
        if let Err(error) = found(&variant.bytes()) {
            assert_eq!(error.reason, PictureReason::Unsupported, "{}: {error}", variant.name);
        }
    }
}
