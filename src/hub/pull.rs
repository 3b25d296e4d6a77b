//! Pulls a whole model: the files that it needs from one repository or a pair, installed at once.
//!
//! The download is prepared in `.partial-NAME` beside the directory, and replaces the directory at the end. An interrupted pull
//! leaves that folder, and the next one resumes from it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::download::{self, ETAG_SUFFIX, PART_SUFFIX, download};
use super::listing::Listing;
use super::place::{self, Place};
use super::record::{self, Record, SourceRecord};
use super::select::{Wanted, layout_of, select};
use super::{Hub, HubError};
use crate::domain::registry::{self, Layout, Pin, forbids_commercial_use};
use crate::domain::{HubReason, ModelId, Precision};

/// The default revision.
const MAIN: &str = "main";

/// How often [`Progress::at`] is called.
const REPORT: Duration = Duration::from_millis(100);

/// How often a lock held by another process is tried.
const LOCK_POLL: Duration = Duration::from_millis(500);

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// One repository, or a pair for the image and the text tower.
    pub repositories: Vec<String>,
    /// `None`: detected from the repositories.
    pub layout: Option<Layout>,
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub id: ModelId,
    pub origin: Origin,
    /// Branch, tag or commit. `None`: the installed commit, else the pinned commit, else `main`.
    pub revision: Option<String>,
    /// Pinned contents of repositories.
    pub pins: &'static [Pin],
    pub precision: Precision,
    /// The model's directory.
    pub directory: PathBuf,
    /// Replace an installed model, whatever it is.
    pub force: bool,
}

/// The result of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub directory: PathBuf,
    pub precision: Precision,
    pub record: Record,
    /// `false`: everything was installed already.
    pub fetched: bool,
}

/// Receives the progress of a pull.
pub trait Progress: Send + Sync {
    /// The total number of bytes, as far as the hub reports it; called before the first [`Progress::at`].
    fn total(&self, bytes: u64);
    /// The number of bytes so far. May decrease when a file is downloaded again.
    fn at(&self, bytes: u64);
    /// A file is complete and verified.
    fn file(&self, path: &str, bytes: u64);
    /// The pull waits, with the reason.
    fn note(&self, text: &str);
}

impl Hub {
    /// Does nothing if the model is installed, unless `force` is set. Another precision of the same commit is added. Cancel-safe;
    /// downloaded data is kept for the next time.
    ///
    /// # Errors
    /// A refusal by the hub, files that the repositories lack, and `hub_directory_taken` for a directory with other contents.
    pub async fn pull(&self, pull: &Pull, progress: &dyn Progress) -> Result<Pulled, HubError> {
        if pull.revision.is_none()
            && let Some(there) = installed(pull)?
        {
            return Ok(there);
        }
        if pull.force && pull.directory.exists() && !place::is_model(&pull.directory) {
            let message = format!("{} does not contain a model, and is not replaced", pull.directory.display());
            return Err(HubError::new(HubReason::DirectoryTaken, message)
                .hint("remove it, or correct clip.models_directory or clip.models"));
        }
        let note = |text: &str| progress.note(text);
        let listings = self.listings(pull, &note).await?;
        let place = take(&pull.directory, progress).await?;
        // Another process may have pulled it in the meantime.
        if let Some(there) = installed(pull)? {
            let commits = listings.iter().map(|l| &l.commit);
            if there.record.sources.iter().map(|s| &s.commit).eq(commits) {
                return Ok(there);
            }
        }
        let layout = match pull.origin.layout {
            Some(layout) => layout,
            None => layout_of(&listings)?,
        };
        let precision = pull.precision;
        let wanted = select(layout, &listings, precision)?;
        let sources = sources(&listings);
        let mut record = match Record::read(&pull.directory).filter(|_| !pull.force && pull.directory.exists()) {
            Some(record) if record.sources == sources => record,
            Some(record) => return Err(taken(&pull.directory, &format!("it has {}", names(&record.sources)))),
            None => Record::new(pull.id.to_string(), sources),
        };
        self.fill(&place, &wanted, &mut record, progress).await?;
        if !record.has(precision) {
            record.precisions.push(precision.to_string());
        }
        record.write(&place.partial)?;
        place.exchange()?;
        Ok(Pulled { directory: pull.directory.clone(), precision, record, fetched: true })
    }

    /// The listing of each repository, at the installed commit if another precision is added.
    async fn listings(&self, pull: &Pull, note: &(dyn Fn(&str) + Sync)) -> Result<Vec<Listing>, HubError> {
        let record = Record::read(&pull.directory).filter(|_| !pull.force);
        let mut listings = Vec::with_capacity(pull.origin.repositories.len());
        for repository in &pull.origin.repositories {
            let source = record.iter().flat_map(|r| &r.sources).find(|s| s.repository == *repository);
            let pin = pull.pins.iter().find(|pin| pin.repository == *repository);
            let asked = pull.revision.as_deref().or(source.map(|s| s.commit.as_str()));
            let revision = asked.or(pin.map(|pin| pin.commit)).unwrap_or(MAIN);
            let mut listing = self.list(repository, revision, note).await?;
            match pin {
                Some(pin) if pin.commit == listing.commit => listing.hold_to(pin)?,
                // The revision was given, or installed before.
                _ if asked.is_some() => {}
                _ => note(&format!(
                    "{repository} is not pinned: {MAIN} is {} now and may change; pass that commit with --revision to install the same again",
                    listing.commit
                )),
            }
            // What the registry says of a checkpoint's weights, the caller has said.
            let is_known = registry::find(&pull.id).is_some_and(|row| row.licence.is_some());
            if let Some(licence) = listing.licence.as_deref().filter(|name| !is_known && forbids_commercial_use(name)) {
                note(&format!("warning: the licence of {repository}, {licence}, forbids commercial use"));
            }
            listings.push(listing);
        }
        Ok(listings)
    }

    /// Completes `place.partial`: links existing files and downloads the rest.
    async fn fill(
        &self,
        place: &Place,
        wanted: &[Wanted<'_>],
        record: &mut Record,
        progress: &dyn Progress,
    ) -> Result<(), HubError> {
        let missing: Vec<&Wanted<'_>> = wanted.iter().filter(|w| !record.files.contains_key(&w.path)).collect();
        let of = |w: &Wanted<'_>, path: &str| {
            path.strip_prefix(w.path.as_str()).is_some_and(|rest| matches!(rest, "" | PART_SUFFIX | ETAG_SUFFIX))
        };
        place.clean(|path| missing.iter().any(|w| of(w, path)))?;
        // A record with precisions belongs to an existing directory, to which files are added.
        if !record.precisions.is_empty() {
            for wanted in &missing {
                let own = place.directory.join(&wanted.path);
                if own.exists() && !download::is_intact(&own, wanted).await {
                    return Err(taken(&place.directory, &format!("its {} is not the repository's", wanted.path)));
                }
            }
            // Files of other origin stay unchanged.
            place.keep(|path| path == record::NAME)?;
        }
        progress.total(missing.iter().filter_map(|w| w.file.bytes).sum());
        let mut done = 0;
        for wanted in missing {
            let to = place.partial.join(&wanted.path);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).map_err(|e| HubError::disk(folder, &e))?;
            }
            if !download::is_intact(&to, wanted).await {
                self.watched(wanted, &to, done, progress).await?;
            }
            let bytes = std::fs::metadata(&to).map_err(|e| HubError::disk(&to, &e))?.len();
            done += bytes;
            progress.at(done);
            progress.file(&wanted.path, bytes);
            record.files.insert(wanted.path.clone(), bytes);
        }
        Ok(())
    }

    /// One download with progress reports; `done` bytes were complete before it.
    async fn watched(
        &self,
        wanted: &Wanted<'_>,
        to: &Path,
        done: u64,
        progress: &dyn Progress,
    ) -> Result<(), HubError> {
        let position = AtomicU64::new(0);
        let note = |text: &str| progress.note(text);
        let mut loading = std::pin::pin!(download(self, wanted, to, &position, &note));
        loop {
            match tokio::time::timeout(REPORT, &mut loading).await {
                Ok(loaded) => return loaded,
                Err(_) => progress.at(done + position.load(Ordering::Relaxed)),
            }
        }
    }
}

/// Waits while another process pulls to the same directory.
async fn take(directory: &Path, progress: &dyn Progress) -> Result<Place, HubError> {
    let mut is_reported = false;
    loop {
        if let Some(place) = Place::try_take(directory)? {
            return Ok(place);
        }
        if !std::mem::replace(&mut is_reported, true) {
            progress.note(&format!("another process is pulling {}; waiting for it", directory.display()));
        }
        // Waiting for a file lock would need a thread.
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// The installed model, if it has everything that is requested.
fn installed(pull: &Pull) -> Result<Option<Pulled>, HubError> {
    if pull.force || !pull.directory.exists() {
        return Ok(None);
    }
    let Some(record) = Record::read(&pull.directory) else {
        return Err(taken(&pull.directory, "it has no pulled.json of clipstream models pull"));
    };
    let repositories = record.sources.iter().map(|s| &s.repository);
    if !repositories.eq(&pull.origin.repositories) {
        return Err(taken(&pull.directory, &format!("it has {}", names(&record.sources))));
    }
    if !record.is_whole(&pull.directory) {
        return Err(taken(&pull.directory, "some of its files are missing or have another size"));
    }
    let (directory, precision) = (pull.directory.clone(), pull.precision);
    Ok(record.has(precision).then_some(Pulled { directory, precision, record, fetched: false }))
}

fn taken(directory: &Path, why: &str) -> HubError {
    HubError::new(HubReason::DirectoryTaken, format!("{} exists already, and {why}", directory.display()))
        .hint("add --force to replace it, or remove it")
}

fn sources(listings: &[Listing]) -> Vec<SourceRecord> {
    let source = |l: &Listing| SourceRecord { repository: l.repository.clone(), commit: l.commit.clone() };
    listings.iter().map(source).collect()
}

fn names(sources: &[SourceRecord]) -> String {
    let name = |s: &SourceRecord| format!("{} at {}", s.repository, s.commit);
    sources.iter().map(name).collect::<Vec<_>>().join(" and ")
}
