//! Floor 0: pure values. No IO, no tokio, no wire formats.
//!
//! A message from Kafka becomes an [`IngestRequest`]; the request becomes one [`Write`] per model; the fate of the
//! message is an [`Outcome`], or a [`Failure`] that says which [`Stage`] gave up, in which [`Class`], and why.

mod asset;
mod class;
mod embedding;
mod failure;
mod fault;
mod finding;
mod fingerprint;
mod graph_kind;
mod labels;
mod logits;
mod media_record;
pub mod memory;
mod message;
mod model_id;
mod order;
mod payload;
mod point;
mod position;
mod preprocessing;
mod reason;
pub mod registry;
mod request;
mod text_cleaning;
mod unchanged;

pub use asset::{AssetId, InvalidAssetId, PointId, Tenant};
pub use class::Class;
pub use embedding::{Embedding, InvalidEmbedding, Modality};
pub use failure::{Failure, Outcome, Stage};
pub use fault::Fault;
pub use finding::{Explain, Finding};
pub use fingerprint::Fingerprint;
pub use graph_kind::{Activation, Precision};
pub use labels::{LabelRecord, LabelSet, Labelling};
pub use logits::Logits;
pub use media_record::MediaRecord;
pub use message::{Message, Retry, Suspicion};
pub use model_id::{InvalidModelId, ModelId};
pub use order::{Guard, Origin, Recorded, Stamp};
pub use payload::Payload;
pub use point::{Deletion, Patch, Point, RESERVED_KEY, Record, Vectors, Write};
pub use position::{Position, TopicPartition};
pub use preprocessing::{Decoding, Orientation};
pub use reason::{
    AnyReason, ClipReason, DeadLetterReason, DecodeReason, HubReason, MediaReason, ModelReason, PictureReason,
    PipelineReason, Reason, SourceReason, StoreReason,
};
pub use request::{IngestRequest, MediaUrl, Op};
pub use text_cleaning::TextCleaning;
pub use unchanged::UnchangedBy;
