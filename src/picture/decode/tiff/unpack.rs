//! The bytes of a strip or tile, row by row, as its compression gives them.

use weezl::{BitOrder, LzwStatus};
use zlib_rs::{Inflate, InflateFlush, Status};

use super::fax::Fax;

const SHORT: &str = "the file is cut off: a strip holds fewer pixels than its header says";

pub(super) enum Unpack<'a> {
    Raw(&'a [u8]),
    PackBits {
        data: &'a [u8],
        /// What is left of the run.
        run: Run<'a>,
    },
    Lzw {
        data: &'a [u8],
        decoder: Box<weezl::decode::Decoder>,
    },
    Deflate {
        data: &'a [u8],
        inflate: Box<Inflate>,
    },
    Fax(Box<Fax<'a>>),
    /// Decoded already, and how much of it has been given.
    Whole(Vec<u8>, usize),
}

pub(super) enum Run<'a> {
    Literal(&'a [u8]),
    Repeat(u8, usize),
}

impl<'a> Unpack<'a> {
    pub fn pack_bits(data: &'a [u8]) -> Self {
        Self::PackBits { data, run: Run::Literal(&[]) }
    }

    pub fn lzw(data: &'a [u8]) -> Self {
        Self::Lzw { data, decoder: Box::new(weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8)) }
    }

    pub fn deflate(data: &'a [u8]) -> Self {
        Self::Deflate { data, inflate: Box::new(Inflate::new(true, 15)) }
    }

    /// Fills `row` with the next bytes.
    pub fn fill(&mut self, row: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Raw(data) => {
                let (taken, rest) = data.split_at_checked(row.len()).ok_or(SHORT)?;
                row.copy_from_slice(taken);
                *data = rest;
                Ok(())
            }
            Self::Whole(data, given) => {
                row.copy_from_slice(data.get(*given..*given + row.len()).ok_or(SHORT)?);
                *given += row.len();
                Ok(())
            }
            Self::PackBits { data, run } => pack_bits(data, run, row),
            Self::Lzw { data, decoder } => {
                let mut filled = 0;
                while filled < row.len() {
                    let result = decoder.decode_bytes(data, &mut row[filled..]);
                    *data = &data[result.consumed_in..];
                    filled += result.consumed_out;
                    match result.status {
                        Ok(LzwStatus::Ok) => {}
                        Ok(LzwStatus::NoProgress | LzwStatus::Done) if filled == row.len() => {}
                        Ok(LzwStatus::NoProgress | LzwStatus::Done) => return Err(SHORT.to_owned()),
                        Err(error) => return Err(format!("a strip is damaged: {error}")),
                    }
                }
                Ok(())
            }
            Self::Deflate { data, inflate } => {
                let mut filled = 0;
                while filled < row.len() {
                    let (read, written) = (inflate.total_in(), inflate.total_out());
                    let status = inflate.decompress(data, &mut row[filled..], InflateFlush::NoFlush);
                    let step = (inflate.total_out() - written) as usize;
                    *data = &data[(inflate.total_in() - read) as usize..];
                    filled += step;
                    match status {
                        Err(error) => return Err(format!("a strip is damaged: {}", error.as_str())),
                        Ok(Status::Ok) if step > 0 || !data.is_empty() => {}
                        Ok(_) if filled == row.len() => {}
                        Ok(_) => return Err(SHORT.to_owned()),
                    }
                }
                Ok(())
            }
            Self::Fax(fax) => fax.row(row),
        }
    }
}

/// TIFF 6.0, section 9.
fn pack_bits<'a>(data: &mut &'a [u8], run: &mut Run<'a>, row: &mut [u8]) -> Result<(), String> {
    let mut filled = 0;
    while filled < row.len() {
        let room = &mut row[filled..];
        let count = match run {
            Run::Literal(bytes) => {
                let count = bytes.len().min(room.len());
                room[..count].copy_from_slice(&bytes[..count]);
                *bytes = &bytes[count..];
                count
            }
            Run::Repeat(byte, left) => {
                let count = (*left).min(room.len());
                room[..count].fill(*byte);
                *left -= count;
                count
            }
        };
        filled += count;
        if count == 0 {
            let (&head, rest) = data.split_first().ok_or(SHORT)?;
            *data = rest;
            match head as i8 {
                -128 => {}
                head @ ..0 => {
                    let (&byte, rest) = data.split_first().ok_or(SHORT)?;
                    (*run, *data) = (Run::Repeat(byte, usize::from(head.unsigned_abs()) + 1), rest);
                }
                head => {
                    let count = (head as usize + 1).min(data.len());
                    let (bytes, rest) = data.split_at(count);
                    if bytes.is_empty() {
                        return Err(SHORT.to_owned());
                    }
                    (*run, *data) = (Run::Literal(bytes), rest);
                }
            }
        }
    }
    Ok(())
}
