//! Parts of the process that `/readyz` names.

use std::cmp::Ordering;

use crate::domain::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The process itself, while it starts and stops.
    Worker,
    Kafka,
    /// Messages that the broker removed before they were read.
    KafkaSkipped,
    /// An outage that holds messages in a stage.
    Stage(Stage),
    Commit,
    /// Messages that are not settled for too long.
    InFlight,
}

impl Component {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Kafka => "kafka",
            Self::KafkaSkipped => "kafka_skipped",
            Self::Stage(stage) => stage.as_str(),
            Self::Commit => "commit",
            Self::InFlight => "in_flight",
        }
    }

    pub fn stage(self) -> Option<Stage> {
        match self {
            Self::Stage(stage) => Some(stage),
            _ => None,
        }
    }
}

impl From<Stage> for Component {
    fn from(stage: Stage) -> Self {
        Self::Stage(stage)
    }
}

/// Ordered by name, as they are listed.
impl Ord for Component {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Component {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
