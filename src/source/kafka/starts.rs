//! Start offsets of assigned partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::note::Note;
use crate::config::{OffsetReset, is_internal, is_pattern};
use crate::domain::{Finding, TopicPartition};
use crate::kafka_client::{self, OffsetEntry, TopicIds};

/// Timeout of one query, which blocks the polling thread. On its connection the answer follows that of a Fetch request, which
/// a broker holds for up to `fetch.wait.max.ms` (500) if there is nothing to fetch.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the source ends if `auto.offset.reset` is `error`.
pub(super) fn refused() -> Finding {
    Finding::new(
        "a partition no longer has the message at the group's offset, and auto.offset.reset does not allow to choose another one",
    )
    .hint(
        "clipstream check names the partition: set its offset with kafka-consumer-groups --reset-offsets, or set \
         kafka.auto_offset_reset to earliest",
    )
}

/// Where partitions without a committed offset begin.
#[derive(Clone, Debug)]
pub(super) enum Reset {
    Earliest,
    /// For topics that the group had never read when this worker connected: the ends of their partitions at that time. Other
    /// partitions were added later (or their topics match a pattern), and are read from their beginning.
    Latest(BTreeMap<TopicPartition, i64>),
    /// Not allowed: the operator has to decide.
    Refuse,
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub partition: TopicPartition,
    /// `None`: at the beginning of its log.
    pub at: Option<i64>,
    pub leader_epoch: Option<i32>,
    /// The group's offset; `None` if it belongs to a deleted topic.
    pub committed: Option<i64>,
    pub origin: StartOrigin,
    /// How often processing started here before and settled nothing.
    pub starts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartOrigin {
    /// The group's offset.
    Committed,
    /// The group has no offset.
    Reset,
    /// The group's offset belongs to a deleted topic of the same name.
    TopicMadeAnew { offset: i64 },
}

#[derive(Debug)]
pub(super) enum NoStart {
    /// No answer; ask again.
    Later(String),
    Refused(Finding),
}

impl From<KafkaError> for NoStart {
    fn from(error: KafkaError) -> Self {
        Self::Later(error.to_string())
    }
}

impl Reset {
    /// Queries what is needed before the group is joined.
    ///
    /// # Errors
    /// No answer, for `latest`.
    pub fn learn<C: ConsumerContext>(
        of: OffsetReset,
        consumer: &BaseConsumer<C>,
        topics: &[String],
    ) -> Result<Self, KafkaError> {
        match of {
            OffsetReset::Earliest => Ok(Self::Earliest),
            OffsetReset::Refuse => Ok(Self::Refuse),
            OffsetReset::Latest => Ok(Self::Latest(ends_of_unread(consumer, topics)?)),
        }
    }
}

/// The end offsets of partitions that the group has never read. Named topics are queried one by one; topics that patterns may
/// match are queried together, so that topics created later are not among them.
fn ends_of_unread<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[String],
) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
    let metadata = consumer.fetch_metadata(None, ASK_TIMEOUT * 4)?;
    let has_pattern = topics.iter().any(|topic| is_pattern(topic));
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
        let name = topic.name();
        let partition =
            |p: &rdkafka::metadata::MetadataPartition| TopicPartition { topic: name.into(), partition: p.id() };
        let partitions: Vec<_> = topic.partitions().iter().map(partition).collect();
        if topics.iter().any(|topic| topic == name) {
            named.push(partitions);
        } else if has_pattern && !is_internal(name) {
            others.extend(partitions);
        }
    }
    let all: Vec<_> = named.iter().flatten().chain(&others).cloned().collect();
    let read: BTreeSet<_> = committed(consumer, &all, ASK_TIMEOUT * 4)?
        .into_iter()
        .filter_map(|entry| matches!(entry.offset, Offset::Offset(_)).then_some(entry.partition))
        .collect();
    named.push(others);
    let unread = named.into_iter().filter(|of| !of.iter().any(|partition| read.contains(partition)));
    edges(consumer, &unread.flatten().collect::<Vec<_>>(), Offset::End, ASK_TIMEOUT * 4)
}

/// Where logs begin ([`Offset::Beginning`]) or end ([`Offset::End`]; without open transactions).
pub(super) fn edges<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    edge: Offset,
    timeout: Duration,
) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let asked: Vec<_> = partitions.iter().map(|partition| OffsetEntry::new(partition.clone(), edge)).collect();
    // librdkafka passes the timestamp through, and in the protocol (ListOffsets) both ends are special timestamps.
    let found = consumer.offsets_for_times(kafka_client::list(&asked), timeout)?;
    let edge = |entry: OffsetEntry| match (entry.error, entry.offset) {
        (None, Offset::Offset(offset)) => Ok((entry.partition, offset)),
        (error, _) => Err(KafkaError::OffsetFetch(error.unwrap_or(RDKafkaErrorCode::NoOffset))),
    };
    kafka_client::entries(&found).into_iter().map(edge).collect()
}

/// The group's offsets; [`Offset::Invalid`] if there is none.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Vec<OffsetEntry>, KafkaError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = partitions.iter().map(|p| OffsetEntry::new(p.clone(), Offset::Invalid)).collect();
    let found = consumer.committed_offsets(kafka_client::list(&asked), timeout)?;
    let entries = kafka_client::entries(&found);
    match entries.iter().find_map(|entry| entry.error) {
        Some(error) => Err(KafkaError::OffsetFetch(error)),
        None => Ok(entries),
    }
}

/// Queries what determines where these partitions begin. `read_before`: partitions that this consumer has had before, for
/// which librdkafka may remember the beginning of a deleted log.
///
/// # Errors
/// See [`NoStart`].
pub(super) fn starts<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    ids: &TopicIds,
    reset: &Reset,
    read_before: &BTreeSet<TopicPartition>,
) -> Result<Vec<Start>, NoStart> {
    let mut starts = Vec::with_capacity(partitions.len());
    for entry in committed(consumer, partitions, ASK_TIMEOUT)? {
        let id = ids.get(&*entry.partition.topic).and_then(Option::as_ref);
        starts.push(start(entry, id, reset)?);
    }
    for start in starts.iter_mut().filter(|start| start.at.is_none() && read_before.contains(&start.partition)) {
        let TopicPartition { topic, partition } = &start.partition;
        start.at = Some(consumer.fetch_watermarks(topic, *partition, ASK_TIMEOUT)?.0);
    }
    Ok(starts)
}

fn start(found: OffsetEntry, id: Option<&Arc<str>>, reset: &Reset) -> Result<Start, NoStart> {
    let OffsetEntry { partition, offset, leader_epoch, metadata, .. } = found;
    let nowhere =
        Start { partition, at: None, leader_epoch: None, committed: None, origin: StartOrigin::Reset, starts: 0 };
    if let Offset::Offset(offset) = offset {
        let note = Note::parse(&metadata);
        if note.is_of_another(id) {
            return Ok(Start { origin: StartOrigin::TopicMadeAnew { offset }, ..nowhere });
        }
        let (at, committed, origin) = (Some(offset), Some(offset), StartOrigin::Committed);
        return Ok(Start { at, leader_epoch, committed, origin, starts: note.starts, ..nowhere });
    }
    match reset {
        Reset::Earliest => Ok(nowhere),
        Reset::Latest(ends) => Ok(Start { at: ends.get(&nowhere.partition).copied(), ..nowhere }),
        Reset::Refuse => {
            let message = "and auto.offset.reset does not allow to choose one";
            let finding = Finding::new(format!("the group has no offset for {}, {message}", nowhere.partition));
            Err(NoStart::Refused(finding.hint(
                "set it with kafka-consumer-groups --reset-offsets, or set kafka.auto_offset_reset to earliest or latest",
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    fn found(offset: Offset, topic_id: Option<&str>) -> OffsetEntry {
        let metadata = Note { topic_id: topic_id.map(Into::into), starts: 2 }.to_metadata();
        OffsetEntry { metadata, leader_epoch: Some(4), ..OffsetEntry::new(partition("t", 0), offset) }
    }

    #[test]
    fn an_offset_of_a_topic_that_is_gone_is_no_place_to_begin_at() {
        let now = "now".into();
        let begin = |metadata_id, id| start(found(Offset::Offset(500), metadata_id), id, &Reset::Earliest).unwrap();
        let (gone, same) = (begin(Some("then"), Some(&now)), begin(Some("now"), Some(&now)));
        assert_eq!((gone.at, gone.committed, gone.leader_epoch), (None, None, None));
        assert_eq!(gone.origin, StartOrigin::TopicMadeAnew { offset: 500 });
        assert_eq!((gone.starts, same.starts), (0, 2), "nor is what was counted there of any use");
        assert_eq!((same.at, same.committed, same.leader_epoch), (Some(500), Some(500), Some(4)));
        for unknown in [begin(None, Some(&now)), begin(Some("then"), None)] {
            assert_eq!(unknown, same, "what is not known is no difference");
        }
    }

    #[test]
    fn latest_is_for_what_was_there_and_unread_when_the_worker_connected() {
        let ends = BTreeMap::from([(partition("t", 0), 70)]);
        let at = |topic: &str, number, reset: &Reset| {
            let entry = OffsetEntry::new(partition(topic, number), Offset::Invalid);
            start(entry, None, reset).map(|start| (start.at, start.committed)).ok()
        };
        let latest = Reset::Latest(ends);
        assert_eq!(at("t", 0, &latest), Some((Some(70), None)));
        assert_eq!(at("t", 1, &latest), Some((None, None)), "a partition that was added");
        assert_eq!(at("new", 0, &latest), Some((None, None)), "a topic that was made later");
        assert_eq!(at("t", 0, &Reset::Earliest), Some((None, None)));
        assert_eq!(at("t", 0, &Reset::Refuse), None);
    }
}
