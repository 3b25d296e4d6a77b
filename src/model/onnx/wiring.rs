//! A graph's nodes in one list, with the producer and the consumers of each value.
//!
//! Local functions are expanded at their calls: PyTorch's newer exporter writes modules and single operators as functions,
//! and a pattern may begin in one and end in another.

use std::collections::{HashMap, HashSet};

use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Functions that call functions that call …; a model that goes deeper calls itself.
const DEPTH_MAX: usize = 16;

/// More than any CLIP has by far; keeps functions that double in every call from filling the memory.
const NODES_MAX: usize = 1_000_000;

pub(super) struct Wiring<'m> {
    pub(super) nodes: Vec<NodeProto>,
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    initializers: HashMap<&'m str, &'m TensorProto>,
}

impl<'m> Wiring<'m> {
    pub(super) fn new(model: &'m ModelProto) -> Self {
        let functions: Functions = model.functions.iter().map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
        let mut inliner = Inliner { functions, nodes: Vec::new(), calls: 0 };
        let mut initializers = HashMap::new();
        if let Some(graph) = &model.graph {
            inliner.graph(graph, &mut initializers, 0);
        }
        let (mut producers, mut consumers) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (n, node) in inliner.nodes.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                producers.insert(output.clone(), n);
            }
            for input in node.input.iter().filter(|i| !i.is_empty()) {
                consumers.entry(input.clone()).or_default().push(n);
            }
        }
        Self { nodes: inliner.nodes, producers, consumers, initializers }
    }

    pub(super) fn producer(&self, value: &str) -> Option<&NodeProto> {
        self.nodes.get(*self.producers.get(value)?)
    }

    pub(super) fn consumers(&self, value: &str) -> impl Iterator<Item = &NodeProto> {
        self.consumers.get(value).into_iter().flatten().filter_map(|n| self.nodes.get(*n))
    }

    /// The node that takes part in the arithmetic: casts and quantisation in between are passed over.
    pub(super) fn source(&self, value: &str) -> Option<&NodeProto> {
        self.producer(self.origin(value))
    }

    /// The name of `value` before casts and quantisation.
    pub(super) fn origin<'v>(&'v self, mut value: &'v str) -> &'v str {
        let mut seen = HashSet::new();
        while let Some(node) = self.producer(value)
            && is_transparent(node)
            && let Some(input) = node.input.first()
            && seen.insert(value)
        {
            value = input;
        }
        value
    }

    /// The nodes that take `value`, casts and quantisation passed over.
    pub(super) fn users(&self, value: &str) -> Vec<&NodeProto> {
        let (mut found, mut ahead, mut seen) = (Vec::new(), vec![value.to_owned()], HashSet::new());
        while let Some(value) = ahead.pop() {
            if !seen.insert(value.clone()) {
                continue;
            }
            for node in self.consumers(&value) {
                match node.output.first() {
                    Some(output) if is_transparent(node) => ahead.push(output.clone()),
                    _ => found.push(node),
                }
            }
        }
        found
    }

    /// A constant tensor: an initializer, or what a `Constant` node gives.
    pub(super) fn tensor(&self, value: &str) -> Option<&TensorProto> {
        let value = self.origin(value);
        if let Some(tensor) = self.initializers.get(value) {
            return Some(tensor);
        }
        self.producer(value).filter(|n| n.op_type == "Constant")?.attribute("value")?.t.as_ref()
    }

    /// A constant of one element, as a number.
    pub(super) fn scalar(&self, value: &str) -> Option<f64> {
        if let Some(tensor) = self.tensor(value) {
            return scalar(tensor);
        }
        let node = self.source(value).filter(|n| n.op_type == "Constant")?;
        let named = |name: &str| node.attribute(name);
        named("value_float").map(|a| f64::from(a.f)).or_else(|| match named("value_floats")?.floats[..] {
            [one] => Some(f64::from(one)),
            _ => None,
        })
    }

    /// The other input of a node with two inputs, if one of them is about `constant`.
    pub(super) fn other_than<'n>(&self, node: &'n NodeProto, constant: f64) -> Option<&'n str> {
        let [a, b] = node.input.as_slice() else { return None };
        let is_constant = |value: &str| self.scalar(value).is_some_and(|found| about(found, constant));
        [(a, b), (b, a)].into_iter().find(|(c, _)| is_constant(c)).map(|(_, x)| x.as_str())
    }
}

/// Equal up to what half precision rounds 1.702 to (1.7021484) and bfloat16 does (1.703125).
pub(super) fn about(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected.abs() * 2e-3
}

fn is_transparent(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Cast" | "CastLike" | "Identity" | "QuantizeLinear" | "DequantizeLinear")
}

fn scalar(tensor: &TensorProto) -> Option<f64> {
    if tensor.elements()? != 1 {
        return None;
    }
    let first = |bytes: &[u8]| <[u8; 4]>::try_from(bytes.get(..4)?).ok();
    let raw = tensor.raw_data.as_ref();
    match tensor.data_type {
        1 => {
            let bytes = first(raw).or_else(|| first(&tensor.float_data))?;
            Some(f64::from(f32::from_le_bytes(bytes)))
        }
        10 => {
            // In `int32_data` it is a varint of the bits.
            let bits = match raw {
                [low, high, ..] => u16::from_le_bytes([*low, *high]),
                _ => u16::try_from(prost::decode_length_delimiter(tensor.int32_data.clone()).ok()?).ok()?,
            };
            Some(half::f16::from_bits(bits).to_f64())
        }
        11 => {
            let data = if raw.is_empty() { tensor.double_data.as_ref() } else { raw };
            Some(f64::from_le_bytes(data.get(..8)?.try_into().ok()?))
        }
        16 => Some(half::bf16::from_bits(u16::from_le_bytes(raw.get(..2)?.try_into().ok()?)).to_f64()),
        _ => None,
    }
}

type Functions<'m> = HashMap<(&'m str, &'m str), &'m FunctionProto>;

struct Inliner<'m> {
    functions: Functions<'m>,
    nodes: Vec<NodeProto>,
    /// Calls so far: their values' names must not meet.
    calls: usize,
}

impl<'m> Inliner<'m> {
    fn graph(&mut self, graph: &'m GraphProto, initializers: &mut HashMap<&'m str, &'m TensorProto>, depth: usize) {
        initializers.extend(graph.initializer.iter().map(|t| (t.name.as_str(), t)));
        for node in &graph.node {
            self.node(node.clone(), depth);
            for subgraph in node.subgraphs().filter(|_| depth < DEPTH_MAX) {
                self.graph(subgraph, initializers, depth + 1);
            }
        }
    }

    fn node(&mut self, node: NodeProto, depth: usize) {
        // Calls count too: functions that call nothing but functions would be followed without end.
        if self.nodes.len() + self.calls >= NODES_MAX {
            return;
        }
        let function = self.functions.get(&(node.domain.as_str(), node.op_type.as_str())).copied();
        let Some(function) = function.filter(|_| depth < DEPTH_MAX) else {
            self.nodes.push(node);
            return;
        };
        self.calls += 1;
        let call = self.calls;
        let formal = function.input.iter().zip(&node.input).chain(function.output.iter().zip(&node.output));
        let actual: HashMap<&str, &str> = formal.map(|(f, a)| (f.as_str(), a.as_str())).collect();
        let renamed = |name: &String| match actual.get(name.as_str()) {
            Some(actual) => (*actual).to_owned(),
            None if name.is_empty() => String::new(),
            None => format!("{name}\u{0}{call}"),
        };
        for inner in &function.node {
            let attribute = inner.attribute.iter().filter_map(|a| resolved(a, &node, function)).collect();
            let (input, output) =
                (inner.input.iter().map(renamed).collect(), inner.output.iter().map(renamed).collect());
            self.node(NodeProto { input, output, attribute, ..inner.clone() }, depth + 1);
        }
    }
}

/// An attribute in a function's body, with the call's value where it refers to one.
fn resolved(attribute: &AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    if attribute.ref_attr_name.is_empty() {
        return Some(attribute.clone());
    }
    let given = call.attribute(&attribute.ref_attr_name);
    let default = || function.attribute_proto.iter().find(|a| a.name == attribute.ref_attr_name);
    let value = given.or_else(default)?;
    Some(AttributeProto { name: attribute.name.clone(), ..value.clone() })
}
