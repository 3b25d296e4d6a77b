//! Port: reads a message's bytes, key and headers into requests. Each format is a file (or a folder) and an arm of [`Format`].
//!
//! A message may contain any number of requests, also zero. It is settled when all of them are; its dead letter names those that
//! failed.
//!
//! A format that cannot read a message without something from elsewhere, such as a schema of a registry, returns a [`LookUp`] and
//! keeps its result. Then the message is read again. JSON needs no look-ups.

mod framing;
#[cfg(any(feature = "fuzzing", test))]
pub mod fuzzing;
mod json;
mod key;
mod refusal;
#[cfg(test)]
pub mod registry;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::key::write as write_key;
pub use self::refusal::{QUOTED_CHARS_MAX, fail};
use crate::config::KeySettings;
use crate::domain::{Failure, IngestRequest, Message, Op};

/// The requests of a message, in its order. A request that cannot be read does not stop the others.
pub type Requests = Vec<Result<IngestRequest, Failure>>;

/// The result of reading a message.
#[derive(Debug)]
pub enum Read {
    Requests(Requests),
    /// The message cannot be read before this look-up.
    Needs(Arc<dyn LookUp>),
}

/// Fetches something that is needed to read a message.
#[async_trait]
pub trait LookUp: Debug + Send + Sync {
    /// Fetches it, for the format to keep. Called again after a failure, if its class allows a retry.
    ///
    /// # Errors
    /// Permanent: it does not exist, so the message can never be read.
    async fn run(&self) -> Result<(), Failure>;
}

/// Reads messages as the settings say.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    pub format: Format,
    /// Default `op` by topic, retry topics included; `upsert` where a topic is not listed.
    pub topic_ops: BTreeMap<String, Op>,
    /// How keys and headers name asset and tenant.
    pub keys: KeySettings,
}

impl Reader {
    /// # Errors
    /// Permanent: nothing of the message can be read.
    pub fn read(&self, message: &Message) -> Result<Read, Failure> {
        let default_op = self.topic_ops.get(&*message.position.topic).copied().unwrap_or(Op::Upsert);
        self.format.decode(message, &Context { default_op, keys: &self.keys })
    }

    /// Reads a message, with all the look-ups that this needs, each tried once.
    ///
    /// # Errors
    /// As [`Self::read`], or the look-up's.
    pub async fn read_with_look_ups(&self, message: &Message) -> Result<Requests, Failure> {
        loop {
            match self.read(message)? {
                Read::Requests(requests) => return Ok(requests),
                Read::Needs(look_up) => look_up.run().await?,
            }
        }
    }
}

/// What a format needs beside the message.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    /// The `op` of requests that name no `op`.
    default_op: Op,
    /// See [`Reader::keys`].
    keys: &'a KeySettings,
}

/// How the values of messages are read.
#[derive(Clone, Debug, Default)]
pub enum Format {
    /// One JSON object, one request.
    #[default]
    Json,
    /// One request per line, in the form of [`Self::Json`]. Empty lines are skipped.
    #[cfg(test)]
    Lines,
    /// The same, behind the number of a schema that must be known.
    #[cfg(test)]
    WithSchema(Arc<registry::Registry>),
}

impl Format {
    /// A null value (tombstone) is a delete of the asset that the key names, in every format.
    ///
    /// # Errors
    /// Permanent: nothing of the message can be read.
    fn decode(&self, message: &Message, context: &Context<'_>) -> Result<Read, Failure> {
        let Some(value) = &message.value else {
            return key::tombstone(context.keys, message).map(one);
        };
        match self {
            Self::Json => json::decode(value, message, context).map(one),
            #[cfg(test)]
            Self::Lines => Ok(Read::Requests(lines(value, message, context))),
            #[cfg(test)]
            Self::WithSchema(registry) => Ok(match registry.body(value) {
                Ok(body) => Read::Requests(lines(body, message, context)),
                Err(look_up) => Read::Needs(look_up),
            }),
        }
    }
}

fn one(request: IngestRequest) -> Read {
    Read::Requests(vec![Ok(request)])
}

#[cfg(test)]
fn lines(value: &[u8], message: &Message, context: &Context<'_>) -> Requests {
    let lines = value.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| json::decode(line, message, context)).collect()
}

#[cfg(test)]
mod tests {
    use super::registry::{Answer, Registry, with_schema};
    use super::*;
    use crate::domain::{Class, DecodeReason};

    fn decoded(format: &Format, value: Option<&'static str>) -> Result<Requests, Failure> {
        let message = Message { key: Some("k".into()), value: value.map(Into::into), ..Message::empty("t", 0, 0) };
        match format.decode(&message, &Context { default_op: Op::Upsert, keys: &KeySettings::default() })? {
            Read::Requests(requests) => Ok(requests),
            Read::Needs(look_up) => panic!("{look_up:?}"),
        }
    }

    #[test]
    fn a_message_brings_as_many_requests_as_its_format_finds() {
        let requests = decoded(&Format::Json, Some("{\"text\": \"x\"}")).unwrap();
        assert_eq!(requests.len(), 1);
        let requests =
            decoded(&Format::Lines, Some("{\"text\": \"x\"}\n{\"txt\": 1}\n{\"id\": \"b\", \"text\": \"y\"}\n"));
        let requests = requests.unwrap();
        assert_eq!(requests.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(requests[2].as_ref().unwrap().asset.as_str(), "b");
        assert_eq!(decoded(&Format::Lines, Some("")).unwrap(), []);
        assert_eq!(decoded(&Format::Json, Some("[]")).unwrap_err().fault.reason, DecodeReason::MessageInvalid.into());
    }

    #[test]
    fn a_tombstone_deletes_in_every_format() {
        for format in [Format::Json, Format::Lines, Format::WithSchema(Arc::default())] {
            let requests = decoded(&format, None).unwrap();
            assert_eq!(requests[0].as_ref().unwrap().op, Op::Delete);
        }
    }

    #[tokio::test]
    async fn a_message_is_read_once_its_schema_was_looked_up() {
        let registry = Arc::new(Registry::default());
        let reader = Reader { format: Format::WithSchema(registry.clone()), ..Reader::default() };
        let of_schema = |id| {
            let value = Some(with_schema(id, "{\"text\": \"x\"}").into());
            Message { key: Some("k".into()), value, ..Message::empty("t", 0, 0) }
        };
        let Ok(Read::Needs(_)) = reader.read(&of_schema(7)) else { panic!("its schema is not known") };
        registry.answer(7, Answer::Found);
        assert_eq!(reader.read_with_look_ups(&of_schema(7)).await.unwrap().len(), 1);
        let Ok(Read::Requests(requests)) = reader.read(&of_schema(7)) else { panic!("it is known now") };
        assert_eq!((requests.len(), registry.asked()), (1, 1));
        registry.answer(8, Answer::Fails(Class::Permanent));
        let failure = reader.read_with_look_ups(&of_schema(8)).await.unwrap_err();
        assert_eq!((failure.fault.class, registry.asked()), (Class::Permanent, 2));
    }
}
