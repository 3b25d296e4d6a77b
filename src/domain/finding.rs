//! A problem and its next step, for verbs and checks whose callers do not need a reason code.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// What is wrong, and the next step: what is said of a failure where its reason does not matter. Its text is both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found and what was expected.
    pub message: String,
    pub hint: Option<Cow<'static, str>>,
}

impl Finding {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With the name of what it is about before the message.
    pub fn about(self, subject: impl fmt::Display) -> Self {
        Self { message: format!("{subject}: {}", self.message), ..self }
    }
}

/// Without a next step.
impl From<String> for Finding {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, hint } = self;
        f.write_str(message)?;
        hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl Error for Finding {}

/// An error that knows the next step apart from what was found.
pub trait Explain {
    fn explain(&self) -> Finding;
}

impl Explain for Finding {
    fn explain(&self) -> Finding {
        self.clone()
    }
}
