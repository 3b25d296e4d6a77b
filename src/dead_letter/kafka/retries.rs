//! Which topic a message that failed transiently goes to next.

use std::collections::HashMap;

use crate::config::RetryTopic;
use crate::dead_letter::DeadLetter;
use crate::domain::Class;

#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    /// Each topic's next.
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

    /// Where the message is to wait, if it may succeed later.
    pub fn next(&self, letter: &DeadLetter) -> Option<&str> {
        let next =
            self.next.get(&*letter.message.position.topic).filter(|_| letter.failure.fault.class == Class::Transient);
        next.map(String::as_str)
    }

    /// Where a message of `topic` was first.
    pub fn source<'a>(&'a self, topic: &'a str) -> &'a str {
        self.source.get(topic).map_or(topic, String::as_str)
    }
}
