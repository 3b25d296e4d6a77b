use std::collections::BTreeMap;

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
