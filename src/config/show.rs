//! The resolved configuration, key by key.

use std::fmt::Write;

use super::problem::without_secrets;

/// One key of the resolved configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub section: &'static str,
    /// `section.key`; for an entry of a table, `section.key.name`.
    pub key: String,
    /// The key as TOML writes it within its section.
    pub written: String,
    /// The value as TOML; a secret is `"REDACTED"`.
    pub shown: String,
    /// `None`: the default.
    pub origin: Option<String>,
}

/// Every key with its value and origin, by section. Empty for settings that were created in code.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    pub(super) entries: Vec<Entry>,
}

impl Effective {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// By `section.key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// TOML with each value's origin as a comment.
    pub(super) fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for entry in &self.entries {
            if entry.section != section {
                let _ = writeln!(out, "{}[{}]", if section.is_empty() { "" } else { "\n" }, entry.section);
                section = entry.section;
            }
            let assignment = format!("{} = {}", entry.written, entry.shown);
            let _ = writeln!(out, "{assignment:<48}  # {}", entry.origin.as_deref().unwrap_or("default"));
        }
        out
    }
}

/// A basic string of TOML, without the credentials of a URL.
pub(super) fn text_as_toml(text: &str) -> String {
    as_toml(&without_secrets(text))
}

/// A basic string of TOML.
pub(super) fn as_toml(text: &str) -> String {
    // JSON's escapes are TOML's, but TOML also wants DEL escaped.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
