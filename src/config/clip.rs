use std::path::PathBuf;

use crate::domain::ModelId;

/// `[clip]`: the models, and how they run.
#[derive(Clone, Debug)]
pub struct ClipSettings {
    /// Models to embed with; the first is the default one, which the alias names and queries use.
    pub models: Vec<ModelEntry>,
    /// Where a model without a directory of its own is looked for, as `{variant}__{checkpoint}`.
    pub models_directory: PathBuf,
    /// ONNX Runtime's library; none: see `clip::runtime` for the places that are searched.
    pub onnxruntime: Option<PathBuf>,
    /// Execution providers in order of preference, for example `cuda`, `cpu`.
    pub providers: Vec<Provider>,
    /// Threads that one run of a graph may use; 0: half of the cores (the other half decodes), at least 1.
    pub intra_op_threads: usize,
    /// Image-tower sessions, each on a thread of its own.
    pub sessions: usize,
    /// Most pictures in one run.
    pub image_batch_max: usize,
    /// Most texts in one run.
    pub text_batch_max: usize,
    /// Pictures that are decoded and resized at once; 0: one per core.
    pub preprocess_threads: usize,
}

/// `VARIANT/CHECKPOINT` or `VARIANT/CHECKPOINT=DIRECTORY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    pub id: ModelId,
    pub directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Default for ClipSettings {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            models_directory: PathBuf::from("models"),
            onnxruntime: None,
            providers: vec![Provider::Cpu],
            intra_op_threads: 0,
            sessions: 1,
            image_batch_max: 16,
            text_batch_max: 32,
            preprocess_threads: 0,
        }
    }
}
