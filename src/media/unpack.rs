//! Packed bodies (`Content-Encoding`). They come although unpacked ones are requested: the server packs everything, or
//! the object was stored packed.
//!
//! The named encoding is not trusted either. Many name no packing (`none`, `UTF-8`, `binary`), or one that they did not
//! apply. A body that begins like a picture is one. A body that begins like gzip or Zstandard is that, named or not.
//! Only packings without a signature (deflate, brotli) need their name.

use std::io::Write as _;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

/// Bytes unpacked at once, so that they can be counted in steps.
const STEP_BYTES: usize = 64 * 1024;
/// Packed bytes given to gzip at once: it expands them about a thousandfold at most.
const GZIP_STEP_BYTES: usize = 64;
/// Bytes needed to recognise the content.
const HEAD_BYTES: usize = 4;
/// Window that Zstandard may ask for: 8 MiB (RFC 9659 §3).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Most bytes a brotli or Zstandard decoder holds besides its output (RFC 7932 §9.1: windows below 16 MiB).
const WINDOW_BYTES: u64 = 16 * 1024 * 1024;

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    /// Unix's `compress`, which is not supported.
    Compress,
}

/// Why a body cannot be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The named packings.
    Unsupported(String),
    Damaged,
    /// The input ended too early.
    Incomplete,
}

#[derive(Debug)]
pub(super) struct Unpacker {
    named: Vec<Packing>,
    /// Bytes received before the kind is known.
    head: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Unknown,
    Plain,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Deflate(Box<Decompress>),
    Brotli(Box<Brotli>),
    Zstd(Box<ZstdDecoder<'static>>),
    /// Bytes after the end are ignored.
    Over,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Plain => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Deflate(_) => "Deflate",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
            Self::Over => "Over",
        })
    }
}

impl Unpacker {
    /// `encodings`: values of `Content-Encoding`, as sent.
    pub(super) fn new<'a>(encodings: impl Iterator<Item = &'a [u8]>) -> Self {
        let named = encodings.flat_map(|value| value.split(|byte| *byte == b',')).filter_map(packing).collect();
        Self { named, head: Vec::new(), kind: Kind::Unknown }
    }

    /// Whether input passes through unchanged.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Plain)
    }

    /// Whether output may exceed the input.
    pub(super) fn expands(&self) -> bool {
        matches!(self.kind, Kind::Gzip(_) | Kind::Deflate(_) | Kind::Brotli(_) | Kind::Zstd(_) | Kind::Over)
    }

    /// Most bytes that the decoder itself holds.
    pub(super) fn window_bytes(&self) -> u64 {
        if matches!(self.kind, Kind::Brotli(_) | Kind::Zstd(_)) { WINDOW_BYTES } else { 0 }
    }

    /// Unpacks from the beginning of `input`. Returns how many bytes were used, and the output. Call again until both
    /// are zero.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<(usize, Vec<u8>), Trouble> {
        if matches!(self.kind, Kind::Unknown) {
            let used = input.len().min(HEAD_BYTES - self.head.len());
            self.head.extend_from_slice(&input[..used]);
            if self.head.len() == HEAD_BYTES {
                self.kind = self.recognise()?;
                // The head is four bytes, so its output is small.
                let head = std::mem::take(&mut self.head);
                return Ok((used, self.whole(&head)?));
            }
            return Ok((used, Vec::new()));
        }
        self.unpack(input)
    }

    /// The input has ended. Returns the rest of the output.
    pub(super) fn end(&mut self) -> Result<Vec<u8>, Trouble> {
        match &mut self.kind {
            // Too short to be packed.
            Kind::Unknown => Ok(std::mem::take(&mut self.head)),
            Kind::Plain | Kind::Over => Ok(Vec::new()),
            Kind::Gzip(decoder) => {
                // Truncated, or a wrong checksum: both look the same here.
                decoder.try_finish().map_err(|_| Trouble::Incomplete)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Kind::Deflate(_) | Kind::Brotli(_) | Kind::Zstd(_) => Err(Trouble::Incomplete),
        }
    }

    fn recognise(&self) -> Result<Kind, Trouble> {
        let head = self.head.as_slice();
        let known = match head {
            [0x1F, 0x8B, 8, _] => Some(Packing::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD] => Some(Packing::Zstd),
            _ if is_picture(head) => None,
            // Gzip and Zstandard would have been recognised, so a named one was not applied.
            _ => self.named.last().copied().filter(|named| !matches!(named, Packing::Gzip | Packing::Zstd)),
        };
        if known.is_some() && self.named.len() > 1 {
            let named: Vec<String> = self.named.iter().map(|packing| format!("{packing:?}").to_lowercase()).collect();
            return Err(Trouble::Unsupported(named.join(", ")));
        }
        Ok(match known {
            None => Kind::Plain,
            Some(Packing::Gzip) => Kind::Gzip(Box::new(GzDecoder::new(Vec::new()))),
            // In zlib's format, as specified (RFC 9110 §8.4.1.2), or raw, as some servers send it.
            Some(Packing::Deflate) => {
                let zlib = head[0] & 0x0F == 8 && u16::from_be_bytes([head[0], head[1]]).is_multiple_of(31);
                Kind::Deflate(Box::new(Decompress::new(zlib)))
            }
            Some(Packing::Brotli) => {
                let alloc = StandardAlloc::default;
                Kind::Brotli(Box::new(BrotliState::new(alloc(), alloc(), alloc())))
            }
            Some(Packing::Zstd) => {
                let decoder = ZstdDecoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                    Ok(decoder)
                });
                Kind::Zstd(Box::new(decoder.map_err(|_| Trouble::Unsupported("zstd".into()))?))
            }
            Some(Packing::Compress) => return Err(Trouble::Unsupported("compress".into())),
        })
    }

    /// The whole output of `input`, which must be short.
    fn whole(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Trouble> {
        let mut all = Vec::new();
        loop {
            let (used, given) = self.unpack(input)?;
            if used == 0 && given.is_empty() {
                return Ok(all);
            }
            all.extend(given);
            input = &input[used..];
        }
    }

    fn unpack(&mut self, input: &[u8]) -> Result<(usize, Vec<u8>), Trouble> {
        let mut given = Vec::new();
        let (used, over) = match &mut self.kind {
            Kind::Unknown => (0, false),
            Kind::Plain => {
                given.extend_from_slice(input);
                (input.len(), false)
            }
            Kind::Over => (input.len(), false),
            Kind::Gzip(decoder) => {
                let input = &input[..input.len().min(GZIP_STEP_BYTES)];
                let used = decoder.write(input).map_err(|_| Trouble::Damaged)?;
                given = std::mem::take(decoder.get_mut());
                if used == 0 && !input.is_empty() {
                    // After its end, which `end` checks. Trailing bytes are ignored.
                    (input.len(), false)
                } else {
                    (used, false)
                }
            }
            Kind::Deflate(decoder) => {
                given.resize(STEP_BYTES, 0);
                let before = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(input, &mut given, FlushDecompress::None);
                let used = (decoder.total_in() - before.0) as usize;
                given.truncate((decoder.total_out() - before.1) as usize);
                (used, status.map_err(|_| Trouble::Damaged)? == Status::StreamEnd)
            }
            Kind::Brotli(state) => {
                given.resize(STEP_BYTES, 0);
                let (mut left, mut used, mut room, mut at, mut total) = (input.len(), 0, STEP_BYTES, 0, 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut used,
                    input,
                    &mut room,
                    &mut at,
                    &mut given,
                    &mut total,
                    &mut **state,
                );
                given.truncate(at);
                match result {
                    BrotliResult::ResultFailure => return Err(Trouble::Damaged),
                    result => (used, matches!(result, BrotliResult::ResultSuccess)),
                }
            }
            Kind::Zstd(decoder) => {
                given.resize(STEP_BYTES, 0);
                let status = decoder.run_on_buffers(input, &mut given).map_err(|_| Trouble::Damaged)?;
                given.truncate(status.bytes_written);
                (status.bytes_read, status.remaining == 0 && status.bytes_read + status.bytes_written > 0)
            }
        };
        if over {
            self.kind = Kind::Over;
        }
        Ok((used, given))
    }
}

/// The packing of this name; `None` if it is not a packing.
fn packing(name: &[u8]) -> Option<Packing> {
    let name = name.trim_ascii().to_ascii_lowercase();
    let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(&name);
    match name {
        b"gzip" | b"x-gzip" => Some(Packing::Gzip),
        b"deflate" => Some(Packing::Deflate),
        b"br" => Some(Packing::Brotli),
        b"zstd" => Some(Packing::Zstd),
        b"compress" | b"x-compress" => Some(Packing::Compress),
        _ => None,
    }
}

/// Signatures are long enough not to occur at the start of packed data.
fn is_picture(head: &[u8]) -> bool {
    [&b"\xFF\xD8\xFF"[..], b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*"].iter().any(|start| head.starts_with(start))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
