//! A registry of schemas for tests, for a format that cannot read its messages without them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::LookUp;
use crate::domain::{Class, DecodeReason, Failure, Fault, Stage};

/// The result of a look-up.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Found,
    Fails(Class),
}

#[derive(Debug, Default)]
pub struct Registry {
    /// By the schema's number. A look-up waits for a missing answer.
    answers: watch::Sender<BTreeMap<u8, Answer>>,
    asked: watch::Sender<usize>,
    found: Mutex<BTreeSet<u8>>,
}

/// A value of the format: the schema's number behind a zero, and a text.
pub fn with_schema(id: u8, text: &str) -> Vec<u8> {
    [&[0, id], text.as_bytes()].concat()
}

impl Registry {
    /// Sets the result of look-ups of this schema.
    pub fn answer(&self, id: u8, answer: Answer) {
        self.answers.send_modify(|answers| {
            answers.insert(id, answer);
        });
    }

    /// How many look-ups have begun.
    pub fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    pub async fn until_asked(&self, count: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= count).await.expect("the registry is there");
    }

    /// The text behind the number of a known schema; a value without a number is text.
    pub fn body<'v>(self: &Arc<Self>, value: &'v [u8]) -> Result<&'v [u8], Arc<dyn LookUp>> {
        match value {
            [0, id, text @ ..] if self.found().contains(id) => Ok(text),
            [0, id, ..] => Err(Arc::new(Schema { id: *id, registry: self.clone() })),
            text => Ok(text),
        }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, BTreeSet<u8>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Schema {
    id: u8,
    registry: Arc<Registry>,
}

#[async_trait]
impl LookUp for Schema {
    async fn run(&self) -> Result<(), Failure> {
        self.registry.asked.send_modify(|asked| *asked += 1);
        let mut answers = self.registry.answers.subscribe();
        let answers = answers.wait_for(|answers| answers.contains_key(&self.id)).await.expect("the registry is there");
        match answers[&self.id] {
            Answer::Found => {
                self.registry.found().insert(self.id);
                Ok(())
            }
            Answer::Fails(class) => {
                let message = format!("schema {}: {class}", self.id);
                Err(Fault::new(DecodeReason::MessageInvalid, message).class(class).at(Stage::Decode))
            }
        }
    }
}
