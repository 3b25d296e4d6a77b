//! Reassembles letters that were written in parts.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::StoredLetter;
use super::found::{Found, Unreadable};
use super::letter::Part;
use crate::domain::{Finding, Position};

/// Incomplete letters at once. There are as many writers as workers, usually one.
const OPEN_MAX: usize = 32;

/// The incomplete letters of one topic.
#[derive(Default)]
pub(super) struct Assembly {
    /// By the letter's partition and the message's position, because writers may interleave in a partition.
    open: BTreeMap<(i32, Option<Position>), Open>,
}

struct Open {
    /// The first part, which has everything except the rest of the value.
    first: StoredLetter,
    value: BytesMut,
    next: Part,
}

impl Assembly {
    /// Adds a record, and returns what it completes, in order. A letter's position is that of its last part, so that a reader that
    /// continues after it misses nothing.
    pub fn add(&mut self, letter: StoredLetter, part: Option<Part>) -> Vec<Found> {
        let Some(part) = part else { return vec![Found::Letter(Box::new(letter))] };
        let key = (letter.position.partition, letter.source.clone());
        let mut found = Vec::new();
        if part.number == 1 {
            // Written again from the beginning after a failed attempt: letters are at-least-once.
            self.open.remove(&key);
            if self.open.len() >= OPEN_MAX {
                found.extend(self.open.pop_first().map(|(_, open)| open.torn()));
            }
            let value = BytesMut::from(letter.value.as_deref().unwrap_or_default());
            self.open.insert(key, Open { first: letter, value, next: Part { number: 2, ..part } });
            return found;
        }
        match self.open.remove(&key) {
            Some(mut open) if open.next == part => {
                open.value.extend_from_slice(letter.value.as_deref().unwrap_or_default());
                if part.number < part.of {
                    open.next.number += 1;
                    self.open.insert(key, open);
                } else {
                    let value = Some(Bytes::from(open.value));
                    found.push(Found::Letter(Box::new(StoredLetter {
                        position: letter.position,
                        value,
                        ..open.first
                    })));
                }
            }
            Some(open) => found.push(open.torn()),
            None => {
                let why = Finding::new(format!("part {part} of a letter whose first part was not read"))
                    .hint("start at an earlier letter with --from");
                found.push(Found::Unreadable(Unreadable { position: letter.position, why }));
            }
        }
        found
    }

    /// The letters that are still incomplete at the end.
    pub fn finish(self) -> impl Iterator<Item = Found> {
        self.open.into_values().map(Open::torn)
    }
}

impl Open {
    fn torn(self) -> Found {
        let message = format!("a letter without its part {}: its write was interrupted, and is repeated", self.next);
        let why = Finding::new(message);
        Found::Unreadable(Unreadable { position: self.first.position, why })
    }
}
