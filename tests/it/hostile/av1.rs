//! AVIF pictures of any size, written from the specifications of AV1 and of its image file format: their tiles are zeros, which
//! is the likeliest of everything that they can say.

use super::kinds::Sides;

/// Side of a superblock.
const BLOCK: u32 = 64;
/// Of a tile, in superblocks (AV1, annex A).
const TILE_WIDTH_MAX: u32 = 4096 / BLOCK;
const TILE_BLOCKS_MAX: u32 = 4096 * 2304 / (BLOCK * BLOCK);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Grey,
    Quarter,
    Full,
}

#[derive(Clone, Copy)]
pub struct Av1 {
    pub layout: Layout,
    pub depth: u8,
    pub alpha: bool,
    /// Of which the first one is shown.
    pub frames: usize,
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn put(&mut self, value: u32, width: u32) {
        for n in (0..width).rev() {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> n & 1) as u8) << (7 - self.count % 8);
            self.count += 1;
        }
    }

    fn align(&mut self) {
        self.count = self.bytes.len() * 8;
    }
}

/// The smallest k for which `block << k` is at least `target`.
fn log2(block: u32, target: u32) -> u32 {
    (0..).find(|k| block << k >= target).unwrap()
}

fn unit(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind << 3 | 2];
    let mut length = body.len();
    while length > 127 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

impl Av1 {
    fn profile(self) -> u32 {
        match (self.depth, self.layout) {
            (12, _) => 2,
            (_, Layout::Full) => 1,
            _ => 0,
        }
    }

    /// A still picture: section 5.5 of the specification.
    fn sequence(self, Sides { width, height }: Sides) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(self.profile(), 3);
        // Still, with the short header, of any level; sides of sixteen bits.
        bits.put(0b11, 2);
        bits.put(31, 5);
        bits.put(0xFF, 8);
        bits.put(width - 1, 16);
        bits.put(height - 1, 16);
        // Small superblocks, and no tools.
        bits.put(0, 6);
        bits.put(u32::from(self.depth > 8), 1);
        if self.profile() == 2 && self.depth > 8 {
            bits.put(u32::from(self.depth == 12), 1);
        }
        if self.profile() != 1 {
            bits.put(u32::from(self.layout == Layout::Grey), 1);
        }
        // No description of colours; full range.
        bits.put(0b01, 2);
        if self.layout != Layout::Grey {
            if self.profile() == 2 && self.depth == 12 {
                match self.layout {
                    Layout::Quarter => bits.put(0b11, 2),
                    _ => bits.put(0, 1),
                }
            }
            if self.layout == Layout::Quarter {
                bits.put(0, 2);
            }
            bits.put(0, 1);
        }
        // No grain; the end.
        bits.put(0b01, 2);
        unit(1, &bits.bytes)
    }

    /// Sections 5.9 and 5.11.
    fn frame(self, Sides { width, height }: Sides) -> Vec<u8> {
        let (columns, rows) = (width.div_ceil(BLOCK), height.div_ceil(BLOCK));
        let least_columns = log2(TILE_WIDTH_MAX, columns);
        let least = least_columns.max(log2(TILE_BLOCKS_MAX, rows * columns));
        let least_rows = least.saturating_sub(least_columns);
        let mut bits = Bits::default();
        // Tables stay as they are; no tools for screens; shown as large as it is; tiles of one size, no more than must be.
        bits.put(0b1001, 4);
        for (least, sides) in [(least_columns, columns), (least_rows, rows)] {
            bits.put(0, u32::from(least < log2(1, sides.min(64))));
        }
        if least_columns + least_rows > 0 {
            bits.put(0, least_columns + least_rows);
            bits.put(3, 2);
        }
        bits.put(120, 8);
        // No other quantisers, matrices, segments.
        let planes = if self.layout == Layout::Grey { 1 } else { 3 };
        bits.put(0, if planes > 1 { 6 } else { 4 });
        // Loop filters.
        bits.put(8, 6);
        bits.put(8, 6);
        if planes > 1 {
            bits.put(8, 6);
            bits.put(8, 6);
        }
        bits.put(0, 4);
        // The largest transforms, all of their kinds.
        bits.put(0, 2);
        bits.align();
        let across = columns.div_ceil(1 << least_columns);
        let down = rows.div_ceil(1 << least_rows);
        let tiles = columns.div_ceil(across) * rows.div_ceil(down);
        if tiles > 1 {
            bits.put(0, 1);
            bits.align();
        }
        let data = vec![0; (across * down * 64 + 64) as usize];
        for n in 0..tiles {
            if n + 1 < tiles {
                bits.bytes.extend_from_slice(&(data.len() as u32 - 1).to_le_bytes());
            }
            bits.bytes.extend_from_slice(&data);
        }
        unit(6, &bits.bytes)
    }

    fn data(self, sides: Sides) -> Vec<u8> {
        [unit(2, &[]), self.sequence(sides), self.frame(sides).repeat(self.frames)].concat()
    }

    fn config(self) -> Vec<u8> {
        let halved = match self.layout {
            Layout::Grey | Layout::Quarter => 0b1100,
            Layout::Full => 0,
        };
        let depth = match self.depth {
            12 => 0b110_0000,
            10 => 0b100_0000,
            _ => 0,
        };
        let grey = if self.layout == Layout::Grey { 0b1_0000 } else { 0 };
        boxed(b"av1C", &[0x81, (self.profile() as u8) << 5 | 31, depth | grey | halved, 0])
    }
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &kind[..], body].concat()
}

fn full(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    boxed(kind, &[&[0; 4], body].concat())
}

/// A file with the picture as item 1, and its alpha as item 2.
pub fn avif(sides: Sides, av1: Av1) -> Vec<u8> {
    let alpha = Av1 { layout: Layout::Grey, ..av1 };
    let mut items = vec![(av1.data(sides), av1.config())];
    if av1.alpha {
        items.push((alpha.data(sides), alpha.config()));
    }
    let size = full(b"ispe", &[sides.width.to_be_bytes(), sides.height.to_be_bytes()].concat());
    let is_alpha = full(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0");
    let mut properties = [size, items[0].1.clone()].concat();
    if let [_, (_, config)] = &items[..] {
        properties.extend_from_slice(&[&config[..], &is_alpha].concat());
    }
    let associated: &[u8] =
        if av1.alpha { &[0, 0, 0, 2, 0, 1, 2, 1, 0x82, 0, 2, 3, 1, 0x83, 4] } else { &[0, 0, 0, 1, 0, 1, 2, 1, 0x82] };
    let count = items.len() as u8;
    let infos: Vec<u8> =
        (1..=count).flat_map(|id| boxed(b"infe", &[&[2, 0, 0, 0, 0, id, 0, 0][..], b"av01\0"].concat())).collect();
    let start = |meta: usize| 24 + meta + 8;
    let meta = |start: usize| {
        let mut places = vec![0x44, 0, 0, count];
        let mut at = start as u32;
        for (id, (data, _)) in (1..).zip(&items) {
            places.extend_from_slice(&[0, id, 0, 0, 0, 1]);
            places.extend_from_slice(&[at.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat());
            at += data.len() as u32;
        }
        let references = if av1.alpha { full(b"iref", &boxed(b"auxl", &[0, 2, 0, 1, 0, 1])) } else { Vec::new() };
        let parts = [
            full(b"hdlr", b"\0\0\0\0pict\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            full(b"pitm", &[0, 1]),
            full(b"iloc", &places),
            full(b"iinf", &[&[0, count][..], &infos].concat()),
            references,
            boxed(b"iprp", &[boxed(b"ipco", &properties), full(b"ipma", associated)].concat()),
        ];
        full(b"meta", &parts.concat())
    };
    let meta = meta(start(meta(0).len()));
    let data: Vec<u8> = items.into_iter().flat_map(|(data, _)| data).collect();
    [boxed(b"ftyp", b"avif\0\0\0\0mif1miaf"), meta, boxed(b"mdat", &data)].concat()
}
