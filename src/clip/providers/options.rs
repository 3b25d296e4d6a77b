//! Maps settings to session options of ONNX Runtime.

use ort::ep::{self, ArenaExtendStrategy};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use tempfile::TempDir;

use crate::clip::ClipError;
use crate::clip::graph::{Source, commit, one_line};
use crate::clip::runtime::Runtime;
use crate::config::{Arena, ClipSettings, ComputeUnits, Provider};
use crate::domain::{ClipReason, Fault};

/// A session, and the folder for the profile of its first runs if its providers must prove what they ran.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) record: Option<TempDir>,
}

/// TensorRT's optimisation profiles in its provider's format: `input:1x3x224x224,…`, one entry per input and profile.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    pub(crate) min: String,
    pub(crate) opt: String,
    pub(crate) max: String,
}

pub(super) fn builder(
    runtime: &Runtime,
    source: Source<'_>,
    intra_op_threads: usize,
    cpu_only: bool,
) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(intra_op_threads)?
        // Spinning threads would take cores from decoding and from the other tower.
        .with_intra_op_spinning(false)?
        // ONNX Runtime keeps a memory plan for each shape that it has seen: thousands of them, each used once.
        .with_memory_pattern(!source.shapes_vary)?
        .with_log_level(LogLevel::Warning)?;
    // `ort` enables ONNX Runtime's automatic device choice, which applies if no provider is registered.
    Ok(if cpu_only { builder.with_auto_device(AutoDevicePolicy::PreferCPU)? } else { builder })
}

pub(super) fn open(
    runtime: &Runtime,
    builder: SessionBuilder,
    source: Source<'_>,
    first: Provider,
) -> Result<Opened, ClipError> {
    if first == Provider::Cpu {
        return Ok(Opened { session: commit(builder, source, &runtime.path)?, record: None });
    }
    let no_record = |e: String| Fault::new(ClipReason::OnnxruntimeFailed, format!("no record of a trial run: {e}"));
    let folder = tempfile::tempdir().map_err(|e| no_record(e.to_string()))?;
    let builder = builder.with_profiling(folder.path().join("trial")).map_err(|e| no_record(e.to_string()))?;
    Ok(Opened { session: commit(builder, source, &runtime.path)?, record: Some(folder) })
}

/// Opens the unoptimised graph on the CPU, only to read its inputs.
pub(super) fn inspect(runtime: &Runtime, source: Source<'_>) -> Result<Session, ClipError> {
    let plain = |builder: SessionBuilder| Ok(builder.with_optimization_level(GraphOptimizationLevel::Disable)?);
    let builder = builder(runtime, source, 1, true).and_then(plain).map_err(|e| refused(&e))?;
    commit(builder, source, &runtime.path)
}

pub(super) fn refused(error: &ort::Error) -> ClipError {
    let message = format!("ONNX Runtime refused the session options: {}", one_line(error));
    Fault::new(ClipReason::OnnxruntimeFailed, message).into()
}

/// Fails if the library was built without the provider, or if a dependency is missing. Other failures only show when
/// the graph is opened.
pub(super) fn register(
    provider: Provider,
    settings: &ClipSettings,
    device: u32,
    profiles: &Profiles,
    builder: &mut SessionBuilder,
) -> ort::Result<()> {
    let device = i32::try_from(device).unwrap_or(i32::MAX);
    let provider = match provider {
        // Always available. Registering it would only disable its memory arena.
        Provider::Cpu => return Ok(()),
        Provider::Cuda => {
            let cuda = &settings.cuda;
            let provider = ep::CUDA::default()
                .with_device_id(device)
                .with_arena_extend_strategy(match cuda.arena {
                    Arena::PowerOfTwo => ArenaExtendStrategy::NextPowerOfTwo,
                    Arena::AsRequested => ArenaExtendStrategy::SameAsRequested,
                })
                .with_tf32(cuda.tf32)
                // The default, an exhaustive search, runs again for every new batch size. CLIP has only one
                // convolution, which cuts the patches.
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
            limited(cuda.memory_bytes_max, provider, ep::CUDA::with_memory_limit).build()
        }
        Provider::TensorRt => {
            let tensorrt = &settings.tensorrt;
            let mut provider = ep::TensorRT::default().with_device_id(device).with_fp16(tensorrt.fp16);
            provider = limited(tensorrt.workspace_bytes_max, provider, ep::TensorRT::with_max_workspace_size);
            if let Some(folder) = &tensorrt.cache_directory {
                provider = provider
                    .with_engine_cache(true)
                    .with_engine_cache_path(folder.display())
                    .with_timing_cache(true)
                    .with_timing_cache_path(folder.display());
            }
            if !profiles.min.is_empty() {
                provider = provider
                    .with_profile_min_shapes(&profiles.min)
                    .with_profile_opt_shapes(&profiles.opt)
                    .with_profile_max_shapes(&profiles.max);
            }
            provider.build()
        }
        Provider::MiGraphX => {
            let migraphx = &settings.migraphx;
            let provider = ep::MIGraphX::default().with_device_id(device).with_fp16(migraphx.fp16);
            limited(migraphx.memory_bytes_max, provider, ep::MIGraphX::with_mem_limit).build()
        }
        Provider::OpenVino => {
            let openvino = &settings.openvino;
            let mut provider = ep::OpenVINO::default().with_device_type(&openvino.device);
            if openvino.threads > 0 {
                provider = provider.with_num_threads(openvino.threads);
            }
            if let Some(folder) = &openvino.cache_directory {
                provider = provider.with_cache_dir(folder.display());
            }
            provider.build()
        }
        Provider::CoreMl => {
            let coreml = &settings.coreml;
            let mut provider = ep::CoreML::default()
                .with_model_format(ep::coreml::ModelFormat::MLProgram)
                .with_compute_units(match coreml.compute_units {
                    ComputeUnits::All => ep::coreml::ComputeUnits::All,
                    ComputeUnits::CpuAndGpu => ep::coreml::ComputeUnits::CPUAndGPU,
                    ComputeUnits::CpuAndNeuralEngine => ep::coreml::ComputeUnits::CPUAndNeuralEngine,
                    ComputeUnits::Cpu => ep::coreml::ComputeUnits::CPUOnly,
                });
            if let Some(folder) = &coreml.cache_directory {
                provider = provider.with_model_cache_dir(folder.display());
            }
            provider.build()
        }
        Provider::DirectMl => ep::DirectML::default().with_device_id(device).build(),
    };
    provider.register(builder)
}

fn limited<T>(bytes_max: u64, provider: T, limit: impl Fn(T, usize) -> T) -> T {
    match bytes_max {
        0 => provider,
        bytes => limit(provider, usize::try_from(bytes).unwrap_or(usize::MAX)),
    }
}

/// What to do if the provider is unavailable.
pub(super) fn needs(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "use any build of ONNX Runtime",
        Provider::Cuda => {
            "set CLIPSTREAM_ORT_DYLIB to a build with CUDA (scripts/onnxruntime --cuda fetches one), and install the NVIDIA \
             driver, CUDA and cuDNN of the versions it names"
        }
        Provider::TensorRt => {
            "set CLIPSTREAM_ORT_DYLIB to a build with TensorRT (scripts/onnxruntime --cuda fetches one), and install the \
             NVIDIA driver, CUDA, cuDNN and TensorRT of the versions it names"
        }
        Provider::MiGraphX => "set CLIPSTREAM_ORT_DYLIB to a build with MIGraphX, and install ROCm",
        Provider::OpenVino => {
            "set CLIPSTREAM_ORT_DYLIB to a build with OpenVINO (the wheel onnxruntime-openvino has one)"
        }
        Provider::CoreMl => "set CLIPSTREAM_ORT_DYLIB to a build for macOS with Core ML",
        Provider::DirectMl => "set CLIPSTREAM_ORT_DYLIB to a build for Windows with DirectML",
    }
}
