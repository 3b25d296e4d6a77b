//! Watches the memory of a trial process. A message that takes more than allowed counts as fatal before memory runs
//! out: in a container the kernel would kill any process, perhaps all, without telling which one was at fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// How often memory is checked during a trial. Pages are touched at some gigabytes per second.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Allowed beyond the message's reservations: graph runs, what allocators and decoders keep, and uncounted memory such
/// as the message itself.
const SLACK_BYTES: u64 = 256 * 1024 * 1024;

/// No trial is running.
const RESTING: u64 = 0;

pub(super) struct Watch {
    /// Resident bytes when the trial began.
    base: Arc<AtomicU64>,
    thread: Thread,
}

impl Watch {
    /// `reserved`: bytes reserved for the message so far. `tell`: called once, when a message takes too much.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        reserved: impl Fn() -> u64 + Send + 'static,
        tell: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let base = Arc::new(AtomicU64::new(RESTING));
        let seen = base.clone();
        let look = move || {
            let (mut of, mut most_reserved) = (RESTING, 0);
            loop {
                let base = seen.load(Ordering::Acquire);
                if base == RESTING {
                    of = RESTING;
                    std::thread::park();
                    continue;
                }
                if base != of {
                    (of, most_reserved) = (base, 0);
                }
                most_reserved = most_reserved.max(reserved());
                let Some(resident) = resident_bytes() else { return };
                if let Some(why) = too_much(base, most_reserved, resident) {
                    return tell(why);
                }
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("memory-watch".into()).spawn(look)?.thread().clone();
        Ok(Self { base, thread })
    }

    pub(super) fn begin(&self) {
        self.base.store(resident_bytes().unwrap_or(RESTING), Ordering::Release);
        self.thread.unpark();
    }

    pub(super) fn rest(&self) {
        self.base.store(RESTING, Ordering::Release);
    }
}

fn too_much(base: u64, reserved: u64, resident: u64) -> Option<String> {
    let taken = resident.saturating_sub(base);
    let allowed = reserved.saturating_add(SLACK_BYTES);
    let mib = |bytes: u64| bytes / (1024 * 1024);
    (taken > allowed).then(|| format!("it took {} MiB of memory and may take {} MiB", mib(taken), mib(allowed)))
}

/// `None` if the system does not report it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_is_reserved_is_allowed_and_some_more() {
        assert_eq!(too_much(900 * MIB, 400 * MIB, 1_556 * MIB), None);
        let why = too_much(900 * MIB, 400 * MIB, 1_557 * MIB);
        assert_eq!(why.as_deref(), Some("it took 657 MiB of memory and may take 656 MiB"));
        assert_eq!(too_much(900 * MIB, 0, 100 * MIB), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_a_message_takes_is_seen_while_it_is_tried() {
        let (tell, told) = mpsc::channel();
        let watch = Watch::start(|| 0, move |why| tell.send(why).unwrap()).unwrap();
        watch.begin();
        watch.rest();
        let ballast = vec![1_u8; usize::try_from(SLACK_BYTES + 64 * MIB).unwrap()];
        std::hint::black_box(&ballast);
        // From here on the ballast is part of the base.
        watch.begin();
        assert!(told.recv_timeout(10 * LOOK_INTERVAL).is_err());
        // In a loop, because other tests of this process allocate and free memory meanwhile.
        let mut more = Vec::new();
        let why = (0..32).find_map(|_| {
            more.push(std::hint::black_box(vec![1_u8; usize::try_from(64 * MIB).unwrap()]));
            told.recv_timeout(20 * LOOK_INTERVAL).ok()
        });
        let why = why.expect("it is seen");
        assert!(why.contains("may take 256 MiB"), "{why}");
    }
}
