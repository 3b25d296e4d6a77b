//! What a worker and all of its messages share beside its servers: the resolver, and whom TLS trusts.
//!
//! A group of its own with one worker, whose pictures come from hosts with names, one of them over HTTPS, that do nothing to
//! their clients. It tries a message three times and within a fraction of a second, so whatever is taken for an item's
//! failure makes a dead letter of a good message.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::faults::World;
use crate::front::{self, Front};
use crate::journal::Journal;
use crate::kinds::{Fault, Kind};
use crate::media::{self, Media, Picture};
use crate::plan::Workload;
use crate::refusals::{Names, Refusals};
use crate::settings;
use crate::topics::Topic;
use crate::workers::{Pool, WorkerSettings};

const TOPIC: Topic = Topic::Named;
/// `refusals.c` knows them by their end.
const HOSTS: [&str; 3] = ["a.pictures.test", "b.pictures.test", "c.pictures.test"];
/// Of each host.
const PICTURES: usize = 8;
/// So many messages at once, so often.
const EACH: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// Long enough that pictures are asked for meanwhile.
const SHORT_MIN: Duration = Duration::from_secs(4);
/// A worker's start, on a machine that is busy with all the rest, while something else may be away.
const START_MAX: Duration = Duration::from_secs(90);

pub struct Named {
    pub pool: Arc<Pool>,
    pub pictures: BTreeMap<String, Picture>,
    refusals: Refusals,
    front: Front,
    ca_file: PathBuf,
    _server: Media,
    /// One fault at a time.
    one: Mutex<()>,
}

impl Named {
    /// `None`: this machine cannot have it.
    pub async fn start(workers: &WorkerSettings, folder: &Path, journal: &Arc<Journal>) -> Result<Option<Self>, Error> {
        let not_done = "the resolver does NOT go away, and certificate authorities do NOT break";
        let folder = folder.join("named");
        let Some(refusals) = Refusals::prepare(&folder, folder.join("no-disk"), not_done)? else { return Ok(None) };
        let server = Media::start_without_keepalive().await?;
        let front = Front::start(server.address).await?;
        let hosts = HOSTS.map(|host| format!("http://{host}:{}", server.address.port()));
        let origins = hosts.into_iter().chain([format!("https://localhost:{}", front.address.port())]);
        let (names, mut pictures) = (media::names()?.0, BTreeMap::new());
        for (n, origin) in origins.enumerate() {
            for name in names.iter().skip(n * PICTURES).take(PICTURES) {
                pictures.insert(format!("{origin}/images/{name}"), media::picture(name)?);
            }
        }
        let ca_file = folder.join("ca.pem");
        let how = settings::of_named(workers, &refusals, &ca_file);
        let pool = Arc::new(Pool::new(how, 1, journal.clone()));
        let named = Self { pool, pictures, refusals, front, ca_file, _server: server, one: Mutex::default() };
        named.trust(&fs::read(front::fixture("ca.pem"))?)?;
        Ok(Some(named))
    }

    /// What the authorities' file has from now on, all at once.
    fn trust(&self, pem: &[u8]) -> Result<(), Error> {
        let new = self.ca_file.with_extension("new");
        fs::write(&new, pem)?;
        Ok(fs::rename(new, &self.ca_file)?)
    }

    pub async fn inflict(&self, world: &World, fault: Fault) -> Result<(), Error> {
        let _one = self.one.lock().await;
        match fault.kind {
            Kind::AuthoritiesUnreadable => self.authorities_unreadable(world, fault).await,
            Kind::AuthoritiesOthers => self.authorities_of_others(world, fault).await,
            _ => self.resolver(world, fault).await,
        }
    }

    /// Whether the worker consumes that has taken the place of one that was told to end.
    fn has_another(&self) -> bool {
        self.pool.process(0).is_some()
    }

    /// It answers nobody for a while, and half of the time not the worker either that is started meanwhile, and has seen no host
    /// serve. (A name that is denied to that one is a wrong name, as far as anybody knows.)
    async fn resolver(&self, world: &World, fault: Fault) -> Result<(), Error> {
        let (names, anew) = match fault.kind {
            Kind::ResolverUnavailable => (Names::Away, fault.every == 1),
            Kind::ResolverHangs => (Names::Hang, fault.every == 1),
            _ => (Names::Denied, false),
        };
        let before = self.refusals.names_refused()?;
        self.refusals.set_names(names)?;
        if anew && self.pool.terminate(fault.pick).is_some() {
            until(START_MAX, || self.has_another()).await;
        }
        sleep(fault.lasts.max(SHORT_MIN)).await;
        let refused = self.refusals.names_refused()? > before;
        self.refusals.set_names(Names::Answered)?;
        if refused {
            world.happened_to(fault.kind, None, &[TOPIC]);
        }
        Ok(())
    }

    /// The file is gone, or no PEM any more. A worker that has read it does not mind; one that is started then must be refused.
    async fn authorities_unreadable(&self, world: &World, fault: Fault) -> Result<(), Error> {
        let pem = fs::read(&self.ca_file)?;
        match fault.pick % 4 {
            0 => fs::remove_file(&self.ca_file)?,
            1 => self.trust(b"")?,
            2 => self.trust(&pem[..pem.len() / 2])?,
            _ => self.trust(b"\x7fELF and no certificate")?,
        }
        sleep(fault.lasts / 2).await;
        let before = self.pool.refused_for("media.ca_file");
        let is_refused = || self.pool.refused_for("media.ca_file") > before;
        let ended = self.pool.terminate(fault.pick).is_some();
        let refused = ended && until(START_MAX, || is_refused() || self.has_another()).await && is_refused();
        if ended && !refused && self.has_another() {
            world.journal.violation("a worker consumes that was started without its media.ca_file".to_owned());
        }
        sleep(fault.lasts / 2).await;
        self.trust(&pem)?;
        if refused {
            world.happened_to(fault.kind, None, &[TOPIC]);
        }
        Ok(())
    }

    /// The file has another authority than the one of the only host with HTTPS when a worker is started, and then the right
    /// one. That worker must go on with it.
    async fn authorities_of_others(&self, world: &World, fault: Fault) -> Result<(), Error> {
        let (pem, before) = (fs::read(&self.ca_file)?, self.front.distrusted());
        self.trust(&fs::read(front::fixture("other-ca.pem"))?)?;
        let ended = self.pool.terminate(fault.pick).is_some();
        let distrusted = ended && until(START_MAX, || self.front.distrusted() > before).await;
        sleep(fault.lasts.max(SHORT_MIN)).await;
        self.trust(&pem)?;
        if distrusted {
            world.happened_to(fault.kind, None, &[TOPIC]);
        }
        Ok(())
    }
}

/// Whether it came true in time.
async fn until(patience: Duration, is_true: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_true() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    true
}

/// Sends until it is over.
pub async fn feed(mut workload: Workload, broker: Broker, over: Arc<AtomicBool>) -> Result<(), String> {
    while !over.load(Ordering::Relaxed) {
        for _ in 0..EACH {
            broker.send(&workload.pictured(TOPIC)).await.map_err(|e| e.to_string())?;
        }
        sleep(PAUSE).await;
    }
    broker.flush().await.map_err(|e| e.to_string())
}
