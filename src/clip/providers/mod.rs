//! Execution providers: what runs a graph, in the order of the settings, and never silently another one.
//!
//! A provider is available if three things hold: ONNX Runtime accepts it and opens the graph with it (`options`); a
//! trial run succeeds; and that run's profile shows that the provider did the work (`placement`), since ONNX Runtime
//! may accept a provider and still run the graph on the CPU. If a required provider is unavailable, startup fails. A
//! preferred one is skipped with a warning, and the next one is tried.

mod caches;
mod missing;
mod options;
mod placement;
mod shapes;

use std::fmt;

use ort::session::Session;

pub(super) use caches::with_own_caches;
pub(super) use shapes::{ImageShapes, TextShapes, image_profiles, text_profiles};

use super::ClipError;
use super::graph::{Source, one_line};
use super::runtime::Runtime;
use crate::config::{ClipSettings, Provider, ProviderEntry};
use crate::domain::{ClipReason, Explain as _, Fault, Finding};
use options::{Opened, Profiles};
use placement::Placement;

/// What runs one tower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// In order. The CPU comes last and runs what the others do not.
    pub providers: Vec<Provider>,
    /// The GPUs if the first provider uses them, otherwise one meaningless id.
    pub devices: Vec<u32>,
    /// Preferred providers that were unavailable, each with the reason.
    pub left_out: Vec<(Provider, String)>,
}

impl Active {
    /// The first provider, which runs all or nearly all of the graph.
    pub fn first(&self) -> Provider {
        first_of(&self.providers)
    }

    /// The same providers, all required.
    fn entries(&self) -> Vec<ProviderEntry> {
        self.providers.iter().copied().map(ProviderEntry::required).collect()
    }
}

/// `cuda (devices 0, 1), cpu`.
impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, provider) in self.providers.iter().enumerate() {
            write!(f, "{}{provider}", if n > 0 { ", " } else { "" })?;
            if n == 0 && provider.has_device_ids() {
                let ids: Vec<String> = self.devices.iter().map(u32::to_string).collect();
                write!(f, " (device{} {})", if ids.len() > 1 { "s" } else { "" }, ids.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Opens sessions with the settings' providers.
pub(super) struct Providers {
    runtime: &'static Runtime,
    settings: ClipSettings,
}

/// A tower, as the providers see it.
pub(super) trait OnSession {
    fn session(&mut self) -> &mut Session;
}

/// A tower that has run once, and what runs it.
pub(super) struct Tried<T> {
    pub(super) tower: T,
    pub(super) active: Active,
}

/// Why a tower cannot be opened with a list of providers.
enum Refusal {
    /// This provider is unavailable, or did not do the work.
    Provider(Provider, Finding),
    /// The graph failed; the cause may be the provider or the graph.
    Graph(ClipError),
}

impl Providers {
    pub(super) fn new(runtime: &'static Runtime, settings: ClipSettings) -> Self {
        Self { runtime, settings }
    }

    pub(super) fn settings(&self) -> &ClipSettings {
        &self.settings
    }

    /// Opens `source` on `device`, makes a tower of it and tests it. Uses the providers of the settings without
    /// unavailable preferred ones, or exactly those of an earlier session (`first`).
    ///
    /// `profiles` gives TensorRT's shape buckets from a CPU session.
    pub(super) fn open<T: OnSession>(
        &self,
        source: Source<'_>,
        device: u32,
        first: Option<&Active>,
        profiles: impl Fn(&Session) -> Result<Profiles, ClipError>,
        make: impl Fn(Session, Provider) -> Result<T, ClipError>,
        mut trial: impl FnMut(&mut T, Provider) -> Result<(), ClipError>,
    ) -> Result<Tried<T>, ClipError> {
        let mut wanted = first.map_or_else(|| self.settings.providers.clone(), Active::entries);
        let mut left_out = Vec::new();
        loop {
            let active: Vec<Provider> = wanted.iter().map(|entry| entry.provider).collect();
            let mut tried = || {
                let Opened { session: opened, record } = self.session(source, &active, device, &profiles)?;
                let mut tower = make(opened, first_of(&active)).map_err(Refusal::Graph)?;
                trial(&mut tower, first_of(&active)).map_err(Refusal::Graph)?;
                if let Some(record) = record {
                    let placement = Placement::of(tower.session(), record).map_err(Refusal::Graph)?;
                    tracing::info!(file = %source.file.display(), %placement, "where the graph's nodes run");
                    placement.check(&active).map_err(|(provider, found)| Refusal::Provider(provider, found))?;
                }
                Ok(tower)
            };
            let refusal = match tried() {
                Ok(tower) => {
                    let mut providers = active;
                    if providers.last() != Some(&Provider::Cpu) {
                        // ONNX Runtime always appends it.
                        providers.push(Provider::Cpu);
                    }
                    return Ok(Tried { tower, active: Active { providers, devices: vec![device], left_out } });
                }
                Err(refusal) => refusal,
            };
            let (provider, found) = match refusal {
                Refusal::Provider(provider, found) => (provider, found),
                Refusal::Graph(error) => {
                    let accelerators = || wanted.iter().filter(|entry| entry.provider != Provider::Cpu);
                    // If there are several, one that may be left out is suspected first.
                    let suspect = accelerators().find(|entry| !entry.is_required).or_else(|| accelerators().next());
                    let Some(suspect) = suspect else { return Err(error) };
                    // If the CPU cannot run the graph either, the graph is at fault.
                    let opened =
                        self.session(source, &[Provider::Cpu], device, &profiles).map_err(Refusal::into_error)?;
                    trial(&mut make(opened.session, Provider::Cpu)?, Provider::Cpu)?;
                    (suspect.provider, error.explain())
                }
            };
            let place = wanted.iter().position(|entry| entry.provider == provider);
            match place.map(|place| (place, wanted[place])) {
                Some((place, entry)) if !entry.is_required => {
                    tracing::warn!(%provider, reason = %found, "a preferred execution provider is unavailable and is left out");
                    wanted.remove(place);
                    left_out.push((provider, found.to_string()));
                    if wanted.is_empty() {
                        wanted.push(ProviderEntry::required(Provider::Cpu));
                    }
                }
                _ => {
                    return Err(match first {
                        None => unavailable(provider, found),
                        Some(first) => unavailable_again(provider, first, device, found),
                    });
                }
            }
        }
    }

    fn session(
        &self,
        source: Source<'_>,
        providers: &[Provider],
        device: u32,
        profiles: impl Fn(&Session) -> Result<Profiles, ClipError>,
    ) -> Result<Opened, Refusal> {
        let profiles = if providers.contains(&Provider::TensorRt) {
            // TensorRT needs the shapes before it opens the graph; the names come from the graph's inputs.
            let inspected = options::inspect(self.runtime, source).map_err(Refusal::Graph)?;
            profiles(&inspected).map_err(Refusal::Graph)?
        } else {
            Profiles::default()
        };
        let threads = self.settings.intra_op_threads();
        let mut builder =
            options::builder(self.runtime, source, threads, providers.iter().all(|p| *p == Provider::Cpu))
                .map_err(|e| Refusal::Graph(options::refused(&e)))?;
        for provider in providers {
            let registered = options::register(*provider, &self.settings, device, &profiles, &mut builder);
            registered.map_err(|e| {
                let found = missing::explain(*provider, &self.runtime.path).unwrap_or_else(|| {
                    let library = self.runtime.path.display();
                    Finding::new(format!("{library} says: {}", one_line(&e))).hint(options::needs(*provider))
                });
                Refusal::Provider(*provider, found)
            })?;
        }
        options::open(self.runtime, builder, source, first_of(providers)).map_err(Refusal::Graph)
    }
}

fn first_of(providers: &[Provider]) -> Provider {
    providers.first().copied().unwrap_or(Provider::Cpu)
}

impl Refusal {
    fn into_error(self) -> ClipError {
        match self {
            Self::Provider(provider, found) => unavailable(provider, found),
            Self::Graph(error) => error,
        }
    }
}

fn unavailable(provider: Provider, found: Finding) -> ClipError {
    let Finding { message, hint } = found;
    let hint = hint.map_or_else(String::new, |hint| format!("{hint}, or "));
    Fault::new(ClipReason::ProviderUnavailable, format!("execution provider {provider} is unavailable: {message}"))
        .hint(format!("{hint}write \"{provider}:preferred\" in clip.providers to go on without it"))
        .into()
}

/// Here `:preferred` does not help: all sessions of a tower use the same providers.
fn unavailable_again(provider: Provider, first: &Active, device: u32, found: Finding) -> ClipError {
    let hint = if first.devices.first() == Some(&device) {
        "free memory on the device, or lower clip.sessions".to_owned()
    } else {
        format!("correct device {device}, or take it out of clip.device_ids")
    };
    // The hint in `found` is for machines without the provider; here it already runs.
    let message = format!(
        "execution provider {provider} runs a session, and is unavailable for one more on device {device}: {}",
        found.message
    );
    Fault::new(ClipReason::ProviderUnavailable, message).hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_fails_on_a_second_device_or_session_points_at_those() {
        let first = Active { providers: vec![Provider::Cuda, Provider::Cpu], devices: vec![0, 1], left_out: vec![] };
        let again = |device, found: &str| {
            let found = Finding::new(found).hint("install CUDA");
            unavailable_again(Provider::Cuda, &first, device, found).to_string()
        };
        let device = again(1, "no such device");
        assert!(device.contains("on device 1: no such device; ") && device.contains("clip.device_ids"), "{device}");
        let session = again(0, "out of memory");
        assert!(session.contains("on device 0: out of memory; ") && session.contains("clip.sessions"), "{session}");
        assert!(![device, session].iter().any(|message| message.contains("preferred") || message.contains("install")));
    }
}
