//! The integration tests, one binary: linking it once is cheaper than many.

mod cli_config;
mod floors;
mod qdrant_endpoint;
mod s3;
mod store_conformance;
