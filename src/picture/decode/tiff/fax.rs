//! Black and white by ITU-T T.4 and T.6 (CCITT fax): run lengths of a row, or its differences to the row above.
//!
//! As libtiff, a row that is damaged is filled up and the next one begun: one of the few compressions that people read
//! although a part of it is gone.

use fax::maps::{Mode, black, mode, white};
use fax::{BitReader, Bits};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Compression 2: runs alone, every row from a byte on.
    Runs,
    /// Compression 3: runs, an end-of-line before each row; with `two`, some rows as differences.
    Group3 { two: bool },
    /// Compression 4: differences alone.
    Group4,
}

pub(super) struct Fax<'a> {
    bits: Input<'a>,
    coding: Coding,
    width: usize,
    /// Where the colour changes in the row above, from white on.
    above: Vec<usize>,
    row: Vec<usize>,
    has_ended: bool,
}

impl<'a> Fax<'a> {
    pub fn new(data: &'a [u8], coding: Coding, width: usize) -> Self {
        Self { bits: Input { data, at: 0 }, coding, width, above: Vec::new(), row: Vec::new(), has_ended: false }
    }

    /// The next row, a bit per pixel, 1 = black.
    pub fn row(&mut self, out: &mut [u8]) -> Result<(), String> {
        out.fill(0);
        if !self.has_ended {
            self.next_row();
        }
        if self.has_ended {
            return Err("the file is cut off: a strip of it ends early".to_owned());
        }
        let mut black = false;
        let mut from = 0;
        for &to in self.row.iter().chain([&self.width]) {
            if black {
                (from..to).for_each(|x| out[x / 8] |= 0x80 >> (x % 8));
            }
            (from, black) = (to, !black);
        }
        Ok(())
    }

    fn next_row(&mut self) {
        std::mem::swap(&mut self.row, &mut self.above);
        self.row.clear();
        if self.bits.is_empty() {
            self.has_ended = true;
            return;
        }
        match self.coding {
            Coding::Runs => {
                self.runs();
                self.bits.at = self.bits.at.next_multiple_of(8);
            }
            Coding::Group3 { two } => {
                self.end_of_line();
                if two && !self.bits.take_one() {
                    self.differences();
                } else {
                    self.runs();
                }
            }
            Coding::Group4 => self.differences(),
        }
    }

    /// Up to and over the next end-of-line: eleven zeros or more, and a one.
    fn end_of_line(&mut self) {
        while !self.bits.is_empty() {
            if self.bits.look(11) == 0 {
                while !self.bits.is_empty() && self.bits.look(1) == 0 {
                    self.bits.at += 1;
                }
                self.bits.at += 1;
                return;
            }
            self.bits.at += 1;
        }
    }

    fn push(&mut self, at: usize) {
        self.row.push(at.min(self.width));
    }

    /// The run from `a0` on, of the colour that is next.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let mut sum = 0;
        loop {
            let part = if is_black { black::decode(&mut self.bits) } else { white::decode(&mut self.bits) };
            let part = usize::from(part?);
            sum += part;
            if part < 64 {
                return Some(sum);
            }
            if sum > self.width + 64 {
                return None;
            }
        }
    }

    fn runs(&mut self) {
        let (mut at, mut is_black) = (0, false);
        while at < self.width {
            let Some(run) = self.run(is_black) else { break };
            at += run;
            self.push(at);
            is_black = !is_black;
        }
    }

    fn differences(&mut self) {
        let (mut at, mut is_black, mut is_start) = (0, false, true);
        // The first change of the row above behind `at`; it only ever moves on.
        let mut behind = 0;
        while at < self.width {
            while self.above.get(behind).is_some_and(|&change| change <= at && !(is_start && change == 0)) {
                behind += 1;
            }
            // The first one to the other colour, and the next one.
            let to_other = behind + usize::from((behind % 2 == 1) != is_black);
            let change = |n: usize| self.above.get(n).copied().unwrap_or(self.width);
            let (b1, b2) = (change(to_other), change(to_other + 1));
            match mode::decode(&mut self.bits) {
                Some(Mode::Pass) => at = b2,
                Some(Mode::Horizontal) => {
                    let (Some(first), Some(second)) = (self.run(is_black), self.run(!is_black)) else { return };
                    self.push(at + first);
                    at += first + second;
                    self.push(at);
                }
                Some(Mode::Vertical(offset)) => {
                    let to = b1.saturating_add_signed(isize::from(offset));
                    if to < at {
                        return;
                    }
                    at = to;
                    self.push(at);
                    is_black = !is_black;
                }
                Some(Mode::Extension | Mode::EOF) | None => {
                    // The end of a block before any row is the end of all.
                    if is_start && self.coding == Coding::Group4 {
                        self.has_ended = true;
                    }
                    return;
                }
            }
            is_start = false;
        }
    }
}

/// Behind the end there are zeros.
struct Input<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
}

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.at >= self.data.len() * 8
    }

    /// The next up to 16 bits.
    fn look(&self, count: u8) -> u16 {
        let byte = |n: usize| u32::from(self.data.get(self.at / 8 + n).copied().unwrap_or(0));
        let three = byte(0) << 16 | byte(1) << 8 | byte(2);
        let from = 24 - self.at as u32 % 8 - u32::from(count);
        (three >> from) as u16 & ((1u32 << count) - 1) as u16
    }

    fn take_one(&mut self) -> bool {
        let bit = self.look(1) == 1;
        self.at += 1;
        bit
    }
}

impl BitReader for Input<'_> {
    type Error = ();

    fn peek(&self, bits: u8) -> Option<u16> {
        (bits <= 16).then(|| self.look(bits))
    }

    fn consume(&mut self, bits: u8) -> Result<(), ()> {
        if self.is_empty() {
            return Err(());
        }
        self.at += usize::from(bits);
        Ok(())
    }

    fn expect(&mut self, bits: Bits) -> Result<(), Option<Bits>> {
        let found = self.look(bits.len);
        if found == bits.data { Ok(()) } else { Err(Some(Bits { data: found, len: bits.len })) }
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.next_multiple_of(8) - self.at) as u8
    }
}
