//! clipstream: image-URL and text messages from Kafka, embedded with an ONNX CLIP model, upserted to Qdrant.
//!
//! The code stands on floors; a file uses its own folder and lower floors only (`docs/ARCHITECTURE.md`):
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`domain`]: pure values |
//! | 1 | [`config`], [`telemetry`], [`retry`], [`redact`], [`shutdown`], [`budget`], [`kafka_client`]: tools everyone may use |
//! | 2 | [`source`], [`media`], [`clip`], [`store`], [`dead_letter`]: ports and their adapters |
//! | 5 | [`cli`]: verbs, arguments, exit codes |

pub mod budget;
pub mod cli;
pub mod clip;
pub mod config;
pub mod dead_letter;
pub mod domain;
pub mod kafka_client;
pub mod media;
pub mod redact;
pub mod retry;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod telemetry;
