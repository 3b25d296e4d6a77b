use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why the process is not ready, by component (ready when nothing is listed), and what it has to say of itself when it is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    unready: Arc<Mutex<BTreeMap<&'static str, String>>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether this is news: the component was ready before.
    pub fn unready(&self, component: &'static str, why: impl Into<String>) -> bool {
        self.lock().insert(component, why.into()).is_none()
    }

    /// Returns whether this is news: the component was unready before.
    pub fn ready(&self, component: &'static str) -> bool {
        self.lock().remove(component).is_some()
    }

    /// Component and reason, in order of name; empty when ready.
    pub fn reasons(&self) -> Vec<(&'static str, String)> {
        self.lock().iter().map(|(k, v)| (*k, v.clone())).collect()
    }

    /// What is told of `subject` from now on, when ready: for example what a model runs on.
    pub fn note(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.into(), text.into());
    }

    /// Subject and text, in order of subject.
    pub fn notes(&self) -> Vec<(String, String)> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().map(|(subject, text)| (subject.clone(), text.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic elsewhere leaves the map whole: every update is one call.
        self.unready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
