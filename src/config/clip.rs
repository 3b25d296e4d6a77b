//! Settings of `[clip]`.

use std::path::PathBuf;

use super::demo_model;
use super::machine::{self, cores};
use super::providers::{
    self, CoreMlSettings, CudaSettings, MiGraphXSettings, OpenVinoSettings, Provider, ProviderEntry, TensorRtSettings,
};
use super::reader::{Reader, Review};
use super::show::as_toml;
use super::store::StoreSettings;
use super::text::{Expected, Text, text_by_name};
use crate::domain::{Decoding, ModelId, Orientation, Precision, registry};

/// Minimum of the default decoding memory: enough for a photo of 12 megapixels of any kind.
const DECODE_BYTES_MIN: u64 = 128 * 1024 * 1024;

/// `[clip]`: the models, and how they run.
#[derive(Clone, Debug)]
pub struct ClipSettings {
    /// Models to embed with; the first is the default one, which the alias names and queries use. The default is the
    /// small demo model of this project.
    pub models: Vec<ModelEntry>,
    /// Where models without their own directory are stored, as `{variant}__{checkpoint}`; `None`: see
    /// [`ClipSettings::models_directory()`].
    pub models_directory: Option<PathBuf>,
    /// ONNX Runtime's library; `None`: `clip::runtime` lists the places that are searched.
    pub onnxruntime: Option<PathBuf>,
    /// What to do if a graph computes another activation than its checkpoint was trained with.
    pub activation_mismatch: ActivationMismatch,
    /// Which graphs of the model's directory run.
    pub precision: Precision,
    /// Execution providers in order of preference, for example `cuda:preferred`, `cpu`.
    pub providers: Vec<ProviderEntry>,
    /// Ids of the GPUs for `cuda`, `tensorrt`, `migraphx` and `directml`; each runs its own sessions.
    pub device_ids: Vec<u32>,
    /// Threads that one run of a graph may use on the CPU; 0: all cores.
    pub intra_op_threads: usize,
    /// Sessions of each tower on each device, each on its own thread.
    pub sessions: usize,
    /// Pictures in one run, at most.
    pub image_batch_max: usize,
    /// Texts in one run, at most.
    pub text_batch_max: usize,
    /// How long broken sessions are reopened before the worker ends, in milliseconds; 0: forever.
    pub recovery_max_ms: u64,
    /// Pictures that are decoded and resized at once; 0: one per core.
    pub preprocess_threads: usize,
    /// Memory for all pictures that are being decoded and resized, in bytes; 0: see [`ClipSettings::decode_bytes_max()`].
    pub decode_bytes_max: u64,
    /// Whether EXIF orientation is applied; part of the fingerprint.
    pub orientation: Orientation,
    /// `clip.preprocess`: how much of a JPEG is decoded; part of the fingerprint.
    pub decoding: Decoding,
    pub cuda: CudaSettings,
    pub tensorrt: TensorRtSettings,
    pub migraphx: MiGraphXSettings,
    pub openvino: OpenVinoSettings,
    pub coreml: CoreMlSettings,
}

/// `VARIANT/CHECKPOINT` or `VARIANT/CHECKPOINT=DIRECTORY`; `VARIANT/CHECKPOINT@DIMENSION` keeps that many values of each vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    pub id: ModelId,
    pub directory: Option<PathBuf>,
}

impl From<ModelId> for ModelEntry {
    /// A model without its own directory.
    fn from(id: ModelId) -> Self {
        Self { id, directory: None }
    }
}

/// `clip.activation_mismatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationMismatch {
    Refuse,
    /// Log a warning. In both cases the fingerprint records what the graph computes.
    Accept,
}

impl ActivationMismatch {
    pub const ALL: [Self; 2] = [Self::Refuse, Self::Accept];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Accept => "accept",
        }
    }
}

text_by_name!(ActivationMismatch);

impl ClipSettings {
    /// `models_directory`, resolved. Default: `${XDG_CACHE_HOME:-$HOME/.cache}/clipstream/models`, beside ONNX Runtime's
    /// library, or `models` without a home directory.
    pub fn models_directory(&self) -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        self.models_directory
            .clone()
            .or_else(|| Some(cache()?.join("clipstream").join("models")))
            .unwrap_or_else(|| PathBuf::from("models"))
    }

    /// The model with this id; for `None`, the default model.
    pub fn entry(&self, id: Option<&ModelId>) -> Option<&ModelEntry> {
        match id {
            None => self.models.first(),
            Some(id) => self.models.iter().find(|entry| entry.id == *id),
        }
    }

    /// The entry's own directory, or the model's folder in the models' directory. The demo model is also found where it is
    /// installed with the program.
    pub fn model_directory(&self, entry: &ModelEntry) -> PathBuf {
        if let Some(directory) = &entry.directory {
            return directory.clone();
        }
        let pulled = self.models_directory().join(entry.id.directory_name());
        match entry.id.whole() == demo_model::id() && !pulled.is_dir() {
            true => demo_model::find(demo_model::installed().as_deref()).unwrap_or(pulled),
            false => pulled,
        }
    }

    /// `intra_op_threads`, resolved. Default: all cores, for every tower, and for the decoders as well. Threads that have nothing
    /// to do sleep, so whatever work there is has all cores, and the kernel divides them among several kinds of it.
    pub fn intra_op_threads(&self) -> usize {
        if self.intra_op_threads > 0 { self.intra_op_threads } else { cores() }
    }

    /// `preprocess_threads`, resolved. Default: all cores.
    pub fn preprocess_threads(&self) -> usize {
        if self.preprocess_threads > 0 { self.preprocess_threads } else { cores() }
    }

    /// Settings that ask for more threads than `cores`, in words: each thread then only waits for the others.
    pub fn beyond(&self, cores: usize) -> Vec<String> {
        let settings =
            [("clip.intra_op_threads", self.intra_op_threads), ("clip.preprocess_threads", self.preprocess_threads)];
        let beyond = settings.into_iter().filter(|(_, threads)| *threads > cores);
        beyond.map(|(key, threads)| format!("{key} is {threads}, and this process may use {cores} cores")).collect()
    }

    /// `decode_bytes_max`, resolved. Default: a third of the container's memory limit, or of the machine's memory without a
    /// limit. The other two thirds are for models, media and messages.
    pub fn decode_bytes_max(&self) -> u64 {
        match self.decode_bytes_max {
            0 => (machine::memory_bytes() / 3).max(DECODE_BYTES_MIN),
            bytes => bytes,
        }
    }

    /// Whether a provider computes full-precision graphs in full precision, according to its settings.
    pub fn is_exact(&self, provider: Provider) -> bool {
        match provider {
            Provider::Cpu | Provider::DirectMl => true,
            Provider::Cuda => !self.cuda.tf32,
            Provider::MiGraphX => !self.migraphx.fp16,
            // By default TensorRT uses TF32, OpenVINO bf16 or fp16 if the device has it, Core ML fp16.
            Provider::TensorRt | Provider::OpenVino | Provider::CoreMl => false,
        }
    }
}

impl Default for ClipSettings {
    fn default() -> Self {
        Self {
            models: vec![demo_model::id().into()],
            models_directory: None,
            onnxruntime: None,
            activation_mismatch: ActivationMismatch::Refuse,
            precision: Precision::Fp32,
            providers: vec![ProviderEntry::required(Provider::Cpu)],
            device_ids: vec![0],
            intra_op_threads: 0,
            sessions: 1,
            image_batch_max: 16,
            text_batch_max: 128,
            recovery_max_ms: 120_000,
            preprocess_threads: 0,
            decode_bytes_max: 0,
            orientation: Orientation::default(),
            decoding: Decoding::default(),
            cuda: CudaSettings::default(),
            tensorrt: TensorRtSettings::default(),
            migraphx: MiGraphXSettings::default(),
            openvino: OpenVinoSettings::default(),
            coreml: CoreMlSettings::default(),
        }
    }
}

impl Text for ModelEntry {
    fn parse(text: &str) -> Result<Self, Expected> {
        let (id, directory) = match text.split_once('=') {
            Some((id, directory)) => (id, Some(directory.trim())),
            None => (text, None),
        };
        let expected = || {
            Expected::new("VARIANT/CHECKPOINT or VARIANT/CHECKPOINT=DIRECTORY")
                .hint("for example ViT-B-32/openai=models/vit-b-32")
        };
        if directory.is_some_and(str::is_empty) {
            return Err(expected());
        }
        let id = registry::resolve_or_custom(id.trim()).map_err(|unknown| match unknown.nearest {
            Some(near) => expected().hint(format!("did you mean {near}?")),
            None => expected(),
        })?;
        Ok(Self { id, directory: directory.map(PathBuf::from) })
    }

    fn text(&self) -> String {
        match &self.directory {
            Some(directory) => format!("{}={}", self.id, directory.display()),
            None => self.id.to_string(),
        }
    }

    /// What is before an `@` is no user.
    fn shown(&self) -> String {
        as_toml(&self.text())
    }
}

impl ClipSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            models: section.list("models", default.models),
            models_directory: section.optional("models_directory", default.models_directory),
            onnxruntime: section.optional("onnxruntime", default.onnxruntime),
            activation_mismatch: section.value("activation_mismatch", default.activation_mismatch),
            precision: section.value("precision", default.precision),
            providers: section.list("providers", default.providers),
            device_ids: section.numbers("device_ids", default.device_ids, 0..=1023),
            intra_op_threads: section.number("intra_op_threads", default.intra_op_threads, 0..=1024),
            sessions: section.number("sessions", default.sessions, 1..=64),
            image_batch_max: section.number("image_batch_max", default.image_batch_max, 1..=4096),
            text_batch_max: section.number("text_batch_max", default.text_batch_max, 1..=4096),
            recovery_max_ms: section.number("recovery_max_ms", default.recovery_max_ms, 0..=86_400_000),
            preprocess_threads: section.number("preprocess_threads", default.preprocess_threads, 0..=1024),
            decode_bytes_max: section.number("decode_bytes_max", default.decode_bytes_max, 0..=1 << 40),
            orientation: section.value("orientation", default.orientation),
            decoding: section.value("preprocess", default.decoding),
            cuda: section.table("cuda", CudaSettings::read),
            tensorrt: section.table("tensorrt", TensorRtSettings::read),
            migraphx: section.table("migraphx", MiGraphXSettings::read),
            openvino: section.table("openvino", OpenVinoSettings::read),
            coreml: section.table("coreml", CoreMlSettings::read),
        }
    }

    /// Every model must be known or have a directory, be listed once, and have its own collection.
    pub(super) fn review(&self, store: &StoreSettings, review: &mut Review<'_>) {
        providers::review(&self.providers, review);
        self.tensorrt.review(review);
        review.expect(!self.device_ids.is_empty(), "clip.device_ids", || {
            Expected::new("at least one id of a GPU").hint("0 is the first one")
        });
        for (n, id) in self.device_ids.iter().enumerate() {
            review.expect(!self.device_ids[..n].contains(id), "clip.device_ids", || {
                Expected::new(format!("every device once; {id} is listed twice"))
                    .hint("clip.sessions sets the number of sessions per device")
            });
        }
        for entry in &self.models {
            // Most verbs need no model, so a missing default model is reported only by the verbs that need one.
            let known = entry.directory.is_some()
                || registry::find(&entry.id).is_some()
                || entry.id.whole() == demo_model::id();
            review.expect(known || self.model_directory(entry).is_dir(), "clip.models", || {
                let near = registry::resolve(&entry.id.to_string()).err().and_then(|unknown| unknown.nearest);
                Expected::new(format!(
                    "models that OpenCLIP publishes, or a directory for {0}: {0}=DIRECTORY, or {1}",
                    entry.id,
                    self.model_directory(entry).display()
                ))
                .hint(near.map_or("clipstream models list".to_owned(), |near| format!("did you mean {near}?")))
            });
        }
        let collection = |entry: &ModelEntry| entry.id.collection(&store.collection_template, &store.catalog);
        for (n, entry) in self.models.iter().enumerate() {
            let name = collection(entry);
            for earlier in &self.models[..n] {
                if earlier.id == entry.id {
                    review
                        .wrong("clip.models", Expected::new(format!("every model once; {} is listed twice", entry.id)));
                } else if collection(earlier) == name {
                    review.wrong(
                        "clip.models",
                        Expected::new(format!(
                            "a collection per model; {} and {} would share {name}",
                            earlier.id, entry.id
                        ))
                        .hint("see store.collection_template; names keep only letters, digits, - and _"),
                    );
                }
            }
            review.expect(name != store.catalog, "store.collection_template", || {
                Expected::new(format!("names other than {name}, which is the catalog's alias"))
            });
        }
    }
}
