//! The integration tests, one binary: linking it once is cheaper than many.

mod cli_config;
mod cli_verbs;
mod contention;
mod crashes;
mod deploy;
#[cfg(target_os = "linux")]
mod descriptors;
mod end_to_end;
mod faulty_runtime;
mod floors;
mod hostile;
mod hub;
mod kafka;
mod kafka_offsets;
mod kafka_security;
mod kafka_source;
mod letters;
mod message_keys;
mod metrics;
mod model_vectors;
mod needs;
mod neighbours;
mod poison;
mod providers;
mod qdrant_endpoint_test;
mod qdrant_security;
mod reasons;
mod retries;
mod s3;
mod secrets;
mod several_models;
mod store_conformance;
mod store_troubles;
mod unchanged;
mod worker_failures;
mod worker_process;
