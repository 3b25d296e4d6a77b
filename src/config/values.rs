//! Converts one value of a layer to a type.

use std::fmt::Display;
use std::ops::RangeInclusive;

use config::{Value, ValueKind};

use super::text::{Expected, Text};

pub(super) fn item<T: Text>(value: &Value) -> Result<T, Expected> {
    match &value.kind {
        ValueKind::String(s) if s.trim().is_empty() => Err(Expected::new("text that is not empty")),
        ValueKind::String(s) => T::parse(s),
        _ => Err(Expected::new("text in quotes")),
    }
}

pub(super) fn whole_number<T>(key: &str, value: &Value, range: &RangeInclusive<T>) -> Result<T, Expected>
where
    T: Copy + Display + PartialOrd + TryFrom<u64>,
{
    let number = match &value.kind {
        ValueKind::I64(i) => u64::try_from(*i).ok(),
        ValueKind::U64(u) => Some(*u),
        ValueKind::String(s) => s.trim().replace('_', "").parse().ok(),
        _ => None,
    };
    if let Some(number) = number.and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n)) {
        return Ok(number);
    }
    let unit = unit_of(key);
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    let expected = Expected::new(format!("a whole number from {} to {}{unit}", range.start(), range.end()));
    Err(match in_base_unit(key, value) {
        Some(n) => expected.hint(format!("write it without a unit: {n}")),
        None => expected,
    })
}

/// A number from 0 to 1.
pub(super) fn share(value: &Value) -> Result<f64, Expected> {
    let number = match &value.kind {
        ValueKind::Float(number) => Some(*number),
        ValueKind::I64(number) => Some(*number as f64),
        ValueKind::U64(number) => Some(*number as f64),
        ValueKind::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| Expected::new("a number from 0 to 1"))
}

fn unit_of(key: &str) -> &'static str {
    if key.ends_with("_ms") {
        "milliseconds"
    } else if key.contains("bytes") {
        "bytes"
    } else if key.contains("pixels") {
        "pixels"
    } else {
        ""
    }
}

/// Converts values with a unit, such as `30s` or `32 MiB`, to the key's unit.
fn in_base_unit(key: &str, value: &Value) -> Option<u64> {
    let ValueKind::String(text) = &value.kind else { return None };
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text[..split].parse::<u64>().ok()?, text[split..].trim().to_ascii_lowercase());
    let factor = match (unit_of(key), unit.as_str()) {
        ("milliseconds", "ms") | ("bytes", "b") => 1,
        ("milliseconds", "s" | "sec") => 1_000,
        ("milliseconds", "m" | "min") => 60_000,
        ("milliseconds", "h") => 3_600_000,
        ("bytes", "k" | "kib") => 1 << 10,
        ("bytes", "m" | "mib") => 1 << 20,
        ("bytes", "g" | "gib") => 1 << 30,
        ("bytes", "kb") => 1_000,
        ("bytes" | "pixels", "mb" | "mp") => 1_000_000,
        ("bytes", "gb") => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}
