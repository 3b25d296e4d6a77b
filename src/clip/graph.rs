//! Inputs and outputs of a tower's graph, read from the graph itself: names, element types, fixed and free axes.
//!
//! Exporters differ (OpenCLIP, Immich, Optimum, FastEmbed), so only the roles are assumed. An image tower takes pixels
//! `[batch, 3, height, width]`. A text tower takes token ids `[batch, sequence]` and perhaps an attention mask and token types of
//! the same shape. Both give one vector per item, `[batch, dimension]`.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{Outlet, TensorElementType};

use super::ClipError;
use crate::domain::{Fault, Finding, Modality, ModelReason};
use crate::model::{OUTPUT_NAMES, TextRole, tower_of};
use crate::redact;

/// The export tool's opset: old enough for every accepted ONNX Runtime.
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

/// Element type of vectors, and of pixels normalised before the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F32,
    F16,
}

/// The pixel format of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PixelType {
    /// `[batch, 3, height, width]`, normalised.
    Planes(Float),
    /// `[batch, height, width, 3]`, u8: the graph normalises. Immich's exports since 2026 (immich-app/ml-models,
    /// `fuse_visual_input` in `immich_model/onnx/transforms.py`).
    Rgb,
}

impl PixelType {
    /// The shape of an input of `rows` pictures.
    pub(super) fn shape(self, rows: usize, [height, width]: [usize; 2]) -> [usize; 4] {
        match self {
            Self::Planes(_) => [rows, 3, height, width],
            Self::Rgb => [rows, height, width, 3],
        }
    }
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
    pub(super) pixel_type: PixelType,
    pub(super) batch: Axis,
    pub(super) height: Axis,
    pub(super) width: Axis,
    pub(super) output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextSignature {
    pub(super) ids: (String, Integer),
    pub(super) mask: Option<(String, Integer)>,
    /// Which text of a pair a token belongs to (BERT's exports): there is one text, number 0.
    pub(super) types: Option<(String, Integer)>,
    pub(super) batch: Axis,
    pub(super) sequence: Axis,
    pub(super) output: Output,
}

/// The graph of one tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'f> {
    pub(super) file: &'f Path,
    /// The part of a combined graph; `None`: the file has one tower.
    pub(super) part: Option<Modality>,
    /// Whether hardly any run has the shape of an earlier one.
    pub(super) shapes_vary: bool,
}

/// Opens the graph with ONNX Runtime.
pub(super) fn commit(mut builder: SessionBuilder, source: Source<'_>, library: &Path) -> Result<Session, ClipError> {
    let file = source.file;
    let session = match source.part {
        None => builder.commit_from_file(file),
        Some(modality) => {
            let model = tower_of(file, modality)?;
            // The folder of external weights: an extracted model has no file path.
            let folder = file.parent().unwrap_or(Path::new(".")).to_string_lossy();
            builder
                .with_config_entry("session.model_external_initializers_file_folder_path", folder)
                .map_err(ort::Error::from)
                .and_then(|mut builder| builder.commit_from_memory(&model))
        }
    };
    session.map_err(|e| {
        let finding = newer_than(library, e.message())
            .unwrap_or_else(|| Finding::new(one_line(&e)).hint("fetch it again, or export it again"));
        let subject = format!("{} cannot be opened", file.display());
        Fault::found(ModelReason::Unusable, finding.about(subject)).into()
    })
}

/// Explains ONNX Runtime's message about a graph newer than the library; `None` for other messages.
fn newer_than(library: &Path, message: &str) -> Option<Finding> {
    let number = |after: &str| {
        let rest = message.split_once(after)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    let (what, found, most) = match (number(" Opset "), number(" is till opset ")) {
        (Some(found), Some(most)) => ("operator set", found, most),
        _ => ("IR version", number("model IR version: ")?, number("max supported IR version: ")?),
    };
    let message = format!("found {what} {found}, expected at most {most} with {}", library.display());
    Some(Finding::new(message).hint(format!(
        "export it again with operator set {EXPORT_OPSET}, as tools/export_openclip.py does, or set clip.onnxruntime to a \
         newer library"
    )))
}

/// Inputs and outputs of an image tower.
pub(super) fn image_signature(session: &Session) -> Result<ImageSignature, ClipError> {
    let wrong = || {
        let expected = "one input of pixels, float [batch, 3, height, width] or uint8 [batch, height, width, 3]";
        unexpected("inputs", session.inputs(), expected)
    };
    let [input] = session.inputs() else { return Err(wrong()) };
    let axes = axes::<4>(input).ok_or_else(wrong)?;
    let (pixel_type, [batch, channels, height, width]) = match (float(input), input.dtype().tensor_type()) {
        (Some(float), _) => (PixelType::Planes(float), axes),
        (None, Some(TensorElementType::Uint8)) => (PixelType::Rgb, [axes[0], axes[3], axes[1], axes[2]]),
        _ => return Err(wrong()),
    };
    if channels.fixed().is_some_and(|c| c != 3) {
        return Err(wrong());
    }
    let output = embedding_output(session)?;
    Ok(ImageSignature { pixels: input.name().to_owned(), pixel_type, batch, height, width, output })
}

/// Inputs and outputs of a text tower.
pub(super) fn text_signature(session: &Session) -> Result<TextSignature, ClipError> {
    let wrong = || {
        let expected = "token ids, i32 or i64 [batch, sequence], and maybe a mask and token types like them";
        unexpected("inputs", session.inputs(), expected)
    };
    let of_role = |role| session.inputs().iter().filter(move |input| TextRole::of(input.name()) == role);
    // At most one of a role.
    let one = |role| {
        let mut found = of_role(role);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(wrong()),
            (found, None) => Ok(found),
        }
    };
    let named =
        |input: &Outlet| Some((input.name().to_owned(), integer(input)?)).filter(|_| axes::<2>(input).is_some());
    let optional = |role| one(role)?.map(|input| named(input).ok_or_else(wrong)).transpose();
    let ids = one(TextRole::Ids)?.ok_or_else(wrong)?;
    let [batch, sequence] = axes::<2>(ids).ok_or_else(wrong)?;
    Ok(TextSignature {
        ids: named(ids).ok_or_else(wrong)?,
        mask: optional(TextRole::Mask)?,
        types: optional(TextRole::Types)?,
        batch,
        sequence,
        output: embedding_output(session)?,
    })
}

/// The embedding's output: the preferred name, otherwise the only one of its shape.
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

/// The axes of a tensor with exactly `N` axes, none of them empty.
fn axes<const N: usize>(outlet: &Outlet) -> Option<[Axis; N]> {
    let shape = outlet.dtype().tensor_shape()?;
    let axis = |size: &i64| match usize::try_from(*size) {
        Ok(0) => None,
        Ok(size) => Some(Axis::Fixed(size)),
        Err(_) => Some(Axis::Free),
    };
    shape.iter().map(axis).collect::<Option<Vec<_>>>()?.try_into().ok()
}

fn unexpected(what: &str, found: &[Outlet], expected: &str) -> ClipError {
    let found: Vec<_> = found.iter().map(|o| format!("{} {}", o.name(), o.dtype())).collect();
    Fault::new(ModelReason::Unusable, format!("the graph's {what} are {}; expected {expected}", found.join(", ")))
        .hint("export it again with tools/export_openclip.py")
        .into()
}

/// ONNX Runtime's messages may span lines.
pub(super) fn one_line(error: &ort::Error) -> String {
    redact::cut(&error.message().split_whitespace().collect::<Vec<_>>().join(" "), 500)
}
