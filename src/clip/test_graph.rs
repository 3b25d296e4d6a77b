//! Tiny ONNX graphs for tests, written as protobuf by hand (field numbers from onnx/onnx.proto), so that every kind of
//! export can be tried without binary fixtures.

use std::path::Path;

/// ONNX's numbers of element types.
pub(super) const F32: u64 = 1;
pub(super) const I32: u64 = 6;
pub(super) const I64: u64 = 7;
pub(super) const F16: u64 = 10;

/// An axis: a size, or a name for a free one.
pub(super) type Dim = Result<u64, &'static str>;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn int(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3);
    varint(&mut out, value);
    out
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, (field << 3) | 2);
    varint(&mut out, value.len() as u64);
    out.extend_from_slice(value);
    out
}

fn value_info(name: &str, element: u64, shape: &[Dim]) -> Vec<u8> {
    let dims = shape.iter().flat_map(|dim| {
        let dim = match dim {
            Ok(size) => int(1, *size),
            Err(name) => bytes(2, name.as_bytes()),
        };
        bytes(1, &dim)
    });
    let tensor = [int(1, element), bytes(2, &dims.collect::<Vec<_>>())].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct TestGraph {
    body: Vec<u8>,
}

impl TestGraph {
    pub(super) fn input(mut self, name: &str, element: u64, shape: &[Dim]) -> Self {
        self.body.extend(bytes(11, &value_info(name, element, shape)));
        self
    }

    pub(super) fn output(mut self, name: &str, element: u64, shape: &[Dim]) -> Self {
        self.body.extend(bytes(12, &value_info(name, element, shape)));
        self
    }

    /// A node with integer attributes.
    pub(super) fn node(mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i.as_bytes())).collect();
        node.extend(bytes(2, output.as_bytes()));
        node.extend(bytes(4, op.as_bytes()));
        for (name, value) in attributes {
            // 2: AttributeProto.INT
            node.extend(bytes(5, &[bytes(1, name.as_bytes()), int(3, *value), int(20, 2)].concat()));
        }
        self.body.extend(bytes(1, &node));
        self
    }

    /// A constant tensor of int64.
    pub(super) fn constant(mut self, name: &str, values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = [int(1, values.len() as u64), int(2, I64), bytes(8, name.as_bytes()), bytes(9, &raw)].concat();
        self.body.extend(bytes(5, &tensor));
        self
    }

    pub(super) fn write(self, file: &Path) {
        let graph = [bytes(2, b"test"), self.body].concat();
        // IR version 8, operator set 17: any ONNX Runtime that we accept knows them.
        let model = [int(1, 8), bytes(8, &int(2, 17)), bytes(7, &graph)].concat();
        std::fs::write(file, model).expect("the test's folder is writable");
    }
}

/// Pixels in, the mean of each channel out.
pub(super) fn channel_means(element: u64, batch: Dim, side: Dim) -> TestGraph {
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
pub(super) enum Second {
    /// Squares of the ids: padding with 0 changes nothing.
    Squares,
    /// Cosines of the ids: padding with 0 counts, as in a tower that is not causal.
    Cosines,
    /// The attention mask: the number of tokens.
    Mask,
}

/// Token ids in (and a mask, where it is summed), three values out: the ids' sum, the second sum, the
/// ids' sum again (three, as the image graph gives).
pub(super) fn token_sums(element: u64, second: Second, batch: Dim, sequence: Dim) -> TestGraph {
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
    };
    graph
        // Sines keep the first sum as small as the cosines are; padding changes none of the first sums.
        .node(if second == Second::Cosines { "Sin" } else { "Identity" }, &["x"], "z", &[])
        .node("ReduceSum", &["z", "axis"], "first", &[("keepdims", 1)])
        .node("ReduceSum", &["y", "axis"], "second", &[("keepdims", 1)])
        .node("Concat", &["first", "second", "first"], "text_embeds", &[("axis", 1)])
        .output("text_embeds", F32, &[batch, Ok(3)])
}
