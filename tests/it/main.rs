//! Integration tests: one binary, one module per subject.

mod qdrant_endpoint;
mod s3;
