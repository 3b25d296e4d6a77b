//! What an ONNX file is, read from its protobuf message without running it.
//!
//! The file is mapped, and weights are not looked at: reading a model of gigabytes takes milliseconds.

mod activation;
mod external;
mod extract;
mod file;
pub(super) mod proto;
mod vectors;
mod wiring;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

pub(super) use external::ExternalFile;
pub(super) use extract::extract;

use self::file::unusable;
use self::proto::{ElementType, ModelProto, TensorProto, ValueInfoProto};
use self::wiring::Wiring;
use super::ModelError;
use super::inputs::TextRole;
use super::outputs::OUTPUT_NAMES;
use crate::domain::Activation;

/// Operators whose weights or activations are 8 bits or fewer.
const QUANTISED: [&str; 12] = [
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "DequantizeLinear",
    "QLinearMatMul",
    "QLinearConv",
    "MatMulNBits",
    "MatMulBnb4",
    "GatherBlockQuantized",
    "QAttention",
];

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    pub name: String,
    pub element: &'static str,
    /// Sizes, or names of the free ones; `?` where there is no name.
    pub axes: Vec<String>,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}[{}]", self.name, self.element, self.axes.join(", "))
    }
}

/// A graph's file, mapped and decoded.
pub(crate) struct Onnx {
    path: PathBuf,
    bytes: Bytes,
    model: ModelProto,
    external: Vec<ExternalFile>,
}

/// What [`Onnx`] says of a graph, or of the part of it that makes one output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GraphFacts {
    pub(crate) ir_version: i64,
    /// Domain (empty: ONNX's own) and version.
    pub(crate) opsets: Vec<(String, i64)>,
    pub(crate) producer: String,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// The output that is the vector.
    pub(crate) embedding: Option<Port>,
    /// Weights by element type, in elements.
    pub(crate) weights: BTreeMap<&'static str, u64>,
    /// Nodes by operator, local functions in place of their calls.
    pub(crate) operators: BTreeMap<String, usize>,
    /// How often each activation is computed; several kinds in odd graphs, none in those of another architecture.
    pub(crate) activations: BTreeMap<Activation, usize>,
    pub(crate) normalised: bool,
    pub(crate) quantised: bool,
    /// Rows of the token embedding; none for image towers, and where the look-up is not recognised.
    pub(crate) vocabulary: Option<u64>,
}

impl GraphFacts {
    pub(crate) fn parameters(&self) -> u64 {
        self.weights.values().sum()
    }

    /// Version of ONNX's own operators.
    pub(crate) fn opset(&self) -> i64 {
        self.opsets
            .iter()
            .find(|(domain, _)| domain.is_empty() || domain == "ai.onnx")
            .map_or(0, |(_, version)| *version)
    }
}

impl Onnx {
    /// Maps and decodes a graph's file, and checks what it needs beside it.
    ///
    /// # Errors
    /// The file is not an ONNX model, truncated or corrupt; its external weights are missing, or too short. Each names the
    /// file, what was found and what was expected.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = file::map(path)?;
        let model = file::decode(path, &bytes)?;
        let tensors = || tensors(&model);
        for tensor in tensors().filter(|t| !t.is_external() && !t.raw_data.is_empty()) {
            let (found, expected) = (tensor.raw_data.len() as u64, tensor.data_bytes());
            if expected.is_some_and(|expected| expected != found) {
                return Err(unusable(
                    path,
                    format!(
                        "is corrupt: tensor {:?} has {found} bytes, its shape needs {}",
                        tensor.name,
                        expected.unwrap_or(0)
                    ),
                    "fetch it again",
                ));
            }
        }
        let external = external::files(path, tensors())?;
        Ok(Self { path: path.to_owned(), bytes, model, external })
    }

    /// The graph's file and its external weights, in order of name after it.
    pub(super) fn files(&self) -> Vec<(PathBuf, u64)> {
        let graph = (self.path.clone(), self.bytes.len() as u64);
        std::iter::once(graph).chain(self.external.iter().map(|e| (e.path.clone(), e.bytes))).collect()
    }

    /// Names of the outputs.
    pub(super) fn outputs(&self) -> Vec<Port> {
        self.model.graph.iter().flat_map(|g| &g.output).map(port).collect()
    }

    /// Of the whole graph, or of the part that makes one of its outputs.
    pub(super) fn facts(&self, output: Option<&str>) -> GraphFacts {
        match output {
            None => facts(&self.model),
            Some(output) => facts(&extract::part(&self.model, output)),
        }
    }
}

fn facts(model: &ModelProto) -> GraphFacts {
    let wiring = Wiring::new(model);
    let graph = model.graph.as_ref();
    // Older exporters list the weights among the inputs.
    let weights: std::collections::HashSet<&str> =
        graph.iter().flat_map(|g| &g.initializer).map(|t| t.name.as_str()).collect();
    let inputs = graph.iter().flat_map(|g| &g.input).filter(|i| !weights.contains(i.name.as_str()));
    let inputs: Vec<_> = inputs.map(port).collect();
    let outputs: Vec<_> = graph.iter().flat_map(|g| &g.output).map(port).collect();

    let mut by_element = BTreeMap::new();
    for tensor in tensors(model) {
        let element = ElementType(tensor.data_type);
        if element.is_weight() {
            *by_element.entry(element.name()).or_default() += tensor.elements().unwrap_or(0);
        }
    }
    let mut operators = BTreeMap::new();
    for node in &wiring.nodes {
        *operators.entry(node.op_type.clone()).or_default() += 1;
    }
    let is_vector = |port: &&Port| port.axes.len() == 2 && port.element.starts_with('f');
    let embedding = OUTPUT_NAMES.iter().find_map(|n| outputs.iter().find(|o| o.name == *n));
    let embedding = embedding.or_else(|| outputs.iter().find(is_vector)).cloned();
    let is_integer = |port: &&Port| matches!(port.element, "i32" | "i64");
    let ids = inputs.iter().filter(is_integer).filter(|input| TextRole::of(&input.name) == TextRole::Ids);
    GraphFacts {
        ir_version: model.ir_version,
        opsets: model.opset_import.iter().map(|o| (o.domain.clone(), o.version)).collect(),
        producer: [model.producer_name.as_str(), model.producer_version.as_str()].join(" ").trim().to_owned(),
        weights: by_element,
        activations: activation::find(&wiring),
        normalised: embedding.as_ref().is_some_and(|o| vectors::is_normalised(&wiring, &o.name)),
        embedding,
        quantised: QUANTISED.iter().any(|op| operators.contains_key(*op)),
        vocabulary: ids.into_iter().find_map(|i| vectors::vocabulary(&wiring, &i.name)),
        operators,
        inputs,
        outputs,
    }
}

/// Every tensor of the model: weights, and constants in nodes.
fn tensors(model: &ModelProto) -> impl Iterator<Item = &TensorProto> {
    let nodes = model.graph.iter().flat_map(|g| &g.node).chain(model.functions.iter().flat_map(|f| &f.node));
    let constants = nodes.flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    model.graph.iter().flat_map(|g| &g.initializer).chain(constants)
}

fn port(value: &ValueInfoProto) -> Port {
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let axes = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.as_slice()).unwrap_or_default();
    let axes = axes.iter().map(|dim| match (dim.dim_value, &dim.dim_param) {
        (Some(size), _) => size.to_string(),
        (None, Some(name)) if !name.is_empty() => name.clone(),
        (None, _) => "?".to_owned(),
    });
    Port {
        name: value.name.clone(),
        element: tensor.map_or("unknown", |t| ElementType(t.elem_type).name()),
        axes: axes.collect(),
    }
}

#[cfg(test)]
mod tests;
