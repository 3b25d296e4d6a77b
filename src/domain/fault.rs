//! The error type of all ports: class, reason, message and hint as fields, so that callers match on values and never on text.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{AnyReason, Class, Explain, Finding, Reason};

/// Why something failed, in the form that all ports use. `R` are the reasons of one port.
///
/// `message` names field, value (cut, redacted) and what was expected; `hint` is the next step. Both are safe to log and to put into
/// a dead letter. The text of a fault is both.
#[derive(Clone, Debug)]
pub struct Fault<R = AnyReason> {
    pub class: Class,
    pub reason: R,
    pub message: String,
    pub hint: Option<Cow<'static, str>>,
    /// The other side asked to wait this long before the next attempt.
    pub retry_after: Option<Duration>,
    /// The cause, for [`Error::source`].
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl<R: Reason> Fault<R> {
    /// With the usual class and hint of its reason.
    pub fn new(reason: R, message: impl Into<String>) -> Self {
        Self {
            class: reason.class(),
            reason,
            message: message.into(),
            hint: reason.hint().map(Cow::Borrowed),
            retry_after: None,
            source: None,
        }
    }

    /// From a finding of code that does not know the reason here.
    pub fn found(reason: R, finding: Finding) -> Self {
        let fault = Self::new(reason, finding.message);
        match finding.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

impl<R> Explain for Fault<R> {
    fn explain(&self) -> Finding {
        Finding { message: self.message.clone(), hint: self.hint.clone() }
    }
}

impl<R> Fault<R> {
    pub fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Puts the name of what it is about before the message.
    pub fn about(self, subject: impl fmt::Display) -> Self {
        Self { message: format!("{subject}: {}", self.message), ..self }
    }

    /// The same with a reason of any port.
    pub fn of_any(self) -> Fault
    where
        R: Into<AnyReason>,
    {
        let Self { class, reason, message, hint, retry_after, source } = self;
        Fault { class, reason: reason.into(), message, hint, retry_after, source }
    }

    pub fn caused_by(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }
}

impl<R> fmt::Display for Fault<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain().fmt(f)
    }
}

impl<R: fmt::Debug> Error for Fault<R> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Compares everything but the causes, which cannot be compared.
impl<R: PartialEq> PartialEq for Fault<R> {
    fn eq(&self, other: &Self) -> bool {
        let said = |fault: &Self| (fault.class, fault.retry_after);
        said(self) == said(other)
            && self.reason == other.reason
            && self.message == other.message
            && self.hint == other.hint
    }
}

impl<R: Eq> Eq for Fault<R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MediaReason;

    #[test]
    fn a_fault_has_the_class_and_the_hint_of_its_reason_unless_others_are_set() {
        let fault = Fault::new(MediaReason::HttpThrottled, "https://x/: HTTP 429");
        assert_eq!((fault.class, fault.retry_after), (Class::Transient, None));
        assert_eq!(fault.to_string(), "https://x/: HTTP 429; lower media.per_host_concurrency if this goes on");
        let other = fault.clone().class(Class::Outage).hint("wait");
        assert_eq!((other.class, other.to_string().as_str()), (Class::Outage, "https://x/: HTTP 429; wait"));
        assert_ne!(fault, other);
        assert_eq!(Fault::new(MediaReason::BodyIncomplete, "half").to_string(), "half");
    }
}
