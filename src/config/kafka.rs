//! Settings of `[kafka]`.

use std::collections::BTreeMap;

use super::OauthSettings;
use super::kafka_keys::KeySettings;
use super::problem::nearest;
use super::reader::{Reader, Review};
use super::text::{Expected, Text, choice};
use crate::domain::Op;
use crate::redact::Secret;

/// `[kafka]`: where messages come from.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port`.
    pub brokers: Vec<String>,
    /// Topics to consume.
    pub topics: Vec<String>,
    /// Default `op` of messages without one, by topic; `upsert` for topics that are not listed.
    pub topic_ops: BTreeMap<String, Op>,
    /// How keys and headers name asset and tenant.
    pub keys: KeySettings,
    /// Consumer group; workers of the same group share the partitions.
    pub group_id: String,
    /// Name of this process in the broker's logs and quotas.
    pub client_id: String,
    /// `earliest` or `latest`: where a group without offsets starts. Partitions that are added later, and topics that a pattern
    /// matches later, are read from their beginning. A group with offsets continues from there.
    pub auto_offset_reset: String,
    /// How long the group coordinator waits for a heartbeat before it reassigns the partitions.
    pub session_timeout_ms: u64,
    /// `plaintext`, `ssl`, `sasl_plaintext`, `sasl_ssl`.
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER`.
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    /// Never shown.
    pub sasl_password: Option<Secret>,
    /// PEM file with the broker's certificate authority.
    pub ssl_ca_file: Option<String>,
    /// PEM file with this client's certificate, for brokers that require one.
    pub ssl_certificate_file: Option<String>,
    /// PEM file with the private key of that certificate.
    pub ssl_key_file: Option<String>,
    /// Password of an encrypted key; never shown.
    pub ssl_key_password: Option<Secret>,
    /// Source of the tokens for `OAUTHBEARER`.
    pub oauth: OauthSettings,
    /// Further librdkafka properties, by their own names; they override ours.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topics: Vec::new(),
            topic_ops: BTreeMap::new(),
            keys: KeySettings::default(),
            group_id: "clipstream".into(),
            client_id: "clipstream".into(),
            auto_offset_reset: "earliest".into(),
            session_timeout_ms: 45_000,
            security_protocol: "plaintext".into(),
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            ssl_ca_file: None,
            ssl_certificate_file: None,
            ssl_key_file: None,
            ssl_key_password: None,
            oauth: OauthSettings::default(),
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
        let files = [
            ("ssl.ca.location", &self.ssl_ca_file),
            ("ssl.certificate.location", &self.ssl_certificate_file),
            ("ssl.key.location", &self.ssl_key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                put(key, file);
            }
        }
        if let Some(password) = &self.ssl_key_password {
            put("ssl.key.password", password.expose());
        }
        if self.uses_tokens() {
            put("sasl.oauthbearer.config", &self.oauth.to_property());
        }
        out.extend(self.properties.clone());
        out
    }
}

/// Where a group starts in a partition for which it has no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// It fails: the operator has to decide.
    Refuse,
}

/// Kafka's internal topics (`__consumer_offsets`, `__transaction_state`, …). Patterns never match them.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// librdkafka takes a topic that starts with `^` as a regular expression over all topics.
pub fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

const OAUTHBEARER: &str = "OAUTHBEARER";
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER];

/// librdkafka's default of `max.poll.interval.ms` (CONFIGURATION.md of librdkafka).
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

const OFFSET_RESET: &str = "auto.offset.reset";
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";
const SESSION_TIMEOUT: &str = "session.timeout.ms";

/// Deadline of the last commit of revoked partitions, after their drain.
pub const LAST_COMMIT_MAX_MS: u64 = 5_000;

impl Text for Op {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, [Op::Upsert, Op::Patch, Op::Delete].map(|op| (op.as_str(), op)))
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// Checks that a value is one of the words that librdkafka knows.
fn word(review: &mut Review<'_>, key: &str, found: &str, all: &[&'static str]) {
    if let Err(expected) = choice(found, all.iter().map(|word| (*word, ()))) {
        review.wrong(key, expected);
    }
}

/// Whether a librdkafka property contains a key, password or token.
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
            keys: KeySettings::read(section),
            group_id: section.value("group_id", default.group_id),
            client_id: section.value("client_id", default.client_id),
            auto_offset_reset: section.value("auto_offset_reset", default.auto_offset_reset),
            session_timeout_ms: section.number("session_timeout_ms", default.session_timeout_ms, 1_000..=1_800_000),
            security_protocol: section.value("security_protocol", default.security_protocol),
            sasl_mechanism: section.optional("sasl_mechanism", default.sasl_mechanism),
            sasl_username: section.optional("sasl_username", default.sasl_username),
            sasl_password: section.secret("sasl_password"),
            ssl_ca_file: section.optional("ssl_ca_file", default.ssl_ca_file),
            ssl_certificate_file: section.optional("ssl_certificate_file", default.ssl_certificate_file),
            ssl_key_file: section.optional("ssl_key_file", default.ssl_key_file),
            ssl_key_password: section.secret("ssl_key_password"),
            oauth: section.table("oauth", OauthSettings::read),
            properties: section.map("properties", is_secret_property),
        }
    }

    /// Where a group without offsets starts. `None`: a word that librdkafka does not know.
    pub fn offset_reset(&self) -> Option<OffsetReset> {
        // The words are librdkafka's (CONFIGURATION.md), in lower case.
        match self.properties.get(OFFSET_RESET).unwrap_or(&self.auto_offset_reset).trim() {
            "earliest" | "smallest" | "beginning" => Some(OffsetReset::Earliest),
            "latest" | "largest" | "end" => Some(OffsetReset::Latest),
            "error" | "none" => Some(OffsetReset::Refuse),
            _ => None,
        }
    }

    /// How long the group waits for a poll before it reassigns the partitions.
    pub fn max_poll_interval_ms(&self) -> u64 {
        let own = self.properties.get(MAX_POLL_INTERVAL).and_then(|v| v.trim().parse().ok());
        own.unwrap_or(MAX_POLL_INTERVAL_MS)
    }

    /// How long the group waits for a heartbeat.
    pub fn session_timeout_ms(&self) -> u64 {
        let own = self.properties.get(SESSION_TIMEOUT).and_then(|v| v.trim().parse().ok());
        own.unwrap_or(self.session_timeout_ms)
    }

    /// Whether a drain of this length fits into the group's timeouts. In a rebalance the group waits for `max.poll.interval.ms`
    /// (KIP-62), which must include the last commit; after that, others get the partitions anyway. A member whose heartbeats fail
    /// loses its partitions after the session timeout, and what it still drains is processed twice.
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
                Expected::new(format!("every topic once; {topic} is listed twice"))
            });
        }
        // A topic that begins with ^ is a pattern, which may match any topic.
        if !self.topics.is_empty() && !self.topics.iter().any(|topic| is_pattern(topic)) {
            for topic in self.topic_ops.keys().filter(|t| !self.topics.contains(t)) {
                let expected = Expected::new("a topic of kafka.topics");
                let expected = match nearest(topic, self.topics.iter().map(String::as_str)) {
                    Some(name) => expected.hint(format!("did you mean {name}?")),
                    None => expected,
                };
                review.wrong(&format!("kafka.topic_ops.{topic}"), expected);
            }
        }
        if self.topics.iter().any(|topic| is_pattern(topic)) {
            for topic in self.topics.iter().filter(|topic| is_internal(topic.trim_start_matches('^'))) {
                let expected =
                    "no internal topic (one that begins with __) in a pattern or beside one: patterns never match them";
                review.wrong("kafka.topics", Expected::new(format!("{expected}; {topic} is listed")));
            }
        }
        self.keys.review(review);
        word(review, "kafka.auto_offset_reset", &self.auto_offset_reset, &["earliest", "latest"]);
        let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        word(review, "kafka.security_protocol", &self.security_protocol, &protocols);
        if let Some(mechanism) = &self.sasl_mechanism {
            word(review, "kafka.sasl_mechanism", mechanism, &MECHANISMS);
        }
        if self.properties.contains_key(OFFSET_RESET) {
            review.expect(self.offset_reset().is_some(), &format!("kafka.properties.{OFFSET_RESET}"), || {
                Expected::new("one of earliest, latest, error")
            });
        }
        self.review_sasl(review);
        self.review_certificate(review);
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

    /// Whether this program has to get the mechanism's tokens.
    pub fn uses_tokens(&self) -> bool {
        self.sasl_mechanism.as_deref() == Some(OAUTHBEARER)
    }

    /// The protocol in effect, in lower case.
    fn protocol(&self) -> String {
        self.properties.get("security.protocol").unwrap_or(&self.security_protocol).to_ascii_lowercase()
    }

    fn has_property(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.properties.contains_key(*name))
    }

    /// Credentials and protocol must match. `properties` may set either by librdkafka's names.
    fn review_sasl(&self, review: &mut Review<'_>) {
        let protocol = self.protocol();
        let is_sasl = protocol.starts_with("sasl_");
        if is_sasl && self.sasl_mechanism.is_none() && !self.has_property(&["sasl.mechanism", "sasl.mechanisms"]) {
            let expected = format!("one of {}, because kafka.security_protocol is {protocol}", MECHANISMS.join(", "));
            review.wrong("kafka.sasl_mechanism", Expected::new(expected));
        }
        let needs_token = is_sasl && self.uses_tokens();
        if needs_token {
            self.oauth.review(review);
        } else if is_sasl && self.sasl_mechanism.is_some() {
            let expected = || Expected::new("to be set, because kafka.sasl_mechanism is");
            let username = self.sasl_username.is_some() || self.has_property(&["sasl.username"]);
            review.expect(username, "kafka.sasl_username", expected);
            let password = self.sasl_password.is_some() || self.has_property(&["sasl.password"]);
            review.expect(password, "kafka.sasl_password", expected);
        }
        let credentials = [
            ("kafka.sasl_username", self.sasl_username.is_some()),
            ("kafka.sasl_password", self.sasl_password.is_some()),
        ];
        if !is_sasl {
            let mechanism = [("kafka.sasl_mechanism", self.sasl_mechanism.is_some())];
            for (key, _) in mechanism.into_iter().chain(credentials).filter(|(_, set)| *set) {
                let expected = format!("not to be set while kafka.security_protocol is {protocol}");
                let hint = "kafka.security_protocol: sasl_ssl or sasl_plaintext";
                review.wrong(key, Expected::new(expected).hint(hint));
            }
        } else if needs_token {
            for (key, _) in credentials.into_iter().filter(|(_, set)| *set) {
                let expected = Expected::new("not to be set while kafka.sasl_mechanism is OAUTHBEARER");
                review.wrong(key, expected.hint("its credentials are under [kafka.oauth]"));
            }
        }
        if !needs_token {
            for key in self.oauth.set() {
                let expected = "not to be set unless kafka.sasl_mechanism is OAUTHBEARER, over a sasl protocol";
                review.wrong(key, Expected::new(expected));
            }
        }
    }

    /// A certificate without its key, or without TLS, would silently not be used.
    fn review_certificate(&self, review: &mut Review<'_>) {
        let (certificate, key) = (self.ssl_certificate_file.is_some(), self.ssl_key_file.is_some());
        let has_key = key || self.has_property(&["ssl.key.location", "ssl.key.pem"]);
        review.expect(!certificate || has_key, "kafka.ssl_key_file", || {
            Expected::new("to be set, because kafka.ssl_certificate_file is")
        });
        let has_certificate = certificate || self.has_property(&["ssl.certificate.location", "ssl.certificate.pem"]);
        review.expect(!key || has_certificate, "kafka.ssl_certificate_file", || {
            Expected::new("to be set, because kafka.ssl_key_file is")
        });
        let protocol = self.protocol();
        let files = [
            ("kafka.ssl_ca_file", self.ssl_ca_file.is_some()),
            ("kafka.ssl_certificate_file", certificate),
            ("kafka.ssl_key_file", key),
            ("kafka.ssl_key_password", self.ssl_key_password.is_some()),
        ];
        for (key, _) in files.into_iter().filter(|(_, set)| *set && !protocol.ends_with("ssl")) {
            let expected = format!("not to be set while kafka.security_protocol is {protocol}");
            review.wrong(key, Expected::new(expected).hint("kafka.security_protocol: ssl or sasl_ssl"));
        }
    }
}
