//! Values that are written as text, and the expectation that an invalid value is reported with.

use std::path::PathBuf;

use super::problem::nearest;
use super::show::text_as_toml;
use crate::domain::{Decoding, Orientation, Precision};

/// A value that is written as text. `parse` gets non-empty text; `text` is its inverse.
pub trait Text: Sized {
    fn parse(text: &str) -> Result<Self, Expected>;
    fn text(&self) -> String;

    /// The text as TOML, without the credentials that it may have.
    fn shown(&self) -> String {
        text_as_toml(&self.text())
    }
}

/// What a value should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub expected: String,
    pub hint: Option<String>,
}

impl Expected {
    pub fn new(expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// One of a few words; an error suggests the nearest.
pub fn choice<T: Copy>(text: &str, all: impl IntoIterator<Item = (&'static str, T)>) -> Result<T, Expected> {
    let all: Vec<(&'static str, T)> = all.into_iter().collect();
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let expected = Expected::new(format!("one of {}", names.join(", ")));
    Err(match nearest(text, names) {
        Some(name) => expected.hint(format!("did you mean {name}?")),
        None => expected,
    })
}

impl Text for String {
    fn parse(text: &str) -> Result<Self, Expected> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Text for PathBuf {
    fn parse(text: &str) -> Result<Self, Expected> {
        Ok(Self::from(text))
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

/// Implements [`Text`] for enums with `ALL` and `as_str`.
macro_rules! text_by_name {
    ($($choice:ty),+) => {$(
        impl $crate::config::text::Text for $choice {
            fn parse(text: &str) -> Result<Self, $crate::config::text::Expected> {
                $crate::config::text::choice(text, Self::ALL.map(|one| (one.as_str(), one)))
            }

            fn text(&self) -> String {
                self.as_str().to_owned()
            }
        }
    )+};
}

pub(super) use text_by_name;

text_by_name!(Decoding, Orientation, Precision);
