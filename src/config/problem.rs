//! Problems of a configuration, reported all at once.

use std::fmt;

/// Characters of a value that are quoted.
const QUOTED_CHARS_MAX: usize = 80;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`, or instead a file, an environment variable or a flag.
    pub key: String,
    /// The value as found, cut and redacted; `None` if it is or may be a secret.
    pub found: Option<String>,
    /// The origin of the value: file and line, environment variable, flag; `None`: the value is missing.
    pub origin: Option<String>,
    pub expected: String,
    pub hint: Option<String>,
}

/// All problems of a configuration, ordered by section. At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has 1 problem")?,
            n => write!(f, "the configuration has {n} problems")?,
        }
        let width = self.0.len().to_string().len();
        for (n, problem) in self.0.iter().enumerate() {
            write!(f, "\n  {:>width$}. {}", n + 1, problem.key)?;
            let mut line = |label: &str, text: &str| write!(f, "\n  {:width$}  {label:<8}  {text}", "");
            if let Some(found) = &problem.found {
                line("found", found)?;
            }
            if let Some(origin) = &problem.origin {
                line("from", origin)?;
            }
            line("expected", &problem.expected)?;
            if let Some(hint) = &problem.hint {
                line("hint", hint)?;
            }
        }
        Ok(())
    }
}

/// `text` in quotes, short and without credentials, for a message.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", crate::redact::cut(&without_secrets(text), QUOTED_CHARS_MAX))
}

/// `text` without the credentials and signatures of a URL, even if its scheme is missing (`joe:pw@host`).
pub(super) fn without_secrets(text: &str) -> String {
    if text.contains("://") {
        let may_carry = text.contains(['@', '?']);
        return if may_carry { crate::redact::url(text) } else { text.to_owned() };
    }
    match text.rsplit_once('@') {
        Some((user, host)) if !user.contains(char::is_whitespace) => format!("…@{host}"),
        _ => text.to_owned(),
    }
}

/// The candidate that is most similar to `found`, if any is similar enough.
pub fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|c| {
            let candidate = c.to_ascii_lowercase();
            // Transposed letters weigh too much in short words.
            let slip = strsim::osa_distance(&found, &candidate) == 1;
            (if slip { 1.0 } else { strsim::jaro_winkler(&found, &candidate) }, c)
        })
        .filter(|(similarity, _)| *similarity >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out_with_and_without_a_scheme() {
        for text in ["joe:pw@host:9000", "http://joe:pw@host:9000/", "pw@host:9000"] {
            assert!(!without_secrets(text).contains("pw") && without_secrets(text).contains("host"), "{text}");
        }
        let agent = "catalog (mail me@shop.example)";
        assert_eq!(without_secrets(agent), agent);
    }

    #[test]
    fn lists_are_numbered_and_aligned() {
        let problem = |key: &str, hint: Option<&str>| Problem {
            key: key.into(),
            found: Some("7".into()),
            origin: Some("--set".into()),
            expected: "less".into(),
            hint: hint.map(Into::into),
        };
        let errors = ConfigErrors(vec![problem("a.b", None), problem("c.d", Some("write 6"))]);
        assert_eq!(
            errors.to_string(),
            "the configuration has 2 problems\n  1. a.b\n     found     7\n     from      --set\n     expected  less\n  \
             2. c.d\n     found     7\n     from      --set\n     expected  less\n     hint      write 6"
        );
    }

    #[test]
    fn quotes_hide_credentials() {
        assert_eq!(quoted("http://joe:pw@host/"), "\"http://host/\"");
        assert_eq!(quoted("joe:pw@host:9092"), "\"…@host:9092\"");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn near_misses_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("fetch_timeout", ["fetch_timeout_ms", "connect_timeout_ms"]), Some("fetch_timeout_ms"));
        assert_eq!(nearest("Patsh", ["upsert", "patch", "delete"]), Some("patch"));
        assert_eq!(nearest("ulr", ["url", "path"]), Some("url"));
        assert_eq!(nearest("zebra", ["upsert", "patch", "delete"]), None);
    }
}
