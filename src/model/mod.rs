//! Model files to facts: where the files of a model are, what its graphs compute, and whether they match. Nothing here
//! runs a model.
//!
//! [`layouts`] is the one table of how directories and repositories lay out their files. `directory` finds them,
//! `onnx` reads graphs, `facts` sums up both towers, `consistency` compares with what is known beforehand
//! (`manifest`, the registry), `vocabulary` compares tokenizer and text tower, `golden` holds the vectors that a running model must come to.

mod combined;
mod consistency;
mod directory;
mod error;
mod facts;
mod golden;
mod inputs;
pub mod layouts;
mod manifest;
mod onnx;
mod outputs;
#[cfg(test)]
pub(crate) mod test_graph;
mod vocabulary;

pub(crate) use combined::tower_of;
pub(crate) use consistency::{Known, Sizes};
pub(crate) use directory::{ModelFiles, Pooling, TextInput, find};
pub use error::ModelError;
pub(crate) use facts::ModelFacts;
pub(crate) use golden::{Compared, Golden, GoldenImage};
pub(crate) use inputs::TextRole;
pub(crate) use manifest::Manifest;
pub use manifest::{model_of, precisions_of};
pub use onnx::Port;
pub(crate) use outputs::OUTPUT_NAMES;
pub(crate) use vocabulary::{check_kind, check_vocabulary};
