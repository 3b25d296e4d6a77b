//! A generated picture with the decoding cost of a photo.

use fastrand::Rng;
use turbojpeg::{Image, PixelFormat, Subsamp};

use super::{BenchError, input};

/// Side of the largest structures, in pixels.
const LARGEST: usize = 1024;

/// A JPEG of quality 92, 4:2:0: smooth noise on every scale from 2 to 1,024 pixels, with strength falling with the scale as in
/// photos, and sensor grain. About 1.5 bits per pixel, which is 2.3 MB for 12 megapixels.
pub(super) fn jpeg(width: usize, height: usize, seed: u64) -> Result<Vec<u8>, BenchError> {
    let mut rng = Rng::with_seed(seed);
    let mut sums = vec![[110f32; 3]; width * height];
    let mut step = LARGEST;
    while step >= 2 {
        // From 36 levels down to 2, and colours a third of it.
        let strength = 36.0 * (step as f32 / LARGEST as f32).powf(0.45);
        let columns = width / step + 2;
        let knots: Vec<[f32; 3]> = (0..columns * (height / step + 2))
            .map(|_| {
                let light = noise(&mut rng);
                [0; 3].map(|_: i32| strength * (light + 0.35 * noise(&mut rng)))
            })
            .collect();
        for (y, row) in sums.chunks_exact_mut(width).enumerate() {
            let down = smooth((y % step) as f32 / step as f32);
            let (above, below) = knots[y / step * columns..].split_at(columns);
            let line: Vec<[f32; 3]> = above.iter().zip(below).map(|(a, b)| mix(*a, *b, down)).collect();
            for (x, sum) in row.iter_mut().enumerate() {
                let across = smooth((x % step) as f32 / step as f32);
                let add = mix(line[x / step], line[x / step + 1], across);
                *sum = std::array::from_fn(|c| sum[c] + add[c]);
            }
        }
        step /= 2;
    }
    let level = |value: f32| value.clamp(0.0, 255.0) as u8;
    let pixels: Vec<u8> = sums
        .into_iter()
        .flat_map(|sum| {
            let grain = 2.0 * noise(&mut rng);
            sum.map(|value| level(value + grain))
        })
        .collect();
    encode(&pixels, width, height)
}

/// Rows of RGB pixels as a JPEG of quality 92, 4:2:0.
pub(super) fn encode(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, BenchError> {
    let image = Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB };
    let failed = |error| input(format!("cannot encode a JPEG of {width} x {height} pixels: {error}"));
    turbojpeg::compress(image, 92, Subsamp::Sub2x2).map(|bytes| bytes.to_vec()).map_err(failed)
}

/// Approximately normal, mean 0, standard deviation 1.
fn noise(rng: &mut Rng) -> f32 {
    (0..3).map(|_| 2.0 * rng.f32() - 1.0).sum()
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}
