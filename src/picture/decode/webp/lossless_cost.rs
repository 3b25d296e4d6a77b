//! What a lossless stream (VP8L, or compressed ALPH) takes in its decoder beside pixels, read from its head alone: the
//! pictures that its transforms are made of, and its prefix codes. One of ten bytes may take 70 kB, and a stream may have
//! 65,536 groups of five. RFC 9649, section 3; where files go beyond it, they are read as `image-webp` 0.2 reads them,
//! whose memory this is.
//!
//! No pixels are kept here. How many bits a picture of one group of codes has does not depend on its colours, and copies
//! and cached colours add none that is larger than those before them.

use super::prefix_codes::{Bits, Code, Table};

/// Green with lengths of copies, red, blue, alpha, distances. Cached colours come on top of the first.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];
const LITERALS: usize = 256;
/// Five codes, as they are without what they point to.
const GROUP_BYTES: u64 = 5 * 56;

/// Of a stream, up to its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the transforms' pictures, which stay until the end.
    transform_pixels: u64,
    /// Of the picture that says which group of codes a block of pixels is written in.
    blocks: u64,
    /// Of five codes each.
    groups: u64,
    /// What their tables and trees take.
    table_bytes: u64,
}

impl Head {
    /// `stream` begins behind the header with the sides. `None` if it is damaged.
    pub fn read(stream: &[u8], width: u32, height: u32) -> Option<Self> {
        let mut bits = Bits::new(stream);
        let (mut width, mut transform_pixels, mut seen) = (width, 0, 0);
        while bits.read(1)? == 1 {
            let kind = bits.read(2)?;
            if seen & 1 << kind != 0 {
                return None;
            }
            seen |= 1 << kind;
            let pixels = match kind {
                // Predictors, colours: a value for each block.
                0 | 1 => blocks(&mut bits, width, height)?,
                // Green is subtracted.
                2 => continue,
                // A palette; indices of few colours share a pixel.
                _ => {
                    let colors = 1 + bits.read(8)?;
                    let shared = [(2, 8), (4, 4), (16, 2)].into_iter().find(|(most, _)| colors <= *most);
                    width = width.div_ceil(shared.map_or(1, |(_, pixels)| pixels));
                    u64::from(colors)
                }
            };
            pass_over(&mut bits, pixels)?;
            transform_pixels += pixels;
        }
        let cached = cached_colors(&mut bits)?;
        let (mut blocks_of_groups, mut groups) = (0, 1);
        if bits.read(1)? == 1 {
            blocks_of_groups = blocks(&mut bits, width, height)?;
            groups = 1 + pass_over(&mut bits, blocks_of_groups)?;
        }
        let mut table_bytes = 0;
        for _ in 0..groups {
            for code in group(&mut bits, cached) {
                table_bytes += code?.table_bytes();
            }
        }
        Some(Self { transform_pixels, blocks: blocks_of_groups, groups, table_bytes })
    }

    /// At the highest point.
    pub fn bytes(&self) -> u64 {
        // It grows by doubling, and is there twice while it does.
        let groups = self.groups.next_power_of_two() * GROUP_BYTES * 3 / 2;
        // A block has four bytes before there are codes, of which two are kept.
        4 * self.transform_pixels + 2 * self.blocks + (4 * self.blocks).max(groups + self.table_bytes)
    }
}

/// How many there are of the size that comes next.
fn blocks(bits: &mut Bits<'_>, width: u32, height: u32) -> Option<u64> {
    let side = 1 << (2 + bits.read(3)?);
    Some(u64::from(width.div_ceil(side)) * u64::from(height.div_ceil(side)))
}

fn cached_colors(bits: &mut Bits<'_>) -> Option<usize> {
    match bits.read(1)? {
        0 => Some(0),
        _ => Some(bits.read(4)?).filter(|bits| (1..=11).contains(bits)).map(|bits| 1 << bits),
    }
}

/// Its five codes, each read when it is asked for.
fn group(bits: &mut Bits<'_>, cached: usize) -> impl Iterator<Item = Option<Code>> {
    let alphabets = ALPHABETS.into_iter().zip([cached, 0, 0, 0, 0]);
    alphabets.map(|(symbols, cached)| Code::read(bits, symbols + cached))
}

/// Passes over a picture that has one group of codes, and gives the largest number that red and green make in it.
fn pass_over(bits: &mut Bits<'_>, pixels: u64) -> Option<u64> {
    let cached = cached_colors(bits)?;
    let tables: Option<Vec<Table>> = group(bits, cached).map(|code| code.map(|code| Table::new(&code))).collect();
    let [green, red, blue, alpha, distances] = &tables?[..] else { return None };
    let (mut left, mut largest) = (pixels, 0);
    while left > 0 {
        let symbol = green.read(bits)?;
        let run = if symbol < LITERALS {
            let red = red.read(bits)?;
            blue.read(bits)?;
            alpha.read(bits)?;
            largest = largest.max((red << 8 | symbol) as u64);
            1
        } else if symbol < ALPHABETS[0] {
            let length = copied(bits, symbol - LITERALS)?;
            let distance = distances.read(bits)?;
            copied(bits, distance)?;
            length
        } else {
            1
        };
        left = left.checked_sub(run)?;
    }
    Some(largest)
}

/// A length or a distance, from its prefix and the bits that follow.
fn copied(bits: &mut Bits<'_>, prefix: usize) -> Option<u64> {
    let prefix = prefix as u64;
    if prefix < 4 {
        return Some(prefix + 1);
    }
    let extra = (prefix as u32 - 2) >> 1;
    Some(((2 + (prefix & 1)) << extra) + u64::from(bits.read(extra)?) + 1)
}

#[cfg(test)]
#[path = "lossless_cost_tests.rs"]
mod tests;
