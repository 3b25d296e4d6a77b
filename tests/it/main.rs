//! The integration tests, one binary: linking it once is cheaper than many.

mod cli_config;
mod cli_verbs;
mod floors;
mod kafka_source;
mod qdrant_endpoint;
mod qdrant_endpoint_test;
mod s3;
mod store_conformance;
