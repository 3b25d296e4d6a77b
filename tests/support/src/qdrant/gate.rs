//! What stands before every call: the API key, and the faults that a test asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use qdrant_client::qdrant::ReadConsistency;
use qdrant_client::qdrant::read_consistency::Value as Consistency;
use tonic::Status;

use super::status::{no_api_key, unsupported};

/// Faults to come. A call is named as in its path, `Points/Upsert`; an empty name means any call.
#[derive(Default)]
pub struct Faults {
    state: Mutex<FaultState>,
}

#[derive(Default)]
struct FaultState {
    planned: Vec<Fault>,
    calls: HashMap<String, usize>,
    held: usize,
    consistencies: Vec<Option<Consistency>>,
    refused: Option<(Vec<Option<Consistency>>, Status)>,
    dawdle: Duration,
    traffic: Traffic,
}

/// What came in and went out since the last time, without headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub updates: usize,
    /// Of the updates.
    pub operations: usize,
    /// Reads of points by id.
    pub reads: usize,
    pub bytes: usize,
}

struct Fault {
    call: String,
    times: usize,
    action: Action,
}

#[derive(Clone)]
enum Action {
    Refuse(Status),
    LoseReply(Status),
    Delay(Duration),
    /// Not carried out, or carried out; in any case never answered.
    Hold {
        carried_out: bool,
    },
    WaitTimeout,
}

impl Faults {
    /// The next `times` calls are not carried out, and answered with `status`.
    pub fn refuse(&self, call: &str, times: usize, status: Status) {
        self.plan(call, times, Action::Refuse(status));
    }

    /// The next `times` calls are carried out, but answered with `status`: as when the connection breaks in between.
    pub fn lose_reply(&self, call: &str, times: usize, status: Status) {
        self.plan(call, times, Action::LoseReply(status));
    }

    /// The next `times` calls are carried out only after `delay`.
    pub fn delay(&self, call: &str, times: usize, delay: Duration) {
        self.plan(call, times, Action::Delay(delay));
    }

    /// From now on each operation of an update waits for a random time of up to this before it is applied, so that those of
    /// other updates come in between.
    pub fn dawdle(&self, most: Duration) {
        self.state().dawdle = most;
    }

    #[expect(clippy::disallowed_methods, reason = "runs on a blocking thread")]
    pub(super) fn linger(&self) {
        let most = self.state().dawdle;
        if !most.is_zero() {
            std::thread::sleep(most.mul_f64(rand::random()));
        }
    }

    /// The next call is never answered, before it is carried out or after: for a client that is killed meanwhile.
    pub fn hold(&self, call: &str, carried_out: bool) {
        self.plan(call, 1, Action::Hold { carried_out });
    }

    /// How many calls have come as far as their [`Self::hold`].
    pub fn held(&self) -> usize {
        self.state().held
    }

    /// The next `times` updates are carried out, but answered OK with status `WaitTimeout`, as by a busy cluster.
    pub fn wait_timeout(&self, times: usize) {
        self.plan(WAIT_TIMEOUT, times, Action::WaitTimeout);
    }

    /// Reads of points by id that ask for one of these consistencies are answered with `status`, until the next such call.
    pub fn refuse_reads_of(&self, consistencies: Vec<Option<Consistency>>, status: Status) {
        self.state().refused = Some((consistencies, status));
    }

    /// Which consistency reads of points by id have asked for since the last time.
    pub fn take_consistencies(&self) -> Vec<Option<Consistency>> {
        std::mem::take(&mut self.state().consistencies)
    }

    pub(super) fn read_with(&self, consistency: Option<&ReadConsistency>) -> Result<(), Status> {
        let asked = consistency.and_then(|asked| asked.value);
        let mut state = self.state();
        state.consistencies.push(asked);
        match &state.refused {
            Some((refused, status)) if refused.contains(&asked) => Err(status.clone()),
            _ => Ok(()),
        }
    }

    /// Updates in batches, and reads of points by id.
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut self.state().traffic)
    }

    pub(super) fn count_update(&self, operations: usize, bytes: usize) {
        let traffic = &mut self.state().traffic;
        traffic.updates += 1;
        traffic.operations += operations;
        traffic.bytes += bytes;
    }

    pub(super) fn count_read(&self, bytes: usize) {
        let traffic = &mut self.state().traffic;
        traffic.reads += 1;
        traffic.bytes += bytes;
    }

    pub fn clear(&self) {
        self.state().planned.clear();
    }

    /// How many planned faults have not happened yet.
    pub fn remaining(&self) -> usize {
        self.state().planned.iter().map(|fault| fault.times).sum()
    }

    /// How often `call` came in, whatever it was answered.
    pub fn calls(&self, call: &str) -> usize {
        self.state().calls.get(call).copied().unwrap_or_default()
    }

    pub(super) fn take_wait_timeout(&self) -> bool {
        self.take(|fault| fault.call == WAIT_TIMEOUT).is_some()
    }

    fn plan(&self, call: &str, times: usize, action: Action) {
        if times > 0 {
            self.state().planned.push(Fault { call: call.to_owned(), times, action });
        }
    }

    fn take_for(&self, call: &str) -> Option<Action> {
        *self.state().calls.entry(call.to_owned()).or_default() += 1;
        self.take(|fault| fault.call.is_empty() || fault.call == call)
    }

    /// Uses up one time of the first planned fault that fits.
    fn take(&self, fits: impl Fn(&Fault) -> bool) -> Option<Action> {
        let mut state = self.state();
        let position = state.planned.iter().position(fits)?;
        let fault = &mut state.planned[position];
        let action = fault.action.clone();
        fault.times -= 1;
        if fault.times == 0 {
            state.planned.remove(position);
        }
        Some(action)
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not a call's name, so that no call takes this fault.
const WAIT_TIMEOUT: &str = "(update status)";

const SERVICES: [&str; 3] = ["Qdrant", "Collections", "Points"];

pub struct Gate {
    pub api_key: Option<String>,
    pub faults: Arc<Faults>,
}

pub async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let call = request.uri().path().trim_start_matches("/qdrant.").to_owned();
    if !SERVICES.iter().any(|service| call.split('/').next() == Some(service)) {
        return unsupported(&format!("the call {call}")).into_http();
    }
    if let Some(api_key) = &gate.api_key {
        let sent = request.headers().get("api-key").and_then(|value| value.to_str().ok());
        if sent != Some(api_key) {
            return no_api_key().into_http();
        }
    }
    match gate.faults.take_for(&call) {
        None | Some(Action::WaitTimeout) => next.run(request).await,
        Some(Action::Refuse(status)) => status.into_http(),
        Some(Action::LoseReply(status)) => {
            // Carried out to the end; only its answer is thrown away.
            drop(next.run(request).await);
            status.into_http()
        }
        Some(Action::Hold { carried_out }) => {
            if carried_out {
                drop(next.run(request).await);
            }
            gate.faults.state().held += 1;
            std::future::pending().await
        }
        Some(Action::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            next.run(request).await
        }
    }
}
