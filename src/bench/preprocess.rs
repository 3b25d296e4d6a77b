use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;

use super::BenchError;
use crate::clip::{Preprocess, decode_picture};

/// OpenCLIP's `preprocess_cfg` of ViT-B-32/openai.
const VIT_B_32: &str = r#"{"size": [224, 224], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}"#;

/// One line of the report: how long a picture takes from bytes to normalised pixels, on one core.
#[derive(Clone, Debug, Serialize)]
pub struct PreprocessReport {
    pub what: String,
    pub pictures: usize,
    /// Median over the pictures (or the repetitions of a single one).
    pub decode_ms: f64,
    pub resize_normalise_ms: f64,
    pub total_ms: f64,
}

/// The pictures of a catalog together, then `images` one by one (none: a 12-megapixel JPEG that is made for it), each
/// `repeat` times, for ViT-B-32's preprocessing (224 x 224, bicubic) as OpenCLIP defines it.
pub fn preprocess(
    catalog: &Path,
    images: &[PathBuf],
    repeat: usize,
    pixels_max: u64,
) -> Result<Vec<PreprocessReport>, BenchError> {
    let to = Preprocess::from_json(VIT_B_32).map_err(|e| BenchError::Input(e.to_string()))?;
    let folder = catalog.join("images");
    let unreadable = |source| BenchError::Io {
        what: format!(
            "cannot list {}; run from the project's folder or name a catalog with --catalog",
            folder.display()
        ),
        source,
    };
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        pictures.push(read(&entry.map_err(unreadable)?.path())?);
    }
    let mut reports = vec![measure("catalog", &pictures, 1, &to, pixels_max)?];
    if images.is_empty() {
        reports.push(measure("12-megapixel JPEG", &[twelve_megapixels()?], repeat, &to, pixels_max)?);
    }
    for image in images {
        reports.push(measure(&image.display().to_string(), &[read(image)?], repeat, &to, pixels_max)?);
    }
    Ok(reports)
}

fn read(file: &Path) -> Result<Vec<u8>, BenchError> {
    std::fs::read(file).map_err(|source| BenchError::Io { what: format!("cannot read {}", file.display()), source })
}

fn measure(
    what: &str,
    files: &[Vec<u8>],
    repeat: usize,
    to: &Preprocess,
    pixels_max: u64,
) -> Result<PreprocessReport, BenchError> {
    let (mut decode, mut rest, mut total) = (Vec::new(), Vec::new(), Vec::new());
    for bytes in files {
        for _ in 0..repeat {
            let start = Instant::now();
            let picture = decode_picture(bytes, pixels_max, &[to])
                .map_err(|e| BenchError::Input(format!("a picture of {what}: {}", e.message)))?;
            let decoded = start.elapsed();
            std::hint::black_box(to.apply(&picture));
            decode.push(decoded);
            total.push(start.elapsed());
            rest.push(start.elapsed() - decoded);
        }
    }
    Ok(PreprocessReport {
        what: what.to_owned(),
        pictures: files.len(),
        decode_ms: median_ms(decode),
        resize_normalise_ms: median_ms(rest),
        total_ms: median_ms(total),
    })
}

/// 4000 x 3000 with edges, gradients and fine grain, so that it costs about what a photo costs (quality 90, 4:2:0 where
/// the encoder chooses so).
fn twelve_megapixels() -> Result<Vec<u8>, BenchError> {
    let picture = RgbImage::from_fn(4000, 3000, |x, y| {
        let grain = x.wrapping_mul(0x9E37_79B1).wrapping_add(y.wrapping_mul(0x85EB_CA77)) >> 28;
        let (wave, tile) = (((x as f32 / 97.0).sin() + (y as f32 / 61.0).cos()) * 40.0, ((x / 250 + y / 250) % 2) * 60);
        let level = |base: u32| (f32::from(base as u8) + wave + grain as f32).clamp(0.0, 255.0) as u8;
        image::Rgb([level(80 + tile), level(100 + y / 30), level(60 + x / 40)])
    });
    let view = turbojpeg::Image {
        pixels: picture.as_raw().as_slice(),
        width: 4000,
        pitch: 3 * 4000,
        height: 3000,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(view, 90, turbojpeg::Subsamp::Sub2x2)
        .map(|bytes| bytes.to_vec())
        .map_err(|e| BenchError::Input(format!("cannot make the 12-megapixel JPEG: {e}")))
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}
