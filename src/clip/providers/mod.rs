//! Execution providers: what runs a graph, in the order of the settings, and never another one in silence.
//!
//! A provider is had when three things hold: ONNX Runtime takes it and opens the graph with it (`options`), a trial run
//! succeeds, and that run's own record says that the provider did the work (`placement`): ONNX Runtime may accept a
//! provider and still run the graph on the CPU. A required provider that is not had stops the start; a preferred one is
//! left out with a warning, and the next one is tried.

mod missing;
mod options;
mod placement;
mod shapes;

use std::path::Path;

use ort::session::Session;

pub(super) use shapes::{ImageShapes, TextShapes};

use super::ClipError;
use super::graph::one_line;
use super::runtime::Runtime;
use crate::config::{ClipSettings, Provider, ProviderEntry};
use options::{Opened, Profiles};
use placement::Placement;

/// What runs one tower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// In order; the CPU is the last one, and takes what the others leave.
    pub providers: Vec<Provider>,
    /// Preferred ones that could not be had, each with its reason.
    pub left_out: Vec<(Provider, String)>,
}

impl Active {
    /// The first one: it runs the graph, or nearly all of it.
    pub fn first(&self) -> Provider {
        self.providers.first().copied().unwrap_or(Provider::Cpu)
    }
}

/// Opens sessions with the settings' providers.
pub(super) struct Providers {
    runtime: &'static Runtime,
    settings: ClipSettings,
}

/// A tower that has run once, and what runs it.
pub(super) struct Tried<T> {
    pub(super) tower: T,
    pub(super) active: Active,
}

/// Why a tower cannot be had with a list of providers.
enum Fault {
    /// This provider is not there, or did not do the work.
    Of(Provider, String),
    /// The graph failed: the providers' fault, or its own.
    Unknown(ClipError),
}

impl Providers {
    pub(super) fn new(runtime: &'static Runtime, settings: ClipSettings) -> Self {
        Self { runtime, settings }
    }

    /// One place for sessions per GPU; a single one where no provider with device ids is asked for.
    pub(super) fn devices(&self) -> Vec<u32> {
        let on_gpus = self.settings.providers.iter().any(|entry| entry.provider.has_device_ids());
        if on_gpus { self.settings.device_ids.clone() } else { vec![0] }
    }

    /// Opens `file` on `device`, makes a tower of it and tries that: with the settings' providers, less those preferred
    /// ones that cannot be had.
    ///
    /// `profiles` gives TensorRT's shape buckets, given the session of the CPU; `session` reaches a tower's session.
    pub(super) fn open<T>(
        &self,
        file: &Path,
        device: u32,
        profiles: impl Fn(&Session) -> Result<Profiles, ClipError>,
        make: impl Fn(Session, Provider) -> Result<T, ClipError>,
        mut trial: impl FnMut(&mut T) -> Result<(), ClipError>,
        session: impl Fn(&mut T) -> &mut Session,
    ) -> Result<Tried<T>, ClipError> {
        let mut wanted = self.settings.providers.clone();
        let mut left_out = Vec::new();
        loop {
            let active: Vec<Provider> = wanted.iter().map(|entry| entry.provider).collect();
            let mut tried = || {
                let Opened { session: opened, record } = self.session(file, &active, device, &profiles)?;
                let mut tower = make(opened, first_of(&active)).map_err(Fault::Unknown)?;
                trial(&mut tower).map_err(Fault::Unknown)?;
                if let Some(record) = record {
                    let placement = Placement::of(session(&mut tower), record).map_err(Fault::Unknown)?;
                    tracing::info!(file = %file.display(), %placement, "where the graph's nodes run");
                    placement.check(&active).map_err(|(provider, reason)| Fault::Of(provider, reason))?;
                }
                Ok(tower)
            };
            let fault = match tried() {
                Ok(tower) => {
                    let mut providers = active;
                    if providers.last() != Some(&Provider::Cpu) {
                        // ONNX Runtime puts it there anyway.
                        providers.push(Provider::Cpu);
                    }
                    return Ok(Tried { tower, active: Active { providers, left_out } });
                }
                Err(fault) => fault,
            };
            let (provider, reason) = match fault {
                Fault::Of(provider, reason) => (provider, reason),
                Fault::Unknown(error) => {
                    let accelerators = || wanted.iter().filter(|entry| entry.provider != Provider::Cpu);
                    // Of several, one that may be left out is suspected first.
                    let suspect = accelerators().find(|entry| !entry.is_required).or_else(|| accelerators().next());
                    let Some(suspect) = suspect else { return Err(error) };
                    // A graph that the CPU cannot run either is at fault itself.
                    let opened = self.session(file, &[Provider::Cpu], device, &profiles).map_err(Fault::into_error)?;
                    trial(&mut make(opened.session, Provider::Cpu)?)?;
                    (suspect.provider, error.to_string())
                }
            };
            let place = wanted.iter().position(|entry| entry.provider == provider);
            match place.map(|place| (place, wanted[place])) {
                Some((place, entry)) if !entry.is_required => {
                    tracing::warn!(%provider, reason, "a preferred execution provider cannot be had and is left out");
                    wanted.remove(place);
                    left_out.push((provider, reason));
                    if wanted.is_empty() {
                        wanted.push(ProviderEntry::required(Provider::Cpu));
                    }
                }
                _ => return Err(unavailable(provider, &reason)),
            }
        }
    }

    fn session(
        &self,
        file: &Path,
        providers: &[Provider],
        device: u32,
        profiles: impl Fn(&Session) -> Result<Profiles, ClipError>,
    ) -> Result<Opened, Fault> {
        let profiles = if providers.contains(&Provider::TensorRt) {
            // TensorRT wants to know the shapes before it sees the graph; the graph's inputs have the names for that.
            let inspected = options::inspect(self.runtime, file).map_err(|e| Fault::Unknown(unusable(file, &e)))?;
            profiles(&inspected).map_err(Fault::Unknown)?
        } else {
            Profiles::default()
        };
        let threads = self.settings.intra_op_threads();
        let mut builder = options::builder(self.runtime, threads, providers.iter().all(|p| *p == Provider::Cpu))
            .map_err(|e| Fault::Unknown(refused_options(&e)))?;
        for provider in providers {
            let registered = options::register(*provider, &self.settings, device, &profiles, &mut builder);
            registered.map_err(|e| {
                let reason = missing::explain(*provider, &self.runtime.path).unwrap_or_else(|| {
                    format!("{} says: {}; {}", self.runtime.path.display(), one_line(&e), options::needs(*provider))
                });
                Fault::Of(*provider, reason)
            })?;
        }
        options::open(builder, file, first_of(providers)).map_err(|e| Fault::Unknown(unusable(file, &e)))
    }
}

fn first_of(providers: &[Provider]) -> Provider {
    providers.first().copied().unwrap_or(Provider::Cpu)
}

impl Fault {
    fn into_error(self) -> ClipError {
        match self {
            Self::Of(provider, reason) => unavailable(provider, &reason),
            Self::Unknown(error) => error,
        }
    }
}

fn unavailable(provider: Provider, reason: &str) -> ClipError {
    ClipError::load(
        "provider_unavailable",
        format!(
            "execution provider {provider} cannot be had: {reason}, or write \"{provider}:preferred\" in clip.providers \
             to go on without it"
        ),
    )
}

fn refused_options(error: &ort::Error) -> ClipError {
    ClipError::load("onnxruntime_failed", format!("ONNX Runtime refused the session options: {}", one_line(error)))
}

fn unusable(file: &Path, error: &ort::Error) -> ClipError {
    ClipError::load("model_unusable", format!("{} cannot be opened: {}", file.display(), one_line(error)))
}
