//! The topics: what they are for, and how the broker keeps them.

use crate::outages;

/// Longer in all than any fault lasts: a good message must not become a dead letter.
pub const RETRY_DELAYS_S: [u64; 6] = [1, 2, 4, 8, 16, 32];

/// No limit to timestamps, where the broker would refuse those of [`crate::misdate`] and of workers whose clocks are wrong.
const ANY_TIME: [(&str, &str); 2] = [
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
];
/// 45 days: of topics in which workers write their own time. Longer than any worker's clock is set back (`clock.rs`), and
/// shorter than the messages of [`Topic::Backlog`] are old.
const LETTERS_KEPT_MS: &str = "3888000000";
/// Only the last message of each key, and soon: a segment is compacted once another one has begun.
const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.ms", "5000"), ("min.cleanable.dirty.ratio", "0.01")];
/// Bytes of the largest letter in one record: less than some messages of [`Topic::Tenants`] have.
const LETTER_BYTES_MAX: (&str, &str) = ("max.message.bytes", "8192");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Assets,
    Pictures,
    Captions,
    /// Nothing in it is younger than two months, by its timestamps.
    Backlog,
    /// Deleted and made anew while workers run.
    Anew,
    /// Its messages are removed before all of them are read.
    Removed,
    /// Of transactional producers.
    Transactions,
    /// Gets more partitions while workers run.
    Growing,
    /// Of the group that begins at the end.
    Latest,
    /// Of the group whose pictures come from hosts with names.
    Named,
    /// Of the group whose messages have tenants.
    Tenants,
    /// Of the same group; the broker keeps the last message of each key only.
    Compacted,
    /// Of the worker whose disk is full.
    Disk,
    /// Of one of the workers that go through an hour's outage.
    Outage(&'static str),
}

impl Topic {
    /// Those that the workload feeds, all the time.
    pub const FED: [Self; 4] = [Self::Assets, Self::Pictures, Self::Captions, Self::Backlog];
    /// Those whose logs are harmed, and which the faults themselves feed.
    pub const HARMED: [Self; 4] = [Self::Anew, Self::Removed, Self::Transactions, Self::Growing];
    /// Those of the campaign's workers.
    pub const ALL: [Self; 8] = [
        Self::Assets,
        Self::Pictures,
        Self::Captions,
        Self::Backlog,
        Self::Anew,
        Self::Removed,
        Self::Transactions,
        Self::Growing,
    ];
    /// Those of workers beside them.
    pub const APART: [Self; 4] = [Self::Latest, Self::Named, Self::Tenants, Self::Compacted];
    /// Those of the group whose messages have tenants.
    pub const TENANTED: [Self; 2] = [Self::Tenants, Self::Compacted];

    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Pictures => "pictures",
            Self::Captions => "captions",
            Self::Backlog => "backlog",
            Self::Anew => "anew",
            Self::Removed => "removed",
            Self::Transactions => "transactions",
            Self::Growing => "growing",
            Self::Latest => "latest",
            Self::Named => "named",
            Self::Tenants => "tenants",
            Self::Compacted => "compacted",
            Self::Disk => "disk",
            Self::Outage(name) => name,
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        let outages = outages::topics().map(Self::Outage);
        let all = Self::ALL.into_iter().chain(Self::APART).chain([Self::Disk]).chain(outages);
        all.into_iter().find(|topic| topic.name() == name)
    }

    pub fn dead_letters(self) -> String {
        format!("{}.dlq", self.name())
    }

    /// Of the topic, where workers put messages off.
    pub fn retries(self) -> impl Iterator<Item = String> {
        (1..=RETRY_DELAYS_S.len()).map(move |n| format!("{}.retry.{n}", self.name()))
    }

    /// When it is made.
    pub fn partitions(self) -> i32 {
        match self {
            Self::Assets => 6,
            Self::Disk | Self::Growing => 1,
            _ => 2,
        }
    }

    /// Of each of its retry topics.
    pub fn retry_partitions(self) -> i32 {
        if Self::FED.contains(&self) { 2 } else { 1 }
    }

    /// What a message means that names no operation.
    pub fn default_op(self) -> &'static str {
        match self {
            Self::Pictures | Self::Captions => "patch",
            _ => "upsert",
        }
    }
}

/// A topic to be made, and its settings.
#[derive(Clone, Debug)]
pub struct New {
    pub name: String,
    pub partitions: i32,
    pub settings: Vec<(&'static str, &'static str)>,
}

impl New {
    /// Of messages, which are kept for ever, whatever their timestamps say.
    pub fn source(topic: Topic) -> Self {
        let mut settings: Vec<_> = ANY_TIME.into_iter().chain([("retention.ms", "-1")]).collect();
        if topic == Topic::Compacted {
            settings.extend(COMPACTED);
        }
        Self { name: topic.name().to_owned(), partitions: topic.partitions(), settings }
    }

    /// Of dead-letter and retry topics: with a retention, as everywhere, that counts from the timestamp of the record.
    pub fn of_failures(name: String, partitions: i32) -> Self {
        let settings = ANY_TIME.into_iter().chain([("retention.ms", LETTERS_KEPT_MS)]).collect();
        Self { name, partitions, settings }
    }

    /// Of letters: two of these topics cannot store every letter unchanged.
    fn letters(topic: Topic) -> Self {
        let mut new = Self::of_failures(topic.dead_letters(), 1);
        match topic {
            Topic::Tenants => new.settings.push(LETTER_BYTES_MAX),
            Topic::Compacted => new.settings.extend(COMPACTED),
            _ => {}
        }
        new
    }

    /// A source with its topic of dead letters.
    pub fn with_letters(topics: &[Topic]) -> Vec<Self> {
        topics.iter().flat_map(|topic| [Self::source(*topic), Self::letters(*topic)]).collect()
    }

    pub fn retries(topics: &[Topic]) -> Vec<Self> {
        let of = |topic: &Topic| {
            let partitions = topic.retry_partitions();
            topic.retries().map(move |name| Self::of_failures(name, partitions)).collect::<Vec<_>>()
        };
        topics.iter().flat_map(of).collect()
    }
}

/// Names and numbers of partitions of these topics, as they were made; `retries`: with their retry topics.
pub fn partitions_of(topics: &[Topic], retries: bool) -> Vec<(String, i32)> {
    let own = topics.iter().map(|topic| (topic.name().to_owned(), topic.partitions()));
    let retry_topics = topics.iter().filter(|_| retries).flat_map(|topic| {
        let partitions = topic.retry_partitions();
        topic.retries().map(move |name| (name, partitions))
    });
    own.chain(retry_topics).collect()
}
