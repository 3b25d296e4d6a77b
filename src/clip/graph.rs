//! What a tower's graph takes and gives, read from the graph itself: names, element types, fixed and free axes.
//!
//! Exporters differ (OpenCLIP, Immich, Optimum, FastEmbed), so nothing is assumed but the roles: an image tower takes
//! pixels `[batch, 3, height, width]`, a text tower takes token ids `[batch, sequence]` and maybe an attention mask of
//! the same shape; both give one vector per item, `[batch, dimension]`.

use std::path::Path;

use ort::ep;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType};

use super::ClipError;
use super::onnx::{Onnx, extract};
use super::runtime::Runtime;
use crate::config::Provider;
use crate::domain::Modality;
use crate::redact;

/// Outputs that are the embedding, by preference: OpenCLIP and Immich exports, then Optimum's and FastEmbed's, then
/// merged ones. Graphs may give hidden states beside it.
pub(super) const OUTPUT_NAMES: [&str; 5] =
    ["image_embedding", "text_embedding", "image_embeds", "text_embeds", "embeddings"];

/// What the export tool writes: old enough for any ONNX Runtime that is accepted here.
const EXPORT_OPSET: u32 = 18;

/// One axis of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Free,
    Fixed(usize),
}

impl Axis {
    pub(super) fn fixed(self) -> Option<usize> {
        match self {
            Self::Free => None,
            Self::Fixed(size) => Some(size),
        }
    }
}

/// Element type of pixels and vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F32,
    F16,
}

/// Element type of token ids and attention masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    I32,
    I64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) float: Float,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageSignature {
    pub(super) pixels: String,
    pub(super) float: Float,
    pub(super) batch: Axis,
    pub(super) height: Axis,
    pub(super) width: Axis,
    pub(super) output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextSignature {
    pub(super) ids: (String, Integer),
    pub(super) mask: Option<(String, Integer)>,
    pub(super) batch: Axis,
    pub(super) sequence: Axis,
    pub(super) output: Output,
}

/// The graph of one tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'f> {
    pub(super) file: &'f Path,
    /// Which part of a combined graph; none: the file is one tower's.
    pub(super) part: Option<Modality>,
}

/// Opens the graph of one tower with the settings' providers.
pub(super) fn open(
    runtime: &Runtime,
    source: Source<'_>,
    providers: &[Provider],
    intra_op_threads: usize,
) -> Result<Session, ClipError> {
    let mut builder = options(runtime, intra_op_threads, providers.iter().all(|p| *p == Provider::Cpu))
        .map_err(|e| ClipError::load("onnxruntime_failed", format!("ONNX Runtime refused the session options: {e}")))?;
    for provider in providers {
        register(*provider, &mut builder).map_err(|e| {
            let library = runtime.path.display();
            ClipError::load(
                "provider_unavailable",
                format!(
                    "execution provider {} is not available with {library}: {}; install what it needs (a library \
                     built with it, its driver), or take it out of [clip] providers",
                    provider.as_str(),
                    one_line(&e),
                ),
            )
        })?;
    }
    commit(builder, source, &runtime.path)
}

/// Hands the graph to ONNX Runtime.
pub(super) fn commit(mut builder: SessionBuilder, source: Source<'_>, library: &Path) -> Result<Session, ClipError> {
    let file = source.file;
    let session = match source.part {
        None => builder.commit_from_file(file),
        Some(modality) => {
            let onnx = Onnx::open(file)?;
            let model = extract(&onnx, &combined_output(&onnx, modality)?)?;
            // Where external weights are: the extracted model has no folder of its own.
            let folder = file.parent().unwrap_or(Path::new(".")).to_string_lossy();
            builder
                .with_config_entry("session.model_external_initializers_file_folder_path", folder)
                .map_err(ort::Error::from)
                .and_then(|mut builder| builder.commit_from_memory(&model))
        }
    };
    session.map_err(|e| {
        let why = one_line(&e);
        let (found, next_step) = refusal(&why, library).unwrap_or((why, "fetch it again, or export it again".into()));
        ClipError::load("model_unusable", format!("{} cannot be opened: {found}; {next_step}", file.display()))
    })
}

/// ONNX Runtime's word that a graph is newer than the library, in ours: what was found, and the next step.
fn refusal(message: &str, library: &Path) -> Option<(String, String)> {
    let number = |after: &str| {
        let rest = message.split_once(after)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    let (what, found, most) = match (number(" Opset "), number(" is till opset ")) {
        (Some(found), Some(most)) => ("operator set", found, most),
        _ => ("IR version", number("model IR version: ")?, number("max supported IR version: ")?),
    };
    Some((
        format!("found {what} {found}, expected at most {most} with {}", library.display()),
        format!("export it again with --opset {}, or set [clip] onnxruntime to a newer library", EXPORT_OPSET),
    ))
}

/// The output of a graph with both towers that is one tower's embedding.
pub(super) fn combined_output(onnx: &Onnx, modality: Modality) -> Result<String, ClipError> {
    let outputs = onnx.outputs();
    let words: &[&str] = match modality {
        Modality::Image => &["image", "vision", "visual"],
        Modality::Text => &["text"],
    };
    let is_embedding = |name: &str| !["logits", "hidden", "pooler"].iter().any(|word| name.contains(word));
    let of_tower = |name: &str| words.iter().any(|word| name.contains(word));
    let mut found = outputs.iter().filter(|o| o.axes.len() == 2 && of_tower(&o.name) && is_embedding(&o.name));
    let preferred = OUTPUT_NAMES.iter().find_map(|name| outputs.iter().find(|o| o.name == *name && of_tower(name)));
    match (preferred, found.next(), found.next()) {
        (Some(output), ..) | (None, Some(output), None) => Ok(output.name.clone()),
        _ => {
            let found: Vec<_> = outputs.iter().map(ToString::to_string).collect();
            Err(ClipError::load(
                "model_unusable",
                format!(
                    "the graph's outputs are {}; expected one that is the {} embedding, [batch, dimension], for \
                     example {}; export the two towers apart",
                    found.join(", "),
                    modality.as_str(),
                    if modality == Modality::Image { "image_embeds" } else { "text_embeds" },
                ),
            ))
        }
    }
}

fn options(runtime: &Runtime, intra_op_threads: usize, cpu_only: bool) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(intra_op_threads)?
        // Threads that spin while they wait take the cores from decoding and from the other tower.
        .with_intra_op_spinning(false)?
        .with_log_level(LogLevel::Warning)?;
    // `ort` turns on ONNX Runtime's own choice of a device, which applies where no provider was registered.
    Ok(if cpu_only { builder.with_auto_device(AutoDevicePolicy::PreferCPU)? } else { builder })
}

/// Fails where the library was built without the provider, or the provider finds no device: there is no silent
/// fallback to the CPU.
fn register(provider: Provider, builder: &mut SessionBuilder) -> ort::Result<()> {
    let provider = match provider {
        // Always there. Registering it would only switch its memory arena off.
        Provider::Cpu => return Ok(()),
        Provider::Cuda => ep::CUDA::default().build(),
        Provider::TensorRt => ep::TensorRT::default().build(),
        Provider::OpenVino => ep::OpenVINO::default().build(),
        Provider::CoreMl => ep::CoreML::default().build(),
        Provider::DirectMl => ep::DirectML::default().build(),
        Provider::MiGraphX => ep::MIGraphX::default().build(),
    };
    provider.register(builder)
}

/// What an image tower takes and gives.
pub(super) fn image_signature(session: &Session) -> Result<ImageSignature, ClipError> {
    let expected = "one input of pixels, float [batch, 3, height, width]";
    let [input] = session.inputs() else { return Err(unexpected("inputs", session.inputs(), expected)) };
    let (Some(float), Some([batch, channels, height, width])) = (float(input), axes::<4>(input)) else {
        return Err(unexpected("inputs", session.inputs(), expected));
    };
    if channels.fixed().is_some_and(|c| c != 3) {
        return Err(unexpected("inputs", session.inputs(), expected));
    }
    let output = embedding_output(session)?;
    Ok(ImageSignature { pixels: input.name().to_owned(), float, batch, height, width, output })
}

/// What a text tower takes and gives.
pub(super) fn text_signature(session: &Session) -> Result<TextSignature, ClipError> {
    let wrong =
        || unexpected("inputs", session.inputs(), "token ids, i32 or i64 [batch, sequence], and maybe a mask like it");
    let (masks, ids): (Vec<_>, Vec<_>) = session.inputs().iter().partition(|i| i.name().contains("mask"));
    let ([ids], true) = (ids.as_slice(), masks.len() <= 1) else { return Err(wrong()) };
    let named = |input: &Outlet| Some((input.name().to_owned(), integer(input)?));
    let [batch, sequence] = axes::<2>(ids).ok_or_else(wrong)?;
    let mask = match masks.first() {
        Some(mask) => Some(named(mask).filter(|_| axes::<2>(mask).is_some()).ok_or_else(wrong)?),
        None => None,
    };
    Ok(TextSignature { ids: named(ids).ok_or_else(wrong)?, mask, batch, sequence, output: embedding_output(session)? })
}

/// The output that is the embedding: the preferred name, else the only one of its shape.
fn embedding_output(session: &Session) -> Result<Output, ClipError> {
    let vectors: Vec<_> = session
        .outputs()
        .iter()
        .filter(|o| axes::<2>(o).is_some())
        .filter_map(|o| Some(Output { name: o.name().to_owned(), float: float(o)? }))
        .collect();
    let preferred = OUTPUT_NAMES.iter().find_map(|name| vectors.iter().find(|o| o.name == *name));
    match (preferred, vectors.as_slice()) {
        (Some(output), _) | (None, [output]) => Ok(output.clone()),
        _ => {
            let expected =
                format!("one float output [batch, dimension], or one of the names {}", OUTPUT_NAMES.join(", "));
            Err(unexpected("outputs", session.outputs(), &expected))
        }
    }
}

fn float(outlet: &Outlet) -> Option<Float> {
    match outlet.dtype().tensor_type()? {
        TensorElementType::Float32 => Some(Float::F32),
        TensorElementType::Float16 => Some(Float::F16),
        _ => None,
    }
}

fn integer(outlet: &Outlet) -> Option<Integer> {
    match outlet.dtype().tensor_type()? {
        TensorElementType::Int32 => Some(Integer::I32),
        TensorElementType::Int64 => Some(Integer::I64),
        _ => None,
    }
}

/// The axes of a tensor of exactly `N` of them.
fn axes<const N: usize>(outlet: &Outlet) -> Option<[Axis; N]> {
    let shape = outlet.dtype().tensor_shape()?;
    let axes: Vec<_> = shape.iter().map(|size| usize::try_from(*size).map_or(Axis::Free, Axis::Fixed)).collect();
    axes.try_into().ok()
}

fn unexpected(what: &str, found: &[Outlet], expected: &str) -> ClipError {
    let found: Vec<_> = found.iter().map(|o| format!("{} {}", o.name(), o.dtype())).collect();
    ClipError::load(
        "model_unusable",
        format!("the graph's {what} are {}; expected {expected}; export the two towers apart", found.join(", ")),
    )
}

/// ONNX Runtime's messages may span lines.
pub(super) fn one_line(error: &ort::Error) -> String {
    redact::cut(&error.message().split_whitespace().collect::<Vec<_>>().join(" "), 500)
}
