use bytes::Bytes;
use prost::Message;

use super::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};
use super::*;
use crate::model::test_graph::{F16, F32, I64, TestGraph, channel_means, node, write};

fn graph() -> TestGraph {
    TestGraph::default().input("x", F32, &[Err("batch"), Ok(4)]).output("y", F32, &[Err("batch"), Ok(4)])
}

/// The activations of a graph, with their counts.
fn activations(graph: TestGraph) -> Vec<(Activation, usize)> {
    facts(&graph.model()).activations.into_iter().collect()
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f, r#type: 1, ..AttributeProto::default() }
}

fn with(node: NodeProto, domain: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { domain: domain.to_owned(), attribute, ..node }
}

fn quick_gelu(factor: f32) -> TestGraph {
    graph().scalar("c", factor).node("Mul", &["c", "x"], "a", &[]).node("Sigmoid", &["a"], "b", &[]).node(
        "Mul",
        &["x", "b"],
        "y",
        &[],
    )
}

#[test]
fn quick_gelu_is_recognised_however_it_is_written() {
    let quick = [(Activation::QuickGelu, 1)];
    assert_eq!(activations(quick_gelu(1.702)), quick);
    // SiLU is the same with another factor.
    assert_eq!(activations(quick_gelu(1.0)), []);

    // Half precision, with casts in between, the constant a node.
    let value = TensorProto {
        data_type: F16,
        raw_data: Bytes::from(half::f16::from_f32(1.702).to_le_bytes().to_vec()),
        ..TensorProto::default()
    };
    let value = AttributeProto { name: "value".to_owned(), t: Some(value), r#type: 4, ..AttributeProto::default() };
    let half = graph()
        .push(with(node("Constant", &[], "c"), "", vec![value]))
        .node("Cast", &["x"], "x16", &[("to", F16)])
        .node("Mul", &["x16", "c"], "a", &[])
        .node("Cast", &["a"], "a32", &[("to", F32)])
        .node("Sigmoid", &["a32"], "b", &[])
        .node("Cast", &["b"], "b16", &[("to", F16)])
        .node("Mul", &["x16", "b16"], "y", &[]);
    assert_eq!(activations(half), quick);

    let fused = graph().push(with(node("QuickGelu", &["x"], "y"), "com.microsoft", vec![]));
    assert_eq!(activations(fused), quick);
    let swish = |alpha| graph().push(with(node("Swish", &["x"], "y"), "", vec![float("alpha", alpha)]));
    assert_eq!(activations(swish(1.702)), quick);
    assert_eq!(activations(swish(1.0)), []);
    // A gate is no activation: what is multiplied is another value.
    let gate = graph().scalar("c", 1.702).node("Mul", &["c", "x"], "a", &[]).node("Sigmoid", &["a"], "b", &[]).node(
        "Mul",
        &["other", "b"],
        "y",
        &[],
    );
    assert_eq!(activations(gate), []);
}

#[test]
fn gelu_is_told_from_its_approximation() {
    let erf = |op, constant| {
        graph()
            .scalar("c", constant)
            .scalar("one", 1.0)
            .node(op, &["x", "c"], "a", &[])
            .node("Erf", &["a"], "b", &[])
            .node("Add", &["b", "one"], "d", &[])
            .node("Mul", &["x", "d"], "y", &[])
    };
    assert_eq!(activations(erf("Div", std::f32::consts::SQRT_2)), [(Activation::Gelu, 1)]);
    assert_eq!(activations(erf("Mul", std::f32::consts::FRAC_1_SQRT_2)), [(Activation::Gelu, 1)]);
    assert_eq!(activations(erf("Mul", 0.5)), []);

    let tanh = graph()
        .scalar("c", 0.797_884_6)
        .scalar("one", 1.0)
        .node("Mul", &["x", "c"], "a", &[])
        .node("Tanh", &["a"], "b", &[])
        .node("Add", &["one", "b"], "y", &[]);
    assert_eq!(activations(tanh), [(Activation::GeluTanh, 1)]);

    let approximate = |value: &'static str| {
        let s = Bytes::from(value);
        let attribute = AttributeProto { name: "approximate".to_owned(), s, r#type: 3, ..AttributeProto::default() };
        graph().push(with(node("Gelu", &["x"], "y"), "", vec![attribute]))
    };
    assert_eq!(activations(approximate("none")), [(Activation::Gelu, 1)]);
    assert_eq!(activations(approximate("tanh")), [(Activation::GeluTanh, 1)]);
    let fast = graph().push(with(node("FastGelu", &["x"], "y"), "com.microsoft", vec![]));
    assert_eq!(activations(fast), [(Activation::GeluTanh, 1)]);
    let bias = graph().push(with(node("BiasGelu", &["x", "b"], "y"), "com.microsoft", vec![]));
    assert_eq!(activations(bias), [(Activation::Gelu, 1)]);
}

#[test]
fn local_functions_are_looked_into() {
    let name = |text: &str| text.to_owned();
    let reference = AttributeProto { ref_attr_name: name("factor"), ..float("value_float", 0.0) };
    let sigmoid = FunctionProto {
        name: name("aten_sigmoid"),
        domain: name("torch"),
        input: vec![name("in")],
        output: vec![name("out")],
        node: vec![node("Sigmoid", &["in"], "out")],
        ..FunctionProto::default()
    };
    let activation = FunctionProto {
        name: name("QuickGELU"),
        domain: name("open_clip"),
        input: vec![name("in")],
        output: vec![name("out")],
        node: vec![
            with(node("Constant", &[], "c"), "", vec![reference]),
            node("Mul", &["c", "in"], "a"),
            with(node("aten_sigmoid", &["a"], "b"), "torch", vec![]),
            node("Mul", &["in", "b"], "out"),
        ],
        ..FunctionProto::default()
    };
    let call = |input, output| with(node("QuickGELU", &[input], output), "open_clip", vec![float("factor", 1.702)]);
    let mut model = graph().push(call("x", "h")).push(call("h", "y")).model();
    model.functions = vec![sigmoid, activation];
    let found = facts(&model);
    assert_eq!(found.activations.into_iter().collect::<Vec<_>>(), [(Activation::QuickGelu, 2)]);
    assert_eq!(found.operators["Sigmoid"], 2);

    // A function that calls itself ends.
    model.functions[0].node = vec![with(node("aten_sigmoid", &["in"], "out"), "torch", vec![])];
    assert!(facts(&model).activations.is_empty());
}

#[test]
fn unit_length_in_the_graph_is_recognised() {
    let norm = |graph: TestGraph| facts(&graph.model()).normalised;
    let l2 = graph()
        .node("ReduceL2", &["x"], "n", &[("keepdims", 1)])
        .node("Clip", &["n"], "m", &[])
        .node("Expand", &["m", "shape"], "e", &[])
        .node("Div", &["x", "e"], "y", &[]);
    assert!(norm(l2));
    let squares = graph()
        .node("Mul", &["x", "x"], "s", &[])
        .node("ReduceSum", &["s"], "n", &[("keepdims", 1)])
        .node("Sqrt", &["n"], "r", &[])
        .node("Div", &["x", "r"], "y", &[]);
    assert!(norm(squares));
    assert!(norm(graph().node("LpNormalization", &["x"], "y", &[])));
    assert!(!norm(graph().scalar("c", 2.0).node("Div", &["x", "c"], "y", &[])));
    assert!(!norm(quick_gelu(1.702)));
}

#[test]
fn the_vocabulary_is_the_table_that_the_ids_go_into() {
    let text = |table: &str| {
        TestGraph::default()
            .input("input_ids", I64, &[Err("batch"), Err("sequence")])
            .input("attention_mask", I64, &[Err("batch"), Err("sequence")])
            .tensor("positions", F32, &[77, 2], vec![0; 77 * 8])
            .tensor("tokens", F32, &[300, 2], vec![0; 300 * 8])
            .node("ArgMax", &["input_ids"], "at", &[])
            .node("Gather", &["positions", "at"], "pooled", &[])
            .node("Cast", &["input_ids"], "ids", &[("to", I64)])
            .node("Gather", &[table, "ids"], "embedded", &[])
            .output("embedded", F32, &[Err("batch"), Ok(2)])
    };
    assert_eq!(facts(&text("tokens").model()).vocabulary, Some(300));
    // A table that is no constant has no known rows.
    assert_eq!(facts(&text("pooled").model()).vocabulary, None);
}

#[test]
fn a_graph_is_described() {
    let model = TestGraph::default()
        .input("pixel_values", F32, &[Err("batch"), Ok(3), Err("")])
        .tensor("w", F32, &[2, 3], vec![0; 24])
        .tensor("h", F16, &[5], vec![0; 10])
        .constant("shape", &[1, 2, 3])
        // Older exporters list the weights among the inputs.
        .input("w", F32, &[Ok(2), Ok(3)])
        .node("MatMulInteger", &["pixel_values", "w"], "image_embeds", &[])
        .output("hidden", F32, &[Err("batch"), Ok(9)])
        .output("image_embeds", F32, &[Err("batch"), Ok(2)])
        .model();
    let facts = facts(&model);
    assert_eq!(facts.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["pixel_values f32[batch, 3, ?]"]);
    assert_eq!(facts.embedding.as_ref().unwrap().to_string(), "image_embeds f32[batch, 2]");
    assert_eq!(facts.weights.iter().collect::<Vec<_>>(), [(&"f16", &5), (&"f32", &6)]);
    assert_eq!((facts.parameters(), facts.opset(), facts.ir_version), (11, 17, 8));
    assert!(facts.quantised && !facts.normalised);
}

/// Writes `model` and the files beside it, and says why it cannot be opened.
fn refused(model: &ModelProto, beside: &[(&str, usize)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(model, &path);
    for (name, bytes) in beside {
        std::fs::write(folder.path().join(name), vec![0; *bytes]).unwrap();
    }
    let error = Onnx::open(&path).err().expect("it is refused").to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

fn external(location: &str, offset: &str, length: &str) -> ModelProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    let mut model = graph().tensor("w", F32, &[2, 4], vec![]).node("Add", &["x", "w"], "y", &[]).model();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.data_location = 1;
    tensor.external_data = vec![entry("location", location), entry("offset", offset), entry("length", length)];
    model
}

#[test]
fn external_weights_must_be_there_and_long_enough() {
    let model = external("weights.bin", "8", "32");
    assert!(refused(&model, &[]).starts_with("weights.bin cannot be read: "));
    assert!(refused(&model, &[]).contains("model.onnx has 40 bytes of weights in it; fetch it into the folder"));
    assert_eq!(
        refused(&model, &[("weights.bin", 39)]),
        "weights.bin is truncated: found 39 bytes, model.onnx expects at least 40; fetch it again"
    );
    assert!(refused(&external("../w", "0", "32"), &[]).contains("is in \"../w\", expected a file beside the graph"));
    assert!(refused(&external("weights.bin", "0", "31"), &[]).contains("has 31 bytes, its shape needs 32"));
    assert!(refused(&external("weights.bin", "-1", "32"), &[]).contains("has offset \"-1\""));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    write(&model, &path);
    std::fs::write(folder.path().join("weights.bin"), [0; 40]).unwrap();
    let onnx = Onnx::open(&path).unwrap();
    let graph_bytes = std::fs::metadata(&path).unwrap().len();
    assert_eq!(onnx.files(), [(path.clone(), graph_bytes), (folder.path().join("weights.bin"), 40)]);
}

#[test]
fn what_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Onnx::open(&path).err().expect("it is refused").to_string();
        error.replace(&format!("{} ", path.display()), "")
    };
    let whole = quick_gelu(1.702).model().encode_to_vec();
    assert_eq!(refused(b""), "is empty; fetch it again");
    assert!(refused(b"<!doctype html>").starts_with("is not an ONNX model: it does not begin as one; "));
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\n").starts_with("is Git LFS's pointer"));
    let cut = refused(&whole[..whole.len() / 2]);
    // The graph is followed by the operator set, 4 bytes.
    let expected = whole.len() - 4;
    assert_eq!(
        cut,
        format!("is truncated: found {} bytes, expected at least {expected}; fetch it again", whole.len() / 2)
    );
    assert!(
        refused(&whole[..expected]).contains("names no operator set, which comes after the graph: it is truncated")
    );
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle - 8..middle + 8].fill(0xff);
    assert!(refused(&corrupt).starts_with("is not an ONNX model: it is corrupt ("), "{}", refused(&corrupt));
    let no_graph = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        ..ModelProto::default()
    };
    assert!(refused(&no_graph.encode_to_vec()).contains("it has no graph"));

    let short = graph().tensor("w", F32, &[2, 4], vec![0; 31]).node("Add", &["x", "w"], "y", &[]).model();
    assert!(refused(&short.encode_to_vec()).contains("tensor \"w\" has 31 bytes, its shape needs 32; fetch it again"));
    let error = Onnx::open(&folder.path().join("absent.onnx")).err().unwrap().to_string();
    assert!(error.contains("absent.onnx cannot be read: "), "{error}");
}

/// Protobuf, "Unknown Fields": a reader skips what a later definition has added.
#[test]
fn fields_that_a_later_onnx_adds_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let mut bytes = quick_gelu(1.702).model().encode_to_vec();
    // Field 99: a varint, eight bytes, a string of three, four bytes. A key is the number, then the wire type in three bits.
    for (wire_type, value) in [(0, &[7][..]), (1, &[1; 8]), (2, &[3, b'n', b'e', b'w']), (5, &[1; 4])] {
        bytes.extend([0x98 | wire_type, 0x06]);
        bytes.extend(value);
    }
    std::fs::write(&path, &bytes).unwrap();
    Onnx::open(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Onnx::open(&path).err().unwrap().to_string().contains("is truncated"));
}

#[test]
fn one_tower_is_taken_out_of_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let both = channel_means(F32, Err("batch"), Err("side"))
        .input("input_ids", I64, &[Err("texts"), Err("sequence")])
        .tensor("tokens", F32, &[10, 2], vec![0; 80])
        .node("Gather", &["tokens", "input_ids"], "embedded", &[])
        .node("MatMul", &["embedded", "means"], "logits_per_text", &[])
        .node("Identity", &["embedded"], "text_embeds", &[])
        .output("logits_per_text", F32, &[Err("texts"), Err("batch")])
        .output("text_embeds", F32, &[Err("texts"), Ok(2)]);
    both.write(&path);
    let onnx = Onnx::open(&path).unwrap();
    let text = onnx.facts(Some("text_embeds"));
    assert_eq!(text.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["input_ids"]);
    assert_eq!((text.vocabulary, text.operators.len()), (Some(10), 2));
    let image = onnx.facts(Some("image_embeds"));
    assert_eq!(image.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["pixel_values"]);
    assert_eq!((image.vocabulary, image.parameters()), (None, 0));

    let model = ModelProto::decode(extract(&onnx, "text_embeds").unwrap().as_slice()).unwrap();
    assert_eq!(model, extract::part(&onnx.model, "text_embeds"));
    assert!(extract(&onnx, "nothing").unwrap_err().to_string().contains("has no output nothing"));
}
