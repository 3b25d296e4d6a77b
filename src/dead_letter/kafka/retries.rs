//! Selects the next retry topic after a transient failure.

use std::collections::HashMap;

use crate::config::RetryTopic;
use crate::dead_letter::DeadLetter;
use crate::domain::Class;

#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    /// The next topic of each topic.
    next: HashMap<String, String>,
    source: HashMap<String, String>,
}

impl Retries {
    pub fn new(topics: Vec<RetryTopic>) -> Self {
        let mut retries = Self::default();
        for RetryTopic { name, after, source, .. } in topics {
            retries.source.insert(name.clone(), source);
            retries.next.insert(after, name);
        }
        retries
    }

    /// The retry topic for the message, if its failure is transient.
    pub fn next(&self, letter: &DeadLetter) -> Option<&str> {
        let next =
            self.next.get(&*letter.message.position.topic).filter(|_| letter.failure.fault.class == Class::Transient);
        next.map(String::as_str)
    }

    /// The source topic of messages in `topic`.
    pub fn source<'a>(&'a self, topic: &'a str) -> &'a str {
        self.source.get(topic).map_or(topic, String::as_str)
    }
}
