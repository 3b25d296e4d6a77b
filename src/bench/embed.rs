//! Benchmark: a model through its queue against ONNX Runtime alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use serde::Serialize;

use super::{BenchError, catalog, median, read};
use crate::clip::{Clip, ClipError, ModelAlone};
use crate::config::{ClipSettings, ModelEntry, Settings};
use crate::domain::{Embedding, Explain as _, Finding, Modality, ModelId, ModelReason, Precision};
use crate::picture::Pixels;
use crate::shutdown::Shutdown;

/// Measures one model through its queue, and ONNX Runtime alone, over batch sizes, threads and precisions.
pub struct EmbedBench {
    /// `None`: the first of `clip.models`.
    pub model: Option<ModelId>,
    /// A folder with `catalog.jsonl`, whose items have an `image` below that folder and a `text`.
    pub catalog: PathBuf,
    pub batches: Vec<usize>,
    pub threads: Vec<usize>,
    /// Empty: all in the model's directory.
    pub precisions: Vec<Precision>,
    /// Pictures and texts of the catalog per round.
    pub pictures: usize,
    pub texts: usize,
    /// Alternating rounds of queue and ONNX Runtime; medians are reported.
    pub rounds: usize,
}

/// One tower with one batch size, number of threads and precision. The field names are the keys of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedReport {
    pub model: String,
    pub tower: &'static str,
    pub precision: &'static str,
    pub threads: usize,
    pub batch: usize,
    /// Through the queue, as in the pipeline.
    pub items_per_s: f64,
    /// ONNX Runtime alone: the same graph and batches, inputs in place.
    pub onnxruntime_items_per_s: f64,
    pub ratio: f64,
    /// ONNX Runtime's rate with every text at the whole context length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padded_items_per_s: Option<f64>,
    /// Real length over padded, and the largest difference of any value of their vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_padded: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padded_difference_max: Option<f32>,
    /// ONNX Runtime's rate over that of fp32 with the same batch and threads, and the lowest cosine to its vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_fp32: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fp32_cosine_min: Option<f32>,
}

/// Results of full precision, for comparison with the others.
#[derive(Default)]
struct Reference {
    /// By tower, threads and batch.
    rates: BTreeMap<(&'static str, usize, usize), f64>,
    images: Vec<Embedding>,
    texts: Vec<Embedding>,
}

impl EmbedBench {
    /// Passes each row to `report` as soon as it is complete; `watch` gets the name of what is measured next. Call it on a
    /// multi-threaded runtime: loading and ONNX Runtime's own runs block.
    pub async fn run(
        self,
        settings: &Settings,
        shutdown: &Shutdown,
        mut watch: impl FnMut(&str),
        mut report: impl FnMut(EmbedReport) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let entry = self.entry(&settings.clip)?;
        let items = catalog::read(&self.catalog)?;
        let texts: Vec<String> = items.iter().map(|(_, text)| text.clone()).cycle().take(self.texts).collect();
        let files: Vec<PathBuf> = items.iter().map(|(image, _)| self.catalog.join(image)).collect();
        let (precisions, is_asked) = match self.precisions.is_empty() {
            true => (Precision::ALL.to_vec(), false),
            false => (self.precisions.clone(), true),
        };
        let mut reference = Reference::default();
        for precision in precisions {
            for &threads in &self.threads {
                for &batch in &self.batches {
                    watch(&format!("{precision}, threads {threads}, batch {batch}"));
                    let clip_settings = ClipSettings {
                        models: vec![entry.clone()],
                        precision,
                        intra_op_threads: threads,
                        image_batch_max: batch,
                        text_batch_max: batch,
                        ..settings.clip.clone()
                    };
                    let opened = tokio::task::block_in_place(|| {
                        let clip = Clip::load(&entry, &clip_settings, Arc::default())?;
                        let alone = ModelAlone::open(&clip, &clip_settings)?;
                        Ok((clip, alone))
                    });
                    let (clip, mut alone) = match opened {
                        Err(ClipError::Model(error)) if !is_asked && error.reason == ModelReason::PrecisionMissing => {
                            continue;
                        }
                        opened => opened?,
                    };
                    let pixels = pixels(&clip, &files, self.pictures, settings.media.pixels_max)?;
                    let rates = self.rates(&clip, &mut alone, &pixels, &texts, batch, shutdown).await?;
                    let mut rows = [rates.row(Modality::Image), rates.row(Modality::Text)];
                    for row in &mut rows {
                        row.model = entry.id.to_string();
                        (row.precision, row.threads, row.batch) = (precision.as_str(), threads, batch);
                    }
                    tokio::task::block_in_place(|| {
                        reference.compare(precision, &mut alone, &pixels, &texts, &mut rows)?;
                        self.pad(&mut alone, &texts, batch, &mut rows[1], shutdown)
                    })?;
                    rows.into_iter().try_for_each(&mut report)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&self, settings: &ClipSettings) -> Result<ModelEntry, BenchError> {
        settings.entry(self.model.as_ref()).cloned().ok_or_else(|| {
            let known: Vec<String> = settings.models.iter().map(|entry| entry.id.to_string()).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            let finding = Finding::new(format!("clip.models has {known}; expected the model to measure in it"));
            BenchError::Input(finding.hint("add it with --set clip.models=…"))
        })
    }

    /// Alternates queue and ONNX Runtime, so that other load on the machine affects both.
    async fn rates(
        &self,
        clip: &Clip,
        alone: &mut ModelAlone,
        pixels: &[Pixels],
        texts: &[String],
        batch: usize,
        shutdown: &Shutdown,
    ) -> Result<Rates, BenchError> {
        let mut rounds: Vec<[f64; 4]> = Vec::new();
        for _ in 0..self.rounds {
            if shutdown.is_requested() {
                return Err(BenchError::Stopped);
            }
            let image = through_queue(pixels, batch, |pixels| clip.embed_pixels(pixels.clone())).await?;
            let text = through_queue(texts, batch, |text| clip.embed_text(text)).await?;
            let (image_runs, text_runs) = tokio::task::block_in_place(|| alone.time_of_runs(pixels, texts, batch))?;
            rounds.push([
                rate(pixels.len(), image),
                rate(pixels.len(), image_runs),
                rate(texts.len(), text),
                rate(texts.len(), text_runs),
            ]);
        }
        Ok(Rates(std::array::from_fn(|n| median(rounds.iter().map(|round| round[n]).collect()))))
    }

    /// The text row's comparison with the whole context length, if texts run shorter.
    fn pad(
        &self,
        alone: &mut ModelAlone,
        texts: &[String],
        batch: usize,
        row: &mut EmbedReport,
        shutdown: &Shutdown,
    ) -> Result<(), BenchError> {
        if !alone.is_at_real_length() {
            return Ok(());
        }
        let (_, real) = alone.embed(&[], texts)?;
        alone.pad_texts();
        let (_, padded) = alone.embed(&[], texts)?;
        let mut took = Vec::new();
        for _ in 0..self.rounds {
            if shutdown.is_requested() {
                return Err(BenchError::Stopped);
            }
            took.push(rate(texts.len(), alone.time_of_runs(&[], texts, batch)?.1));
        }
        let padded_rate = median(took);
        let differences = real.iter().zip(&padded).flat_map(|(real, padded)| {
            real.as_slice().iter().zip(padded.as_slice()).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
        });
        row.padded_items_per_s = Some(padded_rate);
        row.over_padded = Some(row.onnxruntime_items_per_s / padded_rate);
        row.padded_difference_max = Some(differences.fold(0.0, f32::max));
        Ok(())
    }
}

impl Reference {
    fn compare(
        &mut self,
        precision: Precision,
        alone: &mut ModelAlone,
        pixels: &[Pixels],
        texts: &[String],
        rows: &mut [EmbedReport; 2],
    ) -> Result<(), BenchError> {
        if precision == Precision::Fp32 {
            for row in rows.iter() {
                self.rates.insert((row.tower, row.threads, row.batch), row.onnxruntime_items_per_s);
            }
            if self.images.is_empty() {
                (self.images, self.texts) = alone.embed(pixels, texts)?;
            }
            return Ok(());
        }
        let (images, texts) = alone.embed(pixels, texts)?;
        for (row, vectors, references) in [(0, &images, &self.images), (1, &texts, &self.texts)] {
            let row = &mut rows[row];
            let fp32 = self.rates.get(&(row.tower, row.threads, row.batch));
            row.over_fp32 = fp32.map(|fp32| row.onnxruntime_items_per_s / fp32);
            row.fp32_cosine_min = vectors.iter().zip(references).map(|(a, b)| a.cosine(b)).reduce(f32::min);
        }
        Ok(())
    }
}

/// Medians: pictures through the queue, pictures by ONNX Runtime alone, and the same for texts.
struct Rates([f64; 4]);

impl Rates {
    fn row(&self, tower: Modality) -> EmbedReport {
        let [image, image_runs, text, text_runs] = self.0;
        let (items_per_s, onnxruntime_items_per_s) = match tower {
            Modality::Image => (image, image_runs),
            Modality::Text => (text, text_runs),
        };
        EmbedReport {
            model: String::new(),
            tower: tower.as_str(),
            precision: "",
            threads: 0,
            batch: 0,
            items_per_s,
            onnxruntime_items_per_s,
            ratio: items_per_s / onnxruntime_items_per_s,
            padded_items_per_s: None,
            over_padded: None,
            padded_difference_max: None,
            over_fp32: None,
            fp32_cosine_min: None,
        }
    }
}

/// All items through the queue, with as many waiting as in the pipeline: one batch runs, one waits, one is being prepared.
async fn through_queue<'i, I, F>(
    items: &'i [I],
    batch: usize,
    embed: impl Fn(&'i I) -> F,
) -> Result<Duration, BenchError>
where
    F: Future<Output = Result<Embedding, ClipError>>,
{
    let start = Instant::now();
    let mut embedded = stream::iter(items.iter().map(embed)).buffer_unordered(3 * batch);
    while let Some(vector) = embedded.next().await {
        vector?;
    }
    Ok(start.elapsed())
}

/// The catalog's first pictures, decoded and preprocessed; repeated if there are fewer.
fn pixels(clip: &Clip, files: &[PathBuf], count: usize, pixels_max: u64) -> Result<Vec<Pixels>, BenchError> {
    let pixels = |file: &PathBuf| {
        let pixels = clip.preprocess().decode(&read(file)?, pixels_max);
        pixels.map_err(|e| BenchError::Input(e.explain().about(file.display())))
    };
    files.iter().cycle().take(count).map(pixels).collect()
}

fn rate(items: usize, took: Duration) -> f64 {
    items as f64 / took.as_secs_f64()
}
