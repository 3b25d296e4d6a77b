//! The part of `onnx/onnx.proto` that is read here; field numbers are that file's. What is not listed is skipped.
//! Bytes are slices of the mapped file, never copies.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub(in crate::clip) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(in crate::clip) producer_name: String,
    #[prost(string, tag = "3")]
    pub(in crate::clip) producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(in crate::clip) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub(in crate::clip) opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "25")]
    pub(in crate::clip) functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct OperatorSetIdProto {
    /// Empty: ONNX's own operators.
    #[prost(string, tag = "1")]
    pub(in crate::clip) domain: String,
    #[prost(int64, tag = "2")]
    pub(in crate::clip) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::clip) node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub(in crate::clip) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::clip) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(in crate::clip) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(in crate::clip) output: Vec<ValueInfoProto>,
}

/// A local function of the model, as PyTorch's newer exporter writes modules and operators.
#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct FunctionProto {
    #[prost(string, tag = "1")]
    pub(in crate::clip) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(in crate::clip) input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(in crate::clip) output: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub(in crate::clip) node: Vec<NodeProto>,
    #[prost(string, tag = "10")]
    pub(in crate::clip) domain: String,
    /// Attributes with the value that they have where a call gives none.
    #[prost(message, repeated, tag = "11")]
    pub(in crate::clip) attribute_proto: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(in crate::clip) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(in crate::clip) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(in crate::clip) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::clip) attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub(in crate::clip) domain: String,
}

impl NodeProto {
    pub(in crate::clip) fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name == name)
    }

    /// The graphs that the node contains (of `If`, `Loop`, `Scan`).
    pub(in crate::clip) fn subgraphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(in crate::clip) name: String,
    #[prost(float, tag = "2")]
    pub(in crate::clip) f: f32,
    #[prost(int64, tag = "3")]
    pub(in crate::clip) i: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(in crate::clip) s: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(in crate::clip) t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    pub(in crate::clip) g: Option<GraphProto>,
    #[prost(float, repeated, tag = "7")]
    pub(in crate::clip) floats: Vec<f32>,
    #[prost(message, repeated, tag = "11")]
    pub(in crate::clip) graphs: Vec<GraphProto>,
    /// Its `AttributeType`.
    #[prost(int32, tag = "20")]
    pub(in crate::clip) r#type: i32,
    /// In a function's body: the attribute of the call whose value this one has.
    #[prost(string, tag = "21")]
    pub(in crate::clip) ref_attr_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub(in crate::clip) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(in crate::clip) data_type: i32,
    // The typed fields are declared `[packed = true]`: one run of bytes each, which is left encoded.
    #[prost(bytes = "bytes", tag = "4")]
    pub(in crate::clip) float_data: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(in crate::clip) int32_data: Bytes,
    #[prost(string, tag = "8")]
    pub(in crate::clip) name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub(in crate::clip) raw_data: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub(in crate::clip) double_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    pub(in crate::clip) external_data: Vec<StringStringEntryProto>,
    /// 1: the data is in the file that `external_data` names.
    #[prost(int32, tag = "14")]
    pub(in crate::clip) data_location: i32,
}

impl TensorProto {
    /// Number of elements; none where the shape is no shape.
    pub(in crate::clip) fn elements(&self) -> Option<u64> {
        self.dims.iter().try_fold(1u64, |n, dim| n.checked_mul(u64::try_from(*dim).ok()?))
    }

    /// Bytes of the elements in `raw_data` or a file of their own.
    pub(in crate::clip) fn data_bytes(&self) -> Option<u64> {
        Some(self.elements()?.checked_mul(ElementType(self.data_type).bits()?)?.div_ceil(8))
    }

    pub(in crate::clip) fn is_external(&self) -> bool {
        self.data_location == 1
    }

    pub(in crate::clip) fn external(&self) -> HashMap<&str, &str> {
        self.external_data.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub(in crate::clip) key: String,
    #[prost(string, tag = "2")]
    pub(in crate::clip) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(in crate::clip) name: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::clip) r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub(in crate::clip) tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub(in crate::clip) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::clip) shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::clip) dim: Vec<DimensionProto>,
}

/// A size, or a name for a free one, or neither.
#[derive(Clone, PartialEq, Message)]
pub(in crate::clip) struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub(in crate::clip) dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(in crate::clip) dim_param: Option<String>,
}

/// `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::clip) struct ElementType(pub(in crate::clip) i32);

impl ElementType {
    pub(in crate::clip) fn name(self) -> &'static str {
        match self.0 {
            1 => "f32",
            2 => "u8",
            3 => "i8",
            4 => "u16",
            5 => "i16",
            6 => "i32",
            7 => "i64",
            8 => "string",
            9 => "bool",
            10 => "f16",
            11 => "f64",
            12 => "u32",
            13 => "u64",
            16 => "bf16",
            17..=20 => "f8",
            21 => "u4",
            22 => "i4",
            _ => "unknown",
        }
    }

    fn bits(self) -> Option<u64> {
        Some(match self.name() {
            "u8" | "i8" | "bool" | "f8" => 8,
            "u16" | "i16" | "f16" | "bf16" => 16,
            "f32" | "i32" | "u32" => 32,
            "f64" | "i64" | "u64" => 64,
            "u4" | "i4" => 4,
            _ => return None,
        })
    }

    /// Whether tensors of it are weights; wider integers are shapes and indices.
    pub(in crate::clip) fn is_weight(self) -> bool {
        matches!(self.name(), "f32" | "f16" | "bf16" | "f64" | "f8" | "u8" | "i8" | "u4" | "i4")
    }
}
