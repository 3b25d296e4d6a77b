use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::BenchError;
use crate::clip::{Preprocess, decode_picture};

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

/// Measures `files` one after the other, each `repeat` times.
pub fn preprocess(
    what: &str,
    files: &[impl AsRef<Path>],
    repeat: usize,
    to: &Preprocess,
    pixels_max: u64,
) -> Result<PreprocessReport, BenchError> {
    let (mut decode, mut rest, mut total) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let file = file.as_ref();
        let bytes = std::fs::read(file)
            .map_err(|source| BenchError::Io { what: format!("cannot read {}", file.display()), source })?;
        for _ in 0..repeat {
            let start = Instant::now();
            let picture = decode_picture(&bytes, pixels_max)
                .map_err(|e| BenchError::Input(format!("{}: {}", file.display(), e.message)))?;
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

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}
