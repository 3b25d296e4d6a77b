use std::fmt;
use std::str::FromStr;

/// The activation between the two layers of a CLIP transformer's MLP. A checkpoint is trained with one of them; the
/// other one gives vectors that look right and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's own and those trained like them (`QuickGELU` in `open_clip/transformer.py`).
    QuickGelu,
    /// `torch.nn.GELU()`, the exact one by the error function.
    Gelu,
}

impl Activation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuickGelu => "quick_gelu",
            Self::Gelu => "gelu",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the weights of a graph are stored and computed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    Fp32,
    Fp16,
    /// Dynamically quantised: weights are int8, activations are quantised in each run.
    Int8,
}

impl Precision {
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Fp16, Self::Int8];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
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
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| {
            format!("{:?} is no precision; expected fp32, fp16 or int8", text.chars().take(40).collect::<String>())
        })
    }
}
