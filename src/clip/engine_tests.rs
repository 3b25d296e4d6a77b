use std::collections::HashSet;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use futures::future::join_all;

use super::*;
use crate::clip::probes::Probes;
use crate::clip::session::Recovery;
use crate::domain::{Class, Modality};

/// A known-good input.
const KNOWN: u8 = 250;
/// Fails its run.
const BAD: u8 = 13;
/// Panics.
const PANIC: u8 = 66;
/// Gives no valid vector.
const NAN: u8 = 77;
/// Breaks its session.
const POISON: u8 = 99;
/// Half of the work of a batch.
const HEAVY: u8 = 200;

/// Faults of all sessions, set by the test.
#[derive(Default)]
struct World {
    /// Everything fails.
    broken: AtomicBool,
    /// Everything but the known input fails.
    broken_for_items: AtomicBool,
    /// Every vector is the same.
    wrong: AtomicBool,
    /// No session can be opened.
    closed: AtomicBool,
    /// Sessions that were reopened.
    reopened: AtomicU32,
    /// Runs started, without those of the known input.
    begun: AtomicU32,
}

/// Vectors are `[item, 1]`. Each run waits for a permit and reports its size, except runs of the known input.
struct Fake {
    world: Arc<World>,
    permits: Arc<Mutex<std_mpsc::Receiver<()>>>,
    sizes: std_mpsc::Sender<usize>,
    poisoned: bool,
}

impl Tower for Fake {
    type Item = u8;
    const MODALITY: Modality = Modality::Text;

    fn run(&mut self, items: &[&u8]) -> Result<Vec<Answer>, ClipError> {
        if items != [&KNOWN] {
            self.world.begun.fetch_add(1, Ordering::AcqRel);
            let _ = self.permits.lock().unwrap().recv();
            let _ = self.sizes.send(items.len());
        }
        assert!(!items.contains(&&PANIC), "asked to panic");
        self.poisoned |= items.contains(&&POISON);
        let is_broken = self.poisoned
            || self.world.broken.load(Ordering::Acquire)
            || items != [&KNOWN] && self.world.broken_for_items.load(Ordering::Acquire);
        if is_broken || items.contains(&&BAD) {
            return Err(ClipError::run("unlucky"));
        }
        let is_wrong = self.world.wrong.load(Ordering::Acquire);
        let answer = |item: &&u8| match **item {
            NAN => Err(Fault::new(ClipReason::EmbeddingInvalid, "NaN").into()),
            _ if is_wrong => Ok(Embedding::normalised(vec![-1.0, 100.0]).unwrap()),
            item => Ok(vector(item)),
        };
        Ok(items.iter().map(answer).collect())
    }

    fn work(item: &u8) -> usize {
        usize::from(*item == HEAVY)
    }

    fn work_max(&self) -> usize {
        2
    }

    fn fixed_rows(&self) -> Option<usize> {
        None
    }

    fn digest(item: &u8) -> u64 {
        u64::from(*item)
    }

    fn run_again(&mut self) -> Result<(), ClipError> {
        Ok(())
    }
}

fn vector(item: u8) -> Embedding {
    Embedding::normalised(vec![f32::from(item), 1.0]).unwrap()
}

struct Rig {
    engine: Engine<Fake>,
    world: Arc<World>,
    permit: Option<std_mpsc::Sender<()>>,
    size: std_mpsc::Receiver<usize>,
}

fn rig(batch_max: usize, recovery_max: Duration) -> Rig {
    let (world, (permit, permits), (sizes, size)) =
        (Arc::new(World::default()), std_mpsc::channel(), std_mpsc::channel());
    let permits = Arc::new(Mutex::new(permits));
    let open = {
        let world = world.clone();
        move |_: usize| Fake { world: world.clone(), permits: permits.clone(), sizes: sizes.clone(), poisoned: false }
    };
    let mut tower = open(0);
    let probes = Arc::new(Probes::of_start(&mut tower, vec![KNOWN]).unwrap());
    let reopen = {
        let world = world.clone();
        Arc::new(move |place| {
            world.reopened.fetch_add(1, Ordering::AcqRel);
            if world.closed.load(Ordering::Acquire) {
                return Err(Fault::new(ClipReason::OnnxruntimeFailed, "no device").into());
            }
            Ok(open(place))
        })
    };
    let sessions = Sessions { towers: vec![tower], recovery: Recovery { probes, reopen, recovery_max } };
    let engine = Engine::start("test/fake", sessions, batch_max, &[Pulse::new("fake")], &Arc::default()).unwrap();
    Rig { engine, world, permit: Some(permit), size }
}

/// Runs wait for no permit.
fn free(batch_max: usize) -> Rig {
    Rig { permit: None, ..rig(batch_max, Duration::ZERO) }
}

impl Rig {
    /// Like the pipeline: an item that is not at fault is tried again.
    async fn held(&self, item: u8) -> Answer {
        loop {
            match self.engine.embed(item).await {
                Err(error) if error.reason() == ClipReason::SessionFailed.into() => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    }

    fn reopened(&self) -> u32 {
        self.world.reopened.load(Ordering::Acquire)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_form_from_what_waits() {
    let mut rig = rig(4, Duration::ZERO);
    // Dropped, so that runs do not wait.
    rig.permit = None;
    let answers = join_all((0..9).map(|i| rig.engine.embed(i))).await;
    for (i, answer) in (0..9).zip(answers) {
        assert_eq!(answer.unwrap(), vector(i));
    }
    let sizes: Vec<_> = rig.size.try_iter().collect();
    assert_eq!(sizes.iter().sum::<usize>(), 9);
    assert!(sizes.iter().all(|s| *s <= 4), "{sizes:?}");
    assert!(rig.engine.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_where_it_has_enough_work() {
    let mut rig = rig(8, Duration::ZERO);
    let permit = rig.permit.take();
    let capacity = || rig.engine.queue.as_ref().unwrap().capacity();
    let first = rig.engine.embed(1);
    let rest = async {
        // The first item runs alone; its run waits for a permit until all others are queued.
        while rig.world.begun.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let rest = join_all([2, HEAVY, HEAVY, 3, HEAVY, HEAVY, 4].map(|item| rig.engine.embed(item)));
        let release = async {
            while capacity() > 1 {
                tokio::task::yield_now().await;
            }
            drop(permit);
        };
        tokio::join!(rest, release).0
    };
    let (_, rest) = tokio::join!(first, rest);
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    assert_eq!(rig.size.try_iter().collect::<Vec<_>>(), [1, 3, 3, 1]);
}

#[test]
fn no_run_exceeds_the_batch() {
    let ((_, permits), (sizes, size)) = (std_mpsc::channel(), std_mpsc::channel());
    let permits = Arc::new(Mutex::new(permits));
    let mut tower = Fake { world: Arc::default(), permits, sizes, poisoned: false };
    let vectors = tower.run_in_batches(&[&1, &2, &3, &4, &5], 2).unwrap();
    assert_eq!(vectors, (1..=5).map(|item| Ok(vector(item))).collect::<Vec<_>>());
    assert_eq!(size.try_iter().collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_item_fails_alone() {
    let mut rig = rig(4, Duration::ZERO);
    let permit = rig.permit.take();
    let capacity = || rig.engine.queue.as_ref().unwrap().capacity();
    let first = rig.engine.embed(1);
    let rest = async {
        // The first item runs alone; its run waits for a permit until the next four are queued.
        while rig.world.begun.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        let rest = join_all([2, BAD, 3, 4].map(|i| rig.engine.embed(i)));
        let release = async {
            while capacity() > 0 {
                tokio::task::yield_now().await;
            }
            drop(permit);
        };
        tokio::join!(rest, release).0
    };
    let (first, rest) = tokio::join!(first, rest);
    assert_eq!(first.unwrap(), vector(1));
    assert_eq!(rest[0], Ok(vector(2)));
    assert_eq!(rest[1].as_ref().unwrap_err().reason(), ClipReason::RunFailed.into());
    assert_eq!(rest[2], Ok(vector(3)));
    assert_eq!(rest[3], Ok(vector(4)));
    // The first item, the failed batch of four, and its items one by one.
    assert_eq!(rig.size.try_iter().collect::<Vec<_>>(), [1, 4, 1, 1, 1, 1]);
    assert!(rig.engine.is_alive());
    assert_eq!(rig.reopened(), 0, "the session did what it should");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_without_a_vector_is_blamed_where_good_ones_have_theirs() {
    let rig = free(4);
    for _ in 0..20 {
        let error = rig.engine.embed(NAN).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), (ClipReason::EmbeddingInvalid.into(), Class::Permanent));
    }
    assert_eq!(rig.reopened(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_fails_blames_nobody_and_is_opened_anew() {
    let rig = free(4);
    rig.world.broken.store(true, Ordering::Release);
    let answers = join_all((100..140).map(|item| rig.engine.embed(item))).await;
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!((error.reason(), error.class()), (ClipReason::SessionFailed.into(), Class::Outage), "{error}");
    }
    rig.world.broken.store(false, Ordering::Release);
    for (item, answer) in (100..140).zip(join_all((100..140).map(|item| rig.held(item))).await) {
        assert_eq!(answer, Ok(vector(item)));
    }
    assert!(rig.reopened() > 0);
    assert_eq!(rig.engine.given_up(), None);
}

/// A known input has another vector than at the start, so all its other vectors are wrong too.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_gives_wrong_vectors_is_found_when_an_item_fails() {
    let rig = free(1);
    rig.world.wrong.store(true, Ordering::Release);
    assert_eq!(rig.engine.embed(BAD).await.unwrap_err().reason(), ClipReason::SessionFailed.into());
    rig.world.wrong.store(false, Ordering::Release);
    assert_eq!(rig.held(5).await, Ok(vector(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_fails_but_the_known_input_is_the_sessions_fault() {
    let rig = free(1);
    rig.world.broken_for_items.store(true, Ordering::Release);
    // Different items in a row. The first ones look like bad items.
    let mut reasons = Vec::new();
    for item in 100..108 {
        reasons.push(rig.engine.embed(item).await.unwrap_err().reason());
    }
    assert_eq!(reasons.iter().filter(|reason| **reason == ClipReason::SessionFailed.into()).count(), 1, "{reasons:?}");
    assert_eq!(
        rig.engine.embed(100).await.unwrap_err().reason(),
        ClipReason::SessionFailed.into(),
        "nor the earlier ones"
    );
    rig.world.broken_for_items.store(false, Ordering::Release);
    assert_eq!(rig.held(100).await, Ok(vector(100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_breaks_every_session_is_blamed_in_the_end() {
    let rig = free(1);
    let mut reasons = Vec::new();
    while reasons.last() != Some(&ClipReason::BrokenByItem.into()) {
        assert!(reasons.len() < 10, "{reasons:?}");
        assert_eq!(rig.held(1).await, Ok(vector(1)), "others go on");
        reasons.push(rig.engine.embed(POISON).await.unwrap_err().reason());
    }
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert_eq!(rig.held(2).await, Ok(vector(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_opened_anew_is_given_up_after_its_bound_and_tried_on() {
    let rig = Rig { permit: None, ..rig(1, Duration::from_millis(1)) };
    rig.world.broken.store(true, Ordering::Release);
    rig.world.closed.store(true, Ordering::Release);
    let error = rig.engine.embed(1).await.unwrap_err();
    assert_eq!(error.reason(), ClipReason::SessionFailed.into());
    while rig.engine.given_up().is_none() {
        tokio::task::yield_now().await;
    }
    let why = rig.engine.given_up().unwrap();
    assert!(why.contains("the text tower's session cannot be opened anew: no device"), "{why}");
    // Callers are not kept waiting meanwhile.
    assert_eq!(rig.engine.embed(2).await.unwrap_err().reason(), ClipReason::SessionFailed.into());
    rig.world.broken.store(false, Ordering::Release);
    rig.world.closed.store(false, Ordering::Release);
    assert_eq!(rig.held(3).await, Ok(vector(3)));
    assert_eq!(rig.engine.given_up(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_a_session_is_dropped_at_once() {
    let rig = free(1);
    rig.world.broken.store(true, Ordering::Release);
    rig.world.closed.store(true, Ordering::Release);
    rig.engine.embed(1).await.unwrap_err();
    let alive = Arc::downgrade(&rig.engine.alive);
    drop(rig);
    assert_eq!(alive.strong_count(), 0, "the thread has ended, in its wait between two sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_stops_the_engine_and_hangs_nobody() {
    let rig = free(1);
    let answers = join_all([PANIC, 1, 2, 3].map(|i| rig.engine.embed(i))).await;
    assert_eq!(answers[0], Err(ClipError::stopped()));
    assert!(!rig.engine.is_alive());
    let reasons: HashSet<_> = answers.iter().filter_map(|a| a.as_ref().err()).map(ClipError::reason).collect();
    assert_eq!(reasons, HashSet::from([ClipReason::Stopped.into()]));
    assert_eq!(rig.engine.embed(5).await, Err(ClipError::stopped()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_left_costs_no_run_and_drop_joins() {
    let Rig { engine, world: _world, permit, size } = rig(1, Duration::ZERO);
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
    // The first run may have started; the second one never did.
    assert!(size.try_iter().count() <= 1);
}

/// Like a run that hangs in a native call for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_hangs_does_not_keep_the_engine_from_being_dropped() {
    let Rig { engine, world, permit, .. } = rig(1, Duration::ZERO);
    {
        let mut hung = Box::pin(engine.embed(1));
        assert!(futures::poll!(&mut hung).is_pending());
        while world.begun.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
    }
    let dropped = tokio::task::spawn_blocking(move || drop(engine));
    tokio::time::timeout(10 * TOWERS_CLOSE_MAX, dropped).await.expect("it is left behind").unwrap();
    drop(permit);
}
