//! GIF's variable-length codes (GIF 89a, appendix F), with PIL's idea of what is damaged (`GifDecode.c`).

/// Most bits and most codes.
const BITS_MAX: u32 = 12;
const CODES_MAX: usize = 1 << BITS_MAX;

/// The indices, in the order of the file.
pub(super) struct Codes<'a> {
    blocks: &'a [u8],
    /// What is left of the block.
    block: &'a [u8],
    bits: u64,
    bit_count: u32,
    root_bits: u32,
    code_bits: u32,
    /// Code that a code goes on from, and the index it adds.
    links: Box<[(u16, u8); CODES_MAX]>,
    next: usize,
    /// The code before, and the first index of its run; `None` after a clear code.
    before: Option<(usize, u8)>,
    /// Indices that are not handed out yet, last one first.
    run: Vec<u8>,
}

impl<'a> Codes<'a> {
    /// `data` begins with the number of bits of the smallest codes.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let (&root_bits, blocks) = data.split_first()?;
        let root_bits = u32::from(root_bits);
        if root_bits > BITS_MAX {
            return None;
        }
        let mut codes = Self {
            blocks,
            block: &[],
            bits: 0,
            bit_count: 0,
            root_bits,
            code_bits: 0,
            links: Box::new([(0, 0); CODES_MAX]),
            next: 0,
            before: None,
            run: Vec::with_capacity(CODES_MAX),
        };
        codes.clear();
        Some(codes)
    }

    fn clear(&mut self) {
        self.next = (1 << self.root_bits) + 2;
        self.code_bits = self.root_bits + 1;
        self.before = None;
    }

    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), &'static str> {
        let mut filled = 0;
        while filled < out.len() {
            if self.run.is_empty() {
                self.expand()?;
            }
            let count = self.run.len().min(out.len() - filled);
            for (out, index) in out[filled..filled + count].iter_mut().zip(self.run.iter().rev()) {
                *out = *index;
            }
            self.run.truncate(self.run.len() - count);
            filled += count;
        }
        Ok(())
    }

    /// The run of the next code.
    fn expand(&mut self) -> Result<(), &'static str> {
        const DAMAGED: &str = "its pixels are damaged: a code comes before its meaning";
        let clear = 1 << self.root_bits;
        loop {
            let code = self.code()?;
            if code == clear {
                self.clear();
                continue;
            }
            if code == clear + 1 {
                return Err("the file is cut off: its pixels end early");
            }
            let Some((before, first)) = self.before else {
                if code > clear {
                    return Err(DAMAGED);
                }
                self.before = Some((code, code as u8));
                self.run.push(code as u8);
                return Ok(());
            };
            if code > self.next {
                return Err(DAMAGED);
            }
            let mut at = code;
            if code == self.next {
                self.run.push(first);
                at = before;
            }
            while at >= clear {
                if self.run.len() >= CODES_MAX || at >= CODES_MAX {
                    return Err(DAMAGED);
                }
                let (link, index) = self.links[at];
                self.run.push(index);
                at = usize::from(link);
            }
            self.run.push(at as u8);
            if self.next < CODES_MAX {
                self.links[self.next] = (before as u16, at as u8);
                if self.next == (1 << self.code_bits) - 1 && self.code_bits < BITS_MAX {
                    self.code_bits += 1;
                }
                self.next += 1;
            }
            self.before = Some((code, at as u8));
            return Ok(());
        }
    }

    fn code(&mut self) -> Result<usize, &'static str> {
        while self.bit_count < self.code_bits {
            match self.block.split_first() {
                Some((&byte, rest)) => {
                    self.block = rest;
                    self.bits |= u64::from(byte) << self.bit_count;
                    self.bit_count += 8;
                }
                None => self.next_block()?,
            }
        }
        let code = self.bits & ((1 << self.code_bits) - 1);
        self.bits >>= self.code_bits;
        self.bit_count -= self.code_bits;
        Ok(code as usize)
    }

    /// Blocks count as a whole only. PIL reads on behind an empty one.
    fn next_block(&mut self) -> Result<(), &'static str> {
        let cut_off = "the file is cut off: its pixels end early";
        let (&length, rest) = self.blocks.split_first().ok_or(cut_off)?;
        (self.block, self.blocks) = rest.split_at_checked(usize::from(length)).ok_or(cut_off)?;
        Ok(())
    }
}
