//! The rows of a PNG, one after the other, as they are unpacked: no more than two of them are held.
//!
//! The data is fed to the unpacker in the pieces in which PIL feeds it, because what is wrong behind the last row is
//! noticed only where it comes in the same piece.

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{Header, PictureError, failed, filter};

/// What PIL hands on at once (`ImageFile.MAXBLOCK`).
const PIECE_BYTES: usize = 65_536;

/// Where a row's pixels belong: `count` of them, from `first` on in steps of `step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// First column and row, and the steps to the next ones, of the seven passes (ISO/IEC 15948, 8.2).
const PASSES: [[usize; 4]; 7] =
    [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const WHOLE: [[usize; 4]; 1] = [[0, 0, 1, 1]];

/// Calls `each` with every row. Where the data ends properly before the last row, the rest stays as it is, as in PIL.
pub(super) fn read(header: &Header<'_>, mut each: impl FnMut(Place, &[u8])) -> Result<(), PictureError> {
    let (width, height) = (header.size.width as usize, header.size.height as usize);
    let layout = header.layout();
    let too_wide = || failed("its rows are longer than memory");
    let row_bytes = layout.row_bytes(width).ok_or_else(too_wide)?;
    let pixel_bytes = (layout.bits * layout.stored).div_ceil(8);
    let (mut row, mut before) = (vec![0; row_bytes + 1], vec![0; row_bytes + 1]);
    let mut data = Data::new(header);
    let passes = if header.interlaced { &PASSES[..] } else { &WHOLE[..] };
    for &[first_column, first_row, across, down] in passes {
        let count = width.saturating_sub(first_column).div_ceil(across);
        if count == 0 {
            continue;
        }
        // Its filter is the first byte of a row.
        let bytes = 1 + layout.row_bytes(count).ok_or_else(too_wide)?;
        before.fill(0);
        for y in (first_row..height).step_by(down) {
            let is_last = data.fill(&mut row[..bytes])?;
            if !filter::undo(row[0], &mut row[1..bytes], &before[1..bytes], pixel_bytes) {
                return Err(failed(format_args!("a row has filter {}; there are 0 to 4", row[0])));
            }
            each(Place { first: y * width + first_column, step: across, count }, &row[1..bytes]);
            if is_last {
                return Ok(());
            }
            std::mem::swap(&mut row, &mut before);
        }
    }
    Ok(())
}

/// The unpacked data.
struct Data<'a> {
    chunks: super::Chunks<'a>,
    /// What is left of the chunk, and of its piece.
    chunk: &'a [u8],
    piece: &'a [u8],
    inflate: Inflate,
    has_ended: bool,
}

impl<'a> Data<'a> {
    fn new(header: &Header<'a>) -> Self {
        let chunks = header.data.clone();
        Self { chunks, chunk: &[], piece: &[], inflate: Inflate::new(true, 15), has_ended: false }
    }

    /// Fills `row`; true where the data ends with it.
    fn fill(&mut self, row: &mut [u8]) -> Result<bool, PictureError> {
        let mut filled = 0;
        loop {
            if self.piece.is_empty() && !self.next_piece() {
                return Err(failed("the file is cut off: its pixels end early"));
            }
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(self.piece, &mut row[filled..], InflateFlush::NoFlush);
            self.piece = &self.piece[(self.inflate.total_in() - read) as usize..];
            filled += (self.inflate.total_out() - written) as usize;
            match status {
                Ok(Status::StreamEnd) => self.has_ended = true,
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) => return Err(failed(format_args!("its pixels are damaged: {}", error.as_str()))),
            }
            if filled == row.len() {
                return Ok(self.has_ended);
            }
            if self.has_ended {
                return Err(failed("the file is cut off: its pixels end within a row"));
            }
        }
    }

    fn next_piece(&mut self) -> bool {
        while self.chunk.is_empty() {
            match self.chunks.next() {
                Some(chunk) if &chunk.kind == b"IDAT" || &chunk.kind == b"DDAT" => self.chunk = chunk.body,
                _ => return false,
            }
        }
        (self.piece, self.chunk) = self.chunk.split_at(self.chunk.len().min(PIECE_BYTES));
        true
    }
}
