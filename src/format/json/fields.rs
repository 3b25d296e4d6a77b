//! A message's JSON, read strictly: a value that a store could not return unchanged is an error that names its path.
//!
//! `serde_json` alone lets the last of two members win, makes floats of large integers, rounds some floats twice and takes
//! any depth up to its own limit. Here members come once, integers fit Qdrant's, floats are the nearest ones (IEEE 754,
//! as `str::parse` gives them), and depth ends where Qdrant can still read it.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::domain::DecodeReason;
use crate::domain::memory::{MEMBER_BYTES, MEMBERS_MIN, VALUE_BYTES};
use crate::redact;

/// Levels of lists and objects below a field. Qdrant's gRPC messages may nest 100 deep (`prost`'s limit, in client and
/// server), an object takes three of these and the way to the payload five.
pub(super) const DEPTH_MAX: usize = 24;

/// Memory that the values of a message may take. Some legal JSON takes 70 times its size there: `[{"a":1},{"a":1},…]`.
pub(super) const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest number and path that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// The known members of a JSON object, in order.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub known: Vec<(String, Value)>,
    /// The first unknown member. The rest of the text is then read for its syntax only.
    pub unknown: Option<String>,
}

#[derive(Debug)]
pub(super) enum Unreadable {
    /// Not JSON, or not an object.
    Json(serde_json::Error),
    /// JSON that is refused, with a reason of its own.
    Refused { reason: DecodeReason, message: String },
}

/// # Errors
/// The text is not one object whose members all differ.
pub(super) fn object(text: &[u8], known: &[&str]) -> Result<Fields, Unreadable> {
    let state = State { odd: odd_numbers(text), ..State::default() };
    let state = RefCell::new(state);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let fields = Members { state: &state, known }.deserialize(&mut deserializer);
    let result = fields.and_then(|fields| deserializer.end().map(|()| fields));
    result.map_err(|error| match state.into_inner().refused {
        Some(refused) => refused.into_error(),
        None => Unreadable::Json(error),
    })
}

/// A number that `serde_json` would change.
#[derive(Debug)]
enum Odd {
    /// Its digits.
    Integer(String),
    Float(f64),
}

/// Those numbers with their place among all numbers of the text. Meaningless for text that is not JSON, which is refused later.
fn odd_numbers(text: &[u8]) -> Vec<(usize, Odd)> {
    let (mut out, mut count, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while text.get(at).is_some_and(|b| *b != b'"') {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = &text[at..];
                let is_part = |b: &u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = rest.iter().take_while(|b| is_part(b)).count();
                if let Some(odd) = std::str::from_utf8(&rest[..length]).ok().and_then(odd) {
                    out.push((count, odd));
                }
                if out.len() > MEMORY_BYTES_MAX / VALUE_BYTES {
                    // The text is refused before it comes to the last of them.
                    return out;
                }
                count += 1;
                at += length;
            }
            _ => at += 1,
        }
    }
    out
}

fn odd(number: &str) -> Option<Odd> {
    let has_exponent = number.contains(['e', 'E']);
    if !has_exponent && !number.contains('.') {
        return number.parse::<i64>().is_err().then(|| Odd::Integer(redact::cut(number, QUOTED_CHARS_MAX)));
    }
    // Up to 15 digits and without an exponent `serde_json` has one exact division, which is the nearest.
    let short = !has_exponent && number.len() <= 15;
    if short { None } else { number.parse().ok().map(Odd::Float) }
}

#[derive(Debug)]
struct Refused {
    reason: DecodeReason,
    /// What is wrong, after the path.
    what: String,
    /// Steps from the place outwards.
    path: Vec<String>,
}

impl Refused {
    fn into_error(self) -> Unreadable {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        let path = redact::excerpt(path.trim_start_matches('.'), QUOTED_CHARS_MAX);
        Unreadable::Refused { reason: self.reason, message: format!("field {path:?} {}", self.what) }
    }
}

#[derive(Debug, Default)]
struct State {
    odd: Vec<(usize, Odd)>,
    /// How many of `odd` were read so far.
    odd_met: usize,
    numbers: usize,
    depth: usize,
    /// Memory of the values so far.
    memory_bytes: usize,
    refused: Option<Refused>,
}

impl State {
    /// Notes why, for [`object`] to say instead of the error that is returned.
    fn refuse<E: serde::de::Error>(&mut self, reason: DecodeReason, what: String, at: Option<&str>) -> E {
        let path = at.map(|name| format!(".{name}")).into_iter().collect();
        self.refused = Some(Refused { reason, what, path });
        E::custom("refused")
    }

    /// On the way out after a refusal.
    fn came_from(&mut self, step: impl FnOnce() -> String) {
        if let Some(refused) = &mut self.refused {
            refused.path.push(step());
        }
    }
}

struct Members<'a> {
    state: &'a RefCell<State>,
    known: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Fields;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object such as {\"id\": \"sku-1\", \"image\": \"s3://bucket/key.jpg\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<String>()? {
            if fields.unknown.is_some() || !self.known.contains(&name.as_str()) {
                fields.unknown.get_or_insert(name);
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // At most as many as are known.
            if fields.known.iter().any(|(known, _)| *known == name) {
                return Err(self.state.borrow_mut().refuse(DecodeReason::MessageInvalid, twice(), Some(&name)));
            }
            match map.next_value_seed(Strict { state: self.state }) {
                Ok(value) => fields.known.push((name, value)),
                Err(error) => {
                    self.state.borrow_mut().came_from(|| name);
                    return Err(error);
                }
            }
        }
        Ok(fields)
    }
}

fn twice() -> String {
    "comes twice; expected it once".to_owned()
}

/// Any value below a field.
struct Strict<'a> {
    state: &'a RefCell<State>,
}

impl Strict<'_> {
    fn number<E: serde::de::Error>(&self, number: Number) -> Result<Value, E> {
        let mut state = self.state.borrow_mut();
        let place = state.numbers;
        state.numbers += 1;
        match state.odd.get(state.odd_met) {
            Some((at, odd)) if *at == place => {
                let found = match odd {
                    Odd::Integer(digits) => Err(digits.clone()),
                    Odd::Float(nearest) => Ok(*nearest),
                };
                state.odd_met += 1;
                match found {
                    Ok(nearest) => Ok(Number::from_f64(nearest).unwrap_or(number).into()),
                    Err(digits) => {
                        let what = format!(
                            "is the integer {digits}; expected one from {} to {}, or a string",
                            i64::MIN,
                            i64::MAX
                        );
                        Err(state.refuse(DecodeReason::IntegerOutOfRange, what, None))
                    }
                }
            }
            _ => Ok(number.into()),
        }
    }

    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut state = self.state.borrow_mut();
        state.depth += 1;
        if state.depth > DEPTH_MAX {
            let what = format!("is nested deeper than {DEPTH_MAX} levels; flatten it, or store it as a string");
            return Err(state.refuse(DecodeReason::NestedTooDeep, what, None));
        }
        Ok(())
    }

    fn leave(&self) {
        self.state.borrow_mut().depth -= 1;
    }

    /// Counts what is about to be kept.
    fn take<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let mut state = self.state.borrow_mut();
        state.memory_bytes += bytes;
        if state.memory_bytes > MEMORY_BYTES_MAX {
            let what = format!(
                "takes the message beyond {} MiB in memory; expected less: keep long lists of numbers or objects elsewhere",
                MEMORY_BYTES_MAX / (1024 * 1024)
            );
            return Err(state.refuse(DecodeReason::MessageTooLarge, what, None));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        self.number(number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut items = Vec::new();
        loop {
            match list.next_element_seed(Strict { state: self.state }) {
                Ok(Some(item)) => {
                    self.take(VALUE_BYTES)?;
                    items.push(item);
                }
                Ok(None) => break,
                Err(error) => {
                    self.state.borrow_mut().came_from(|| format!("[{}]", items.len()));
                    return Err(error);
                }
            }
        }
        self.leave();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(self.state.borrow_mut().refuse(DecodeReason::MessageInvalid, twice(), Some(&name)));
            }
            match map.next_value_seed(Strict { state: self.state }) {
                Ok(value) => {
                    let new = if members.is_empty() { MEMBERS_MIN } else { usize::from(members.len() >= MEMBERS_MIN) };
                    self.take(new * MEMBER_BYTES + name.len())?;
                    members.insert(name, value);
                }
                Err(error) => {
                    self.state.borrow_mut().came_from(|| format!(".{name}"));
                    return Err(error);
                }
            }
        }
        self.leave();
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
