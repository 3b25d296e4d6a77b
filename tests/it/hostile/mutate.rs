//! Seeded damage to files: the same seed gives the same file.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::formats::repair_png;

/// Numbers at the edges of what fields of headers hold.
const EXTREMES: [u32; 14] =
    [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x7FFF, 0x8000, 65_500, 65_535, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// Longest file that comes out.
const BYTES_MAX: usize = 512 * 1024;

/// One of `files`, changed; and which one it was.
pub fn mutated(files: &[(String, Vec<u8>)], seed: u64) -> (&str, Vec<u8>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (name, original) = &files[rng.random_range(0..files.len())];
    let mut bytes = original.clone();
    for _ in 0..rng.random_range(1..=4) {
        let other = &files[rng.random_range(0..files.len())].1;
        change(&mut bytes, other, &mut rng);
    }
    bytes.truncate(BYTES_MAX);
    // Most changes would only ever meet the checksum.
    if name.ends_with(".png") && rng.random_bool(0.7) {
        repair_png(&mut bytes);
    }
    (name, bytes)
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut StdRng) {
    if bytes.len() < 16 {
        return;
    }
    // Headers and tables are a small part of a file and decide the most.
    let within = if rng.random_bool(0.6) { bytes.len().min(700) } else { bytes.len() };
    let at = rng.random_range(2..within);
    let length = rng.random_range(1..=64usize.max(bytes.len() / 8)).min(bytes.len() - at);
    match rng.random_range(0..9) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes.truncate(at.max(12)),
        3 => drop(bytes.drain(at..at + length)),
        // A part twice or many times over: chunks, segments, frames, tables.
        4 => {
            let part = bytes[at..at + length].to_vec();
            let times = if rng.random_bool(0.2) { rng.random_range(1..=50) } else { 1 };
            bytes.splice(at..at, part.repeat(times.min(1 + BYTES_MAX / length)));
        }
        5 => {
            let from = rng.random_range(0..other.len());
            let part = &other[from..(from + length).min(other.len())];
            bytes.splice(at..at + length, part.iter().copied());
        }
        6 => bytes[at..at + length].fill(if rng.random_bool(0.5) { 0 } else { 0xFF }),
        7 => {
            for _ in 0..rng.random_range(1..32) {
                let at = rng.random_range(2..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        _ => {
            let value = EXTREMES[rng.random_range(0..EXTREMES.len())];
            let field = match rng.random_range(0..4) {
                0 => (value as u16).to_be_bytes().to_vec(),
                1 => (value as u16).to_le_bytes().to_vec(),
                2 => value.to_be_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            };
            let end = (at + field.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&field[..end - at]);
        }
    }
}
