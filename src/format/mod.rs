//! Port: from a message's bytes, key and headers to what it asks for. Each format is a file (or a folder) and an arm of [`Format`].
//!
//! A message may bring any number of requests, also none. It is settled when all of them are; one dead letter tells of those that
//! failed.

mod framing;
#[cfg(any(feature = "fuzzing", test))]
pub mod fuzzing;
mod json;
mod key;
mod refusal;

use std::collections::BTreeMap;

pub use self::key::write as write_key;
pub use self::refusal::{QUOTED_CHARS_MAX, fail};
use crate::config::KeySettings;
use crate::domain::{Failure, IngestRequest, Message, Op};

/// What a message asks for, in its order. One that cannot be read does not keep the others from being done.
pub type Requests = Vec<Result<IngestRequest, Failure>>;

/// Reads messages as the settings say.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    pub format: Format,
    /// Default `op` by topic, retry topics included; `upsert` where a topic is not listed.
    pub topic_ops: BTreeMap<String, Op>,
    /// What keys and headers say of asset and tenant.
    pub keys: KeySettings,
}

impl Reader {
    /// # Errors
    /// Permanent: nothing of the message can be read.
    pub fn read(&self, message: &Message) -> Result<Requests, Failure> {
        let default_op = self.topic_ops.get(&*message.position.topic).copied().unwrap_or(Op::Upsert);
        self.format.decode(message, &Context { default_op, keys: &self.keys })
    }
}

/// What a format is told beside the message.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    /// Of requests that name no `op`.
    default_op: Op,
    /// See [`Reader::keys`].
    keys: &'a KeySettings,
}

/// How the values of messages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, one request.
    #[default]
    Json,
    /// A request in each line, as [`Self::Json`] has it. Empty lines ask for nothing.
    #[cfg(test)]
    Lines,
}

impl Format {
    /// A null value (tombstone) is a delete of the asset that the key names, in every format.
    ///
    /// # Errors
    /// Permanent: nothing of the message can be read.
    fn decode(self, message: &Message, context: &Context<'_>) -> Result<Requests, Failure> {
        let Some(value) = &message.value else {
            return key::tombstone(context.keys, message).map(|request| vec![Ok(request)]);
        };
        match self {
            Self::Json => json::decode(value, message, context).map(|request| vec![Ok(request)]),
            #[cfg(test)]
            Self::Lines => {
                let lines = value.split(|b| *b == b'\n').filter(|line| !line.is_empty());
                Ok(lines.map(|line| json::decode(line, message, context)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DecodeReason;

    fn decoded(format: Format, value: Option<&'static str>) -> Result<Requests, Failure> {
        let message = Message { key: Some("k".into()), value: value.map(Into::into), ..Message::empty("t", 0, 0) };
        format.decode(&message, &Context { default_op: Op::Upsert, keys: &KeySettings::default() })
    }

    #[test]
    fn a_message_brings_as_many_requests_as_its_format_finds() {
        let requests = decoded(Format::Json, Some("{\"text\": \"x\"}")).unwrap();
        assert_eq!(requests.len(), 1);
        let requests =
            decoded(Format::Lines, Some("{\"text\": \"x\"}\n{\"txt\": 1}\n{\"id\": \"b\", \"text\": \"y\"}\n"));
        let requests = requests.unwrap();
        assert_eq!(requests.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(requests[2].as_ref().unwrap().asset.as_str(), "b");
        assert_eq!(decoded(Format::Lines, Some("")).unwrap(), []);
        assert_eq!(decoded(Format::Json, Some("[]")).unwrap_err().fault.reason, DecodeReason::MessageInvalid.into());
    }

    #[test]
    fn a_tombstone_deletes_in_every_format() {
        for format in [Format::Json, Format::Lines] {
            let requests = decoded(format, None).unwrap();
            assert_eq!(requests[0].as_ref().unwrap().op, Op::Delete);
        }
    }
}
