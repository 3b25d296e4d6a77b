//! The prefix codes of a lossless stream (RFC 9649, section 3), and what each takes in `image-webp` 0.2.

/// In which order the lengths of the code of code lengths come.
const LENGTH_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const LENGTH_MAX: usize = 15;

/// The decoder has a table of `u32` that is indexed by this many bits, and a tree for the rest of longer codes.
const TABLE_BITS: usize = 10;
const NODE_BYTES: u64 = 16;

/// A prefix code, as the stream says it.
pub(super) enum Code {
    /// Takes no bits.
    One(u16),
    /// One bit each, even where both are the same.
    Two([u16; 2]),
    /// Lengths by symbol, and how many there are of each length.
    Many { lengths: Vec<u8>, counts: [u32; LENGTH_MAX + 1] },
}

impl Code {
    /// A code of an alphabet of `symbols`. `None` if it is damaged.
    pub fn read(bits: &mut Bits<'_>, symbols: usize) -> Option<Self> {
        if bits.read(1)? == 0 {
            return Self::read_lengths(bits, symbols);
        }
        let known = |symbol: u32| u16::try_from(symbol).ok().filter(|symbol| usize::from(*symbol) < symbols);
        let are_two = bits.read(1)? == 1;
        let width = 1 + 7 * bits.read(1)?;
        let first = known(bits.read(width)?)?;
        if are_two { Some(Self::Two([first, known(bits.read(8)?)?])) } else { Some(Self::One(first)) }
    }

    fn read_lengths(bits: &mut Bits<'_>, symbols: usize) -> Option<Self> {
        let (mut lengths, mut counts) = (vec![0; LENGTH_ORDER.len()], [0; LENGTH_MAX + 1]);
        let count = 4 + bits.read(4)? as usize;
        for symbol in LENGTH_ORDER.into_iter().take(count) {
            let length = bits.read(3)?;
            lengths[symbol] = length as u8;
            counts[length as usize] += 1;
        }
        let code = Table::new(&Self::of(lengths, counts)?);
        let mut left = symbols;
        if bits.read(1)? == 1 {
            let width = 2 + 2 * bits.read(3)?;
            left = 2 + bits.read(width)? as usize;
            if left > symbols {
                return None;
            }
        }
        let (mut lengths, mut counts) = (vec![0; symbols], [0; LENGTH_MAX + 1]);
        let (mut at, mut before) = (0, 8);
        while at < symbols && left > 0 {
            let symbol = code.read(bits)?;
            left -= 1;
            let (length, run) = match symbol {
                // All the rest at once where they take no bits: the time is that of the stream, not of its codes.
                0..=LENGTH_MAX if code.is_of_one() => (symbol, 1 + std::mem::take(&mut left).min(symbols - at - 1)),
                0..=LENGTH_MAX => (symbol, 1),
                16 => (before, 3 + bits.read(2)? as usize),
                17 => (0, 3 + bits.read(3)? as usize),
                _ => (0, 11 + bits.read(7)? as usize),
            };
            lengths.get_mut(at..at + run)?.fill(length as u8);
            counts[length] += run as u32;
            at += run;
            if length > 0 {
                before = length;
            }
        }
        Self::of(lengths, counts)
    }

    /// `None` unless the lengths are exactly those of a complete code.
    fn of(lengths: Vec<u8>, mut counts: [u32; LENGTH_MAX + 1]) -> Option<Self> {
        counts[0] = 0;
        if counts.iter().sum::<u32>() == 1 {
            return lengths.iter().position(|length| *length > 0).map(|symbol| Self::One(symbol as u16));
        }
        let taken: u32 = counts.iter().enumerate().map(|(length, count)| count << (LENGTH_MAX - length)).sum();
        (taken == 1 << LENGTH_MAX).then_some(Self::Many { lengths, counts })
    }

    /// What the decoder has for it.
    pub fn table_bytes(&self) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::Two(_) => allocated(3 * NODE_BYTES) + allocated(2 * 4),
            Self::Many { counts, .. } => {
                let in_tree: u32 = counts[TABLE_BITS + 1..].iter().sum();
                allocated(4 << longest(counts).min(TABLE_BITS)) + allocated(2 * NODE_BYTES * u64::from(in_tree))
            }
        }
    }
}

fn longest(counts: &[u32; LENGTH_MAX + 1]) -> usize {
    counts.iter().rposition(|count| *count > 0).unwrap_or(0)
}

/// Allocators round up: to sixteen bytes and some of their own, or to a quarter of a power of two.
fn allocated(bytes: u64) -> u64 {
    if bytes == 0 { 0 } else { bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16)) + 16 }
}

/// By the bits that come next, as many as the longest symbol has: the symbol, times 16, and its length.
pub(super) struct Table(Vec<u16>);

impl Table {
    pub fn new(code: &Code) -> Self {
        let (lengths, counts) = match code {
            Code::One(symbol) => return Self(vec![symbol << 4]),
            Code::Two(symbols) => return Self(symbols.map(|symbol| symbol << 4 | 1).to_vec()),
            Code::Many { lengths, counts } => (lengths, counts),
        };
        let mut next = [0u32; LENGTH_MAX + 1];
        for length in 1..=LENGTH_MAX {
            next[length] = (next[length - 1] + counts[length - 1]) << 1;
        }
        let mut entries = vec![0; 1 << longest(counts)];
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let code = &mut next[usize::from(*length)];
            let first = code.reverse_bits() >> (32 - u32::from(*length));
            *code += 1;
            for entry in entries.iter_mut().skip(first as usize).step_by(1 << length) {
                *entry = (symbol as u16) << 4 | u16::from(*length);
            }
        }
        Self(entries)
    }

    fn is_of_one(&self) -> bool {
        self.0.len() == 1
    }

    pub fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let entry = *self.0.get(bits.peek() as usize & (self.0.len() - 1))?;
        bits.skip(u32::from(entry & 15))?;
        Some(usize::from(entry >> 4))
    }
}

/// Least significant bits first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: u64,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next 57 bits at least; zeros behind the end.
    fn peek(&self) -> u64 {
        let rest = usize::try_from(self.at / 8).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        word >> (self.at % 8)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.at += u64::from(count);
        (self.at <= 8 * self.bytes.len() as u64).then_some(())
    }

    /// `count`: at most 32.
    pub fn read(&mut self, count: u32) -> Option<u32> {
        let value = self.peek() & ((1 << count) - 1);
        self.skip(count)?;
        Some(value as u32)
    }
}
