//! Reads a section's values into typed fields. Every key that a section reads is known, all problems are collected, and keys
//! that remain unread are unknown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use config::{Map, Value, ValueKind};

use super::problem::{Problem, nearest, quoted};
use super::show::{Effective, Entry, text_as_toml};
use super::text::{Expected, Text, choice};
use super::values::{item, share, whole_number};
use crate::redact::Secret;

/// Reads one section.
pub struct Reader {
    section: &'static str,
    /// Prefix of its keys within the section: empty, or `table.`.
    within: String,
    table: Map<String, Value>,
    pub(super) keys: Vec<&'static str>,
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(section: &'static str, table: Map<String, Value>) -> Self {
        Self::within(section, String::new(), table)
    }

    fn within(section: &'static str, within: String, table: Map<String, Value>) -> Self {
        Self { section, within, table, keys: Vec::new(), entries: Vec::new(), problems: Vec::new() }
    }

    /// The keys that were not read, with their origins.
    pub(super) fn rest(&self) -> Vec<(String, Option<String>)> {
        let mut rest: Vec<_> = self.table.iter().map(|(key, value)| (key.clone(), origin_of(value))).collect();
        rest.sort();
        rest
    }

    /// A whole number. The range's unit is the key's last word.
    pub fn number<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<u64>,
    {
        self.one(key, default, |value| whole_number(key, value, &range), T::to_string)
    }

    /// A TOML array of whole numbers, or text with commas between them.
    pub fn numbers<T>(&mut self, key: &'static str, default: Vec<T>, range: RangeInclusive<T>) -> Vec<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<u64>,
    {
        self.many(key, default, |value| whole_number(key, value, &range), T::to_string)
    }

    /// A number from 0 to 1.
    pub fn share(&mut self, key: &'static str, default: f64) -> f64 {
        self.one(key, default, share, |share| format!("{share:?}"))
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.one(
            key,
            default,
            |value| match &value.kind {
                ValueKind::Boolean(b) => Ok(*b),
                ValueKind::String(s) => choice(s, [("true", true), ("false", false)]),
                _ => Err(Expected::new("true or false")),
            },
            bool::to_string,
        )
    }

    /// A value written as text; must not be empty.
    pub fn value<T: Text>(&mut self, key: &'static str, default: T) -> T {
        self.one(key, default, |value| item(value), |value| text_as_toml(&value.text()))
    }

    /// A value written as text; the empty text means `None`.
    pub fn optional<T: Text>(&mut self, key: &'static str, default: Option<T>) -> Option<T> {
        self.one(
            key,
            default,
            |value| match &value.kind {
                ValueKind::String(s) if s.is_empty() => Ok(None),
                _ => item(value).map(Some),
            },
            |value| text_as_toml(&value.as_ref().map_or(String::new(), Text::text)),
        )
    }

    /// Like [`Reader::optional`], but never shown.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.keys.push(key);
        let (mut secret, mut origin) = (None, None);
        if let Some(value) = self.table.remove(key) {
            origin = origin_of(&value);
            match value.kind {
                ValueKind::String(s) => secret = Some(s).filter(|s| !s.is_empty()).map(Secret::new),
                _ => self.problem(key, None, origin.clone(), Expected::new("text in quotes; the value is not shown")),
            }
        }
        let shown = if secret.is_some() { "\"REDACTED\"" } else { "\"\"" };
        self.entry(key.to_owned(), key, shown.to_owned(), origin);
        secret
    }

    /// A TOML array, or text with commas between the items.
    pub fn list<T: Text>(&mut self, key: &'static str, default: Vec<T>) -> Vec<T> {
        self.many(key, default, item, Text::shown)
    }

    fn many<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&Value) -> Result<T, Expected>,
        show: impl Fn(&T) -> String,
    ) -> Vec<T> {
        self.keys.push(key);
        let (mut list, mut origin) = (default, None);
        if let Some(value) = self.table.remove(key) {
            origin = origin_of(&value);
            let items = match value.kind {
                ValueKind::Array(items) => items,
                ValueKind::String(text) => text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::new(origin.as_ref(), item))
                    .collect(),
                _ => {
                    let expected = Expected::new("an array, or text with commas between the items");
                    self.problem(key, Some(&value), origin.clone(), expected);
                    Vec::new()
                }
            };
            list = Vec::with_capacity(items.len());
            for value in &items {
                match parse(value) {
                    Ok(item) => list.push(item),
                    Err(expected) => self.problem(key, Some(value), origin.clone(), expected),
                }
            }
        }
        let items: Vec<String> = list.iter().map(show).collect();
        self.entry(key.to_owned(), key, format!("[{}]", items.join(", ")), origin);
        list
    }

    /// A table of settings: `[section.key]`. Its keys are read and checked like those of a section.
    pub fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.keys.push(key);
        let mut table = Map::new();
        if let Some(value) = self.table.remove(key) {
            let origin = origin_of(&value);
            match value.kind {
                ValueKind::Table(found) => table = found,
                _ => {
                    let expected = Expected::new(format!("a table: [{}.{key}]", self.section));
                    self.problem(key, None, origin, expected);
                }
            }
        }
        self.inner(key, key, table, read)
    }

    /// Tables with user-defined names: all that is left of this section is `[section.NAME]`.
    pub fn tables<T>(&mut self, read: impl Fn(&mut Self) -> T) -> BTreeMap<String, T> {
        let rest: BTreeMap<_, _> = std::mem::take(&mut self.table).into_iter().collect();
        let mut tables = BTreeMap::new();
        for (name, value) in rest {
            let origin = origin_of(&value);
            match value.kind {
                ValueKind::Table(table) => {
                    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
                    let written = if is_bare { name.clone() } else { text_as_toml(&name) };
                    let settings = self.inner(&name, &written, table, &read);
                    tables.insert(name, settings);
                }
                _ => {
                    let expected = Expected::new(format!("a table: [{}.{name}]", self.section));
                    self.problem(&name, None, origin, expected);
                }
            }
        }
        tables
    }

    /// Reads `table`, whose name is `key`, and as TOML has it `written`.
    fn inner<T>(
        &mut self,
        key: &str,
        written: &str,
        table: Map<String, Value>,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut inner = Self::within(self.section, format!("{written}."), table);
        let settings = read(&mut inner);
        for (name, origin) in inner.rest() {
            let mut expected = Expected::new(format!("a key of [{}.{key}]", self.section));
            if let Some(near) = nearest(&name, inner.keys.iter().copied()) {
                expected = expected.hint(format!("did you mean {}.{key}.{near}?", self.section));
            }
            inner.problem(&name, None, origin, expected);
        }
        self.entries.append(&mut inner.entries);
        self.problems.append(&mut inner.problems);
        settings
    }

    /// A table with user-defined keys. Values of entries for which `is_secret` holds are never shown.
    pub fn map<T: Text>(&mut self, key: &'static str, is_secret: fn(&str) -> bool) -> BTreeMap<String, T> {
        self.keys.push(key);
        let mut map = BTreeMap::new();
        let mut entries = BTreeMap::new();
        if let Some(value) = self.table.remove(key) {
            match value.kind {
                ValueKind::Table(table) => entries.extend(table),
                _ => {
                    let expected = Expected::new(format!("a table: [{}.{key}]", self.section));
                    let origin = origin_of(&value);
                    self.problem(key, None, origin, expected);
                }
            }
        }
        for (name, value) in entries {
            let (origin, secret) = (origin_of(&value), is_secret(&name));
            let path = format!("{key}.{name}");
            // librdkafka's properties are text, but users also write numbers and booleans.
            let value = match value.kind {
                ValueKind::I64(i) => Value::new(origin.as_ref(), i.to_string()),
                ValueKind::Boolean(b) => Value::new(origin.as_ref(), b.to_string()),
                kind => Value::new(origin.as_ref(), kind),
            };
            match item::<T>(&value) {
                Ok(parsed) => {
                    let shown = if secret { "\"REDACTED\"".to_owned() } else { text_as_toml(&parsed.text()) };
                    self.entry(path, &format!("{key}.{}", text_as_toml(&name)), shown, origin);
                    map.insert(name, parsed);
                }
                Err(expected) => self.problem(&path, (!secret).then_some(&value), origin, expected),
            }
        }
        if map.is_empty() {
            self.entry(key.to_owned(), key, "{}".to_owned(), None);
        }
        map
    }

    fn one<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Value) -> Result<T, Expected>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        self.keys.push(key);
        let (mut resolved, mut origin) = (default, None);
        if let Some(value) = self.table.remove(key) {
            origin = origin_of(&value);
            match parse(&value) {
                Ok(parsed) => resolved = parsed,
                Err(expected) => self.problem(key, Some(&value), origin.clone(), expected),
            }
        }
        let shown = show(&resolved);
        self.entry(key.to_owned(), key, shown, origin);
        resolved
    }

    fn entry(&mut self, key: String, written: &str, shown: String, origin: Option<String>) {
        let (key, written) = (format!("{}.{}{key}", self.section, self.within), format!("{}{written}", self.within));
        self.entries.push(Entry { section: self.section, key, written, shown, origin });
    }

    fn problem(&mut self, key: &str, found: Option<&Value>, origin: Option<String>, expected: Expected) {
        self.problems.push(Problem {
            key: format!("{}.{}{key}", self.section, self.within),
            found: found.map(as_found),
            origin,
            expected: expected.expected,
            hint: expected.hint,
        });
    }
}

/// Checks the settings as a whole, across sections.
pub struct Review<'a> {
    pub(super) effective: &'a Effective,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Review<'_> {
    /// Reports that `key` (`section.key`) has a value that parses but is invalid.
    pub fn wrong(&mut self, key: &str, expected: Expected) {
        // A value that did not parse is reported already; its default is not at fault.
        if self.problems.iter().any(|p| p.key == key) {
            return;
        }
        let entry = self.effective.entry(key);
        self.problems.push(Problem {
            key: key.to_owned(),
            found: entry.map(|e| crate::redact::cut(&e.shown, 120)),
            origin: entry.map(|e| e.origin.clone().unwrap_or_else(|| "the default".to_owned())),
            expected: expected.expected,
            hint: expected.hint,
        });
    }

    /// Reports a problem unless `ok`.
    pub fn expect(&mut self, ok: bool, key: &str, expected: impl FnOnce() -> Expected) {
        if !ok {
            self.wrong(key, expected());
        }
    }
}

/// The origin of a table is that of its entries, because a table may come from several layers.
pub(super) fn origin_of(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(table) => table.values().filter_map(origin_of).min(),
        _ => value.origin().map(str::to_owned),
    }
}

fn as_found(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(s) => quoted(s),
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().take(5).map(as_found).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}
