//! The dead letters against the messages that must die.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{Message as _, OwnedMessage};

use crate::Error;
use crate::broker::header;
use crate::expected::Expected;
use crate::journal::Place;
use crate::misdate;
use crate::oracle::{Evidence, Verdict};
use crate::topics::Topic;

/// The reason of dead letters that came back from a retry topic too late.
const OVERTAKEN: &str = "overtaken";
/// The message's own timestamp (`docs/messages.md`).
const TIMESTAMP: &str = "clipstream.errors.message_timestamp";

fn connect<'a>(letter: &'a OwnedMessage, name: &str) -> &'a str {
    header(letter, &format!("__connect.errors.{name}")).unwrap_or_default()
}

/// Which message died.
fn place(letter: &OwnedMessage) -> Result<Place, Error> {
    let topic = Topic::named(connect(letter, "topic")).ok_or("a dead letter of a topic that is not ours")?;
    Ok((topic, connect(letter, "partition").parse()?, connect(letter, "offset").parse()?))
}

/// Messages that were too late, as the letters say.
pub fn overtaken(letters: &[OwnedMessage]) -> Result<BTreeSet<Place>, Error> {
    letters.iter().filter(|letter| connect(letter, "exception.class.name") == OVERTAKEN).map(place).collect()
}

/// Whether a message that is said to have been overtaken is whole, and a newer one of its asset counted.
fn was_overtaken(expected: &Expected, letter: &OwnedMessage, place: Place) -> bool {
    let good = expected.overtaken.get(&place).and_then(Option::as_ref);
    let message = good.or_else(|| Some(&expected.doomed.get(&place)?.message));
    let key = letter.key().map(String::from_utf8_lossy).unwrap_or_default();
    let newer =
        |(at, _, note): &(Place, String, &str)| (at.0, at.1) == (place.0, place.1) && at.2 > place.2 && note.is_empty();
    message.is_some_and(|message| (letter.key(), letter.payload()) == (message.key(), message.payload()))
        && expected.assets.get(&*key).is_some_and(|asset| asset.history.iter().any(newer))
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
                let whole = (letter.key(), letter.payload()) == (doomed.message.key(), doomed.message.payload());
                let (said, sent) = (header(letter, TIMESTAMP), misdate::timestamp(&doomed.message).to_string());
                if !whole || reason != doomed.dies.reason || said != Some(&sent) {
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
