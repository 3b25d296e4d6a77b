use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why the process is not ready, by component. Ready when nothing is listed.
#[derive(Clone, Debug, Default)]
pub struct Health {
    unready: Arc<Mutex<BTreeMap<&'static str, String>>>,
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic elsewhere leaves the map whole: every update is one call.
        self.unready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
