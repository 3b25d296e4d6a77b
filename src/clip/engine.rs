//! Batches from what is waiting: a bounded queue in front of threads that own a tower each.
//!
//! A thread blocks for the first item, takes whatever else is waiting up to the limit, and runs at once: under load
//! batches fill by themselves, and a lone item never waits for company. Text and image have queues of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::ClipError;
use super::tower::Tower;
use crate::domain::Embedding;
use crate::telemetry::Metrics;

type Answer = Result<Embedding, ClipError>;

struct Job<I> {
    item: I,
    reply: oneshot::Sender<Answer>,
}

/// Dropping it lets the runs under way end, answers no one else, and joins the threads.
pub(super) struct Engine<T: Tower> {
    queue: Option<mpsc::Sender<Job<T::Item>>>,
    threads: Vec<JoinHandle<()>>,
    alive: Arc<AtomicBool>,
}

impl<T: Tower> Engine<T> {
    /// One thread per tower, named after `model`; at most `batch_max` items (at least 1) in one run.
    pub(super) fn start(
        model: &str,
        towers: Vec<T>,
        batch_max: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ClipError> {
        let batch_max = batch_max.max(1);
        // One batch waits while one runs; more would only add memory and delay.
        let (queue, waiting) = mpsc::channel(batch_max * towers.len().max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let alive = Arc::new(AtomicBool::new(true));
        let mut engine = Self { queue: Some(queue), threads: Vec::new(), alive: alive.clone() };
        for tower in towers {
            let mut worker = Worker {
                tower,
                batch_max,
                waiting: waiting.clone(),
                alive: alive.clone(),
                model: model.to_owned(),
                metrics: metrics.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("embed-{}", T::MODALITY))
                .spawn(move || worker.work())
                .map_err(|e| {
                    ClipError::load("thread_failed", format!("no thread for the {} tower: {e}", T::MODALITY))
                })?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Waits for a place in the queue, then for the answer. A caller that goes away before its batch starts costs
    /// no run.
    pub(super) async fn embed(&self, item: T::Item) -> Answer {
        let Some(queue) = self.queue.as_ref().filter(|_| self.is_alive()) else { return Err(ClipError::Stopped) };
        let (reply, answer) = oneshot::channel();
        queue.send(Job { item, reply }).await.map_err(|_| ClipError::Stopped)?;
        answer.await.unwrap_or(Err(ClipError::Stopped))
    }

    /// False once a thread has panicked.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

impl<T: Tower> Drop for Engine<T> {
    fn drop(&mut self) {
        // Nobody can wait for an answer any more: `embed` borrows the engine.
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic has been logged by the hook and told to the callers.
            let _ = thread.join();
        }
    }
}

struct Worker<T: Tower> {
    tower: T,
    batch_max: usize,
    waiting: Arc<Mutex<mpsc::Receiver<Job<T::Item>>>>,
    alive: Arc<AtomicBool>,
    model: String,
    metrics: Arc<Metrics>,
}

impl<T: Tower> Worker<T> {
    fn work(&mut self) {
        let mut batch = Vec::with_capacity(self.batch_max);
        // Dropped before the batch: whoever loses an answer to a panic finds the engine dead already.
        let _alarm = Alarm(self.alive.clone());
        loop {
            {
                // Held while waiting: one idle thread waits for the queue, the others for it. Never held in a run.
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.blocking_recv_many(&mut batch, self.batch_max) == 0 {
                    return;
                }
            }
            batch.retain(|job| !job.reply.is_closed());
            if !batch.is_empty() {
                self.run(&mut batch);
            }
        }
    }

    /// In the tower's groups; each is answered as soon as it has run.
    fn run(&mut self, batch: &mut Vec<Job<T::Item>>) {
        let groups = self.tower.groups(&batch.iter().map(|job| &job.item).collect::<Vec<_>>());
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
        let answers = match self.timed(&batch) {
            Ok(answers) => answers,
            Err(error) if batch.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(model = self.model, modality = %T::MODALITY, items = batch.len(), %error,
                    "a batch failed; its items run one by one");
                batch
                    .iter()
                    .map(|job| self.timed(std::slice::from_ref(job))?.pop().unwrap_or(Err(ClipError::Stopped)))
                    .collect()
            }
        };
        debug_assert_eq!(answers.len(), batch.len());
        for (job, answer) in batch.into_iter().zip(answers) {
            // The caller may have gone away meanwhile.
            let _ = job.reply.send(answer);
        }
    }

    fn timed(&mut self, batch: &[Job<T::Item>]) -> Result<Vec<Answer>, ClipError> {
        let start = Instant::now();
        let answers = self.tower.run(&batch.iter().map(|job| &job.item).collect::<Vec<_>>())?;
        self.metrics.embed_batch(&self.model, T::MODALITY, batch.len(), start.elapsed());
        Ok(answers)
    }
}

/// Marks the engine as dead when its thread unwinds.
struct Alarm(Arc<AtomicBool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc as std_mpsc;

    use futures::future::join_all;

    use super::*;
    use crate::domain::Modality;

    /// Vectors are `[item, 1]`; 13 fails its run, 66 panics. Each run waits for a permit and reports its size.
    struct Fake {
        permits: std_mpsc::Receiver<()>,
        sizes: std_mpsc::Sender<usize>,
    }

    impl Tower for Fake {
        type Item = u8;
        const MODALITY: Modality = Modality::Text;

        fn run(&mut self, items: &[&u8]) -> Result<Vec<Answer>, ClipError> {
            let _ = self.permits.recv();
            let _ = self.sizes.send(items.len());
            assert!(!items.contains(&&66), "asked to panic");
            if items.contains(&&13) {
                return Err(ClipError::run("unlucky"));
            }
            Ok(items.iter().map(|i| Ok(vector(**i))).collect())
        }

        fn fixed_rows(&self) -> Option<usize> {
            None
        }

        fn run_again(&mut self) -> Result<(), ClipError> {
            Ok(())
        }
    }

    fn vector(item: u8) -> Embedding {
        Embedding::normalised(vec![f32::from(item), 1.0]).unwrap()
    }

    fn engine(batch_max: usize) -> (Engine<Fake>, std_mpsc::Sender<()>, std_mpsc::Receiver<usize>) {
        let (permit, permits) = std_mpsc::channel();
        let (sizes, size) = std_mpsc::channel();
        let tower = Fake { permits, sizes };
        (Engine::start("test/fake", vec![tower], batch_max, &Arc::default()).unwrap(), permit, size)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn batches_form_from_what_waits() {
        let (engine, permit, size) = engine(4);
        let answers = (0..9).map(|i| engine.embed(i));
        let all = async {
            let answers = join_all(answers).await;
            for (i, answer) in (0..9).zip(answers) {
                assert_eq!(answer.unwrap(), vector(i));
            }
        };
        // Dropped, so that no run waits.
        drop(permit);
        all.await;
        let sizes: Vec<_> = size.try_iter().collect();
        assert_eq!(sizes.iter().sum::<usize>(), 9);
        assert!(sizes.iter().all(|s| *s <= 4), "{sizes:?}");
        assert!(engine.alive.load(Ordering::Acquire));
    }

    #[test]
    fn no_run_exceeds_the_batch() {
        let ((_, permits), (sizes, size)) = (std_mpsc::channel(), std_mpsc::channel());
        let vectors = Fake { permits, sizes }.run_in_batches(&[&1, &2, &3, &4, &5], 2).unwrap();
        assert_eq!(vectors, (1..=5).map(|item| Ok(vector(item))).collect::<Vec<_>>());
        assert_eq!(size.try_iter().collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bad_item_fails_alone() {
        let (engine, permit, size) = engine(4);
        let first = engine.embed(1);
        let rest = async {
            // The first is taken alone, and its run waits for its permit until the next four are queued.
            while engine.queue.as_ref().unwrap().capacity() < 4 {
                tokio::task::yield_now().await;
            }
            let rest = join_all([2, 13, 3, 4].map(|i| engine.embed(i)));
            let release = async {
                while engine.queue.as_ref().unwrap().capacity() > 0 {
                    tokio::task::yield_now().await;
                }
                drop(permit);
            };
            tokio::join!(rest, release).0
        };
        let (first, rest) = tokio::join!(first, rest);
        assert_eq!(first.unwrap(), vector(1));
        assert_eq!(rest[0], Ok(vector(2)));
        assert_eq!(rest[1].as_ref().unwrap_err().reason(), "model_run_failed");
        assert_eq!(rest[2], Ok(vector(3)));
        assert_eq!(rest[3], Ok(vector(4)));
        // One, the batch of four that failed, and its items one by one.
        assert_eq!(size.try_iter().collect::<Vec<_>>(), [1, 4, 1, 1, 1, 1]);
        assert!(engine.is_alive());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_stops_the_engine_and_hangs_nobody() {
        let (engine, permit, _size) = engine(1);
        drop(permit);
        let answers = join_all([66, 1, 2, 3].map(|i| engine.embed(i))).await;
        assert_eq!(answers[0], Err(ClipError::Stopped));
        assert!(!engine.is_alive());
        let reasons: HashSet<_> = answers.iter().filter_map(|a| a.as_ref().err()).map(ClipError::reason).collect();
        assert_eq!(reasons, HashSet::from(["model_stopped"]));
        assert_eq!(engine.embed(5).await, Err(ClipError::Stopped));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_caller_that_left_costs_no_run_and_drop_joins() {
        let (engine, permit, size) = engine(1);
        {
            let (mut first, mut second) = (Box::pin(engine.embed(1)), Box::pin(engine.embed(2)));
            assert!(futures::poll!(&mut first).is_pending());
            while engine.queue.as_ref().unwrap().capacity() == 0 {
                tokio::task::yield_now().await;
            }
            assert!(futures::poll!(&mut second).is_pending());
        }
        drop(permit);
        let alive = Arc::downgrade(&engine.alive);
        drop(engine);
        assert_eq!(alive.strong_count(), 0, "the thread has ended");
        // The first one's run had begun, or not; the second one's never did.
        assert!(size.try_iter().count() <= 1);
    }
}
