//! Lossless WebP written by hand (RFC 9649, section 3): valid files that no encoder makes. The unit tests of what such a
//! file costs include this file, too.

/// In which order the lengths of the code of code lengths come.
const LENGTH_ORDER: [u32; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Bits, the least significant ones first.
#[derive(Clone, Default)]
pub struct Stream {
    pub bytes: Vec<u8>,
    at: u32,
}

impl Stream {
    pub fn put(&mut self, value: u32, bits: u32) {
        for n in 0..bits {
            if self.at == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> n & 1) as u8) << self.at;
            self.at = (self.at + 1) % 8;
        }
    }

    /// Values and their bits.
    pub fn put_all(&mut self, fields: &[(u32, u32)]) {
        fields.iter().for_each(|(value, bits)| self.put(*value, *bits));
    }

    /// A symbol of a code whose symbols all have so many bits.
    pub fn symbol(&mut self, symbol: u32, bits: u32) {
        self.put(symbol.reverse_bits() >> (32 - bits), bits);
    }

    /// Codes of one symbol each, which takes no bits.
    pub fn ones(&mut self, symbols: &[u32]) {
        symbols.iter().for_each(|symbol| self.put_all(&[(0b101, 3), (*symbol, 8)]));
    }

    /// A code of two symbols, of one bit each.
    pub fn two(&mut self, first: u32, second: u32) {
        self.put_all(&[(0b111, 3), (first, 8), (second, 8)]);
    }

    /// A code of the first `1 << bits` symbols, all of that length: for 11 bits a table of 4 KiB and a tree of 64.
    pub fn even(&mut self, bits: u32) {
        self.put(0, 1);
        self.lengths(&[(bits, 1)]);
        let most = (1 << bits) - 2;
        let width = (2..=16).step_by(2).find(|width| most < 1 << width).unwrap();
        self.put_all(&[(1, 1), ((width - 2) / 2, 3), (most, width)]);
    }

    /// A code of eleven symbols, 1, 2, …, 9, 10 and 10 bits long: a table of 4 KiB.
    pub fn deep(&mut self) {
        self.put(0, 1);
        let lengths: Vec<_> = (1..=10).map(|length| (length, if length < 7 { 3 } else { 4 })).collect();
        self.lengths(&lengths);
        self.put_all(&[(1, 1), (1, 3), (11 - 2, 4)]);
        for length in (1..=10).chain([10]) {
            if length < 7 { self.symbol(length - 1, 3) } else { self.symbol(length + 5, 4) }
        }
    }

    /// The code of code lengths: its symbols, each with its own length.
    fn lengths(&mut self, given: &[(u32, u32)]) {
        let length = |symbol: u32| given.iter().find(|(found, _)| *found == symbol).map_or(0, |(_, length)| *length);
        let count = 1 + LENGTH_ORDER.iter().rposition(|symbol| length(*symbol) > 0).unwrap();
        let count = count.max(4);
        self.put(count as u32 - 4, 4);
        for symbol in &LENGTH_ORDER[..count] {
            self.put(length(*symbol), 3);
        }
    }

    /// A group whose pixels all have one colour, and take no bits.
    pub fn plain(&mut self, red: u32, green: u32) {
        self.ones(&[green, red, 0, 255, 0]);
    }

    /// A group of the codes that take the most memory beside the bits they have; green needs 2,048 cached colours.
    pub fn costly(&mut self) {
        self.even(11);
        (0..4).for_each(|_| self.deep());
    }
}

/// A picture of one colour. Its transforms and its groups have blocks as small as may be, `groups` are there, all but the
/// first are `costly`, and the last pixels name the last group.
pub fn costly(width: u32, height: u32, groups: u32) -> Stream {
    let mut stream = Stream::default();
    for kind in [0, 1] {
        // Without cached colours.
        stream.put_all(&[(1, 1), (kind, 2), (0, 3), (0, 1)]);
        stream.plain(0, 0);
    }
    stream.put(0, 1);
    // 2,048 cached colours, and groups by blocks of four pixels a side.
    stream.put_all(&[(1, 1), (11, 4), (1, 1), (0, 3)]);
    let (last, blocks) = (groups - 1, width.div_ceil(4) * height.div_ceil(4));
    stream.put(0, 1);
    stream.two(0, last & 0xFF);
    stream.two(0, last >> 8);
    stream.ones(&[0, 0, 0]);
    (1..blocks).for_each(|_| stream.put(0b00, 2));
    stream.put(0b11, 2);
    stream.plain(0, 0);
    (1..groups).for_each(|_| stream.costly());
    // The pixels of the last block: zeros are the first symbols of its codes.
    (0..16).for_each(|_| stream.put(0, 11 + 4));
    stream
}

pub fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [&kind[..], &(body.len() as u32).to_le_bytes(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

pub fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"RIFF", &[b"WEBP".to_vec(), chunks.concat()].concat())
}

/// A file of this stream, without alpha.
pub fn lossless(width: u32, height: u32, stream: &Stream) -> Vec<u8> {
    let sides = (width - 1) | (height - 1) << 14;
    file(&[chunk(b"VP8L", &[&[0x2F][..], &sides.to_le_bytes(), &stream.bytes].concat())])
}

/// The file of a lossy picture with alpha, and its sides, with what `alpha` makes of them instead of its own alpha.
pub fn with_alpha(file_of_it: &[u8], alpha: impl FnOnce(u32, u32) -> Stream) -> Vec<u8> {
    let side = |at: usize| u32::from_le_bytes([file_of_it[at], file_of_it[at + 1], file_of_it[at + 2], 0]) + 1;
    let image = file_of_it.windows(4).position(|kind| kind == b"VP8 ").unwrap();
    let stream = alpha(side(24), side(27));
    // Compressed, not filtered.
    let alpha = chunk(b"ALPH", &[&[1][..], &stream.bytes].concat());
    file(&[file_of_it[12..30].to_vec(), alpha, file_of_it[image..].to_vec()])
}
