//! Batches what is waiting: a bounded queue in front of threads that own one tower each.
//!
//! A thread blocks for the first item, takes whatever else is waiting up to the limit, and runs at once. Under load
//! batches fill by themselves, and a lone item is never delayed to fill one. Text and image have separate queues.
//!
//! Before an item is blamed for a failed run, its session is tried with known-good inputs (`blame`). If it fails those,
//! its thread reopens it (`session`). Its items fail with an outage, so that their callers try them again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::ClipError;
use super::blame::Verdict;
use super::running_threads::RunningThreads;
use super::session::{Sessions, Shared, Supervised};
use super::tower::Tower;
use crate::domain::{ClipReason, Embedding, Fault};
use crate::shutdown::TOWERS_CLOSE_MAX;
use crate::telemetry::{Metrics, Pulse};

type Answer = Result<Embedding, ClipError>;

pub(super) struct Job<I> {
    item: I,
    reply: oneshot::Sender<Answer>,
}

type Queue<I> = Arc<Mutex<mpsc::Receiver<Job<I>>>>;

/// Dropping it finishes the current runs, answers no other items, and joins the threads. A thread that hangs is left
/// behind after [`TOWERS_CLOSE_MAX`].
pub(super) struct Engine<T: Tower> {
    queue: Option<mpsc::Sender<Job<T::Item>>>,
    threads: Vec<JoinHandle<()>>,
    alive: Arc<AtomicBool>,
    shared: Arc<Shared>,
    running: RunningThreads,
}

impl<T: Tower> Engine<T> {
    /// One thread per tower, named after `model`; at most `batch_max` items (at least 1) per run. Each thread beats one
    /// of `pulses`.
    pub(super) fn start(
        model: &str,
        sessions: Sessions<T>,
        batch_max: usize,
        pulses: &[Pulse],
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ClipError> {
        let batch_max = batch_max.max(1);
        let Sessions { towers, recovery } = sessions;
        // One batch waits while one runs. A longer queue would only add memory and delay.
        let (queue, waiting) = mpsc::channel(batch_max * towers.len().max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let alive = Arc::new(AtomicBool::new(true));
        let mut engine = Self {
            queue: Some(queue),
            threads: Vec::new(),
            alive: alive.clone(),
            shared: Arc::new(Shared::new(towers.len())),
            running: RunningThreads::default(),
        };
        for (place, tower) in towers.into_iter().enumerate() {
            let pulse = pulses.get(place).cloned().unwrap_or_else(|| Pulse::new(format!("a tower of {model}")));
            let mut worker = Worker {
                session: recovery.supervise(place, tower, pulse, engine.shared.clone()),
                batch_max,
                waiting: waiting.clone(),
                alive: alive.clone(),
                model: model.to_owned(),
                metrics: metrics.clone(),
            };
            let running = engine.running.begin();
            let thread = std::thread::Builder::new()
                .name(format!("embed-{}", T::MODALITY))
                .spawn(move || {
                    let _running = running;
                    worker.work();
                    // Before the thread counts as ended: closing a session may take long.
                    drop(worker);
                })
                .map_err(|e| {
                    Fault::new(ClipReason::ThreadFailed, format!("no thread for the {} tower: {e}", T::MODALITY))
                })?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Waits for a place in the queue, then for the answer. A caller that gives up before its batch starts costs no
    /// run.
    pub(super) async fn embed(&self, item: T::Item) -> Answer {
        let Some(queue) = self.queue.as_ref().filter(|_| self.is_alive()) else { return Err(ClipError::stopped()) };
        let (reply, answer) = oneshot::channel();
        queue.send(Job { item, reply }).await.map_err(|_| ClipError::stopped())?;
        answer.await.unwrap_or_else(|_| Err(ClipError::stopped()))
    }

    /// False once a thread has panicked.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Why no session works any more, once reopening has failed for its time limit.
    pub(super) fn given_up(&self) -> Option<String> {
        self.shared.given_up()
    }
}

impl<T: Tower> Drop for Engine<T> {
    fn drop(&mut self) {
        // No caller can be waiting: `embed` borrows the engine.
        self.queue = None;
        self.shared.close();
        if !self.running.wait_for_end(TOWERS_CLOSE_MAX) {
            tracing::warn!(
                modality = %T::MODALITY,
                "a tower is in a run that does not end within {} s, and is left behind",
                TOWERS_CLOSE_MAX.as_secs()
            );
            return;
        }
        for thread in self.threads.drain(..) {
            // The panic hook logged the panic, and the callers got an error.
            let _ = thread.join();
        }
    }
}

struct Worker<T: Tower> {
    session: Supervised<T>,
    batch_max: usize,
    waiting: Queue<T::Item>,
    alive: Arc<AtomicBool>,
    model: String,
    metrics: Arc<Metrics>,
}

impl<T: Tower> Worker<T> {
    fn work(&mut self) {
        let mut batch = Vec::with_capacity(self.batch_max);
        // Dropped before the batch, so that a caller whose answer is lost to a panic already finds the engine dead.
        let _guard = DeadAfterPanic(self.alive.clone());
        loop {
            if !self.recover() {
                return;
            }
            {
                // Held while waiting: one idle thread waits for the queue, the others for the lock. Free during runs.
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(first) = waiting.blocking_recv() else { return };
                self.fill(first, &mut waiting, &mut batch);
            }
            batch.retain(|job| !job.reply.is_closed());
            if !batch.is_empty() {
                self.run(&mut batch);
            }
        }
    }

    /// `first` and what waits behind it, up to the limits.
    fn fill(&self, first: Job<T::Item>, waiting: &mut mpsc::Receiver<Job<T::Item>>, batch: &mut Vec<Job<T::Item>>) {
        let tower = self.session.tower();
        let mut work_left = tower.map_or(usize::MAX, T::work_max);
        let mut take = |job: Job<T::Item>| {
            work_left = work_left.saturating_sub(T::work(&job.item));
            batch.push(job);
            batch.len() < self.batch_max && work_left > 0
        };
        let mut has_room = take(first);
        while has_room && let Ok(next) = waiting.try_recv() {
            has_room = take(next);
        }
    }

    /// Reopens the session until it works. `false`: the engine is closed.
    fn recover(&mut self) -> bool {
        let waiting = self.waiting.clone();
        self.session.recover(&self.model, &self.metrics, |error| {
            // Without a session, queued items are answered with its failure instead of being kept waiting.
            let Ok(mut waiting) = waiting.try_lock() else { return };
            while let Ok(job) = waiting.try_recv() {
                let _ = job.reply.send(Err(error.clone()));
            }
        })
    }

    /// Runs the tower's groups; each is answered as soon as it has run.
    fn run(&mut self, batch: &mut Vec<Job<T::Item>>) {
        let items: Vec<_> = batch.iter().map(|job| &job.item).collect();
        let groups = self.session.tower().map_or_else(Vec::new, |tower| tower.groups(&items));
        if groups.len() < 2 {
            self.run_group(std::mem::take(batch));
            return;
        }
        let mut jobs: Vec<Option<Job<T::Item>>> = batch.drain(..).map(Some).collect();
        for group in groups {
            self.run_group(group.into_iter().filter_map(|place| jobs[place].take()).collect());
        }
    }

    fn run_group(&mut self, batch: Vec<Job<T::Item>>) {
        if let Some(failure) = self.session.failure() {
            // An earlier group of the same batch broke the session.
            for job in batch {
                let _ = job.reply.send(Err(failure.clone()));
            }
            return;
        }
        let answers = match self.timed(&batch) {
            Ok(answers) => answers,
            Err(error) if batch.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(model = self.model, modality = %T::MODALITY, items = batch.len(), %error,
                    "a batch failed; its items run one by one");
                return self.run_alone(batch);
            }
        };
        debug_assert_eq!(answers.len(), batch.len());
        let is_alone = batch.len() == 1;
        let mut doubtful = Vec::new();
        for (job, answer) in batch.into_iter().zip(answers) {
            match answer {
                // Another item of the batch may be the cause.
                Err(error) if !is_alone && error.is_of_run() => doubtful.push(job),
                answer => self.answer(job, answer),
            }
        }
        self.run_alone(doubtful);
    }

    /// Runs items one by one. Once the session turns out broken, the rest fail with it.
    fn run_alone(&mut self, batch: Vec<Job<T::Item>>) {
        for job in batch {
            let answer = match self.timed(std::slice::from_ref(&job)) {
                Ok(mut answers) => answers.pop().unwrap_or_else(|| Err(ClipError::stopped())),
                Err(error) => Err(error),
            };
            self.answer(job, answer);
        }
    }

    fn answer(&mut self, job: Job<T::Item>, answer: Answer) {
        let answer = match answer {
            Ok(vector) => self.session.checked(vector),
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(vector) => {
                self.session.succeeded();
                Ok(vector)
            }
            Err(error) if error.is_of_run() => Err(self.judged(&job.item, error)),
            Err(error) => Err(error),
        };
        // The caller may have given up.
        let _ = job.reply.send(answer);
    }

    /// The answer to an item that failed alone.
    fn judged(&mut self, item: &T::Item, error: ClipError) -> ClipError {
        // An item before it in the batch broke the session.
        if let Some(failure) = self.session.failure() {
            return failure;
        }
        match self.session.judge(T::digest(item), &error) {
            Verdict::Item => error,
            Verdict::Session => self.session.failure().unwrap_or(error),
            Verdict::Both => {
                let message = format!(
                    "the model's session breaks with this input, again and again, and works for others: {error}"
                );
                Fault::new(ClipReason::BrokenByItem, message).into()
            }
        }
    }

    fn timed(&mut self, batch: &[Job<T::Item>]) -> Result<Vec<Answer>, ClipError> {
        let start = Instant::now();
        let answers = self.session.run(&batch.iter().map(|job| &job.item).collect::<Vec<_>>())?;
        self.metrics.embed_batch(&self.model, T::MODALITY, batch.len(), start.elapsed());
        Ok(answers)
    }
}

/// Marks the engine as dead when its thread unwinds.
struct DeadAfterPanic(Arc<AtomicBool>);

impl Drop for DeadAfterPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
