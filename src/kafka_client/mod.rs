//! What every Kafka client of ours shares, whichever port it serves: properties, quiet logs, wording of errors.

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;

use crate::config::KafkaSettings;
use crate::redact;

/// librdkafka's configuration for one client: `ours`, then the connection settings, then the user's own properties;
/// later ones win.
pub fn config(settings: &KafkaSettings, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in ours {
        config.set(*key, *value);
    }
    for (key, value) in settings.client_properties() {
        config.set(key, value);
    }
    let wants_debug = settings.properties.contains_key("debug");
    config.set_log_level(if wants_debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config
}

/// Why a client could not be made, for `kafka.properties` that librdkafka refuses. Never quotes a secret.
pub fn creation_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, key, _) => {
            let secret = ["password", "secret", "pem", "key", "jaas", "token"].iter().any(|s| key.contains(s));
            let description = if secret { "the value is refused" } else { description.trim() };
            format!(
                "librdkafka refuses the property {key:?}: {}; correct it under [kafka] or [kafka.properties]",
                redact::cut(description, 200)
            )
        }
        other => format!(
            "the Kafka client cannot be made: {}; check [kafka] and [kafka.properties]",
            redact::cut(&other.to_string(), 300)
        ),
    }
}

/// librdkafka's own lines go to `debug`: it repeats them for as long as a broker is away, and whoever uses the client
/// reports the beginning and the end of the trouble.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    tracing::debug!(target: "librdkafka", level = ?level, facility, "{line}");
}

/// Context of a client whose errors all come back from its calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }

    fn stats(&self, _: Statistics) {}
}

#[cfg(test)]
mod tests {
    use rdkafka::config::FromClientConfigAndContext;
    use rdkafka::producer::FutureProducer;

    use super::*;

    fn refused(key: &str, value: &str) -> String {
        let mut settings = KafkaSettings::default();
        settings.properties.insert(key.into(), value.into());
        match FutureProducer::<Quiet>::from_config_and_context(&config(&settings, &[]), Quiet) {
            Ok(_) => panic!("{key}={value} was accepted"),
            Err(error) => creation_error(&error),
        }
    }

    #[test]
    fn the_users_properties_win() {
        let mut settings = KafkaSettings::default();
        settings.properties.insert("linger.ms".into(), "7".into());
        assert_eq!(config(&settings, &[("linger.ms", "1"), ("acks", "all")]).get("linger.ms"), Some("7"));
        assert_eq!(config(&settings, &[("acks", "all")]).get("acks"), Some("all"));
    }

    #[test]
    fn a_refused_property_is_named_and_a_secret_is_not_shown() {
        assert!(refused("no.such.property", "1").contains("no.such.property"));
        assert!(refused("linger.ms", "soon").contains("linger.ms"));
        let text = refused("ssl.key.password.x", "hunter2");
        assert!(text.contains("ssl.key.password.x") && !text.contains("hunter2"), "{text}");
    }
}
