//! Topic ids, which distinguish a topic from a deleted one with the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, bindings};

/// Ids by topic, as Kafka's tools write them (`kafka-topics --describe`); `None` if the broker has no ids (Kafka before 2.8).
/// Topics that do not exist, or that the broker does not describe, are missing.
pub type TopicIds = BTreeMap<String, Option<Arc<str>>>;

/// Queries a broker for the ids of `topics`, in one request. Waits at most `timeout` for the answer.
///
/// # Errors
/// No answer in time, or an unreadable one.
pub fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<&str>,
    timeout: Duration,
) -> Result<TopicIds, KafkaError> {
    // librdkafka requires unique and non-empty names; no topic's name contains a zero byte.
    let names: Vec<CString> =
        topics.iter().filter(|topic| !topic.is_empty()).filter_map(|topic| CString::new(*topic).ok()).collect();
    if names.is_empty() {
        return Ok(TopicIds::new());
    }
    let broker = match controller(client) {
        Some(_) => None,
        None => some_broker(client, topics, timeout)?,
    };
    let request = Request::send(client, &names, broker, timeout)?;
    let event = request.answer(timeout)?;
    Ok(event.ids())
}

/// The controller, if known: librdkafka queries it itself. It returns zero if there is none, so a broker with that id is found
/// in another way.
fn controller<C: ClientContext>(client: &Client<C>) -> Option<i32> {
    // SAFETY: the client is alive; with a timeout of zero only cached information is returned.
    let id = unsafe { bindings::rd_kafka_controllerid(client.native_ptr(), 0) };
    (id > 0).then_some(id)
}

/// An available broker. `None`: librdkafka chooses.
fn some_broker<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<&str>,
    timeout: Duration,
) -> Result<Option<i32>, KafkaError> {
    let topic = topics.iter().copied().find(|topic| !topic.is_empty());
    let metadata = client.fetch_metadata(topic, timeout)?;
    Ok(metadata.brokers().first().map(MetadataBroker::id))
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1)
}

fn failed(code: RDKafkaRespErr) -> KafkaError {
    KafkaError::AdminOp(RDKafkaErrorCode::from(code))
}

/// The queue for an answer. It belongs to a client that outlives it; answers after it is dropped are discarded.
struct Request {
    queue: NonNull<bindings::rd_kafka_queue_t>,
}

impl Request {
    fn send<C: ClientContext>(
        client: &Client<C>,
        names: &[CString],
        broker: Option<i32>,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let client = client.native_ptr();
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut why = [0; 256];
        // SAFETY: `client` is alive for the whole call. The collection copies the names, and `DescribeTopics` the collection
        // and the options, so that both are given back here. `why` is as long as it says.
        unsafe {
            let queue = NonNull::new(bindings::rd_kafka_queue_new(client))
                .ok_or_else(|| failed(RDKafkaRespErr::RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE))?;
            let request = Self { queue };
            let options = bindings::rd_kafka_AdminOptions_new(
                client,
                bindings::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            );
            let mut set = bindings::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(timeout),
                why.as_mut_ptr(),
                why.len(),
            );
            if let Some(broker) = broker
                && set == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                set = bindings::rd_kafka_AdminOptions_set_broker(options, broker, why.as_mut_ptr(), why.len());
            }
            if set != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                bindings::rd_kafka_AdminOptions_destroy(options);
                return Err(failed(set));
            }
            let topics = bindings::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            bindings::rd_kafka_DescribeTopics(client, topics, options, request.queue.as_ptr());
            bindings::rd_kafka_TopicCollection_destroy(topics);
            bindings::rd_kafka_AdminOptions_destroy(options);
            Ok(request)
        }
    }

    fn answer(&self, timeout: Duration) -> Result<Event, KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: the queue is ours until `self` is dropped; an event that is given is ours.
            let event = unsafe { bindings::rd_kafka_queue_poll(self.queue.as_ptr(), millis(left)) };
            match NonNull::new(event).map(Event) {
                Some(event) => return event.checked(),
                None if left.is_zero() => return Err(failed(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT)),
                None => {}
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, and given back once.
        unsafe { bindings::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

struct Event(NonNull<bindings::rd_kafka_event_t>);

impl Event {
    /// The queue receives only the answer, which may be an error.
    fn checked(self) -> Result<Self, KafkaError> {
        // SAFETY: the event is alive.
        match unsafe { bindings::rd_kafka_event_error(self.0.as_ptr()) } {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(self),
            error => Err(failed(error)),
        }
    }

    fn ids(&self) -> TopicIds {
        let mut ids = TopicIds::new();
        // SAFETY: the event is alive, and everything read here belongs to it. librdkafka gives no result for an event of
        // another kind, and may leave an entry of the list empty where the broker did not describe a topic.
        unsafe {
            let result = bindings::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            if result.is_null() {
                return ids;
            }
            let mut count = 0;
            let topics = bindings::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            for topic in (0..count).map(|n| *topics.add(n)).filter(|topic| !topic.is_null()) {
                let error = bindings::rd_kafka_TopicDescription_error(topic);
                let name = bindings::rd_kafka_TopicDescription_name(topic);
                let is_described = error.is_null()
                    || bindings::rd_kafka_error_code(error) == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
                if !is_described || name.is_null() {
                    continue;
                }
                let id = bindings::rd_kafka_TopicDescription_topic_id(topic);
                let id = NonNull::new(id.cast_mut()).and_then(|id| {
                    text(
                        bindings::rd_kafka_Uuid_most_significant_bits(id.as_ptr()),
                        bindings::rd_kafka_Uuid_least_significant_bits(id.as_ptr()),
                    )
                });
                ids.insert(CStr::from_ptr(name).to_string_lossy().into_owned(), id);
            }
        }
        ids
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given by `rd_kafka_queue_poll`, and given back once.
        unsafe { bindings::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// As Kafka's own tools write an id (`org.apache.kafka.common.Uuid`); zero is none.
fn text(most: i64, least: i64) -> Option<Arc<str>> {
    let bytes = [most.to_be_bytes(), least.to_be_bytes()].concat();
    (most != 0 || least != 0).then(|| URL_SAFE_NO_PAD.encode(bytes).into())
}

#[cfg(test)]
mod tests {
    use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
    use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
    use rdkafka::mocking::MockCluster;

    use super::*;

    fn consumer(brokers: &str) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", "ids");
        BaseConsumer::from_config_and_context(&config, DefaultConsumerContext).expect("a consumer")
    }

    #[test]
    fn every_topic_has_an_id_of_its_own_and_one_that_is_not_there_none() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        for topic in ["one", "two"] {
            cluster.create_topic(topic, 1, 1).expect("a topic");
        }
        cluster
            .topic_error("gone", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            .expect("an error for a topic");
        let consumer = consumer(&cluster.bootstrap_servers());
        let asked = BTreeSet::from(["one", "two", "gone", ""]);
        let ids = topic_ids(consumer.client(), &asked, Duration::from_secs(30)).expect("the cluster answers");
        assert_eq!(ids.keys().collect::<Vec<_>>(), ["one", "two"]);
        let [one, two] = ["one", "two"].map(|topic| ids[topic].clone().expect("an id"));
        assert_ne!(one, two);
        assert_eq!((one.len(), two.len()), (22, 22));
        assert_eq!(topic_ids(consumer.client(), &asked, Duration::from_secs(30)).expect("again"), ids);
    }

    #[test]
    fn a_broker_that_is_away_is_an_error_in_time() {
        // Nothing listens on port 1 of the loopback address.
        let consumer = consumer("127.0.0.1:1");
        let asked = BTreeSet::from(["one"]);
        assert!(topic_ids(consumer.client(), &asked, Duration::from_millis(200)).is_err());
    }

    #[test]
    fn ids_are_written_as_kafkas_own_tools_write_them() {
        // From the documentation of the protocol: the id of the metadata topic, `Uuid.METADATA_TOPIC_ID`, is (0, 1).
        assert_eq!(text(0, 1).as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        // RFC 4648, table 2: 62 and 63 are `-` and `_`.
        assert_eq!(text(-1, -1).as_deref(), Some("_____________________w"));
        assert_eq!(text(0, 0), None);
    }
}
