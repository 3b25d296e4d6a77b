//! One worker through its outage: messages before, during and after it, and what is looked at meanwhile.

use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use tokio::time::sleep;

use super::Plan;
use super::keys::Keys;
use super::outcome::Outcome;
use super::parts::{Own, Part, Shared, Trial};
use super::worker::Worker;
use crate::Error;
use crate::broker::Lag;
use crate::campaign;
use crate::ending;
use crate::expected::Expected;
use crate::journal::Journal;
use crate::media::BUCKET;
use crate::plan::{Material, Workload};
use crate::proxy::Proxy;
use crate::topics::{Topic, partitions_of};
use crate::workers::MODEL_FOLDER;

const BEFORE: usize = 200;
/// At once, when the outage begins: so that some are in flight.
const BURST: usize = 40;
const AFTER: usize = 100;
/// Of the worker that can send no dead letter.
const BROKEN_PERCENT: u32 = 20;
const START_MAX: Duration = Duration::from_secs(120);
/// From the beginning of the outage until `/readyz` says so, with messages that need what is away all the time. The longest is
/// the dead-letter topic's: librdkafka itself tries for half a minute.
const UNREADY_MAX: Duration = Duration::from_secs(60);
/// From its end until everything is done, an hour's messages included.
const RECOVERY_MAX: Duration = Duration::from_secs(300);
const STOP_MAX: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(200);

pub struct Running<'a> {
    trial: &'static Trial,
    shared: &'a Shared,
    own: Own,
    worker: Worker,
    workload: Workload,
    origin: String,
    lag: Lag,
    outcome: Outcome,
}

impl<'a> Running<'a> {
    pub async fn start(trial: &'static Trial, plan: &Plan, shared: &'a Shared) -> Result<Self, Error> {
        let (store, media, s3) = (Proxy::bind().await?, Proxy::bind().await?, Proxy::bind().await?);
        let store_port = match trial.parts.contains(&Part::StoreKey) {
            true => shared.refusing.lock().await.port(),
            false => shared.store.port(),
        };
        store.lead_to(([127, 0, 0, 1], store_port).into());
        media.lead_to(shared.media.address);
        s3.lead_to(shared.services.s3.parse()?);
        let expiring = trial.parts.contains(&Part::S3Expiry);
        let keys = Keys::create(&shared.folder, trial.topic, expiring, &shared.services)?;
        let own = Own { store, media, s3, keys };
        let kafka = match trial.parts.contains(&Part::Kafka) {
            true => shared.kafka.address.to_string(),
            false => shared.services.kafka.clone(),
        };
        // What is not here has its default.
        let mut settings = vec![
            ("clip.models", format!("{}={MODEL_FOLDER}", campaign::MODEL)),
            // Several workers share few cores.
            ("clip.intra_op_threads", "1".to_owned()),
            ("clip.preprocess_threads", "1".to_owned()),
            ("kafka.brokers", kafka),
            ("kafka.topics", trial.topic.to_owned()),
            ("kafka.group_id", trial.topic.to_owned()),
            ("media.allow_hosts", "127.0.0.1".to_owned()),
            ("media.s3_endpoint", format!("http://{}", own.s3.address)),
            ("media.s3_path_style", "true".to_owned()),
            ("media.s3_buckets", BUCKET.to_owned()),
            ("store.kind", "qdrant".to_owned()),
            ("store.url", format!("http://{}", own.store.address)),
            ("store.catalog", trial.topic.to_owned()),
            ("telemetry.listen", "127.0.0.1:0".to_owned()),
            ("telemetry.log_format", "json".to_owned()),
        ];
        settings.extend(plan.backoff_cap.map(|cap| ("pipeline.backoff_cap_ms", cap.as_millis().to_string())));
        let log = shared.folder.join(format!("{}.log", trial.topic));
        let worker = Worker::start(&plan.worker, &settings, &own.keys.environment(), &log)?;
        let origin = format!("http://{}", own.media.address);
        let wanted = |url: &String| match trial.parts {
            [Part::Media] => url.starts_with("http:"),
            [Part::S3 | Part::S3Key | Part::S3Expiry] => url.starts_with("s3:"),
            _ => true,
        };
        let pictures = campaign::pictures(&origin)?.into_keys().filter(wanted).collect();
        let material =
            Material { texts: campaign::texts()?, pictures, origin: origin.clone(), bucket: BUCKET.to_owned() };
        let lag = shared.broker.lag(trial.topic, partitions_of(&[Topic::Outage(trial.topic)], false))?;
        Ok(Self {
            trial,
            shared,
            own,
            worker,
            workload: Workload::new(1, material, false),
            origin,
            lag,
            outcome: Outcome::of(trial),
        })
    }

    /// The worker has begun, and has indexed something from everywhere.
    pub async fn before(&mut self) -> Result<(), Error> {
        self.outcome.before = self.send(BEFORE, 0).await?;
        if !self.until(START_MAX, async |this| this.is_done().await && this.is_ready().await).await? {
            return Err(format!(
                "{}: the worker is not ready and done after {START_MAX:?}; {}",
                self.trial.name,
                self.log()
            )
            .into());
        }
        Ok(())
    }

    /// The outage, from its beginning until everybody has seen enough of it: some share a part.
    /// `began`: before anything was taken away from anybody.
    pub async fn outage(&mut self, plan: &Plan, began: Instant) -> Result<(), Error> {
        for part in self.trial.parts {
            part.takes_away(self.trial, self.shared, &self.own).await?;
        }
        // What was in the topic before is gone with it.
        let broken = if self.trial.parts == [Part::DeadLetters] { BROKEN_PERCENT } else { 0 };
        let mut half = false;
        self.outcome.during += self.send(BURST, broken).await?;
        // The dead-letter topic's takes half a minute to show.
        let unseen = |outcome: &Outcome| outcome.unready_after.is_none() && began.elapsed() < UNREADY_MAX;
        while began.elapsed() < plan.outage || unseen(&self.outcome) {
            self.outcome.during += self.send(1, broken).await?;
            for part in self.trial.parts {
                if !half && began.elapsed() > plan.outage / 2 {
                    part.half_way(self.shared, &self.own)?;
                }
            }
            half |= began.elapsed() > plan.outage / 2;
            self.look(began).await?;
            sleep(plan.pause()).await;
        }
        if self.outcome.unready_after.is_none() {
            self.outcome.violation("it was ready all the time".to_owned());
        }
        let ended = Instant::now();
        self.outcome.lines(self.trial, &self.worker.lines(), began, ended);
        Ok(())
    }

    /// Once, while what it needs is away.
    async fn look(&mut self, began: Instant) -> Result<(), Error> {
        if let Some(status) = self.worker.ended()? {
            self.outcome.violation(format!("the worker ended: {status}"));
            return Ok(());
        }
        let health = self.worker.health(&self.shared.http).await;
        if !health.is_alive {
            self.outcome.violation("/livez is not 200".to_owned());
        }
        let Some(reasons) = health.unready else {
            self.outcome.violation("/readyz does not answer".to_owned());
            return Ok(());
        };
        let named = self.trial.parts.iter().any(|part| {
            let (components, says) = part.shows_as();
            reasons.iter().any(|(component, why)| components.contains(&&**component) && why.contains(says))
        });
        match (named, self.outcome.unready_after) {
            (true, None) => self.outcome.unready_after = Some(began.elapsed()),
            (true, Some(_)) => {}
            (false, Some(_)) => self.outcome.violation(format!("/readyz no longer names what is away: {reasons:?}")),
            (false, None) if began.elapsed() > UNREADY_MAX => {
                self.outcome
                    .violation(format!("after {UNREADY_MAX:?} /readyz does not name what is away: {reasons:?}"));
            }
            (false, None) => {}
        }
        Ok(())
    }

    /// It goes on by itself, with the messages of the outage and with new ones.
    pub async fn after(&mut self) -> Result<(), Error> {
        for part in self.trial.parts {
            part.brings_back(self.trial, self.shared, &self.own).await?;
        }
        let back = Instant::now();
        let mut ready_after = None;
        let recovered = self.until(RECOVERY_MAX, async |this| {
            if ready_after.is_none() && this.is_ready().await {
                ready_after = Some(back.elapsed());
            }
            this.is_done().await && ready_after.is_some()
        });
        let recovered = recovered.await?;
        (self.outcome.ready_after, self.outcome.done_after) = (ready_after, recovered.then(|| back.elapsed()));
        self.outcome.after = self.send(AFTER, 0).await?;
        if !recovered || !self.until(RECOVERY_MAX, async |this| this.is_done().await && this.is_ready().await).await? {
            self.outcome
                .violation(format!("not everything is done and the worker ready {RECOVERY_MAX:?} after the outage"));
        }
        match self.worker.ended()? {
            Some(status) => self.outcome.violation(format!("the worker ended: {status}")),
            None => match self.worker.end(STOP_MAX).await? {
                Some(0) => {}
                code => self.outcome.violation(format!("after SIGTERM the worker ended with {code:?}")),
            },
        }
        Ok(())
    }

    /// What came of it.
    pub async fn judged(mut self) -> Result<Outcome, Error> {
        let topic = Topic::Outage(self.trial.topic);
        let (mut expected, broker) = (Expected::default(), &self.shared.broker);
        for message in broker.read(topic.name()).await? {
            expected.apply(topic, message)?;
        }
        let letters = broker.read(&topic.dead_letters()).await?;
        let port = match self.trial.parts.contains(&Part::StoreKey) {
            true => self.shared.refusing.lock().await.port(),
            false => self.shared.store.port(),
        };
        let store = StoreSettings {
            kind: StoreKind::Qdrant,
            url: format!("http://127.0.0.1:{port}"),
            catalog: self.trial.topic.to_owned(),
            ..StoreSettings::default()
        };
        let pictures = campaign::pictures(&self.origin)?;
        self.outcome.verdict = ending::judged(&expected, &store, &pictures, &letters, &Journal::new()).await?;
        if !self.outcome.is_clean() {
            let log = self.log();
            self.outcome.violation(log);
        }
        Ok(self.outcome)
    }

    fn log(&self) -> String {
        format!("its log: {}", self.shared.folder.join(format!("{}.log", self.trial.topic)).display())
    }

    async fn send(&mut self, count: usize, broken_percent: u32) -> Result<u64, Error> {
        for _ in 0..count {
            let message = self.workload.alone(Topic::Outage(self.trial.topic), broken_percent);
            self.shared.broker.send(&message).await?;
        }
        Ok(count as u64)
    }

    async fn is_done(&self) -> bool {
        // Unknown is not done.
        self.lag.now().await.is_ok_and(|lag| lag.is_empty())
    }

    async fn is_ready(&self) -> bool {
        self.worker.health(&self.shared.http).await.unready.is_some_and(|reasons| reasons.is_empty())
    }

    /// Waits for it; `false` when it does not come in time, or the worker ends.
    async fn until(&mut self, patience: Duration, mut there: impl AsyncFnMut(&Self) -> bool) -> Result<bool, Error> {
        self.shared.broker.flush().await?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && self.worker.ended()?.is_none() {
            for part in self.trial.parts {
                part.tend(&self.own)?;
            }
            if there(self).await {
                return Ok(true);
            }
            sleep(STEP).await;
        }
        Ok(false)
    }
}
