//! The container of a WebP, by libwebp's rules (`demux.c`): which chunks hold the first frame, and what it is shown on.
//! Flags that promise a profile or metadata promise nothing about the pixels.

/// Fourth bit: alpha; second: animation. The others: profile, EXIF, XMP.
const ALPHA: u8 = 0x10;
const ANIMATION: u8 = 0x02;
const KNOWN_FLAGS: u8 = 0x3E;

/// libwebp's `MAX_CHUNK_PAYLOAD` and `MAX_IMAGE_AREA`.
const CHUNK_BYTES_MAX: u32 = u32::MAX - 8 - 1;
const AREA_MAX: u64 = 1 << 32;

const SHORT: &str = "the file is cut off: it is shorter than its header says";
const CUT_CHUNK: &str = "a chunk of it is longer than what holds it";
const MISPLACED: &str = "its chunks are in an order that means nothing";

/// One encoded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub width: u32,
    pub height: u32,
    /// Where it lies on the canvas.
    pub left: u32,
    pub top: u32,
    pub coded: Coded<'a>,
}

/// Bodies of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coded<'a> {
    Lossy {
        body: &'a [u8],
        alpha: Option<&'a [u8]>,
    },
    /// `alpha`: what its own header says.
    Lossless {
        body: &'a [u8],
        alpha: bool,
    },
}

/// The first frame, and the canvas around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture<'a> {
    pub width: u32,
    pub height: u32,
    /// Whether PIL opens it with alpha.
    pub alpha: bool,
    pub frame: Frame<'a>,
}

/// Kind, body, and what is padding behind it.
struct Chunk<'a> {
    kind: [u8; 4],
    body: &'a [u8],
}

/// The chunks of a body. Padding may be missing at the very end of it.
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    /// `None` at the end.
    fn next(&mut self) -> Result<Option<Chunk<'a>>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let head = self.0.first_chunk::<8>().ok_or(CUT_CHUNK)?;
        let [a, b, c, d, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > CHUNK_BYTES_MAX {
            return Err(CUT_CHUNK);
        }
        let length = length as usize;
        let rest = &self.0[8..];
        let body = rest.get(..length + length % 2).ok_or(CUT_CHUNK)?;
        self.0 = &rest[body.len()..];
        Ok(Some(Chunk { kind: [a, b, c, d], body: &body[..length] }))
    }

    fn peek(&self) -> Option<[u8; 4]> {
        self.0.first_chunk().copied()
    }
}

/// # Errors
///
/// In words, where libwebp refuses the container. Of an animation, what follows the first frame is not looked at.
pub(super) fn read(bytes: &[u8]) -> Result<Picture<'_>, &'static str> {
    let announced = bytes.get(4..8).and_then(|size| size.first_chunk()).map_or(0, |size| u32::from_le_bytes(*size));
    if !(8..=CHUNK_BYTES_MAX).contains(&announced) {
        return Err("its header says a length that no WebP file has");
    }
    // What follows the announced end does not count.
    let content = bytes.get(12..announced as usize + 8).ok_or(SHORT)?;
    let mut chunks = Chunks(content);
    match chunks.peek() {
        Some([b'V', b'P', b'8', b'X']) => extended(&mut chunks),
        Some([b'V', b'P', b'8', b' ' | b'L']) => {
            let frame = single(&mut chunks)?.0;
            let alpha = matches!(frame.coded, Coded::Lossless { alpha: true, .. });
            Ok(Picture { width: frame.width, height: frame.height, alpha, frame })
        }
        _ => Err("it begins with no chunk of a picture"),
    }
}

fn extended<'a>(chunks: &mut Chunks<'a>) -> Result<Picture<'a>, &'static str> {
    let head = chunks.next()?.ok_or(SHORT)?;
    let Some(&[flags, _, _, _, w0, w1, w2, h0, h1, h2]) = head.body.first_chunk() else {
        return Err("its header chunk (VP8X) is too short");
    };
    let (width, height) = (1 + three([w0, w1, w2]), 1 + three([h0, h1, h2]));
    if u64::from(width) * u64::from(height) >= AREA_MAX {
        return Err("it has more pixels than a WebP file may have");
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err("its header chunk (VP8X) has flags that there are not");
    }
    let (alpha, animated) = (flags & ALPHA != 0, flags & ANIMATION != 0);
    let mut has_animation = false;
    let mut found: Option<Frame<'a>> = None;
    loop {
        match chunks.peek() {
            Some([b'V', b'P', b'8', b'X']) => return Err(MISPLACED),
            Some([b'A', b'L', b'P', b'H'] | [b'V', b'P', b'8', b' ' | b'L']) => {
                if has_animation || animated || found.is_some() {
                    return Err(MISPLACED);
                }
                let (mut frame, late_alpha) = single(chunks)?;
                if late_alpha && alpha {
                    return Err(MISPLACED);
                }
                if let Coded::Lossy { alpha: coded, .. } = &mut frame.coded
                    && !alpha
                {
                    *coded = None;
                }
                if (frame.width, frame.height) != (width, height) {
                    return Err("its frame has another size than its header says");
                }
                found = Some(frame);
            }
            _ => {
                let Some(chunk) = chunks.next()? else { break };
                match &chunk.kind {
                    b"ANIM" if chunk.body.len() < 6 => return Err("its animation chunk (ANIM) is too short"),
                    b"ANIM" => has_animation = true,
                    b"ANMF" if !has_animation => return Err(MISPLACED),
                    b"ANMF" => {
                        let frame = of_animation(chunk.body, (width, height))?;
                        // Without the flag, frames do not count.
                        if animated {
                            return Ok(Picture { width, height, alpha, frame });
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    let frame = found.ok_or("it holds no frame")?;
    // A lossless picture's own header counts beside the flag; alpha in a chunk does not.
    let alpha = alpha || matches!(frame.coded, Coded::Lossless { alpha: true, .. });
    Ok(Picture { width, height, alpha, frame })
}

fn of_animation(body: &[u8], (width, height): (u32, u32)) -> Result<Frame<'_>, &'static str> {
    // Its place, its size, which its own header says again, and how long it is shown.
    let Some((&[x0, x1, x2, y0, y1, y2, ..], rest)) = body.split_first_chunk::<16>() else {
        return Err("its first frame is cut off");
    };
    let (mut frame, late_alpha) = single(&mut Chunks(rest))?;
    (frame.left, frame.top) = (2 * three([x0, x1, x2]), 2 * three([y0, y1, y2]));
    if late_alpha {
        return Err(MISPLACED);
    }
    let outside = |at: u32, side: u32, whole: u32| u64::from(at) + u64::from(side) > u64::from(whole);
    if outside(frame.left, frame.width, width) || outside(frame.top, frame.height, height) {
        return Err("its first frame lies outside of the picture");
    }
    Ok(frame)
}

/// An image with its alpha, and whether the alpha came behind it; what follows stays in `chunks`.
fn single<'a>(chunks: &mut Chunks<'a>) -> Result<(Frame<'a>, bool), &'static str> {
    let (mut image, mut alpha, mut late) = (None, None, false);
    loop {
        match chunks.peek() {
            Some([b'A', b'L', b'P', b'H']) if alpha.is_none() => {
                alpha = chunks.next()?.map(|chunk| chunk.body);
                late = image.is_some();
            }
            Some([b'V', b'P', b'8', kind @ (b' ' | b'L')]) if image.is_none() => {
                let body = chunks.next()?.ok_or(SHORT)?.body;
                if kind == b'L' && alpha.is_some() {
                    return Err(MISPLACED);
                }
                image = Some(if kind == b'L' { lossless(body)? } else { lossy(body)? });
            }
            _ => break,
        }
    }
    let mut frame = image.ok_or("it holds no frame")?;
    if let Coded::Lossy { alpha: coded, .. } = &mut frame.coded {
        *coded = alpha;
    }
    Ok((frame, late))
}

/// RFC 6386, 9.1: a tag of three bytes, a start code, sides of 14 bits.
fn lossy(body: &[u8]) -> Result<Frame<'_>, &'static str> {
    let Some(&[t0, t1, t2, 0x9D, 0x01, 0x2A, w0, w1, h0, h1]) = body.first_chunk() else {
        return Err("its lossy frame has no header");
    };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
    let tag = three([t0, t1, t2]);
    let is_key = tag & 1 == 0;
    let (profile, is_shown, partition) = (tag >> 1 & 7, tag >> 4 & 1 == 1, tag >> 5);
    if !is_key || profile > 3 || !is_shown || partition as usize >= body.len() {
        return Err("the header of its lossy frame is damaged");
    }
    let frame =
        Frame { width: side(w0, w1), height: side(h0, h1), left: 0, top: 0, coded: Coded::Lossy { body, alpha: None } };
    if frame.width == 0 || frame.height == 0 { Err("its lossy frame has no pixels") } else { Ok(frame) }
}

/// A signature, sides of 14 bits less one, whether there is alpha, a version of three bits that must be 0.
fn lossless(body: &[u8]) -> Result<Frame<'_>, &'static str> {
    let Some(&[0x2F, b0, b1, b2, b3]) = body.first_chunk() else {
        return Err("its lossless frame has no header");
    };
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    if bits >> 29 != 0 {
        return Err("its lossless frame is of a version that there is not");
    }
    let side = |shift: u32| (bits >> shift & 0x3FFF) + 1;
    let coded = Coded::Lossless { body, alpha: bits >> 28 & 1 == 1 };
    Ok(Frame { width: side(0), height: side(14), left: 0, top: 0, coded })
}

fn three([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}
