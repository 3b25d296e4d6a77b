//! How much of its limits a collection has used, as far as strict mode knows: sizes as of the last look, and rates.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::points_update_operation::Operation;
use tonic::Status;

use super::status::{rate_later, rate_never};

/// Checks between two looks at how much there is (`UPDATE_INTERVAL` in Qdrant's collection_size_stats.rs).
const REFRESHED_EVERY: u64 = 32;

/// What the checks of one collection remember.
pub struct Usage {
    state: Mutex<UsageState>,
}

#[derive(Default)]
struct UsageState {
    checks: u64,
    points: u64,
    payload_bytes_seen: u64,
    /// Of all payload that was ever written.
    payload_bytes: u64,
    buckets: HashMap<&'static str, Bucket>,
}

struct Bucket {
    capacity: u32,
    tokens: f64,
    at: Instant,
}

impl Usage {
    /// Of a collection that has just been made or opened, which counts as a look.
    pub fn of(points: u64) -> Self {
        Self { state: Mutex::new(UsageState { checks: 1, points, ..UsageState::default() }) }
    }

    pub fn wrote(&self, operation: &Operation) {
        let bytes = |payload: &HashMap<String, proto::Value>| {
            payload.iter().map(|(key, value)| (key.len() + value.encoded_len()) as u64).sum::<u64>()
        };
        let written = match operation {
            Operation::Upsert(upsert) => upsert.points.iter().map(|point| bytes(&point.payload)).sum(),
            Operation::SetPayload(set) => bytes(&set.payload),
            Operation::OverwritePayload(set) => bytes(&set.payload),
            _ => 0,
        };
        self.lock().payload_bytes += written;
    }

    /// Points and payload bytes, as of the last look.
    pub fn estimate(&self, points: impl FnOnce() -> u64) -> (u64, u64) {
        let mut state = self.lock();
        let look = state.checks.is_multiple_of(REFRESHED_EVERY);
        state.checks += 1;
        if look {
            state.points = points();
            state.payload_bytes_seen = state.payload_bytes;
        }
        (state.points, state.payload_bytes_seen)
    }

    pub fn spend(&self, kind: &'static str, per_minute: Option<u32>, cost: usize) -> Result<(), Status> {
        let Some(capacity) = per_minute else { return Ok(()) };
        let (cost, full) = (cost as f64, f64::from(capacity));
        if cost > full {
            return Err(rate_never(kind));
        }
        let mut state = self.lock();
        let new = || Bucket { capacity, tokens: full, at: Instant::now() };
        let bucket = state.buckets.entry(kind).or_insert_with(new);
        if bucket.capacity != capacity {
            *bucket = new();
        }
        let now = Instant::now();
        let filled = bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * full / 60.0;
        (bucket.tokens, bucket.at) = (filled.min(full), now);
        if bucket.tokens >= cost {
            bucket.tokens -= cost;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((cost - bucket.tokens) * 60.0 / full);
        let seconds = wait.as_secs_f32().ceil() as u64;
        Err(rate_later(kind, cost, bucket.tokens, seconds))
    }

    fn lock(&self) -> MutexGuard<'_, UsageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
