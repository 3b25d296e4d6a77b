//! Adaptive concurrency towards another system: a limit that adjusts itself, and a gate that enforces it.

mod limit;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub use limit::Limit;

/// What the result of one request says about the other side's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It was served.
    Fine,
    /// It was refused or not answered because of overload: busy, throttled, timed out. `pause`: how long to send nothing
    /// (`Retry-After`).
    Over { pause: Option<Duration> },
    /// It failed for another reason.
    Unknown,
}

/// Lets at most [`Limit`] requests through at once, first come, first served. Clones share the gate.
#[derive(Clone, Debug)]
pub struct Gate {
    slots: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    /// Longest pause, so that a hostile answer cannot stop everything.
    pause_max: Duration,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// All slots: free ones and those held by passes.
    slots: usize,
    /// Slots held by passes.
    used: usize,
    /// When the limit was last reached.
    full_at: Option<Instant>,
    paused_until: Option<Instant>,
}

impl State {
    fn note_full(&mut self, now: Instant) {
        if self.used >= self.limit.now() {
            self.full_at = Some(now);
        }
    }
}

/// One admitted request. Dropping it without [`Pass::done`] does not affect the limit.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    slot: Option<OwnedSemaphorePermit>,
    begun: Instant,
}

impl Gate {
    /// Starts at `max`, which is never exceeded.
    pub fn new(max: usize, pause_max: Duration) -> Self {
        let limit = Limit::new(max.clamp(1, Semaphore::MAX_PERMITS));
        let slots = limit.now();
        let state = State { limit, slots, used: 0, full_at: None, paused_until: None };
        Self { slots: Arc::new(Semaphore::new(slots)), state: Arc::new(Mutex::new(state)), pause_max }
    }

    /// The current limit.
    pub fn limit(&self) -> usize {
        self.lock().limit.now()
    }

    /// Waits for a slot, and for the end of a pause. Cancel-safe.
    pub async fn enter(&self) -> Pass {
        let slot = self.slots.clone().acquire_owned().await.expect("a gate's semaphore is never closed");
        {
            let mut state = self.lock();
            state.used += 1;
            state.note_full(Instant::now());
        }
        // From here on the pass releases the slot, even if this future is dropped.
        let mut pass = Pass { gate: self.clone(), slot: Some(slot), begun: Instant::now() };
        while let Some(until) = self.paused_until() {
            tokio::time::sleep_until(until.into()).await;
        }
        pass.begun = Instant::now();
        pass
    }

    /// The end of the current pause, if any.
    pub fn paused_until(&self) -> Option<std::time::Instant> {
        self.lock().paused_until.filter(|until| *until > Instant::now()).map(Instant::into_std)
    }

    fn judge(&self, begun: Instant, load: Load) {
        let now = Instant::now();
        let mut state = self.lock();
        match load {
            Load::Fine => {
                state.note_full(now);
                let saturated = state.full_at.is_some_and(|full| full >= begun);
                state.limit.served(saturated);
            }
            Load::Over { pause } => {
                state.limit.overloaded(begun.into_std(), now.into_std());
                if let Some(pause) = pause {
                    state.paused_until = state.paused_until.max(Some(now + pause.min(self.pause_max)));
                }
            }
            Load::Unknown => {}
        }
        let limit = state.limit.now();
        if state.slots < limit {
            self.slots.add_permits(limit - state.slots);
            state.slots = limit;
        }
        // Free slots are removed at once, held ones when they are released.
        state.slots -= self.slots.forget_permits(state.slots.saturating_sub(limit));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves the state consistent: nothing in a critical section can fail half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Releases the slot, and reports the result of the request.
    pub fn done(self, load: Load) {
        self.gate.judge(self.begun, load);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.used -= 1;
        if state.slots > state.limit.now()
            && let Some(slot) = self.slot.take()
        {
            slot.forget();
            state.slots -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Pass>>>;

    /// As many as are let through at once, and one that has to wait.
    async fn fill(gate: &Gate) -> (Vec<Pass>, Waiting) {
        let mut inside = Vec::new();
        loop {
            let gate = gate.clone();
            // Without tokio's budget, which makes a task that polls a lot wait for its next turn.
            let mut next: Waiting = Box::pin(tokio::task::unconstrained(async move { gate.enter().await }));
            match futures::poll!(&mut next) {
                std::task::Poll::Ready(pass) => inside.push(pass),
                std::task::Poll::Pending => return (inside, next),
            }
        }
    }

    #[tokio::test]
    async fn an_overload_halves_once_per_round_and_successes_bring_the_limit_back() {
        let gate = Gate::new(16, Duration::ZERO);
        let (inside, waiting) = fill(&gate).await;
        assert_eq!(inside.len(), 16);
        drop(waiting);
        // All of them were let through before the first one failed: one round, one reduction.
        inside.into_iter().for_each(|pass| pass.done(Load::Over { pause: None }));
        assert_eq!(gate.limit(), 8);
        let (inside, waiting) = fill(&gate).await;
        assert_eq!(inside.len(), 8);
        drop(waiting);
        drop(inside);
        let mut rounds = 0;
        while gate.limit() < 16 {
            let (inside, waiting) = fill(&gate).await;
            drop(waiting);
            assert_eq!(inside.len(), gate.limit());
            inside.into_iter().for_each(|pass| pass.done(Load::Fine));
            rounds += 1;
            assert!(rounds < 20, "one more in each round at most");
        }
    }

    #[tokio::test]
    async fn never_below_one_and_nothing_else_changes_it() {
        let gate = Gate::new(4, Duration::ZERO);
        for _ in 0..10 {
            gate.enter().await.done(Load::Over { pause: None });
        }
        assert_eq!(gate.limit(), 1);
        drop(gate.enter().await);
        gate.enter().await.done(Load::Unknown);
        assert_eq!(gate.limit(), 1);
        let (inside, waiting) = fill(&gate).await;
        assert_eq!(inside.len(), 1);
        drop(inside);
        waiting.await.done(Load::Fine);
    }

    #[tokio::test]
    async fn a_pause_holds_everybody_and_is_bounded() {
        let gate = Gate::new(4, Duration::from_millis(30));
        let asked = Some(Duration::from_secs(3600));
        gate.enter().await.done(Load::Over { pause: asked });
        let begun = Instant::now();
        let mut next = Box::pin(gate.enter());
        assert!(futures::poll!(&mut next).is_pending());
        let pass = next.await;
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(25) && waited < Duration::from_secs(60), "{waited:?}");
        // The pause is not the request's own time.
        assert!(pass.begun >= begun + Duration::from_millis(25));
    }
}
