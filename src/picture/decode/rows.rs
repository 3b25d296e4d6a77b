//! Rows of packed samples, as most files store them, to one byte per sample.

/// How the samples of a row are stored: most significant bit first, each row from a byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bits per sample: 1, 2, 4, 8 or 16.
    pub bits: usize,
    /// Samples per pixel in the file.
    pub stored: usize,
    /// The first of them that are kept.
    pub kept: usize,
    /// Of 16-bit samples.
    pub order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Layout {
    /// Every sample is kept.
    pub fn packed(bits: usize, stored: usize) -> Self {
        Self { bits, stored, kept: stored, order: Order::Big }
    }

    /// Bytes of `width` pixels; `None` if that exceeds the address space.
    pub fn row_bytes(self, width: usize) -> Option<usize> {
        Some(width.checked_mul(self.stored)?.checked_mul(self.bits)?.div_ceil(8))
    }

    /// Fills `out` with `kept` bytes per pixel. Small samples keep their value, of 16 bits the high byte is kept, as in
    /// PIL. A row that is too short leaves the rest of `out` as it is.
    pub fn unpack(self, row: &[u8], out: &mut [u8]) {
        match self.bits {
            8 if self.stored == self.kept => {
                let length = row.len().min(out.len());
                out[..length].copy_from_slice(&row[..length]);
            }
            8 => {
                for (pixel, out) in row.chunks_exact(self.stored).zip(out.chunks_exact_mut(self.kept)) {
                    out.copy_from_slice(&pixel[..self.kept]);
                }
            }
            16 => {
                let high = usize::from(self.order == Order::Little);
                for (pixel, out) in row.chunks_exact(2 * self.stored).zip(out.chunks_exact_mut(self.kept)) {
                    for (pair, out) in pixel.as_chunks::<2>().0.iter().zip(out) {
                        *out = pair[high];
                    }
                }
            }
            bits => {
                let per_byte = 8 / bits;
                let mask = ((1u16 << bits) - 1) as u8;
                for (packed, out) in row.iter().zip(out.chunks_mut(per_byte)) {
                    for (n, out) in out.iter_mut().enumerate() {
                        *out = (packed >> (8 - bits - n * bits)) & mask;
                    }
                }
            }
        }
    }
}

/// Spreads samples of `bits` (1, 2 or 4) over 0..=255, as PIL does for grey ones.
pub(super) fn spread(samples: &mut [u8], bits: usize) {
    let factor = (255 / ((1u16 << bits) - 1)) as u8;
    samples.iter_mut().for_each(|sample| *sample *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_every_depth() {
        let unpacked = |layout: Layout, row: &[u8], width: usize| {
            let mut out = vec![9; width * layout.kept];
            layout.unpack(row, &mut out);
            out
        };
        assert_eq!(unpacked(Layout::packed(1, 1), &[0b1010_0000, 0x80], 9), [1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(unpacked(Layout::packed(2, 1), &[0b0001_1011], 4), [0, 1, 2, 3]);
        assert_eq!(unpacked(Layout::packed(4, 1), &[0x1F, 0x70], 3), [1, 15, 7]);
        assert_eq!(unpacked(Layout { kept: 1, ..Layout::packed(8, 2) }, &[1, 2, 3, 4], 2), [1, 3]);
        assert_eq!(unpacked(Layout::packed(16, 1), &[1, 2, 3, 4], 2), [1, 3]);
        assert_eq!(unpacked(Layout { order: Order::Little, ..Layout::packed(16, 1) }, &[1, 2, 3, 4], 2), [2, 4]);
        // Of a row that is too short the rest stays.
        assert_eq!(unpacked(Layout::packed(8, 3), &[1, 2], 1), [1, 2, 9]);
        let mut grey = [0, 1, 2, 3];
        spread(&mut grey, 2);
        assert_eq!(grey, [0, 85, 170, 255]);
    }
}
