//! Integration tests: one binary, one module per subject.

mod qdrant_endpoint;
mod qdrant_endpoint_test;
