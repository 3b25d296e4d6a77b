//! Offsets with leader epoch (KIP-320) and metadata, which rdkafka does not expose.

use std::ffi::{CStr, CString};

use rdkafka::bindings::rd_kafka_topic_partition_t;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, bindings};

use crate::domain::TopicPartition;

/// One entry of a [`TopicPartitionList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// Epoch of the leader that wrote the message before `offset`; with it a client detects that the log was truncated there.
    pub leader_epoch: Option<i32>,
    /// Metadata of a committed offset; empty: none.
    pub metadata: String,
    pub error: Option<RDKafkaErrorCode>,
}

impl OffsetEntry {
    pub fn new(partition: TopicPartition, offset: Offset) -> Self {
        Self { partition, offset, leader_epoch: None, metadata: String::new(), error: None }
    }
}

/// The entries of the list. Metadata that is not UTF-8 was written by another program, and is read with replacement characters.
pub fn entries(list: &TopicPartitionList) -> Vec<OffsetEntry> {
    let entry = |raw: &rd_kafka_topic_partition_t| {
        // SAFETY: `raw` is an entry of a list that is alive. Its topic is a C string, and its metadata as long as it says.
        let (topic, metadata, leader_epoch) = unsafe {
            let topic = CStr::from_ptr(raw.topic).to_string_lossy();
            let metadata = match raw.metadata.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(raw.metadata.cast::<u8>(), raw.metadata_size),
            };
            (topic, metadata, bindings::rd_kafka_topic_partition_get_leader_epoch(raw))
        };
        OffsetEntry {
            partition: TopicPartition { topic: topic.into(), partition: raw.partition },
            offset: Offset::from_raw(raw.offset),
            leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
            metadata: String::from_utf8_lossy(metadata).into_owned(),
            error: (raw.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| raw.err.into()),
        }
    };
    raw(list).iter().map(entry).collect()
}

/// A list with these entries, without errors.
pub fn list(entries: &[OffsetEntry]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(entries.len());
    for OffsetEntry { partition, offset, leader_epoch, metadata, .. } in entries {
        let mut element = list.add_partition(&partition.topic, partition.partition);
        // Only negative offsets are refused, which no broker returns.
        let _ = element.set_offset(*offset);
        if !metadata.is_empty() {
            element.set_metadata(metadata);
        }
        if let (Some(epoch), Some(last)) = (leader_epoch, raw_mut(&mut list).last_mut()) {
            // SAFETY: the entry was added to a list that is alive.
            unsafe { bindings::rd_kafka_topic_partition_set_leader_epoch(last, *epoch) };
        }
    }
    list
}

fn raw(list: &TopicPartitionList) -> &[rd_kafka_topic_partition_t] {
    if list.count() == 0 {
        return &[];
    }
    // SAFETY: the list is alive for as long as it is borrowed, and holds as many entries as it counts.
    unsafe { std::slice::from_raw_parts((*list.ptr()).elems, list.count()) }
}

fn raw_mut(list: &mut TopicPartitionList) -> &mut [rd_kafka_topic_partition_t] {
    if list.count() == 0 {
        return &mut [];
    }
    // SAFETY: as in `raw`, and the list is borrowed exclusively.
    unsafe { std::slice::from_raw_parts_mut((*list.ptr()).elems, list.count()) }
}

/// Epoch of the leader that wrote the message; `None` if the broker does not report it (Kafka before 2.1, old message formats).
pub fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is alive.
    let epoch = unsafe { bindings::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// The beginning of a consumed partition's log, according to the last fetch response. Sends no request.
pub fn known_begin<C: ClientContext>(client: &Client<C>, partition: &TopicPartition) -> Option<i64> {
    let topic = CString::new(&*partition.topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: client, name and both numbers outlive the call.
    let error = unsafe {
        bindings::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition.partition,
            &mut low,
            &mut high,
        )
    };
    (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_what_is_beside_an_offset() {
        let partition = |partition| TopicPartition { topic: "t".into(), partition };
        let whole = OffsetEntry {
            leader_epoch: Some(7),
            metadata: "{\"a\":1}".into(),
            ..OffsetEntry::new(partition(0), Offset::Offset(42))
        };
        let bare = OffsetEntry::new(partition(1), Offset::Beginning);
        let made = list(&[whole.clone(), bare.clone()]);
        assert_eq!(entries(&made), [whole, bare]);
        assert_eq!(entries(&made.clone()), entries(&made), "librdkafka's own copies keep it, too");
        assert_eq!(entries(&TopicPartitionList::new()), []);
    }

    #[test]
    fn what_another_program_wrote_beside_an_offset_is_no_reason_to_panic() {
        let mut made = TopicPartitionList::new();
        made.add_partition("t", 0).set_metadata("ab");
        for n in 0..2 {
            // SAFETY: two bytes were written there.
            unsafe { raw_mut(&mut made)[0].metadata.cast::<u8>().add(n).write(0xff) };
        }
        assert_eq!(entries(&made)[0].metadata, "\u{fffd}\u{fffd}");
    }
}
