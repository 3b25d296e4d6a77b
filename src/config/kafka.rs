use std::collections::BTreeMap;

use super::problem::nearest;
use super::reader::{Expected, Reader, Review, Text, choice};
use crate::domain::Op;
use crate::redact::Secret;

/// `[kafka]`: where messages come from.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port`.
    pub brokers: Vec<String>,
    /// Topics to consume.
    pub topics: Vec<String>,
    /// Default `op` of messages that name none, by topic; `upsert` where a topic is not listed.
    pub topic_ops: BTreeMap<String, Op>,
    /// Consumer group; workers of the same group share the partitions.
    pub group_id: String,
    /// Name of this process in the broker's logs and quotas.
    pub client_id: String,
    /// `earliest` or `latest`: where a group without commits starts.
    pub auto_offset_reset: String,
    /// How long the group coordinator waits for a heartbeat before it gives the partitions to others.
    pub session_timeout_ms: u64,
    /// `plaintext`, `ssl`, `sasl_plaintext`, `sasl_ssl`.
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    /// Never shown.
    pub sasl_password: Option<Secret>,
    /// PEM file with the broker's certificate authority.
    pub ssl_ca_file: Option<String>,
    /// Further librdkafka properties, by their own names; they win over ours.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topics: Vec::new(),
            topic_ops: BTreeMap::new(),
            group_id: "clipstream".into(),
            client_id: "clipstream".into(),
            auto_offset_reset: "earliest".into(),
            session_timeout_ms: 45_000,
            security_protocol: "plaintext".into(),
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            ssl_ca_file: None,
            properties: BTreeMap::new(),
        }
    }
}

impl KafkaSettings {
    /// librdkafka's properties for any client (consumer, producer, admin) that talks to these brokers.
    pub fn client_properties(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let mut put = |key: &str, value: &str| out.insert(key.to_owned(), value.to_owned());
        put("bootstrap.servers", &self.brokers.join(","));
        put("client.id", &self.client_id);
        put("security.protocol", &self.security_protocol);
        if let Some(mechanism) = &self.sasl_mechanism {
            put("sasl.mechanism", mechanism);
        }
        if let Some(username) = &self.sasl_username {
            put("sasl.username", username);
        }
        if let Some(password) = &self.sasl_password {
            put("sasl.password", password.expose());
        }
        if let Some(file) = &self.ssl_ca_file {
            put("ssl.ca.location", file);
        }
        out.extend(self.properties.clone());
        out
    }
}

/// librdkafka's default of `max.poll.interval.ms` (CONFIGURATION.md of librdkafka).
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";
const SESSION_TIMEOUT: &str = "session.timeout.ms";

/// How long the last commit of partitions that go may take, after their drain.
pub const LAST_COMMIT_MAX_MS: u64 = 5_000;

impl Text for Op {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, [Op::Upsert, Op::Patch, Op::Delete].map(|op| (op.as_str(), op)))
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// A word out of a few that librdkafka knows.
fn word(review: &mut Review<'_>, key: &str, found: &str, all: &[&'static str]) {
    if let Err(expected) = choice(found, all.iter().map(|word| (*word, ()))) {
        review.wrong(key, expected);
    }
}

/// Properties of librdkafka that hold keys, passwords or tokens.
fn is_secret_property(name: &str) -> bool {
    const PARTS: [&str; 8] = ["password", "secret", ".pem", "token", "jaas", "oauthbearer.config", "assertion", "ssl_"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

impl KafkaSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            brokers: section.list("brokers", default.brokers),
            topics: section.list("topics", default.topics),
            topic_ops: section.map("topic_ops", |_| false),
            group_id: section.value("group_id", default.group_id),
            client_id: section.value("client_id", default.client_id),
            auto_offset_reset: section.value("auto_offset_reset", default.auto_offset_reset),
            session_timeout_ms: section.number("session_timeout_ms", default.session_timeout_ms, 1_000..=1_800_000),
            security_protocol: section.value("security_protocol", default.security_protocol),
            sasl_mechanism: section.optional("sasl_mechanism", default.sasl_mechanism),
            sasl_username: section.optional("sasl_username", default.sasl_username),
            sasl_password: section.secret("sasl_password"),
            ssl_ca_file: section.optional("ssl_ca_file", default.ssl_ca_file),
            properties: section.map("properties", is_secret_property),
        }
    }

    /// How long the group waits for a poll before it takes the partitions away.
    pub fn max_poll_interval_ms(&self) -> u64 {
        let own = self.properties.get(MAX_POLL_INTERVAL).and_then(|v| v.trim().parse().ok());
        own.unwrap_or(MAX_POLL_INTERVAL_MS)
    }

    /// How long the group waits for a heartbeat.
    pub fn session_timeout_ms(&self) -> u64 {
        let own = self.properties.get(SESSION_TIMEOUT).and_then(|v| v.trim().parse().ok());
        own.unwrap_or(self.session_timeout_ms)
    }

    /// Whether a drain of this long fits into what the group grants a member. In a rebalance it waits for
    /// `max.poll.interval.ms` (KIP-62), in which the last commit must have a place too; then others get the partitions all
    /// the same. A member whose heartbeats fail loses them after the session timeout, and what it still drains is done twice.
    pub fn check_drain(&self, drain_deadline_ms: u64) -> Result<(), Expected> {
        let (session, poll) = (self.session_timeout_ms(), self.max_poll_interval_ms());
        if drain_deadline_ms < session && drain_deadline_ms.saturating_add(LAST_COMMIT_MAX_MS) <= poll {
            return Ok(());
        }
        let expected = format!(
            "less than kafka.session_timeout_ms, which is {session}, and, with {LAST_COMMIT_MAX_MS} ms for the last commit, \
             at most librdkafka's {MAX_POLL_INTERVAL}, which is {poll}"
        );
        Err(Expected::new(expected)
            .hint("raise kafka.session_timeout_ms, or kafka.properties.\"max.poll.interval.ms\""))
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        for broker in &self.brokers {
            let address = broker.rsplit_once("://").map_or(broker.as_str(), |(_, address)| address);
            let host_port = address.rsplit_once(':').is_some_and(|(host, port)| {
                let host_ok = !host.is_empty() && !host.contains(['/', '@']) && !host.contains(char::is_whitespace);
                host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            review.expect(host_port && !broker.starts_with("http"), "kafka.brokers", || {
                Expected::new("host:port for every broker").hint("for example localhost:9092")
            });
        }
        for (n, topic) in self.topics.iter().enumerate() {
            review.expect(!self.topics[..n].contains(topic), "kafka.topics", || {
                Expected::new(format!("every topic once; {topic} is there twice"))
            });
        }
        // A topic that begins with ^ is a pattern, which may mean any topic.
        if !self.topics.is_empty() && !self.topics.iter().any(|t| t.starts_with('^')) {
            for topic in self.topic_ops.keys().filter(|t| !self.topics.contains(t)) {
                let expected = Expected::new("a topic of kafka.topics");
                let expected = match nearest(topic, self.topics.iter().map(String::as_str)) {
                    Some(name) => expected.hint(format!("did you mean {name}?")),
                    None => expected,
                };
                review.wrong(&format!("kafka.topic_ops.{topic}"), expected);
            }
        }
        word(review, "kafka.auto_offset_reset", &self.auto_offset_reset, &["earliest", "latest"]);
        let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        word(review, "kafka.security_protocol", &self.security_protocol, &protocols);
        if let Some(mechanism) = &self.sasl_mechanism {
            word(review, "kafka.sasl_mechanism", mechanism, &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
        }
        self.review_sasl(review);
        if let Some(text) = self.properties.get(MAX_POLL_INTERVAL) {
            // librdkafka's own range.
            let ok = text.trim().parse::<u64>().is_ok_and(|ms| (1..=86_400_000).contains(&ms));
            review.expect(ok, &format!("kafka.properties.{MAX_POLL_INTERVAL}"), || {
                Expected::new("a whole number from 1 to 86400000 (milliseconds)")
            });
        }
        review.expect(self.session_timeout_ms <= self.max_poll_interval_ms(), "kafka.session_timeout_ms", || {
            Expected::new(format!("at most {MAX_POLL_INTERVAL}, which is {}", self.max_poll_interval_ms()))
        });
    }

    /// Credentials and protocol belong together; `properties` may say either in librdkafka's words.
    fn review_sasl(&self, review: &mut Review<'_>) {
        let property = |names: &[&str]| names.iter().any(|name| self.properties.contains_key(*name));
        let protocol = self.properties.get("security.protocol").unwrap_or(&self.security_protocol);
        if protocol.to_ascii_lowercase().starts_with("sasl_") {
            if self.sasl_mechanism.is_none() && !property(&["sasl.mechanism", "sasl.mechanisms"]) {
                let expected = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, because kafka.security_protocol is";
                review.wrong("kafka.sasl_mechanism", Expected::new(format!("{expected} {protocol}")));
            }
            if self.sasl_mechanism.is_some() {
                let expected = || Expected::new("to be set, because kafka.sasl_mechanism is");
                review.expect(
                    self.sasl_username.is_some() || property(&["sasl.username"]),
                    "kafka.sasl_username",
                    expected,
                );
                review.expect(
                    self.sasl_password.is_some() || property(&["sasl.password"]),
                    "kafka.sasl_password",
                    expected,
                );
            }
        } else {
            let unused = [
                ("kafka.sasl_mechanism", self.sasl_mechanism.is_some()),
                ("kafka.sasl_username", self.sasl_username.is_some()),
                ("kafka.sasl_password", self.sasl_password.is_some()),
            ];
            for (key, set) in unused {
                review.expect(!set, key, || {
                    Expected::new(format!("not to be set while kafka.security_protocol is {protocol}"))
                        .hint("kafka.security_protocol: sasl_ssl or sasl_plaintext")
                });
            }
        }
    }
}
