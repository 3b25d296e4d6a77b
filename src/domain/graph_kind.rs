//! Two properties of a graph that decide whether its vectors are right and how they are computed: activation and precision.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The activation between the two layers of a CLIP transformer's MLP. A checkpoint is trained with one of them; another
/// one gives vectors that look right and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's own and those trained like them (`QuickGELU` in `open_clip/transformer.py`).
    QuickGelu,
    /// `torch.nn.GELU()`, the exact one by the error function.
    Gelu,
    /// `torch.nn.GELU(approximate="tanh")`: SigLIP's own, and of graphs that were optimised for speed in place of the exact one.
    GeluTanh,
}

impl Activation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuickGelu => "quick_gelu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
        }
    }

    /// As people write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::QuickGelu => "QuickGELU",
            Self::Gelu => "GELU",
            Self::GeluTanh => "GELU by tanh",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the weights of a graph are stored and computed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    Fp32,
    Fp16,
    /// Dynamically quantised: weights are int8, activations are quantised in each run.
    Int8,
    /// The weights of matrix products are 4 bits; the arithmetic is fp32's, or fp16's where there is no other file.
    Int4,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::Int8, Self::Int4];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// What follows a graph's name before its `.onnx`, the preferred one first: as our exports are called, and Optimum's for
    /// Transformers.js, whose `_quantized` is 8 bits, whose `_bnb4` loses more than `_q4`, and whose `_q4f16` computes with halves.
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Fp32 => &[""],
            Self::Fp16 => &["_fp16"],
            Self::Int8 => &["_int8", "_quantized", "_uint8"],
            Self::Int4 => &["_q4", "_bnb4", "_q4f16"],
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|precision| precision.as_str() == text).ok_or_else(|| {
            let (found, known) = (text.chars().take(40).collect::<String>(), Self::ALL.map(Self::as_str).join(", "));
            format!("{found:?} is not a precision; expected one of {known}")
        })
    }
}
