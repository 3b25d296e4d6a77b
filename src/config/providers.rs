//! Execution providers of ONNX Runtime, which run the graphs, and their options.

use std::fmt;
use std::path::PathBuf;

use super::reader::{Reader, Review};
use super::text::{Expected, Text, choice};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
    CoreMl,
    DirectMl,
    MiGraphX,
}

impl Provider {
    pub const ALL: [Self; 7] =
        [Self::TensorRt, Self::Cuda, Self::MiGraphX, Self::OpenVino, Self::CoreMl, Self::DirectMl, Self::Cpu];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
            Self::MiGraphX => "migraphx",
        }
    }

    /// Whether it runs on a GPU of `clip.device_ids`.
    pub fn has_device_ids(self) -> bool {
        matches!(self, Self::Cuda | Self::TensorRt | Self::MiGraphX | Self::DirectMl)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `clip.providers`: `cuda` (required: if it is unavailable, the start fails) or `cuda:preferred` (if it is
/// unavailable, it is skipped with a warning and the next one is used).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderEntry {
    pub provider: Provider,
    pub is_required: bool,
}

impl ProviderEntry {
    pub fn required(provider: Provider) -> Self {
        Self { provider, is_required: true }
    }

    pub fn preferred(provider: Provider) -> Self {
        Self { provider, is_required: false }
    }
}

impl Text for ProviderEntry {
    fn parse(text: &str) -> Result<Self, Expected> {
        let (name, need) = text.split_once(':').map_or((text, None), |(name, need)| (name, Some(need.trim())));
        let is_required = match need {
            None => true,
            Some(need) => choice(need, [("required", true), ("preferred", false)])
                .map_err(|e| Expected { expected: format!("{} after the colon", e.expected), ..e })?,
        };
        let provider = choice(name.trim(), Provider::ALL.map(|p| (p.as_str(), p))).map_err(|e| match name.trim() {
            // ONNX Runtime 1.23 removed it in favour of MIGraphX.
            "rocm" => e.hint("AMD GPUs: migraphx"),
            "dml" => e.hint("did you mean directml?"),
            _ => e,
        })?;
        Ok(Self { provider, is_required })
    }

    fn text(&self) -> String {
        format!("{}{}", self.provider, if self.is_required { "" } else { ":preferred" })
    }
}

/// `[clip.cuda]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CudaSettings {
    /// Largest memory arena of one session, in bytes; 0: no limit.
    pub memory_bytes_max: u64,
    pub arena: Arena,
    /// Matrix products in TensorFloat-32: faster on Ampere and later, about three digits of precision.
    pub tf32: bool,
}

/// By how much a GPU's memory arena grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arena {
    /// To the next power of two: few allocations.
    #[default]
    PowerOfTwo,
    /// By exactly what is requested: little unused memory.
    AsRequested,
}

/// `[clip.tensorrt]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRtSettings {
    /// Where built engines and timings are kept, in a folder per model; `None`: every start builds them again.
    pub cache_directory: Option<PathBuf>,
    /// Layers may run in half precision.
    pub fp16: bool,
    /// Scratch memory for building an engine, in bytes, at most; 0: TensorRT's own default.
    pub workspace_bytes_max: u64,
    /// Upper bounds of the image tower's shape buckets. Each is an optimisation profile, fastest at its upper bound. The range
    /// from the last one to `clip.image_batch_max` is a bucket, too.
    pub image_batches: Vec<usize>,
    /// The same for the length of texts, in tokens, up to the model's context length.
    pub text_lengths: Vec<usize>,
}

impl Default for TensorRtSettings {
    fn default() -> Self {
        Self {
            cache_directory: None,
            fp16: false,
            workspace_bytes_max: 0,
            image_batches: vec![1],
            text_lengths: vec![16, 32],
        }
    }
}

/// `[clip.migraphx]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MiGraphXSettings {
    pub fp16: bool,
    /// As with CUDA.
    pub memory_bytes_max: u64,
}

/// `[clip.openvino]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenVinoSettings {
    /// `CPU`, `GPU`, `GPU.1`, `NPU`, `AUTO:GPU,CPU`, ...
    pub device: String,
    /// Where compiled graphs are kept, in a folder per model; `None`: every start compiles them again.
    pub cache_directory: Option<PathBuf>,
    /// 0: OpenVINO's own choice.
    pub threads: usize,
}

impl Default for OpenVinoSettings {
    fn default() -> Self {
        Self { device: "CPU".to_owned(), cache_directory: None, threads: 0 }
    }
}

/// `[clip.coreml]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreMlSettings {
    pub compute_units: ComputeUnits,
    /// Where compiled graphs are kept, in a folder per model; `None`: every start compiles them again.
    pub cache_directory: Option<PathBuf>,
}

/// The compute units that Core ML may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeUnits {
    #[default]
    All,
    CpuAndGpu,
    CpuAndNeuralEngine,
    Cpu,
}

impl ComputeUnits {
    const ALL: [(&'static str, Self); 4] = [
        ("all", Self::All),
        ("cpu_and_gpu", Self::CpuAndGpu),
        ("cpu_and_neural_engine", Self::CpuAndNeuralEngine),
        ("cpu", Self::Cpu),
    ];
}

impl Text for ComputeUnits {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, Self::ALL)
    }

    fn text(&self) -> String {
        Self::ALL.iter().find(|(_, units)| units == self).map_or("", |(name, _)| name).to_owned()
    }
}

impl Arena {
    const ALL: [(&'static str, Self); 2] = [("power_of_two", Self::PowerOfTwo), ("as_requested", Self::AsRequested)];
}

impl Text for Arena {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, Self::ALL)
    }

    fn text(&self) -> String {
        Self::ALL.iter().find(|(_, arena)| arena == self).map_or("", |(name, _)| name).to_owned()
    }
}

/// More than any GPU has.
const MEMORY_BYTES_MAX: u64 = 1 << 42;

impl CudaSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            memory_bytes_max: table.number("memory_bytes_max", default.memory_bytes_max, 0..=MEMORY_BYTES_MAX),
            arena: table.value("arena", default.arena),
            tf32: table.flag("tf32", default.tf32),
        }
    }
}

impl TensorRtSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            cache_directory: table.optional("cache_directory", default.cache_directory),
            fp16: table.flag("fp16", default.fp16),
            workspace_bytes_max: table.number("workspace_bytes_max", default.workspace_bytes_max, 0..=MEMORY_BYTES_MAX),
            image_batches: table.numbers("image_batches", default.image_batches, 1..=4096),
            text_lengths: table.numbers("text_lengths", default.text_lengths, 1..=4096),
        }
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        for (key, buckets) in
            [("clip.tensorrt.image_batches", &self.image_batches), ("clip.tensorrt.text_lengths", &self.text_lengths)]
        {
            review.expect(buckets.is_sorted_by(|a, b| a < b), key, || {
                Expected::new("ascending numbers: each bucket begins after the one before it")
            });
        }
    }
}

impl MiGraphXSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            fp16: table.flag("fp16", default.fp16),
            memory_bytes_max: table.number("memory_bytes_max", default.memory_bytes_max, 0..=MEMORY_BYTES_MAX),
        }
    }
}

impl OpenVinoSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            device: table.value("device", default.device),
            cache_directory: table.optional("cache_directory", default.cache_directory),
            threads: table.number("threads", default.threads, 0..=1024),
        }
    }
}

impl CoreMlSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            compute_units: table.value("compute_units", default.compute_units),
            cache_directory: table.optional("cache_directory", default.cache_directory),
        }
    }
}

/// At least one, each once, and the CPU last: it runs everything, so later entries would never be used.
pub(super) fn review(providers: &[ProviderEntry], review: &mut Review<'_>) {
    let key = "clip.providers";
    review.expect(!providers.is_empty(), key, || {
        Expected::new("at least one execution provider").hint("cpu is always available")
    });
    for (n, entry) in providers.iter().enumerate() {
        review.expect(!providers[..n].iter().any(|e| e.provider == entry.provider), key, || {
            Expected::new(format!("every provider once; {} is listed twice", entry.provider))
        });
    }
    let cpu = providers.iter().position(|e| e.provider == Provider::Cpu);
    review.expect(cpu.is_none_or(|place| place + 1 == providers.len()), key, || {
        Expected::new("cpu last").hint("it runs everything, so later entries would never be used")
    });
}
