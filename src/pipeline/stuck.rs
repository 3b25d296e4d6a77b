//! Messages in flight that do not move although no known outage explains it. They also hold back their partition's
//! commits, so `/readyz` reports them.

use std::time::{Duration, Instant};

use super::watermark::{Oldest, Watermarks};
use crate::domain::{PipelineReason, Stage};
use crate::telemetry::{Component, Health};

/// How many partitions are named in the report.
const NAMED_MAX: usize = 3;

pub struct Stuck {
    /// Zero: never.
    after: Duration,
    health: Health,
}

impl Stuck {
    pub fn new(after: Duration, health: Health) -> Self {
        Self { after, health }
    }

    pub fn look(&self, watermarks: &Watermarks, now: Instant) {
        if self.after.is_zero() {
            return;
        }
        let out: Vec<Stage> =
            self.health.reasons().into_iter().filter_map(|(component, _)| component.stage()).collect();
        let mut stuck: Vec<_> = watermarks
            .oldest()
            .filter(|oldest| now.saturating_duration_since(oldest.taken_at) >= self.after && !explained(oldest, &out))
            .collect();
        if stuck.is_empty() {
            return self.health.over(Component::InFlight);
        }
        stuck.sort_by_key(|oldest| oldest.taken_at);
        let named: Vec<_> = stuck.iter().take(NAMED_MAX).map(|oldest| described(oldest, now)).collect();
        let more = stuck.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(", and {more} more partitions") } else { String::new() };
        let why = format!(
            "{}{more}; their offsets are not committed meanwhile. If what is named is not merely slow, restart the \
             process (limit: pipeline.stalled_after_ms)",
            named.join(", ")
        );
        self.health.outage(Component::InFlight, PipelineReason::MessageStuck, why);
    }
}

/// Whether `/readyz` already names the reason: the message's stage has an outage. For a message that has not started,
/// an outage of any stage counts.
fn explained(oldest: &Oldest, out: &[Stage]) -> bool {
    match oldest.flight.stage() {
        Some(stage) => out.contains(&stage),
        None => !out.is_empty(),
    }
}

fn described(oldest: &Oldest, now: Instant) -> String {
    let at = match oldest.flight.stage() {
        Some(stage) => format!("in stage {stage}"),
        None => "waiting for its turn, or for an earlier message of its asset".to_owned(),
    };
    let seconds = now.saturating_duration_since(oldest.taken_at).as_secs();
    format!("{}@{} has been {at} for {seconds} s", oldest.partition, oldest.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MediaReason, Message, TopicPartition};
    use crate::pipeline::flight;
    use crate::pipeline::watermark::Taken;

    #[tokio::test]
    async fn a_message_that_does_not_move_is_named_with_its_stage_unless_an_outage_explains_it() {
        let (health, mut watermarks) = (Health::new(), Watermarks::default());
        let stuck = Stuck::new(Duration::from_secs(600), health.clone());
        watermarks.assign(TopicPartition { topic: "t".into(), partition: 3 }, 1);
        let message = Message::empty("t", 3, 118);
        let Taken::InFlight(taken) = watermarks.take(&message) else { panic!("it is in flight") };
        let (soon, late) = (Instant::now() + Duration::from_secs(599), Instant::now() + Duration::from_secs(601));

        stuck.look(&watermarks, soon);
        assert_eq!(health.reasons(), []);
        stuck.look(&watermarks, late);
        assert!(
            health.reasons()[0].1.contains("t[3]@118 has been waiting for its turn, or for an earlier message"),
            "{health:?}"
        );
        taken.carry(async { flight::enter(Stage::Fetch) }).await;
        stuck.look(&watermarks, late);
        assert!(health.reasons()[0].1.contains("in stage fetch for 6"), "{health:?}");

        health.outage(Stage::Fetch, MediaReason::S3CredentialsRefused, "no");
        stuck.look(&watermarks, late);
        assert_eq!(health.reasons(), [(Stage::Fetch.into(), "no".to_owned())], "named already");
        health.over(Stage::Fetch);
        stuck.look(&watermarks, late);
        assert_eq!(health.reasons().len(), 1);
        watermarks.settle(&message);
        stuck.look(&watermarks, late);
        assert_eq!(health.reasons(), []);
    }
}
