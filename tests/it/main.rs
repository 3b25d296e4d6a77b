//! Integration tests: one binary, one module per subject.

mod qdrant_endpoint;
mod store_conformance;
