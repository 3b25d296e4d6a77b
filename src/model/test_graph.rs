//! Tiny ONNX graphs for tests, so that every kind of export can be tried without binary fixtures.

use std::path::Path;

use prost::Message;

use super::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// `TensorProto.DataType`.
pub(crate) const F32: i32 = 1;
pub(crate) const I32: i32 = 6;
pub(crate) const I64: i32 = 7;
pub(crate) const F16: i32 = 10;

/// `AttributeProto.INT`.
const INT: i32 = 2;

/// An axis: a size, or a name for a free one.
pub(crate) type Dim = Result<i64, &'static str>;

fn value_info(name: &str, element: i32, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape.iter().map(|dim| DimensionProto { dim_value: dim.ok(), dim_param: dim.err().map(str::to_owned) });
    let tensor = TensorTypeProto { elem_type: element, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

pub(crate) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let input = inputs.iter().map(|i| (*i).to_owned()).collect();
    NodeProto { op_type: op.to_owned(), input, output: vec![output.to_owned()], ..NodeProto::default() }
}

/// A graph under construction.
#[derive(Clone, Default)]
pub(crate) struct TestGraph {
    graph: GraphProto,
}

impl TestGraph {
    pub(crate) fn input(mut self, name: &str, element: i32, shape: &[Dim]) -> Self {
        self.graph.input.push(value_info(name, element, shape));
        self
    }

    pub(crate) fn output(mut self, name: &str, element: i32, shape: &[Dim]) -> Self {
        self.graph.output.push(value_info(name, element, shape));
        self
    }

    /// A node with integer attributes.
    pub(crate) fn node(mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i32)]) -> Self {
        let attribute = attributes.iter().map(|(name, value)| AttributeProto {
            name: (*name).to_owned(),
            i: i64::from(*value),
            r#type: INT,
            ..AttributeProto::default()
        });
        self.graph.node.push(NodeProto { attribute: attribute.collect(), ..node(op, inputs, output) });
        self
    }

    /// A node of any kind.
    pub(crate) fn push(mut self, node: NodeProto) -> Self {
        self.graph.node.push(node);
        self
    }

    /// A constant tensor of int64.
    pub(crate) fn constant(self, name: &str, values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, I64, &[values.len() as i64], raw)
    }

    /// A constant of one f32, without axes.
    pub(crate) fn scalar(self, name: &str, value: f32) -> Self {
        self.tensor(name, F32, &[], value.to_le_bytes().to_vec())
    }

    pub(crate) fn tensor(mut self, name: &str, element: i32, dims: &[i64], raw: Vec<u8>) -> Self {
        let (name, dims, raw_data) = (name.to_owned(), dims.to_vec(), raw.into());
        self.graph.initializer.push(TensorProto { name, dims, data_type: element, raw_data, ..TensorProto::default() });
        self
    }

    /// IR version 8, operator set 17: any ONNX Runtime that we accept knows them.
    pub(crate) fn model(self) -> ModelProto {
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            graph: Some(GraphProto { name: "test".to_owned(), ..self.graph }),
            ..ModelProto::default()
        }
    }

    pub(crate) fn write(self, file: &Path) {
        write(&self.model(), file);
    }
}

pub(crate) fn write(model: &ModelProto, file: &Path) {
    std::fs::write(file, model.encode_to_vec()).expect("the test's folder is writable");
}

/// Pixels in, the mean of each channel out.
pub(crate) fn channel_means(element: i32, batch: Dim, side: Dim) -> TestGraph {
    TestGraph::default()
        .input("pixel_values", element, &[batch, Ok(3), side, side])
        .node("Cast", &["pixel_values"], "x", &[("to", F32)])
        .node("GlobalAveragePool", &["x"], "means", &[])
        .node("Flatten", &["means"], "flat", &[])
        .node("Cast", &["flat"], "image_embeds", &[("to", element)])
        // A hidden state beside the embedding, which must not be taken for it.
        .node("Flatten", &["x"], "hidden", &[])
        .output("hidden", F32, &[batch, Err("all")])
        .output("image_embeds", element, &[batch, Ok(3)])
}

/// What a text graph's second value sums over.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Second {
    /// Squares of the ids: padding with 0 changes nothing.
    Squares,
    /// Cosines of the ids: padding with 0 counts, as in a tower that is not causal.
    Cosines,
    /// The attention mask: the number of tokens.
    Mask,
    /// Squares of the ids, and the types of the tokens.
    Types,
}

/// Token ids in (and a mask, or types, where they are summed), three values out: the ids' sum, the second sum, the
/// ids' sum again (three, as the image graph gives).
pub(crate) fn token_sums(element: i32, second: Second, batch: Dim, sequence: Dim) -> TestGraph {
    let graph = TestGraph::default().constant("axis", &[1]).input("input_ids", element, &[batch, sequence]).node(
        "Cast",
        &["input_ids"],
        "x",
        &[("to", F32)],
    );
    let graph = match second {
        Second::Squares => graph.node("Mul", &["x", "x"], "y", &[]),
        Second::Cosines => graph.node("Cos", &["x"], "y", &[]),
        Second::Mask => graph.input("attention_mask", I64, &[batch, sequence]).node(
            "Cast",
            &["attention_mask"],
            "y",
            &[("to", F32)],
        ),
        Second::Types => graph
            .input("token_type_ids", element, &[batch, sequence])
            .node("Cast", &["token_type_ids"], "types", &[("to", F32)])
            .node("Mul", &["x", "x"], "squares", &[])
            .node("Add", &["squares", "types"], "y", &[]),
    };
    graph
        // Sines keep the first sum as small as the cosines are; padding changes none of the first sums.
        .node(if second == Second::Cosines { "Sin" } else { "Identity" }, &["x"], "z", &[])
        .node("ReduceSum", &["z", "axis"], "first", &[("keepdims", 1)])
        .node("ReduceSum", &["y", "axis"], "second", &[("keepdims", 1)])
        .node("Concat", &["first", "second", "first"], "text_embeds", &[("axis", 1)])
        .output("text_embeds", F32, &[batch, Ok(3)])
}
