//! Shared by all Kafka clients: properties, credentials, logging, wording of errors.

mod failure_headers;
mod log;
mod offsets;
mod token;
mod topic_ids;

pub use failure_headers::{
    CONNECT_PREFIX, LEADER_EPOCH, MESSAGE_TIMESTAMP, NO_TIMESTAMP, OWN_PREFIX, REQUESTS, TOPIC_ID, is_failure_header,
    position, read_request_numbers, request_numbers, retry,
};
pub use log::{log_error, log_line};
pub use offsets::{OffsetEntry, entries, known_begin, leader_epoch, list};
pub use token::Current as CurrentToken;
pub use topic_ids::{TopicIds, topic_ids};

use std::error::Error;
use std::ffi::CString;

use rdkafka::admin::AdminClient;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, bindings};

use crate::config::KafkaSettings;
use crate::domain::Finding;
use crate::redact;

/// librdkafka's configuration for one client: `ours`, then the connection settings, then the user's own properties. Later
/// values override earlier ones.
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

/// Why a client could not be created, for example because librdkafka refuses `kafka.properties`. Never quotes a secret.
pub fn creation_error(error: &KafkaError) -> Finding {
    match error {
        KafkaError::ClientConfig(_, description, key, _) => {
            let secret = ["password", "secret", "pem", "key", "jaas", "token"].iter().any(|s| key.contains(s));
            let description = if secret { "the value is refused" } else { description.trim() };
            Finding::new(format!("librdkafka refuses the property {key:?}: {}", redact::cut(description, 200)))
                .hint("correct it under [kafka] or [kafka.properties]")
        }
        other => Finding::new(format!("the Kafka client cannot be created: {}", redact::cut(&other.to_string(), 300)))
            .hint("check [kafka] and [kafka.properties]"),
    }
}

/// librdkafka's prefix of our reason for not providing a token.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token: ";

/// Whether an error says that no token was available.
pub fn is_about_token(reason: &str) -> bool {
    reason.contains(NO_TOKEN)
}

/// Why the brokers refuse this client, with a hint; `reason` is librdkafka's.
pub fn refused(settings: &KafkaSettings, reason: &str) -> Finding {
    match reason.split_once(NO_TOKEN) {
        // It contains a hint already.
        Some((_, why)) => Finding::new(format!("no token for Kafka: {}", redact::cut(why, 600))),
        None => Finding::new(format!("Kafka refuses the credentials: {}", redact::cut(reason, 300))).hint(
            match settings.uses_tokens() {
                true => "check the client and scope in [kafka.oauth], and the broker's issuer, audience and clock",
                false => "check kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password",
            },
        ),
    }
}

/// Why the brokers' certificate is not trusted, or ours is not accepted; `None` for other reasons.
pub fn untrusted(settings: &KafkaSettings, reason: &str) -> Option<Finding> {
    let hint = if ["certificate verify failed", "could not be verified"].iter().any(|part| reason.contains(part)) {
        match &settings.ssl_ca_file {
            Some(file) => format!("check that kafka.ssl_ca_file ({file}) is the authority of the brokers' certificate"),
            None => "set kafka.ssl_ca_file to the authority of the brokers' certificate, or install it in the system"
                .to_owned(),
        }
    } else if ["alert certificate required", "alert bad certificate", "alert unknown ca"]
        .iter()
        .any(|part| reason.contains(part))
    {
        "the brokers require a certificate that they trust: check kafka.ssl_certificate_file and kafka.ssl_key_file"
            .to_owned()
    } else {
        return None;
    };
    Some(Finding::new(format!("no TLS connection to Kafka: {}", redact::cut(reason, 300))).hint(hint))
}

/// A client for requests about topics and brokers. It sets the token itself, because rdkafka's admin client never serves the
/// event with which librdkafka requests one.
///
/// # Errors
/// A refused property, or no token.
pub async fn admin(settings: &KafkaSettings) -> Result<AdminClient<Quiet>, Finding> {
    let token = match settings.uses_tokens() {
        true => {
            let token = token::new(&settings.oauth).await;
            Some(token.map_err(|finding| finding.about("no token for Kafka"))?)
        }
        false => None,
    };
    let client = AdminClient::<Quiet>::from_config_and_context(&config(settings, &[]), Quiet)
        .map_err(|error| creation_error(&error))?;
    if let Some(token) = token {
        set_token(&client, token)?;
    }
    Ok(client)
}

fn set_token(client: &AdminClient<Quiet>, token: OAuthToken) -> Result<(), Finding> {
    let text = |text: String| CString::new(text).map_err(|_| Finding::new("the token for Kafka contains a zero byte"));
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut why = [0; 256];
    // SAFETY: the client and both texts outlive the call, which copies them. `why` is as long as it says, and the call
    // ends it with a zero byte. There are no extensions.
    let error = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.inner().native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    Err(Finding::new(format!("librdkafka does not accept the token ({error:?})")).hint("check [kafka.oauth]"))
}

/// The token callback of the mechanism `OAUTHBEARER`; `property` is librdkafka's `sasl.oauthbearer.config`, which contains
/// [`crate::config::OauthSettings`].
///
/// # Errors
/// No token. librdkafka reports its own error, and asks again after 10 s.
pub fn oauth_token(property: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    Ok(token::blocking(property)?)
}

/// Context of a client whose calls return all errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, property: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth_token(property)
    }

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
            Err(error) => creation_error(&error).to_string(),
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
