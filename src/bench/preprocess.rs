//! Benchmark: preprocessing, with Pillow and torchvision beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{BenchError, catalog, input, median, peer, photo, read, scratch};
use crate::clip::{Clip, ClipError};
use crate::config::Settings;
use crate::domain::{Decoding, Orientation};
use crate::picture::{Preprocess, decode_picture};

/// OpenCLIP's `preprocess_cfg` of ViT-B-32/openai.
const VIT_B_32: &str = r#"{"size": [224, 224], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}"#;

/// The script that `--peers` runs, relative to the project's folder.
const PEER: &str = "bench/peers/preprocess.py";

/// Number of pictures on which the fast mode's vectors are compared.
const COMPARED: usize = 24;

/// Measures pictures from bytes to normalised pixels, on one core.
pub struct PreprocessBench {
    /// A folder with `images/`.
    pub catalog: PathBuf,
    /// Measured one by one; empty: a generated 12-megapixel JPEG.
    pub images: Vec<PathBuf>,
    /// Runs per picture.
    pub repeat: usize,
    /// A Python with OpenCLIP: times Pillow and torchvision on the same files in the same run.
    pub peers: Option<PathBuf>,
}

/// The field names are the keys of `--json`. Times are medians.
#[derive(Clone, Debug, Serialize)]
pub struct PreprocessReport {
    pub sets: Vec<PreprocessSet>,
    /// Cosine of the configured model's vectors in fast mode with those in exact mode, over large JPEGs.
    pub fast_cosine: Option<Agreement>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PreprocessSet {
    pub what: String,
    pub pictures: usize,
    pub bytes: usize,
    pub exact: Times,
    pub fast: Times,
    pub peer: Option<Peer>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    pub decode_ms: f64,
    pub resize_normalise_ms: f64,
    pub total_ms: f64,
}

/// Pillow and torchvision on the same file.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    pub total_ms: f64,
    pub decode_ms: f64,
    /// Names and versions.
    pub with: String,
    /// Its time divided by ours.
    pub exact_ratio: f64,
    pub fast_ratio: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Agreement {
    pub pictures: usize,
    pub min: f32,
    pub mean: f32,
}

#[derive(Deserialize)]
struct PeerLine {
    total_ms: f64,
    decode_ms: f64,
    with: String,
}

impl PreprocessBench {
    /// For ViT-B-32's preprocessing (224 x 224, bicubic); the vectors are of the first configured model.
    pub async fn run(self, settings: &Settings) -> Result<PreprocessReport, BenchError> {
        let pixels_max = settings.media.pixels_max;
        let catalog = self.catalog_files()?;
        let sets = tokio::task::block_in_place(|| self.sets(&catalog, pixels_max))?;
        let fast_cosine = match settings.clip.models.first() {
            Some(model) => {
                let load = || Clip::load(model, &settings.clip, Arc::default());
                match tokio::task::block_in_place(load) {
                    Ok(clip) => Some(agreement(&clip, &catalog, pixels_max).await?),
                    Err(error) => {
                        tracing::warn!(error = %error, "no model could be loaded: the fast mode's vectors are not compared");
                        None
                    }
                }
            }
            None => None,
        };
        Ok(PreprocessReport { sets, fast_cosine })
    }

    fn catalog_files(&self) -> Result<Vec<PathBuf>, BenchError> {
        let folder = self.catalog.join("images");
        let unreadable = |error| catalog::unreadable("list", &folder, &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            files.push(entry.map_err(unreadable)?.path());
        }
        if files.is_empty() {
            return Err(catalog::empty(&folder, "pictures"));
        }
        files.sort();
        Ok(files)
    }

    fn sets(&self, catalog: &[PathBuf], pixels_max: u64) -> Result<Vec<PreprocessSet>, BenchError> {
        let pictures = catalog.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        let mut sets = vec![measure("catalog", &pictures, 1, pixels_max)?];
        let scratch = scratch()?;
        let mut images = self.images.clone();
        if images.is_empty() {
            let path = scratch.path().join("photo-12-megapixels.jpg");
            std::fs::write(&path, photo::jpeg(4000, 3000, 12)?)
                .map_err(|source| BenchError::Io { what: format!("cannot write {}", path.display()), source })?;
            images.push(path);
        }
        for image in &images {
            let name = image.file_name().unwrap_or(image.as_os_str()).to_string_lossy();
            let mut set = measure(&name, &[read(image)?], self.repeat, pixels_max)?;
            if let Some(python) = &self.peers {
                let repeat = self.repeat.to_string();
                let arguments = [VIT_B_32.as_ref(), repeat.as_ref(), image.as_os_str()];
                let line: PeerLine = peer::result(python, PEER, &arguments)?;
                set.peer = Some(Peer {
                    exact_ratio: line.total_ms / set.exact.total_ms,
                    fast_ratio: line.total_ms / set.fast.total_ms,
                    total_ms: line.total_ms,
                    decode_ms: line.decode_ms,
                    with: line.with,
                });
            }
            sets.push(set);
        }
        Ok(sets)
    }
}

fn vit_b_32(decoding: Decoding) -> Result<Preprocess, BenchError> {
    let preprocess = Preprocess::from_json(VIT_B_32).map_err(|e| input(e.to_string()))?;
    Ok(preprocess.with(Orientation::Ignore, decoding))
}

fn measure(what: &str, files: &[Vec<u8>], repeat: usize, pixels_max: u64) -> Result<PreprocessSet, BenchError> {
    let times = |decoding| {
        let to = vit_b_32(decoding)?;
        let (mut decode, mut rest, mut total) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in files {
            for _ in 0..repeat {
                let start = Instant::now();
                let picture = decode_picture(bytes, pixels_max, &[&to])
                    .map_err(|e| ClipError::from(e.about(format_args!("a picture of {what}"))))?;
                let decoded = start.elapsed();
                std::hint::black_box(to.apply(&picture));
                drop(picture);
                decode.push(decoded);
                total.push(start.elapsed());
                rest.push(start.elapsed() - decoded);
            }
        }
        Ok::<_, BenchError>(Times {
            decode_ms: median_ms(decode),
            resize_normalise_ms: median_ms(rest),
            total_ms: median_ms(total),
        })
    };
    Ok(PreprocessSet {
        what: what.to_owned(),
        pictures: files.len(),
        bytes: files.iter().map(Vec::len).sum(),
        exact: times(Decoding::Exact)?,
        fast: times(Decoding::Fast)?,
        peer: None,
    })
}

/// Embeds large JPEGs, made from the catalog's pictures and photo-like noise, in both modes.
async fn agreement(clip: &Clip, catalog: &[PathBuf], pixels_max: u64) -> Result<Agreement, BenchError> {
    let enlarged = Preprocess::from_json(r#"{"size": 1536, "resize_mode": "squash", "background": [255, 255, 255]}"#)
        .map_err(|e| input(e.to_string()))?;
    let step = (catalog.len() / COMPARED).max(1);
    let mut jpegs = Vec::new();
    for path in catalog.iter().step_by(step).take(COMPARED) {
        let picture = decode_picture(&read(path)?, pixels_max, &[&enlarged]).map_err(ClipError::from)?;
        jpegs.push(photo::encode(&enlarged.rgb(&picture), 1536, 1536)?);
    }
    for (seed, (width, height)) in [(1600, 1200), (1200, 1600), (2048, 1024), (1500, 1500)].into_iter().enumerate() {
        jpegs.push(photo::jpeg(width, height, seed as u64)?);
    }
    let mut cosines = Vec::new();
    for jpeg in &jpegs {
        let mut vectors = Vec::new();
        for decoding in Decoding::ALL {
            let preprocess = clip.preprocess().clone().with(Orientation::Ignore, decoding);
            let embedded = clip.embed_pixels(preprocess.decode(jpeg, pixels_max).map_err(ClipError::from)?).await;
            vectors.push(embedded?);
        }
        if let [exact, fast] = vectors.as_slice() {
            cosines.push(exact.cosine(fast));
        }
    }
    Ok(Agreement {
        pictures: cosines.len(),
        min: cosines.iter().copied().fold(1.0, f32::min),
        mean: cosines.iter().sum::<f32>() / cosines.len().max(1) as f32,
    })
}

fn median_ms(times: Vec<Duration>) -> f64 {
    median(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
}
