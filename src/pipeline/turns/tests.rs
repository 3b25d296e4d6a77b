use std::sync::{Arc, Mutex, MutexGuard};

use super::*;
use crate::domain::{AssetId, IngestRequest, Message, Op, Payload};
use crate::pipeline::attempts::Tried;
use crate::pipeline::flight::Flight;
use crate::pipeline::whole::{Arrival, Whole};

const SECOND: Duration = Duration::from_secs(1);

/// Turns with hosts whose standing the test sets. Every message has its own offset.
struct Rig {
    turns: Turns,
    standings: Arc<Mutex<HashMap<String, Standing>>>,
    now: Instant,
    offset: i64,
}

fn fine() -> Standing {
    Standing { fetches_max: 2, is_doubtful: false, paused_until: None }
}

fn lane(tenant: &str, host: &str) -> Lane {
    let named = |name: &str| (!name.is_empty()).then(|| Name::from(name));
    Lane { tenant: named(tenant), host: named(host) }
}

fn out() -> Aside {
    Aside { wait: SECOND, retry_after: None, is_out: true }
}

impl Rig {
    fn new(window: usize) -> Self {
        let settings = PipelineSettings {
            in_flight_max: window,
            backoff_base_ms: 1_000,
            backoff_cap_ms: 8_000,
            ..PipelineSettings::default()
        };
        let standings = Arc::<Mutex<HashMap<String, Standing>>>::default();
        let asked = standings.clone();
        let turns = Turns::new(&settings, move |host| asked.lock().unwrap().get(host).copied().unwrap_or(fine()));
        Self { turns, standings, now: Instant::now(), offset: 0 }
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.standings.lock().unwrap()
    }

    fn enter(&mut self, tenant: &str, host: &str, count: usize) {
        for _ in 0..count {
            let message = Message::empty("t", 0, self.offset);
            let request = IngestRequest {
                asset: AssetId::new(self.offset.to_string()).unwrap(),
                tenant: None,
                op: Op::Upsert,
                image: None,
                text: None,
                payload: Payload::new(),
                version: None,
                models: None,
            };
            self.offset += 1;
            self.turns.enter(Box::new(Job {
                whole: Whole::new(Arrival::new(message, Flight::default()), 1, 1),
                index: 0,
                request,
                flight: Flight::default(),
                bytes: 0,
                lane: lane(tenant, host),
                seq: 0,
                tried: Tried::default(),
                superseded: Vec::new(),
            }));
        }
    }

    /// As many jobs as may run in `places`.
    fn start(&mut self, places: usize) -> Vec<Job> {
        (0..places).map_while(|_| self.turns.next()).map(|job| *job).collect()
    }

    fn end(&mut self, job: &Job, served: bool) {
        self.turns.ended(&job.lane);
        if let Some(host) = &job.lane.host {
            self.turns.passed(host, served, self.now);
        }
    }

    fn put_aside(&mut self, job: Job, aside: Aside) {
        let host = job.lane.host.clone();
        self.turns.ended(&job.lane);
        self.turns.put_aside(Box::new(job), aside, self.now);
        if let Some(host) = host {
            self.turns.passed(&host, false, self.now);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.turns.wake(self.now);
    }
}

fn hosts(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.lane.host.as_deref().unwrap_or_default()).collect()
}

fn tenants(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.lane.tenant.as_deref().unwrap_or_default()).collect()
}

fn offsets(jobs: &[Job]) -> Vec<i64> {
    jobs.iter().map(|job| job.whole.message.position.offset).collect()
}

#[test]
fn a_host_has_as_many_turns_as_it_can_use_and_gets_one_back_with_each_fetch() {
    let mut rig = Rig::new(100);
    rig.enter("", "h", 10);
    rig.enter("", "", 3);
    let running = rig.start(100);
    assert_eq!(running.len(), 4 + 3, "two that are fetched, two on their way, and those that need no host");
    assert_eq!((rig.turns.waiting(), rig.turns.held()), (6, 0));
    rig.turns.passed(&"h".into(), true, rig.now);
    assert_eq!(offsets(&rig.start(100)), [4], "it still runs, but is past its fetch");
    rig.standings().insert("h".into(), Standing { fetches_max: 1, ..fine() });
    rig.turns.passed(&"h".into(), true, rig.now);
    rig.turns.passed(&"h".into(), true, rig.now);
    assert!(rig.start(100).is_empty(), "it takes fewer now");
}

#[test]
fn the_tenant_and_the_host_with_the_least_under_way_are_next() {
    let mut rig = Rig::new(100);
    rig.enter("a", "x", 4);
    rig.enter("a", "y", 4);
    let first = rig.start(3);
    assert_eq!(hosts(&first), ["x", "y", "x"]);
    rig.enter("b", "x", 4);
    rig.enter("c", "z", 1);
    assert_eq!(tenants(&rig.start(4)), ["b", "c", "b", "a"]);
    rig.end(&first[0], true);
    rig.end(&first[1], true);
    assert_eq!(tenants(&rig.start(1)), ["b"], "two of b, two of a, and b has waited for longer");
}

#[test]
fn hosts_that_are_doubtful_share_a_quarter_while_others_wait_and_get_three_at_most() {
    let mut rig = Rig::new(8);
    for n in 0..100 {
        rig.standings().insert(format!("bad-{n}"), Standing { is_doubtful: true, ..fine() });
        rig.enter("", &format!("bad-{n}"), 1);
    }
    let alone = rig.start(8);
    assert_eq!(alone.len(), 6);
    rig.enter("", "good-1", 4);
    rig.enter("", "good-2", 4);
    let good = rig.start(2);
    assert!(hosts(&good).iter().all(|host| host.starts_with("good")), "{:?}", hosts(&good));
    for job in &alone[..5] {
        rig.end(job, false);
    }
    let next = rig.start(5);
    let bad = hosts(&next).iter().filter(|host| host.starts_with("bad")).count();
    assert_eq!((next.len(), bad), (5, 1), "one of the six is still there");
}

#[test]
fn a_host_that_proves_good_or_bad_takes_its_messages_along() {
    let mut rig = Rig::new(8);
    rig.standings().insert("h".into(), Standing { is_doubtful: true, ..fine() });
    rig.enter("a", "h", 3);
    rig.enter("b", "h", 3);
    let first = rig.start(1);
    assert_eq!(rig.turns.waiting_in_peace(), 0);
    rig.standings().insert("h".into(), fine());
    rig.end(&first[0], true);
    assert_eq!((rig.turns.waiting_in_peace(), rig.turns.waiting()), (5, 5));
    assert_eq!(tenants(&rig.start(4)), ["a", "b", "a", "b"]);
    rig.standings().insert("h".into(), Standing { is_doubtful: true, ..fine() });
    rig.turns.passed(&"h".into(), false, rig.now);
    assert_eq!((rig.turns.waiting_in_peace(), rig.turns.waiting()), (0, 1));
}

#[test]
fn a_host_that_is_out_is_tried_with_one_message_after_growing_waits_each_time_another_one() {
    let mut rig = Rig::new(100);
    rig.enter("", "h", 5);
    let mut running = rig.start(100);
    assert_eq!(running.len(), 4);
    let (first, second) = (running.remove(0), running.remove(0));
    rig.put_aside(first, out());
    rig.put_aside(second, out());
    assert!(rig.start(100).is_empty(), "nobody asks it");
    assert_eq!((rig.turns.held(), rig.turns.waiting()), (3, 0));
    assert!(rig.turns.due().unwrap() <= rig.now + SECOND, "what was under way counts once");
    running.into_iter().for_each(|job| rig.put_aside(job, out()));
    let mut tried = Vec::new();
    for wait in [1, 2, 4, 8, 8] {
        assert!(rig.start(100).is_empty());
        rig.pass(Duration::from_secs(wait));
        let mut next = rig.start(100);
        assert_eq!(next.len(), 1, "after {wait} s");
        tried.extend(offsets(&next));
        rig.put_aside(next.remove(0), out());
    }
    assert_eq!(tried, [4, 0, 1, 2, 3]);
    rig.pass(8 * SECOND);
    let next = rig.start(100);
    rig.end(&next[0], true);
    assert_eq!(rig.start(100).len(), 4, "it serves again");
    assert_eq!(rig.turns.due(), None);
}

#[test]
fn when_one_host_is_back_the_others_that_are_out_are_tried_at_once() {
    let mut rig = Rig::new(100);
    rig.enter("", "a", 1);
    rig.enter("", "b", 1);
    for job in rig.start(100) {
        rig.put_aside(job, out());
    }
    rig.pass(SECOND);
    let mut both = rig.start(100);
    assert_eq!(both.len(), 2);
    let out_again = both.remove(1);
    let host = out_again.lane.host.clone();
    rig.put_aside(out_again, out());
    assert!(rig.start(100).is_empty());
    rig.end(&both[0], true);
    let tried: Vec<_> = rig.start(100).into_iter().map(|job| job.lane.host).collect();
    assert_eq!(tried, [host]);
}

#[test]
fn what_failed_for_itself_comes_back_in_its_time_and_in_its_place() {
    let mut rig = Rig::new(100);
    rig.enter("", "h", 6);
    let mut running = rig.start(100);
    rig.put_aside(running.remove(1), Aside { wait: 3 * SECOND, retry_after: None, is_out: false });
    assert_eq!((rig.turns.held(), offsets(&rig.start(100))), (1, vec![4]));
    rig.pass(2 * SECOND);
    assert_eq!(rig.turns.held(), 1);
    rig.pass(SECOND);
    rig.end(&running[0], true);
    assert_eq!(offsets(&rig.start(100)), [1], "before those that came later");
}

#[test]
fn a_host_that_asks_for_a_pause_gets_it() {
    let mut rig = Rig::new(100);
    rig.enter("", "h", 6);
    let running = rig.start(100);
    rig.standings().insert("h".into(), Standing { paused_until: Some(rig.now + 5 * SECOND), ..fine() });
    rig.end(&running[0], false);
    assert!(rig.start(100).is_empty());
    assert_eq!(rig.turns.due(), Some(rig.now + 5 * SECOND));
    rig.standings().insert("h".into(), fine());
    rig.pass(5 * SECOND);
    assert_eq!(rig.start(100).len(), 1);
}

#[test]
fn what_is_removed_leaves_nothing_behind() {
    let mut rig = Rig::new(100);
    rig.enter("a", "h", 8);
    rig.enter("b", "x", 8);
    let mut running = rig.start(100);
    rig.put_aside(running.pop().unwrap(), Aside { wait: SECOND, retry_after: None, is_out: false });
    rig.put_aside(running.pop().unwrap(), out());
    let all = rig.turns.list_where(|_| true);
    assert_eq!((all.len(), rig.turns.assets().len()), (10, 10));
    assert_eq!(rig.turns.remove(all).len(), 10);
    assert!(rig.turns.is_empty());
    for job in &running {
        rig.end(job, true);
    }
    rig.pass(60 * SECOND);
    assert!(rig.turns.lanes.is_empty() && rig.turns.hosts.is_empty() && rig.turns.tenants.is_empty());
    assert!(rig.turns.resting.is_empty() && rig.turns.due().is_none());
    assert!(rig.turns.groups.iter().all(|group| group.fetching == 0 && group.waiting == 0 && group.hosts.is_empty()));
}

#[test]
fn crowded_is_where_one_tenant_has_most_places_and_nobody_else_waits() {
    let mut rig = Rig::new(4);
    rig.enter("", "", 4);
    rig.start(4);
    assert!(!rig.turns.is_crowded(), "messages without a tenant have no neighbours");
    let mut rig = Rig::new(4);
    rig.enter("a", "", 8);
    rig.start(2);
    assert!(!rig.turns.is_crowded(), "half");
    rig.start(2);
    assert!(rig.turns.is_crowded());
    rig.enter("b", "", 1);
    assert!(!rig.turns.is_crowded());
}

/// A thousand hosts with ten messages each, all tried again and again.
#[test]
fn many_hosts_that_are_out_cost_little() {
    let mut rig = Rig::new(256);
    for n in 0..10_000 {
        rig.standings().entry(format!("bad-{}", n % 1000)).or_insert(Standing { is_doubtful: true, ..fine() });
        rig.enter(["", "a", "b"][n % 3], &format!("bad-{}", n % 1000), 1);
    }
    let begun = Instant::now();
    let mut runs = 0;
    for _ in 0..100 {
        for job in rig.start(256) {
            runs += 1;
            rig.put_aside(job, out());
        }
        rig.pass(SECOND / 2);
    }
    assert!(runs > 1000, "{runs}");
    assert_eq!(rig.turns.held() + rig.turns.waiting(), 10_000);
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
}
