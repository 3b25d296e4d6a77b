//! clipstream: reads image URLs and texts from Kafka, embeds them with an ONNX CLIP model, and upserts points to Qdrant.
//!
//! The code is layered in floors; a file uses only its own folder and lower floors (`docs/ARCHITECTURE.md`):
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`domain`]: pure values |
//! | 1 | [`config`], [`telemetry`], [`retry`], [`redact`], [`shutdown`], [`budget`], [`adaptive`], [`kafka_client`], [`tls`], [`exhaustion`], [`encoding`]: shared tools |
//! | 2 | [`picture`], [`tokenize`], [`model`]: libraries without a model runtime |
//! | 3 | [`source`], [`format`](mod@format), [`media`], [`clip`], [`store`], [`dead_letter`], [`hub`]: ports and their adapters |
//! | 4 | [`pipeline`]: from a message to a point, stage by stage |
//! | 5 | [`worker`], [`api`]: services that assemble ports and pipeline |
//! | 6 | [`demo`], [`mod@bench`]: programs built from these services |
//! | 7 | [`cli`]: verbs, arguments, exit codes |

pub mod adaptive;
pub mod api;
pub mod bench;
pub mod budget;
pub mod cli;
pub mod clip;
pub mod config;
pub mod dead_letter;
pub mod demo;
pub mod domain;
pub mod encoding;
pub mod exhaustion;
pub mod format;
pub mod hub;
pub mod kafka_client;
pub mod media;
pub mod model;
pub mod picture;
pub mod pipeline;
pub mod redact;
pub mod retry;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod tokenize;
pub mod worker;
