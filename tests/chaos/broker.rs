//! The campaign's own way to the broker, past the proxy: what it sends, and what it reads back in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

use crate::Error;
use crate::misdate::MISDATED;
use crate::plan::{DIES, Planned, TENANT};
use crate::topics::{New, Topic};

const ANSWER: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(300);
const FLUSH: Duration = Duration::from_secs(120);
/// The broker deletes a topic in the background, and refuses its name until then.
const DELETION: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Broker {
    address: String,
    producer: FutureProducer,
}

/// What of a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// What a reader may see: nothing of transactions that were aborted.
    Committed,
    Everything,
}

impl Broker {
    pub fn connect(address: &str) -> Result<Self, Error> {
        let producer = client(address)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            // The broker is away for half a minute at a time.
            .set("message.timeout.ms", "600000")
            .create()?;
        Ok(Self { address: address.to_owned(), producer })
    }

    /// Another producer, which knows nothing of what was.
    pub fn anew(&self) -> Result<Self, Error> {
        Self::connect(&self.address)
    }

    /// A producer with transactions.
    pub fn transactional(&self, id: &str, timeout: Duration) -> Result<FutureProducer, Error> {
        let mut config = client(&self.address);
        config.set("transactional.id", id).set("transaction.timeout.ms", timeout.as_millis().to_string());
        Ok(config.create()?)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Error> {
        Ok(client(&self.address).create()?)
    }

    pub async fn create(&self, topics: &[New]) -> Result<(), Error> {
        let new = topics.iter().map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(1));
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let new: Vec<_> = new.collect();
        for created in self.admin()?.create_topics(&new, &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| format!("topic {topic} is not created: {code}"))?;
        }
        Ok(())
    }

    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        for deleted in self.admin()?.delete_topics(&[name], &AdminOptions::new()).await? {
            deleted.map_err(|(topic, code)| format!("topic {topic} is not deleted: {code}"))?;
        }
        Ok(())
    }

    /// Deletes a topic and makes another one of its name, as soon as the broker lets us.
    pub async fn make_anew(&self, topic: &New) -> Result<(), Error> {
        self.delete_topic(&topic.name).await?;
        let deadline = Instant::now() + DELETION;
        while let Err(error) = self.create(std::slice::from_ref(topic)).await {
            if Instant::now() > deadline {
                return Err(format!("{DELETION:?} after its deletion: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub async fn add_partitions(&self, topic: Topic, total: i32) -> Result<(), Error> {
        let new = NewPartitions::new(topic.name(), usize::try_from(total)?);
        for added in self.admin()?.create_partitions([&new], &AdminOptions::new()).await? {
            added.map_err(|(topic, code)| format!("topic {topic} has no {total} partitions: {code}"))?;
        }
        Ok(())
    }

    /// Removes what lies before this offset, as retention does; where the log begins then.
    pub async fn remove_before(&self, topic: Topic, partition: i32, before: i64) -> Result<i64, Error> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic.name(), partition, Offset::Offset(before))?;
        let removed = self.admin()?.delete_records(&list, &AdminOptions::new()).await?;
        let entry = removed.find_partition(topic.name(), partition).ok_or("nothing is said of the partition")?;
        entry.error()?;
        match entry.offset() {
            Offset::Offset(begin) => Ok(begin),
            other => Err(format!("the log begins at {other:?}").into()),
        }
    }

    /// Queues a message; it is delivered once, whatever the broker goes through, or the flush fails.
    pub async fn send(&self, planned: &Planned) -> Result<(), Error> {
        // The log is read back in the end: nobody needs the position now.
        queue(&self.producer, planned, None).await.map(drop)
    }

    /// A record of nothing with this timestamp.
    pub async fn send_at(&self, topic: &str, timestamp_ms: i64) -> Result<(), Error> {
        let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).payload("").timestamp(timestamp_ms);
        self.producer.send_result(record).map_err(|(error, _)| error)?.await?.map_err(|(error, _)| error)?;
        Ok(())
    }

    /// To one partition. The messages as they are in the log, once all are there.
    pub async fn deliver(&self, messages: &[Planned], partition: i32) -> Result<Vec<OwnedMessage>, Error> {
        let mut queued = Vec::with_capacity(messages.len());
        for message in messages {
            queued.push(queue(&self.producer, message, Some(partition)).await?);
        }
        let delivered = try_join_all(queued).await?;
        let placed = messages.iter().zip(delivered).map(|(message, delivered)| {
            let at = delivered.map_err(|(error, _)| error)?;
            let (value, key) = (message.value.clone(), Some(message.key.clone().into_bytes()));
            let topic = message.topic.name().to_owned();
            Ok(OwnedMessage::new(value, key, topic, Timestamp::NotAvailable, partition, at.offset, None))
        });
        placed.collect()
    }

    pub async fn flush(&self) -> Result<(), Error> {
        let producer = self.producer.clone();
        Ok(tokio::task::spawn_blocking(move || producer.flush(FLUSH)).await??)
    }

    /// Of these topics with so many partitions.
    pub fn lag(&self, group: &str, topics: Vec<(String, i32)>) -> Result<Lag, Error> {
        let consumer: BaseConsumer = client(&self.address).set("group.id", group).create()?;
        Ok(Lag { consumer: Arc::new(consumer), topics })
    }

    /// First and last offset and one, by partition. A broker that has just come back may not lead its partitions yet.
    pub async fn edges(&self, topic: &str) -> Result<Vec<(i64, i64)>, Error> {
        let (consumer, topic) = (Arc::new(client(&self.address).create::<BaseConsumer>()?), topic.to_owned());
        let ask = move || {
            (0..partitions(&consumer, &topic)?).map(|n| Ok(consumer.fetch_watermarks(&topic, n, ANSWER)?)).collect()
        };
        let deadline = Instant::now() + FLUSH;
        loop {
            match tokio::task::spawn_blocking(ask.clone()).await? {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
                asked => return asked,
            }
        }
    }

    /// Every message of a topic, in the order of its partitions.
    pub async fn read(&self, topic: &str) -> Result<Vec<OwnedMessage>, Error> {
        self.read_as(topic, Isolation::Committed).await
    }

    pub async fn read_as(&self, topic: &str, isolation: Isolation) -> Result<Vec<OwnedMessage>, Error> {
        let (address, topic) = (self.address.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&address, &topic, isolation)).await?
    }
}

/// Queues a message with its headers. `partition`: where it goes, rather than where its key does.
pub async fn queue(
    producer: &FutureProducer,
    planned: &Planned,
    partition: Option<i32>,
) -> Result<DeliveryFuture, Error> {
    let mut record = FutureRecord::<[u8], [u8]>::to(planned.topic.name()).key(planned.key.as_bytes());
    let mut headers = OwnedHeaders::new();
    if let Some((kind, timestamp)) = planned.misdated {
        record = record.timestamp(timestamp);
        headers = headers.insert(Header { key: MISDATED, value: Some(&kind.to_header(timestamp)) });
    }
    if let Some(value) = &planned.value {
        record = record.payload(value);
    }
    if let Some(dies) = &planned.dies {
        headers = headers.insert(Header { key: DIES, value: Some(&dies.to_header()) });
    }
    if let Some(tenant) = &planned.tenant {
        headers = headers.insert(Header { key: TENANT, value: Some(tenant) });
    }
    record = record.headers(headers);
    if let Some(partition) = partition {
        record = record.partition(partition);
    }
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("log_level", "0");
    config
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32, Error> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(i32::try_from(found.ok_or("the broker says nothing of the topic")?.partitions().len())?)
}

/// What a group has still to do.
#[derive(Clone)]
pub struct Lag {
    consumer: Arc<BaseConsumer>,
    topics: Vec<(String, i32)>,
}

impl Lag {
    /// Messages that are not committed, by partition, zeros left out. Fails while the broker is away.
    pub async fn now(&self) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let lag = self.clone();
        tokio::task::spawn_blocking(move || lag.ask()).await?
    }

    /// What the group has in one partition.
    pub async fn committed(&self, topic: &str, partition: i32) -> Result<Option<i64>, Error> {
        let (consumer, mut list) = (self.consumer.clone(), TopicPartitionList::new());
        list.add_partition(topic, partition);
        let found = tokio::task::spawn_blocking(move || consumer.committed_offsets(list, ANSWER)).await??;
        let offset = found.find_partition(topic, partition).map(|found| found.offset());
        Ok(if let Some(Offset::Offset(offset)) = offset { Some(offset) } else { None })
    }

    fn ask(&self) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let all = |(topic, count): &(String, i32)| (0..*count).map(|n| (topic.clone(), n)).collect::<Vec<_>>();
        let partitions: Vec<(String, i32)> = self.topics.iter().flat_map(all).collect();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &partitions {
            list.add_partition(topic, *partition);
        }
        let committed = self.consumer.committed_offsets(list, ANSWER)?;
        let mut lag = BTreeMap::new();
        for (topic, partition) in partitions {
            let (low, high) = self.consumer.fetch_watermarks(&topic, partition, ANSWER)?;
            let at = match committed.find_partition(&topic, partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => low,
            };
            if high != at {
                lag.insert((topic, partition), high - at);
            }
        }
        Ok(lag)
    }
}

fn read(address: &str, topic: &str, isolation: Isolation) -> Result<Vec<OwnedMessage>, Error> {
    let consumer: BaseConsumer = client(address)
        .set("group.id", "reader")
        .set("queued.min.messages", "10000")
        .set("enable.partition.eof", "true")
        .set("isolation.level", if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" })
        .create()?;
    let (mut list, mut unread) = (TopicPartitionList::new(), BTreeSet::new());
    for partition in 0..partitions(&consumer, topic)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
        unread.insert(partition);
    }
    consumer.assign(&list)?;
    let (mut messages, deadline) = (Vec::new(), Instant::now() + READ);
    // Nobody writes any more, so that the first end of each partition is its last. Offsets have gaps and may begin anywhere.
    while !unread.is_empty() {
        if Instant::now() > deadline {
            return Err(format!("after {READ:?} partitions {unread:?} of {topic} are not read to their ends").into());
        }
        match consumer.poll(Timeout::After(Duration::from_millis(200))) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    messages.sort_by_key(|message| (message.partition(), message.offset()));
    Ok(messages)
}

/// The text of a message's header.
pub fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    use rdkafka::message::Headers;
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
