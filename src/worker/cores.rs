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
    watch_with(cores, |before, now| {
        tracing::warn!(
            before,
            now,
            "the cores that this process may use have changed: restart it, so that its threads fit them"
        );
    })
    .await
}

async fn watch_with(mut cores: impl FnMut() -> usize, mut changed: impl FnMut(usize, usize)) -> ! {
    let mut known = cores();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = cores();
        if now != known {
            changed(known, now);
            known = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_changes_is_reported_once() {
        let mut counts = [4, 4, 2, 2, 8].into_iter();
        let mut changes = Vec::new();
        let watched = watch_with(|| counts.next().unwrap_or(8), |before, now| changes.push((before, now)));
        assert!(tokio::time::timeout(10 * LOOK_INTERVAL, watched).await.is_err());
        assert_eq!(changes, [(4, 2), (2, 8)]);
    }
}
