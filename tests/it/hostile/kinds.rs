//! A picture of each kind that takes memory in its own way, of any size.

use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};
use weezl::BitOrder;
use zlib_rs::{DeflateConfig, compress_slice};

use super::av1::{Av1, Layout, avif};
use super::formats::png_chunk;
use super::lossless::{self, Stream};

/// Pixels of a WebP for each of its groups of the largest codes: 1,000 groups in 7.5 megapixels.
const PIXELS_PER_GROUP: u32 = 7_500;

/// Of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    pub width: u32,
    pub height: u32,
}

impl Sides {
    pub fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// A kind, by its name in `docs/operations.md`, and what makes the file of one.
pub type Kind = (&'static str, fn(Sides) -> Vec<u8>);

pub const KINDS: &[Kind] = &[
    ("JPEG, baseline, grey", |sides| jpeg(sides, PixelFormat::GRAY, Subsamp::Gray, false)),
    ("JPEG, baseline, colour", |sides| jpeg(sides, PixelFormat::RGB, Subsamp::None, false)),
    ("JPEG, baseline, CMYK", |sides| jpeg(sides, PixelFormat::CMYK, Subsamp::None, false)),
    ("JPEG, progressive, 4:2:0", |sides| jpeg(sides, PixelFormat::RGB, Subsamp::Sub2x2, true)),
    ("JPEG, progressive, 4:4:4", |sides| jpeg(sides, PixelFormat::RGB, Subsamp::None, true)),
    ("JPEG, progressive, CMYK", |sides| jpeg(sides, PixelFormat::CMYK, Subsamp::None, true)),
    ("PNG, palette, or grey of 1 to 8 bits", |sides| png(sides, Png { color: 3, bits: 8, interlaced: false })),
    ("PNG, 1 bit", |sides| png(sides, Png { color: 0, bits: 1, interlaced: false })),
    ("PNG, grey of 16 bits", |sides| png(sides, Png { color: 0, bits: 16, interlaced: false })),
    ("PNG, grey with alpha, 8 or 16 bits", |sides| png(sides, Png { color: 4, bits: 16, interlaced: false })),
    ("PNG, RGB of 8 or 16 bits", |sides| png(sides, Png { color: 2, bits: 16, interlaced: false })),
    ("PNG, RGBA of 8 bits", |sides| png(sides, Png { color: 6, bits: 8, interlaced: false })),
    ("PNG, RGBA of 16 bits", |sides| png(sides, DEEP_PNG)),
    ("PNG, RGBA of 16 bits, interlaced", |sides| png(sides, Png { interlaced: true, ..DEEP_PNG })),
    ("WebP, lossy", |sides| lossless::file(&[lossy(sides)])),
    ("WebP, lossy with alpha", |sides| lossy_with_alpha(sides, plain())),
    ("WebP, lossless", |sides| webp(sides, image_webp::ColorType::Rgb8, 3)),
    ("WebP, lossless with alpha", |sides| webp(sides, image_webp::ColorType::Rgba8, 4)),
    ("WebP, lossless, of 1,000 groups of the largest codes", |sides| {
        lossless::lossless(sides.width, sides.height, &costly(sides))
    }),
    ("WebP, lossy with such alpha", |sides| lossy_with_alpha(sides, costly(sides))),
    ("AVIF, grey", |sides| avif(sides, Av1 { layout: Layout::Grey, ..PLAIN_AVIF })),
    ("AVIF, 4:2:0", |sides| avif(sides, PLAIN_AVIF)),
    ("AVIF, 4:4:4", |sides| avif(sides, Av1 { layout: Layout::Full, ..PLAIN_AVIF })),
    ("AVIF, 4:2:0 with alpha", |sides| avif(sides, Av1 { alpha: true, ..PLAIN_AVIF })),
    ("AVIF, 10 or 12 bits, 4:2:0", |sides| avif(sides, Av1 { depth: 10, ..PLAIN_AVIF })),
    ("AVIF, 10 or 12 bits, 4:4:4 with alpha", |sides| {
        avif(sides, Av1 { layout: Layout::Full, depth: 12, alpha: true, frames: 1 })
    }),
    ("GIF", gif),
    ("BMP, palette, run-length encoded or not", |sides| bmp(sides, 8)),
    ("BMP, 16 or 24 bits", |sides| bmp(sides, 24)),
    ("TIFF, black and white, grey or palette", |sides| tiff(sides, Tiff::plain(1, 1, 8))),
    ("TIFF, grey of 16 bits", |sides| tiff(sides, Tiff::plain(1, 1, 16))),
    ("TIFF, floating-point, or whole numbers of 32 bits", |sides| {
        tiff(sides, Tiff { format: 3, ..Tiff::plain(1, 1, 32) })
    }),
    ("TIFF, RGB of 8 or 16 bits", |sides| tiff(sides, Tiff::plain(2, 3, 16))),
    ("TIFF, RGB of 8 or 16 bits, turned", |sides| tiff(sides, Tiff { orientation: 6, ..Tiff::plain(2, 3, 16) })),
    ("TIFF, RGBA or CMYK of 8 or 16 bits", |sides| tiff(sides, Tiff::plain(5, 4, 16))),
    ("TIFF, RGB, JPEG in one strip", |sides| {
        let strip = jpeg(sides, PixelFormat::RGB, Subsamp::None, false);
        tiff_of(sides, Tiff { compression: 7, ..Tiff::plain(6, 3, 8) }, &strip)
    }),
    ("PNM, colour", |sides| {
        [format!("P6 {} {} 255\n", sides.width, sides.height).into_bytes(), vec![7; 3 * sides.pixels()]].concat()
    }),
];

pub const PLAIN_AVIF: Av1 = Av1 { layout: Layout::Quarter, depth: 8, alpha: false, frames: 1 };

/// Bytes that differ, and still compress well: a file may be no larger than is allowed.
fn samples(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n >> 14) as u8).collect()
}

fn jpeg(Sides { width, height }: Sides, format: PixelFormat, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let pixels = samples(width * height * format.size());
    let image = Image { pixels: &*pixels, width, pitch: width * format.size(), height, format };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_progressive(progressive).unwrap();
    compressor.set_quality(60).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

/// As its header says it.
#[derive(Clone, Copy)]
pub struct Png {
    color: u8,
    bits: u8,
    interlaced: bool,
}

pub const DEEP_PNG: Png = Png { color: 6, bits: 16, interlaced: false };

pub fn png(Sides { width, height }: Sides, Png { color, bits, interlaced }: Png) -> Vec<u8> {
    let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(color)];
    let row = |columns: u32| 1 + (columns as usize * channels * usize::from(bits)).div_ceil(8);
    let passes: &[(u32, u32, u32, u32)] = match interlaced {
        true => &[(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)],
        false => &[(0, 0, 1, 1)],
    };
    let raw: usize = passes
        .iter()
        .map(|&(x, y, across, down)| (height - y).div_ceil(down) as usize * row((width - x).div_ceil(across)))
        .sum();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, color, 0, 0, u8::from(interlaced)]].concat();
    let palette = if color == 3 { png_chunk(b"PLTE", &samples(768)) } else { Vec::new() };
    // Zeros: no row is filtered.
    let data = deflated(&vec![0; raw]);
    let (header, data, end) = (png_chunk(b"IHDR", &header), png_chunk(b"IDAT", &data), png_chunk(b"IEND", b""));
    [&b"\x89PNG\r\n\x1a\n"[..], &header, &palette, &data, &end].concat()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zlib_rs::compress_bound(data.len())];
    compress_slice(&mut out, data, DeflateConfig::new(1)).0.to_vec()
}

fn webp(Sides { width, height }: Sides, color: image_webp::ColorType, channels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = samples(channels * width as usize * height as usize);
    image_webp::WebPEncoder::new(&mut bytes).encode(&pixels, width, height, color).unwrap();
    bytes
}

/// A key frame (RFC 6386) whose every flag, mode and coefficient is the first that there is: zeros, as many as its blocks of
/// 16 pixels a side can ask for.
fn lossy(Sides { width, height }: Sides) -> Vec<u8> {
    let blocks = width.div_ceil(16) * height.div_ceil(16);
    let (modes, coefficients) = (1_000 + blocks, 1_000 + 4 * blocks);
    let tag = (1 << 4 | modes << 5).to_le_bytes();
    let sides = [width as u16, height as u16].map(u16::to_le_bytes).concat();
    let zeros = vec![0; (modes + coefficients) as usize];
    lossless::chunk(b"VP8 ", &[&tag[..3], &[0x9D, 0x01, 0x2A], &sides, &zeros].concat())
}

fn lossy_with_alpha(sides: Sides, alpha: Stream) -> Vec<u8> {
    let [width, height] = [sides.width, sides.height].map(|side| (side - 1).to_le_bytes());
    let head = lossless::chunk(b"VP8X", &[&[0x10, 0, 0, 0], &width[..3], &height[..3]].concat());
    lossless::with_alpha(&lossless::file(&[head, lossy(sides)]), |_, _| alpha)
}

/// Pixels of one colour, without transforms, cached colours and groups.
fn plain() -> Stream {
    let mut stream = Stream::default();
    stream.put(0, 3);
    stream.plain(0, 200);
    stream
}

/// What no encoder writes: tables and trees of 85 kB for each group.
fn costly(sides: Sides) -> Stream {
    let groups = (sides.pixels() as u32 / PIXELS_PER_GROUP).clamp(2, 65_536);
    lossless::costly(sides.width, sides.height, groups)
}

/// A frame as large as its screen.
fn gif(Sides { width, height }: Sides) -> Vec<u8> {
    let sides = [width as u16, height as u16].map(u16::to_le_bytes).concat();
    let data =
        weezl::encode::Encoder::new(BitOrder::Lsb, 2).encode(&vec![0; width as usize * height as usize]).unwrap();
    // A palette of two colours; the frame's place and sides; the bits of a code.
    let head = [&b"GIF89a"[..], &sides, &[0x80, 0, 0, 9, 9, 9, 7, 7, 7, 0x2C, 0, 0, 0, 0], &sides, &[0, 2]].concat();
    let blocks = data.chunks(255).flat_map(|block| [&[block.len() as u8][..], block].concat());
    head.into_iter().chain(blocks).chain([0, 0x3B]).collect()
}

fn bmp(Sides { width, height }: Sides, bits: u16) -> Vec<u8> {
    let palette = if bits == 8 { samples(1024) } else { Vec::new() };
    let mut bytes = b"BM\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend((54 + palette.len() as u32).to_le_bytes());
    bytes.extend([40, width, height].map(u32::to_le_bytes).concat());
    bytes.extend([1, bits].map(u16::to_le_bytes).concat());
    bytes.extend([0; 24]);
    bytes.extend(palette);
    bytes.extend(samples((width as usize * usize::from(bits) / 8).next_multiple_of(4) * height as usize));
    bytes
}

/// By the numbers of its directory.
#[derive(Clone, Copy)]
struct Tiff {
    photometric: u32,
    channels: u32,
    bits: u32,
    format: u32,
    compression: u32,
    orientation: u32,
}

impl Tiff {
    /// Upright, whole numbers, compressed by deflate.
    const fn plain(photometric: u32, channels: u32, bits: u32) -> Self {
        Self { photometric, channels, bits, format: 1, compression: 8, orientation: 1 }
    }
}

fn tiff(sides: Sides, kind: Tiff) -> Vec<u8> {
    tiff_of(sides, kind, &deflated(&samples(sides.pixels() * (kind.channels * kind.bits / 8) as usize)))
}

/// One strip.
fn tiff_of(Sides { width, height }: Sides, kind: Tiff, data: &[u8]) -> Vec<u8> {
    let at = 8 + data.len() as u32;
    let behind = at + 2 + 11 * 12 + 4;
    let many = |value: u32| if kind.channels > 2 { (3u16, kind.channels, behind) } else { (3, kind.channels, value) };
    let entries = [
        (256u16, (4u16, 1, width)),
        (257, (4, 1, height)),
        (258, many(kind.bits)),
        (259, (3, 1, kind.compression)),
        (262, (3, 1, kind.photometric)),
        (273, (4, 1, 8)),
        (274, (3, 1, kind.orientation)),
        (277, (3, 1, kind.channels)),
        (278, (4, 1, height)),
        (279, (4, 1, data.len() as u32)),
        (339, (3, 1, kind.format)),
    ];
    let mut bytes = [&b"II*\0"[..], &at.to_le_bytes(), data, &(entries.len() as u16).to_le_bytes()].concat();
    for (tag, (kind, count, value)) in entries {
        bytes.extend([tag, kind].map(u16::to_le_bytes).concat());
        bytes.extend([count, value].map(u32::to_le_bytes).concat());
    }
    bytes.extend([0; 4]);
    bytes.extend([kind.bits as u16; 6].map(u16::to_le_bytes).concat());
    bytes
}
