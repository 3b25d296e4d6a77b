//! BMP's run-length encodings, with PIL's idea of runs that are too long and data that ends early (`BmpRleDecoder`).

const SHORT: &str = "the file is cut off: its runs end before its pixels";

/// Calls `each` with every row, in the order of the file. `at`: where `data` begins in the file, since literal runs end at
/// even places. `narrow`: indices of four bits instead of eight.
pub(super) fn decode(
    data: &[u8],
    at: usize,
    narrow: bool,
    width: usize,
    height: usize,
    each: impl FnMut(usize, &[u8]),
) -> Result<(), &'static str> {
    let mut rows = Rows { row: vec![0; width], x: 0, y: 0, height, each };
    // Place within the row as PIL counts it: literal and cut runs may take it past the end.
    let mut x = 0;
    let mut next = 0;
    let take = |next: &mut usize, count: usize| {
        let taken = data.get(*next..).unwrap_or_default();
        let taken = &taken[..taken.len().min(count)];
        *next += taken.len();
        taken
    };
    while !rows.is_full() {
        let &[count, value] = take(&mut next, 2) else { break };
        match (count, value) {
            (0, 0) => {
                rows.end_row();
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let &[right, up] = take(&mut next, 2) else { break };
                rows.skip(usize::from(right) + usize::from(up) * width);
                x = rows.x;
            }
            (0, literal) => {
                let count = usize::from(literal).min(rows.left());
                let bytes = if narrow { count.div_ceil(2) } else { count };
                let taken = take(&mut next, bytes);
                for n in 0..count {
                    let index = if narrow {
                        taken.get(n / 2).map(|byte| if n % 2 == 0 { byte >> 4 } else { byte & 15 })
                    } else {
                        taken.get(n).copied()
                    };
                    let Some(index) = index else { break };
                    rows.push(index);
                }
                if taken.len() < bytes || rows.is_full() {
                    break;
                }
                x += usize::from(literal);
                next += (at + next) % 2;
            }
            (count, value) => {
                let count = usize::from(count).min(width.saturating_sub(x));
                let pair = if narrow { [value >> 4, value & 15] } else { [value, value] };
                (0..count).for_each(|n| rows.push(pair[n % 2]));
                x += count;
            }
        }
    }
    if rows.is_full() { Ok(()) } else { Err(SHORT) }
}

struct Rows<F> {
    row: Vec<u8>,
    x: usize,
    y: usize,
    height: usize,
    each: F,
}

impl<F: FnMut(usize, &[u8])> Rows<F> {
    fn is_full(&self) -> bool {
        self.y == self.height
    }

    /// Pixels that are still missing.
    fn left(&self) -> usize {
        (self.height - self.y) * self.row.len() - self.x
    }

    fn push(&mut self, index: u8) {
        if self.is_full() {
            return;
        }
        self.row[self.x] = index;
        self.x += 1;
        if self.x == self.row.len() {
            (self.each)(self.y, &self.row);
            (self.x, self.y) = (0, self.y + 1);
        }
    }

    fn skip(&mut self, count: usize) {
        (0..count.min(self.left())).for_each(|_| self.push(0));
    }

    /// Fills up a row that has begun.
    fn end_row(&mut self) {
        if self.x > 0 {
            self.skip(self.row.len() - self.x);
        }
    }
}
