//! Trials of messages in separate processes: the worker's side (`processes`), the trial process (`child`), and their
//! protocol, one JSON object per line.

mod child;
mod processes;
mod watch;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use child::answer_trials;
pub use processes::{TrialCommand, TrialProcesses, TrialSettings};

use crate::domain::{Message, Position};

/// What the trial process writes to standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trial", rename_all = "snake_case")]
enum Answer {
    /// The models are open and have passed their known inputs. Sent once.
    Ready,
    /// A request of the message begins, and with it its time limit.
    Request,
    /// The message has reached this stage.
    Entered {
        stage: String,
    },
    Passed,
    /// A worker in this state could not go on.
    Broken {
        why: String,
    },
}

impl Answer {
    /// `None`: a line from another writer, such as a library.
    fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// The parts of a message that affect its vectors.
#[derive(Serialize, Deserialize)]
struct Sent {
    topic: String,
    partition: i32,
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
    timestamp_ms: Option<i64>,
}

/// Ends with a line feed.
fn line_of(message: &Message) -> Result<String, serde_json::Error> {
    let text = |bytes: &Bytes| STANDARD.encode(bytes);
    let headers = message.headers.iter().map(|(name, value)| (name.clone(), value.as_ref().map(text)));
    let sent = Sent {
        topic: message.position.topic.to_string(),
        partition: message.position.partition,
        offset: message.position.offset,
        key: message.key.as_ref().map(text),
        value: message.value.as_ref().map(text),
        headers: headers.collect(),
        timestamp_ms: message.timestamp_ms,
    };
    Ok(serde_json::to_string(&sent)? + "\n")
}

fn message_of(line: &str) -> Result<Message, String> {
    let sent: Sent = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let bytes = |text: String| STANDARD.decode(text).map(Bytes::from).map_err(|error| error.to_string());
    let header = |(name, value): (String, Option<String>)| Ok((name, value.map(bytes).transpose()?));
    Ok(Message {
        position: Position { topic: sent.topic.into(), partition: sent.partition, offset: sent.offset },
        epoch: 0,
        key: sent.key.map(bytes).transpose()?,
        value: sent.value.map(bytes).transpose()?,
        headers: sent.headers.into_iter().map(header).collect::<Result<_, String>>()?,
        timestamp_ms: sent.timestamp_ms,
        topic_id: None,
        leader_epoch: None,
        retry: None,
        suspicion: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let sent = Message {
            key: Some(Bytes::from_static(b"\xff\x00key")),
            value: Some(Bytes::from_static(b"{\"text\": \"a\nb\"}")),
            headers: vec![("tenant".into(), Some(Bytes::from_static(b"acme"))), ("none".into(), None)],
            timestamp_ms: Some(7),
            ..Message::empty("t", 3, 118)
        };
        let line = line_of(&sent).unwrap();
        assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true));
        let found = message_of(&line).unwrap();
        assert_eq!((found.position, found.key, found.value), (sent.position, sent.key, sent.value));
        assert_eq!((found.headers, found.timestamp_ms), (sent.headers, sent.timestamp_ms));
        let tombstone = message_of(&line_of(&Message::empty("t", 0, 0)).unwrap()).unwrap();
        assert_eq!((tombstone.key, tombstone.value), (None, None));
        assert!(message_of("{}").is_err() && message_of("").is_err());
    }

    #[test]
    fn what_libraries_print_is_no_answer() {
        let entered = Answer::Entered { stage: "embed".into() };
        assert_eq!(serde_json::to_string(&entered).unwrap(), r#"{"trial":"entered","stage":"embed"}"#);
        assert_eq!(Answer::read(r#"{"trial":"entered","stage":"embed"}"#), Some(entered));
        assert_eq!(Answer::read(r#"{"trial":"ready"}"#), Some(Answer::Ready));
        assert_eq!(Answer::read(r#"{"trial":"request"}"#), Some(Answer::Request));
        for other in ["", "ready", "{}", r#"{"trial":"else"}"#, "[onnxruntime] warning"] {
            assert_eq!(Answer::read(other), None, "{other}");
        }
    }
}
