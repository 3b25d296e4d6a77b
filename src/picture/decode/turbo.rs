//! The part of libjpeg-turbo that is needed, through its TurboJPEG interface: the `turbojpeg` crate's own wrapper decodes
//! whole pictures only and takes each warning for a failure.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use turbojpeg::{PixelFormat, raw};

use crate::picture::area::{Region, Size};

/// Whether libjpeg-turbo was built with its SIMD code (x86: with nasm). Without it a large JPEG takes about twice as long.
pub const HAS_SIMD: bool = cfg!(not(jpeg_without_simd));

/// More scans than any encoder writes. Every scan of a progressive file walks the whole picture again, however few bytes it
/// has, so that large pictures have fewer: `SCANNED_PIXELS_MAX` over all scans, but not below `SCANS_MIN` (libjpeg's own
/// script has 10, those of optimisers up to 20 or so).
const SCANS_MAX: u64 = 200;
const SCANS_MIN: u64 = 40;
const SCANNED_PIXELS_MAX: u64 = 2_000_000_000;

/// One decoder of the library. A panic or an early return leaves nothing behind.
pub(super) struct Decoder {
    handle: NonNull<c_void>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub size: Size,
    /// Bits per sample.
    pub precision: i32,
    pub colors: Colors,
    pub lossless: bool,
    /// Width and height of the blocks that a part of the picture can be cut at; `None` if it is decoded whole.
    pub block: Option<Size>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    Grey,
    Rgb,
    YCbCr,
    /// `CMYK` or `YCCK`.
    Cmyk,
}

/// Which of a picture's pixels are decoded, and how finely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// 1, 2, 4 or 8.
    pub reduction: usize,
    /// The picture's sides, divided by `reduction` and rounded up.
    pub whole: Size,
    /// In pixels of the reduced picture, its left at a block's edge; `None`: all.
    pub region: Option<Region>,
}

impl Part {
    fn size(self) -> Size {
        self.region.map_or(self.whole, |region| Size { width: region.width, height: region.height })
    }
}

impl Decoder {
    pub fn new() -> Result<Self, String> {
        // SAFETY: takes a number, gives a handle or null.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let handle = NonNull::new(handle).ok_or("libjpeg-turbo has no memory for a decoder")?;
        let decoder = Self { handle };
        decoder.set(raw::TJPARAM_TJPARAM_SAVEMARKERS, 0)?;
        Ok(decoder)
    }

    /// What the library may allocate from here on; it fails beyond that.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), String> {
        let megabytes = c_int::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(c_int::MAX);
        self.set(raw::TJPARAM_TJPARAM_MAXMEMORY, megabytes)
    }

    /// Reads up to the first scan. Warnings are not failures, see [`Self::decode`].
    pub fn header(&self, bytes: &[u8]) -> Result<Header, String> {
        // SAFETY: reads `bytes.len()` bytes; the pointer is not used after the call.
        let code = unsafe { raw::tj3DecompressHeader(self.raw(), bytes.as_ptr(), bytes.len() as raw::size_t) };
        let colors = match u32::try_from(self.get(raw::TJPARAM_TJPARAM_COLORSPACE)) {
            Ok(raw::TJCS_TJCS_GRAY) => Some(Colors::Grey),
            Ok(raw::TJCS_TJCS_RGB) => Some(Colors::Rgb),
            Ok(raw::TJCS_TJCS_YCbCr) => Some(Colors::YCbCr),
            Ok(raw::TJCS_TJCS_CMYK | raw::TJCS_TJCS_YCCK) => Some(Colors::Cmyk),
            _ => None,
        };
        let side = |parameter| usize::try_from(self.get(parameter)).unwrap_or(0);
        let (width, height) = (side(raw::TJPARAM_TJPARAM_JPEGWIDTH), side(raw::TJPARAM_TJPARAM_JPEGHEIGHT));
        // The code is not enough: a warning sets it too. Without a header the sides stay negative.
        let (Some(colors), 1.., 1..) = (colors, width, height) else {
            return Err(if code == 0 { "it holds no picture".to_owned() } else { self.message() });
        };
        let is = |parameter| self.get(parameter) != 0;
        let lossless = is(raw::TJPARAM_TJPARAM_LOSSLESS);
        // The library refuses to cut lossless pictures; the others are rare, and their coefficients are all read anyway.
        let whole = lossless || is(raw::TJPARAM_TJPARAM_PROGRESSIVE) || is(raw::TJPARAM_TJPARAM_ARITHMETIC);
        let block = if whole { None } else { block(self.get(raw::TJPARAM_TJPARAM_SUBSAMP)) };
        let pixels = (width as u64).saturating_mul(height as u64).max(1);
        let scans = (SCANNED_PIXELS_MAX / pixels).clamp(SCANS_MIN, SCANS_MAX);
        self.set(raw::TJPARAM_TJPARAM_SCANLIMIT, c_int::try_from(scans).unwrap_or(c_int::MAX))?;
        let precision = self.get(raw::TJPARAM_TJPARAM_PRECISION);
        Ok(Header { size: Size { width, height }, precision, colors, block, lossless })
    }

    /// Fills `out` with rows in `format`, without gaps, as many as `part` has; [`Self::header`] has read the same
    /// `bytes`. The text is a warning: the library does not fail on damaged data, it fills what is missing and continues.
    pub fn decode(
        &self,
        bytes: &[u8],
        part: Part,
        format: PixelFormat,
        out: &mut [u8],
    ) -> Result<Option<String>, String> {
        self.prepare(part)?;
        self.set(raw::TJPARAM_TJPARAM_STOPONWARNING, 1)?;
        let Err(first) = self.fill(bytes, part.size(), format, out) else { return Ok(None) };
        // SAFETY: reads a flag of the decoder.
        if unsafe { raw::tj3GetErrorCode(self.raw()) } != raw::TJERR_TJERR_WARNING as c_int {
            return Err(first);
        }
        self.set(raw::TJPARAM_TJPARAM_STOPONWARNING, 0)?;
        // From here on the flag says "warning" even where an error follows. The text distinguishes them: that of the first
        // warning is kept, and only an error replaces it.
        match self.fill(bytes, part.size(), format, out) {
            Err(last) if last != first => Err(last),
            _ => Ok(Some(first)),
        }
    }

    fn prepare(&self, part: Part) -> Result<(), String> {
        let factor = raw::tjscalingfactor { num: 1, denom: int(part.reduction)? };
        // SAFETY: takes numbers.
        self.check(unsafe { raw::tj3SetScalingFactor(self.raw(), factor) })?;
        // The library's word for "all" is a region of zeros.
        let (x, y, w, h) = match part.region {
            Some(r) => (int(r.left)?, int(r.top)?, int(r.width)?, int(r.height)?),
            None => (0, 0, 0, 0),
        };
        // SAFETY: takes numbers, and checks them against the header.
        self.check(unsafe { raw::tj3SetCroppingRegion(self.raw(), raw::tjregion { x, y, w, h }) })
    }

    fn fill(&self, bytes: &[u8], size: Size, format: PixelFormat, out: &mut [u8]) -> Result<(), String> {
        let row_bytes = size.width * format.size();
        if out.len() != row_bytes * size.height {
            return Err("the buffer has not the size of the picture".to_owned());
        }
        // SAFETY: the library reads `bytes.len()` bytes and writes `size.height` rows of `row_bytes` each, which `out` has
        // been checked to hold: the size follows from the header of the same bytes and from the part in `prepare`.
        self.check(unsafe {
            let (from, length) = (bytes.as_ptr(), bytes.len() as raw::size_t);
            raw::tj3Decompress8(self.raw(), from, length, out.as_mut_ptr(), int(row_bytes)?, format as c_int)
        })
    }

    fn raw(&self) -> raw::tjhandle {
        self.handle.as_ptr()
    }

    fn get(&self, parameter: raw::TJPARAM) -> c_int {
        // SAFETY: reads a number of the decoder.
        unsafe { raw::tj3Get(self.raw(), parameter as c_int) }
    }

    fn set(&self, parameter: raw::TJPARAM, value: c_int) -> Result<(), String> {
        // SAFETY: takes numbers, and checks them.
        self.check(unsafe { raw::tj3Set(self.raw(), parameter as c_int, value) })
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 { Ok(()) } else { Err(self.message()) }
    }

    fn message(&self) -> String {
        // SAFETY: the library's text ends with a zero and is copied before the next call.
        unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.raw())) }.to_string_lossy().into_owned()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: made by `tj3Init`, and not used after this.
        unsafe { raw::tj3Destroy(self.raw()) };
    }
}

/// Blocks of common subsamplings; the library does not cut pictures of others.
fn block(subsampling: c_int) -> Option<Size> {
    let (width, height) = match subsampling {
        raw::TJSAMP_TJSAMP_444 | raw::TJSAMP_TJSAMP_GRAY => (8, 8),
        raw::TJSAMP_TJSAMP_422 => (16, 8),
        raw::TJSAMP_TJSAMP_420 => (16, 16),
        raw::TJSAMP_TJSAMP_440 => (8, 16),
        raw::TJSAMP_TJSAMP_411 => (32, 8),
        raw::TJSAMP_TJSAMP_441 => (8, 32),
        _ => return None,
    };
    Some(Size { width, height })
}

fn int(value: usize) -> Result<c_int, String> {
    c_int::try_from(value).map_err(|_| format!("{value} is too large for libjpeg-turbo"))
}
