/// Bits that one look at the tables takes: 8 KiB per table stay in the nearest cache.
const LOOK_BITS: u32 = 11;
const LOOKS: usize = 1 << LOOK_BITS;

/// A Huffman code.
#[derive(Clone)]
pub(super) struct Huffman {
    /// By the next [`LOOK_BITS`] bits: length of the code there and its symbol; length 0: a longer code.
    first: Box<[(u8, u8); LOOKS]>,
    /// By the same: the first code together with its value, where both are in there.
    near: Box<[Near; LOOKS]>,
    /// By the same: what all codes that begin there come to, with the values that follow them.
    several: Box<[Skip; LOOKS]>,
    /// Per length from 1 to 16: one past the last code, shifted to 16 bits; and what to add to a code for its symbol's place.
    ends: [(u32, i32); 16],
    symbols: Box<[u8]>,
}

/// A coefficient: zeros before it, and its value.
#[derive(Clone, Copy, Default)]
struct Near {
    value: i16,
    run: u8,
    /// Bits of code and value; 0: not all are known.
    bits: u8,
}

/// A step over frequencies of a block.
#[derive(Clone, Copy, Default)]
struct Skip {
    /// Bits of all codes and values; 0: not known from these bits.
    bits: u8,
    /// Places in the block.
    places: u8,
    /// An end of block is the last of the codes.
    ends: bool,
}

impl Huffman {
    /// None when the counts are those of no code.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut first = Box::new([(0, 0); LOOKS]);
        let mut ends = [(0, 0); 16];
        let (mut code, mut place) = (0u32, 0usize);
        for (length, (&count, end)) in (1u32..).zip(counts.iter().zip(&mut ends)) {
            let offset = place as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOK_BITS {
                    let from = (code << (LOOK_BITS - length)) as usize;
                    let to = ((code + 1) << (LOOK_BITS - length)) as usize;
                    first.get_mut(from..to)?.fill((length as u8, *symbols.get(place)?));
                }
                code += 1;
                place += 1;
            }
            if code > 1 << length {
                return None;
            }
            *end = (code << (16 - length), offset);
            code <<= 1;
        }
        let mut near = Box::new([Near::default(); LOOKS]);
        let mut several = Box::new([Skip::default(); LOOKS]);
        for (look, (near, several)) in (0u32..).zip(near.iter_mut().zip(several.iter_mut())) {
            *near = Near::new(first[look as usize], look);
            *several = Skip::new(&first, look);
        }
        Some(Self { first, near, several, ends, symbols: symbols.into() })
    }

    /// Length and symbol of the code that `bits` begin with.
    #[inline(always)]
    fn symbol(&self, bits: u64) -> Option<(u32, u8)> {
        let (length, symbol) = self.first[(bits >> (64 - LOOK_BITS)) as usize];
        if length > 0 {
            return Some((u32::from(length), symbol));
        }
        self.long_symbol((bits >> 48) as u32)
    }

    #[cold]
    fn long_symbol(&self, bits: u32) -> Option<(u32, u8)> {
        let (length, &(_, offset)) = (1u32..).zip(&self.ends).find(|(_, (end, _))| bits < *end)?;
        let place = (bits >> (16 - length)) as i32 + offset;
        Some((length, *self.symbols.get(usize::try_from(place).ok()?)?))
    }
}

impl Near {
    fn new((length, symbol): (u8, u8), look: u32) -> Self {
        let (run, size) = (symbol >> 4, symbol & 15);
        let bits = length + size;
        if length == 0 || u32::from(bits) > LOOK_BITS {
            return Self::default();
        }
        let value = look >> (LOOK_BITS - u32::from(bits)) & ((1 << size) - 1);
        Self { value: signed(value, u32::from(size)) as i16, run, bits }
    }
}

/// What the `size` bits of a value mean: those that begin with 1 are positive, those with 0 are negative.
#[inline(always)]
fn signed(bits: u32, size: u32) -> i32 {
    // No branch: signs are as good as random.
    let is_negative = (bits << 1 >> size & 1 ^ 1) as i32;
    bits as i32 - is_negative * ((1 << size) - 1)
}

impl Skip {
    fn new(first: &[(u8, u8); LOOKS], look: u32) -> Self {
        let mut skip = Self::default();
        while u32::from(skip.bits) < LOOK_BITS && !skip.ends {
            // Bits beyond those of the look are not known: a code must end before them, its value need not.
            let known = LOOK_BITS - u32::from(skip.bits);
            let (length, symbol) = first[(look << skip.bits) as usize % LOOKS];
            if length == 0 || u32::from(length) > known {
                break;
            }
            let (run, size) = (symbol >> 4, symbol & 15);
            skip.bits += length + size;
            skip.ends = size == 0 && run != 15;
            if !skip.ends {
                skip.places += run + 1;
            }
        }
        skip
    }
}

/// Entropy-coded data between two markers, without its stuffing, read from the highest bit.
#[derive(Default)]
pub(super) struct Bits {
    /// Ends in [`PADDING_BYTES`] zeros that are not data.
    data: Vec<u8>,
    /// Next byte to take in.
    at: usize,
    /// Bits that are taken in, from the top, and how many there are.
    buffer: u64,
    count: u32,
}

const PADDING_BYTES: usize = 16;

impl Bits {
    /// At least 56 bits are in the buffer afterwards.
    #[inline(always)]
    fn fill(&mut self) -> Option<()> {
        let next = u64::from_be_bytes(*self.data.get(self.at..)?.first_chunk()?);
        self.buffer |= next >> self.count;
        self.at += ((63 - self.count) / 8) as usize;
        self.count |= 56;
        Some(())
    }

    #[inline(always)]
    fn drop_bits(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// A value of `size` bits that follows a code of `length`.
    #[inline(always)]
    fn value(&mut self, length: u32, size: u32) -> i32 {
        let bits = (self.buffer << length >> 1 >> (63 - size)) as u32;
        self.drop_bits(length + size);
        signed(bits, size)
    }

    /// Difference of a block's constant from the one before.
    #[inline(always)]
    pub fn difference(&mut self, code: &Huffman) -> Option<i32> {
        self.fill()?;
        let near = code.near[(self.buffer >> (64 - LOOK_BITS)) as usize];
        if near.bits > 0 && near.run == 0 {
            self.drop_bits(u32::from(near.bits));
            return Some(i32::from(near.value));
        }
        let (length, size) = code.symbol(self.buffer)?;
        if size > 15 { None } else { Some(self.value(length, u32::from(size))) }
    }

    /// Zeros before a coefficient, and its value. A value of 0 after 15 zeros is the sixteenth, otherwise the block's end.
    #[inline(always)]
    pub fn coefficient(&mut self, code: &Huffman) -> Option<(usize, i32)> {
        if self.count < 32 {
            self.fill()?;
        }
        let near = code.near[(self.buffer >> (64 - LOOK_BITS)) as usize];
        if near.bits > 0 {
            self.drop_bits(u32::from(near.bits));
            return Some((usize::from(near.run), i32::from(near.value)));
        }
        let (length, symbol) = code.symbol(self.buffer)?;
        Some((usize::from(symbol >> 4), self.value(length, u32::from(symbol & 15))))
    }

    /// Skips what is left of a block from `place` on.
    #[inline(always)]
    pub fn skip_rest(&mut self, code: &Huffman, mut place: usize) -> Option<()> {
        while place < 64 {
            if self.count < 32 {
                self.fill()?;
            }
            let skip = code.several[(self.buffer >> (64 - LOOK_BITS)) as usize];
            // A block that is full has no end: what follows is the next one's.
            if skip.bits > 0 && place + usize::from(skip.places) < 64 {
                self.drop_bits(u32::from(skip.bits));
                place += usize::from(skip.places);
                if skip.ends {
                    return Some(());
                }
                continue;
            }
            let (length, symbol) = code.symbol(self.buffer)?;
            self.drop_bits(length + u32::from(symbol & 15));
            if symbol & 15 == 0 && symbol >> 4 != 15 {
                return Some(());
            }
            place += usize::from(symbol >> 4) + 1;
        }
        // More places than a block has: damaged.
        (place == 64).then_some(())
    }

    /// Whether all data has been read, to the last bits that fill its last byte.
    pub fn is_used_up(&self) -> bool {
        let bytes = self.data.len().saturating_sub(PADDING_BYTES);
        let read = (self.at * 8).checked_sub(self.count as usize);
        read.is_some_and(|read| read.div_ceil(8) == bytes && !self.data.is_empty())
    }
}

/// The data of a scan, cut at its restart markers.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
    /// Number of the next restart marker; none before the first piece.
    marker: Option<u8>,
}

impl<'a> Segments<'a> {
    pub fn new(scan: &'a [u8]) -> Self {
        Self { rest: scan, marker: None }
    }

    /// The next piece, in the memory of the one before.
    pub fn next(&mut self, Bits { mut data, .. }: Bits) -> Option<Bits> {
        match self.marker {
            None => self.marker = Some(0),
            Some(number) => {
                self.rest = self.rest.strip_prefix(&[0xFF, 0xD0 + number])?;
                self.marker = Some((number + 1) % 8);
            }
        }
        data.clear();
        loop {
            let plain = plain_bytes(self.rest);
            data.extend_from_slice(&self.rest[..plain]);
            self.rest = &self.rest[plain..];
            match self.rest {
                [0xFF, 0x00, rest @ ..] => {
                    data.push(0xFF);
                    self.rest = rest;
                }
                [0xFF, ..] => break,
                // No marker at its end: cut off.
                _ => return None,
            }
        }
        data.extend_from_slice(&[0; PADDING_BYTES]);
        Some(Bits { data, ..Bits::default() })
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.starts_with(&[0xFF, 0xD9])
    }
}

/// How many bytes are not 0xFF.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    // A byte of ones is one of zeros after the complement; the usual test for those.
    let has_ones = |word: &[u8; 8]| {
        let zeros = !u64::from_ne_bytes(*word);
        zeros.wrapping_sub(0x0101_0101_0101_0101) & !zeros & 0x8080_8080_8080_8080 != 0
    };
    let start = words.iter().position(has_ones).unwrap_or(words.len()) * 8;
    start + bytes[start..].iter().position(|&byte| byte == 0xFF).unwrap_or(bytes.len() - start)
}
