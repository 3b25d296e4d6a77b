//! The dead letters against the messages that must die.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{Headers as _, Message as _, OwnedMessage};

use crate::Error;
use crate::broker::header;
use crate::expected::{Expected, Whose};
use crate::journal::Place;
use crate::misdate;
use crate::oracle::{Evidence, Verdict};
use crate::topics::Topic;

/// The reason of dead letters that came back from a retry topic too late.
const OVERTAKEN: &str = "overtaken";
/// The message's own timestamp (`docs/messages.md`).
const TIMESTAMP: &str = "clipstream.errors.message_timestamp";
const PART: &str = "clipstream.errors.part";
/// Of a letter in a compacted topic: the message's own key, and that it had no value.
const KEY: &str = "clipstream.errors.key";
const TOMBSTONE: &str = "clipstream.errors.tombstone";

fn connect<'a>(letter: &'a OwnedMessage, name: &str) -> &'a str {
    header(letter, &format!("__connect.errors.{name}")).unwrap_or_default()
}

/// Which message died.
fn place(letter: &OwnedMessage) -> Result<Place, Error> {
    let topic = Topic::named(connect(letter, "topic")).ok_or("a dead letter of a topic that is not ours")?;
    Ok((topic, connect(letter, "partition").parse()?, connect(letter, "offset").parse()?))
}

/// The letters of a topic, those that are written in parts put together, and how many of them were (`docs/messages.md`). One
/// whose writer ended between two parts is no letter.
pub fn whole(records: Vec<OwnedMessage>) -> Result<(Vec<OwnedMessage>, u64), Error> {
    let (mut letters, mut in_parts, mut open) = (Vec::new(), 0, BTreeMap::new());
    for record in records {
        let Some(part) = header(&record, PART) else {
            letters.push(record);
            continue;
        };
        let (number, of) = part.split_once('/').ok_or_else(|| format!("part {part:?}, expected 2/5"))?;
        let (number, of): (usize, usize) = (number.parse()?, of.parse()?);
        let (place, piece) = (place(&record)?, record.payload().unwrap_or_default().to_vec());
        let (first, value) = match (number, open.remove(&place)) {
            (1, _) => (record, piece),
            (_, Some((next, first, value))) if next == number => (first, [value, piece].concat()),
            // The rest of one whose writer was killed, and which another one has written again meanwhile.
            (_, Some((next, first, value))) => {
                open.insert(place, (next, first, value));
                continue;
            }
            (_, None) => continue,
        };
        if number < of {
            open.insert(place, (number + 1, first, value));
            continue;
        }
        let (key, topic, headers) =
            (first.key().map(<[u8]>::to_vec), first.topic().to_owned(), first.headers().cloned());
        let at = (first.timestamp(), first.partition(), first.offset());
        letters.push(OwnedMessage::new(Some(value), key, topic, at.0, at.1, at.2, headers));
        in_parts += 1;
    }
    Ok((letters, in_parts))
}

/// Key and value of the message that died.
fn original(letter: &OwnedMessage) -> (Option<&[u8]>, Option<&[u8]>) {
    let named = |name: &str| letter.headers().and_then(|headers| headers.iter().find(|header| header.key == name));
    let key = named(KEY).map_or(letter.key(), |header| header.value);
    (key, letter.payload().filter(|_| named(TOMBSTONE).is_none()))
}

/// Whether a letter in a compacted topic has a key of its own, so that no other one replaces it.
fn stays((topic, partition, offset): Place, letter: &OwnedMessage) -> bool {
    let own = format!("{}[{partition}]@{offset}", topic.name());
    topic != Topic::Compacted || letter.key() == Some(own.as_bytes())
}

/// Messages that were too late, as the letters say.
pub fn overtaken(letters: &[OwnedMessage]) -> Result<BTreeSet<Place>, Error> {
    letters.iter().filter(|letter| connect(letter, "exception.class.name") == OVERTAKEN).map(place).collect()
}

/// Whether a message that is said to have been overtaken is whole, and a newer one of its asset counted.
fn was_overtaken(expected: &Expected, letter: &OwnedMessage, place: Place) -> bool {
    let good = expected.overtaken.get(&place).and_then(Option::as_ref);
    let message = good.or_else(|| Some(&expected.doomed.get(&place)?.message));
    let key = Whose::of(letter).ok();
    let newer =
        |(at, _, note): &(Place, String, &str)| (at.0, at.1) == (place.0, place.1) && at.2 > place.2 && note.is_empty();
    message.is_some_and(|message| (letter.key(), letter.payload()) == (message.key(), message.payload()))
        && key.and_then(|key| expected.assets.get(&key)).is_some_and(|asset| asset.history.iter().any(newer))
}

pub fn judge(evidence: &Evidence<'_>, verdict: &mut Verdict) -> Result<(), Error> {
    let mut letters: BTreeMap<Place, u64> = BTreeMap::new();
    for letter in evidence.letters {
        let (place, reason) = (place(letter)?, connect(letter, "exception.class.name"));
        *letters.entry(place).or_default() += 1;
        if reason == OVERTAKEN {
            if !was_overtaken(evidence.expected, letter, place) {
                verdict.wrong += 1;
                verdict.note(format!("WRONG: the dead letter of {place:?} says that it was overtaken, and is not whole or no newer one counts"));
            }
            continue;
        }
        match evidence.expected.doomed.get(&place) {
            None => {
                verdict.lost += 1;
                verdict.wrongly_dead += 1;
                verdict.note(format!(
                    "LOST: the message at {place:?} is good, and a dead letter: {reason}: {}",
                    connect(letter, "exception.message")
                ));
            }
            Some(doomed) => {
                let whole =
                    original(letter) == (doomed.message.key(), doomed.message.payload()) && stays(place, letter);
                let (said, sent) = (header(letter, TIMESTAMP), misdate::timestamp(&doomed.message).to_string());
                let expected = doomed.dies.reason.split('|').any(|expected| reason == expected);
                if !whole || !expected || said != Some(&sent) {
                    verdict.wrong += 1;
                    verdict.note(format!(
                        "WRONG: the dead letter of {place:?} is {}whole, of a message of {said:?} and says {reason}, expected \
                         {sent} and {}",
                        if whole { "" } else { "not " },
                        doomed.dies.reason
                    ));
                }
            }
        }
    }
    verdict.dead_letters = letters.len() as u64;
    verdict.duplicate_letters = letters.values().map(|count| count - 1).sum();
    for (place, doomed) in &evidence.expected.doomed {
        if !letters.contains_key(place) && !doomed.dies.unless_superseded {
            verdict.lost += 1;
            verdict.note(format!("LOST: no dead letter of {place:?}, which should say {}", doomed.dies.reason));
        }
    }
    Ok(())
}
