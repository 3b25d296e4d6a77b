//! Notices that the cores that this process may use are not those that its threads were made for.

use std::time::Duration;

use crate::config::{ClipSettings, cores};

const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Logs settings that ask for more threads than there are cores.
pub(super) fn warn_of_settings(settings: &ClipSettings) {
    for problem in settings.beyond(cores()) {
        tracing::warn!("{problem}: set it to 0, or raise the quota");
    }
}

/// Logs each change of the number of cores, such as a new CPU quota.
pub(super) async fn watch() -> ! {
    let mut known = cores();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Some(before) = changed(&mut known, cores()) {
            tracing::warn!(
                before,
                now = known,
                "the number of cores that this process may use has changed: restart it, so that its threads fit them"
            );
        }
    }
}

/// The number before, if it was another one.
fn changed(known: &mut usize, now: usize) -> Option<usize> {
    let before = std::mem::replace(known, now);
    (before != now).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_the_quota_is_reported_once() {
        let mut known = 4;
        let changes = [4, 2, 2, 8].map(|now| changed(&mut known, now));
        assert_eq!(changes, [None, Some(4), None, Some(2)]);
    }
}
