//! Extracts one tower from a graph that has both, as a separate model.
//!
//! ONNX Runtime computes a whole graph even if only one output is requested, so a combined one would run both towers for every
//! batch. Weights are copied once, as they are encoded.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message;

use super::Onnx;
use super::file::unusable;
use super::proto::{GraphProto, ModelProto, NodeProto};
use crate::model::ModelError;

/// `ModelProto` with its parts left encoded: on the wire, a message in a message is bytes.
#[derive(Clone, PartialEq, Message)]
struct EncodedModel {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<EncodedGraph>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    opset_import: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "25")]
    functions: Vec<Bytes>,
}

/// `GraphProto`, likewise. Shapes of inner values are left out: ONNX Runtime infers them.
#[derive(Clone, PartialEq, Message)]
struct EncodedGraph {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    node: Vec<Bytes>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    initializer: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    input: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "12")]
    output: Vec<Bytes>,
}

/// The model that computes `output` of `onnx` and nothing else, encoded, with the inputs that this takes.
///
/// # Errors
/// The graph has no such output.
pub(crate) fn extract(onnx: &Onnx, output: &str) -> Result<Vec<u8>, ModelError> {
    let wrong = |what: String| unusable(&onnx.path, what, "export the two towers apart");
    let model = EncodedModel::decode(onnx.bytes.clone()).map_err(|e| wrong(format!("is corrupt ({e})")))?;
    let (Some(graph), Some(encoded)) = (&onnx.model.graph, model.graph) else {
        return Err(wrong("has no graph".to_owned()));
    };
    if !graph.output.iter().any(|o| o.name == output) {
        return Err(wrong(format!("has no output {output}")));
    }
    let needed = needed(graph, output);
    let keep = |parts: Vec<Bytes>, is_kept: &mut dyn FnMut(usize) -> bool| -> Vec<Bytes> {
        parts.into_iter().enumerate().filter(|(n, _)| is_kept(*n)).map(|(_, part)| part).collect()
    };
    let taken = |name: Option<&String>| name.is_some_and(|name| needed.contains(name.as_str()));
    let graph = EncodedGraph {
        node: keep(encoded.node, &mut |n| graph.node.get(n).is_some_and(|node| makes(node, &needed))),
        initializer: keep(encoded.initializer, &mut |n| taken(graph.initializer.get(n).map(|t| &t.name))),
        input: keep(encoded.input, &mut |n| taken(graph.input.get(n).map(|i| &i.name))),
        output: keep(encoded.output, &mut |n| graph.output.get(n).is_some_and(|o| o.name == output)),
        name: encoded.name,
    };
    Ok(EncodedModel { graph: Some(graph), ..model }.encode_to_vec())
}

/// The same part, decoded: no weights are copied.
pub(super) fn part(model: &ModelProto, output: &str) -> ModelProto {
    let mut part = model.clone();
    if let (Some(graph), Some(whole)) = (&mut part.graph, &model.graph) {
        let needed = needed(whole, output);
        graph.node.retain(|node| makes(node, &needed));
        graph.initializer.retain(|t| needed.contains(t.name.as_str()));
        graph.input.retain(|i| needed.contains(i.name.as_str()));
        graph.output.retain(|o| o.name == output);
    }
    part
}

fn makes(node: &NodeProto, needed: &HashSet<&str>) -> bool {
    node.output.iter().any(|o| !o.is_empty() && needed.contains(o.as_str()))
}

/// The names of all values that `output` is made of, itself included.
fn needed<'g>(graph: &'g GraphProto, output: &'g str) -> HashSet<&'g str> {
    let producers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |o| (o.as_str(), node))).collect();
    let (mut needed, mut ahead) = (HashSet::new(), vec![output]);
    while let Some(value) = ahead.pop() {
        if !value.is_empty()
            && needed.insert(value)
            && let Some(node) = producers.get(value)
        {
            inputs(node, &mut ahead);
        }
    }
    needed
}

/// The inputs of a node, including values that its inner graphs use.
fn inputs<'g>(node: &'g NodeProto, into: &mut Vec<&'g str>) {
    into.extend(node.input.iter().map(String::as_str));
    for graph in node.subgraphs() {
        into.extend(graph.output.iter().map(|o| o.name.as_str()));
        graph.node.iter().for_each(|node| inputs(node, into));
    }
}
