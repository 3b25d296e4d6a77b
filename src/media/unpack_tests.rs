use std::io::Write as _;

use flate2::Compression;
use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

fn unpack_in(packed: &[u8], named: &[&str], step: usize) -> Result<Vec<u8>, Trouble> {
    let mut unpacker = Unpacker::new(named.iter().map(|name| name.as_bytes()));
    let mut all = Vec::new();
    for mut piece in packed.chunks(step) {
        loop {
            let (used, given) = unpacker.step(piece)?;
            assert!(given.len() <= 4 * STEP_BYTES, "{}", given.len());
            if used == 0 && given.is_empty() {
                break;
            }
            all.extend(given);
            piece = &piece[used..];
        }
    }
    all.extend(unpacker.end()?);
    Ok(all)
}

fn unpack(packed: &[u8], named: &[&str]) -> Result<Vec<u8>, Trouble> {
    let whole = unpack_in(packed, named, packed.len().max(1));
    assert_eq!(whole, unpack_in(packed, named, 3), "however it is cut");
    whole
}

fn read(mut from: impl std::io::Read) -> Vec<u8> {
    let mut out = Vec::new();
    from.read_to_end(&mut out).unwrap();
    out
}

/// A picture's beginning, followed by enough data to compress.
fn picture() -> Vec<u8> {
    [&b"\x89PNG\r\n\x1a\n"[..], &b"pixels and more pixels ".repeat(2000)].concat()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    read(GzEncoder::new(content, Compression::default()))
}

#[test]
fn what_is_packed_is_unpacked_as_it_is_named_or_recognised() {
    let picture = picture();
    let zlib = read(ZlibEncoder::new(&picture[..], Compression::default()));
    let raw = read(DeflateEncoder::new(&picture[..], Compression::default()));
    let zstd = zstd::encode_all(&picture[..], 3).unwrap();
    let cases: [(&[u8], &[&str]); 12] = [
        (&gzip(&picture), &["gzip"]),
        (&gzip(&picture), &["X-GZip"]),
        (&gzip(&picture), &["utf-8", " identity , gzip"]),
        (&gzip(&picture), &[]),
        (&gzip(&picture), &["none"]),
        // Wrong name, but recognised.
        (&gzip(&picture), &["br"]),
        (&[gzip(&picture), b"trailing".to_vec()].concat(), &["gzip"]),
        (&zlib, &["deflate"]),
        (&raw, &["Deflate"]),
        (&zstd, &["zstd"]),
        (&zstd, &[]),
        (&[zlib.clone(), b"trailing".to_vec()].concat(), &["deflate"]),
    ];
    for (packed, named) in cases {
        assert!(unpack(packed, named) == Ok(picture.clone()), "{named:?}");
    }
}

/// Made with the reference encoder: 10,000 bytes of a PNG's signature and zeros.
#[test]
fn brotli_is_unpacked_where_it_is_named() {
    let packed = include_bytes!("test_picture.br");
    let expected = [&b"\x89PNG\r\n\x1a\n"[..], &[0; 10_000 - 8]].concat();
    assert!(unpack(packed, &["br"]) == Ok(expected));
    assert_eq!(unpack(packed, &[]), Ok(packed.to_vec()), "nothing tells it from other bytes");
}

#[test]
fn names_of_what_was_not_done_change_nothing() {
    let picture = picture();
    for named in [
        "identity",
        "Identity",
        "none",
        "UTF-8",
        "binary",
        "",
        "aws-chunked",
        "gzip",
        "br",
        "deflate",
        "zstd",
        "compress",
        "gzip, gzip, gzip",
        "\"gzip\"",
    ] {
        assert!(unpack(&picture, &[named]) == Ok(picture.clone()), "{named}");
    }
    for short in [&b""[..], b"a", b"abc"] {
        assert_eq!(unpack(short, &["gzip"]), Ok(short.to_vec()));
    }
}

#[test]
fn what_cannot_be_unpacked_says_why() {
    let packed = gzip(&picture());
    assert_eq!(unpack(&packed[..packed.len() / 2], &["gzip"]), Err(Trouble::Incomplete));
    assert_eq!(unpack(&packed[..packed.len() - 3], &["gzip"]), Err(Trouble::Incomplete));
    let mut damaged = packed.clone();
    damaged[10..40].fill(0xFF);
    assert_eq!(unpack(&damaged, &["gzip"]), Err(Trouble::Damaged));
    let zlib = read(ZlibEncoder::new(&picture()[..], Compression::default()));
    assert_eq!(unpack(&zlib[..zlib.len() / 2], &["deflate"]), Err(Trouble::Incomplete));
    let twice = gzip(&packed);
    assert_eq!(unpack(&twice, &["gzip", "gzip"]), Err(Trouble::Unsupported("gzip, gzip".into())));
    assert_eq!(unpack(b"\x1f\x9dpacked", &["compress"]), Err(Trouble::Unsupported("compress".into())));
    assert_eq!(unpack(&b"no deflate at all, certainly".repeat(9), &["deflate"]), Err(Trouble::Damaged));
}

/// A large file is unpacked in small steps, so that the caller can stop it.
#[test]
fn bombs_come_out_in_small_steps() {
    let zeros = vec![0; 64 << 20];
    let mut encoder = zstd::Encoder::new(Vec::new(), 19).unwrap();
    encoder.write_all(&zeros).unwrap();
    for packed in [gzip(&zeros), encoder.finish().unwrap(), read(ZlibEncoder::new(&zeros[..], Compression::best()))] {
        let named = ["deflate"];
        assert!(unpack_in(&packed, &named, packed.len()).unwrap().len() == zeros.len());
    }
}
