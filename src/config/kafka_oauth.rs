//! Settings of `[kafka.oauth]`.

use serde_json::{Value, json};
use url::{Host, Url};

use super::reader::{Reader, Review};
use super::text::Expected;
use crate::redact::Secret;

/// `[kafka.oauth]`: source of the tokens for the mechanism `OAUTHBEARER`. Either a file that another program renews, or an
/// authorization server that issues tokens for a client's credentials (RFC 6749 §4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OauthSettings {
    /// File with one token; read again for every new token.
    pub token_file: Option<String>,
    /// Token endpoint of the authorization server.
    pub token_url: Option<String>,
    pub client_id: Option<String>,
    /// Never shown.
    pub client_secret: Option<Secret>,
    /// Scopes to request, separated by spaces; `None`: the server's default.
    pub scope: Option<String>,
    /// PEM file with the certificate authority of the token endpoint; `None`: the system's.
    pub ca_file: Option<String>,
}

impl OauthSettings {
    pub(super) fn read(table: &mut Reader) -> Self {
        Self {
            token_file: table.optional("token_file", None),
            token_url: table.optional("token_url", None),
            client_id: table.optional("client_id", None),
            client_secret: table.secret("client_secret"),
            scope: table.optional("scope", None),
            ca_file: table.optional("ca_file", None),
        }
    }

    /// Called when the mechanism is `OAUTHBEARER`.
    pub(super) fn review(&self, review: &mut Review<'_>) {
        let Some(token_url) = &self.token_url else {
            review.expect(self.token_file.is_some(), "kafka.oauth.token_url", || {
                Expected::new("to be set, or kafka.oauth.token_file, because kafka.sasl_mechanism is OAUTHBEARER")
            });
            return;
        };
        review.expect(self.token_file.is_none(), "kafka.oauth.token_file", || {
            Expected::new("not to be set together with kafka.oauth.token_url")
        });
        let expected = || Expected::new("to be set, because kafka.oauth.token_url is");
        review.expect(self.client_id.is_some(), "kafka.oauth.client_id", expected);
        review.expect(self.client_secret.is_some(), "kafka.oauth.client_secret", expected);
        review.expect(is_private(token_url), "kafka.oauth.token_url", || {
            Expected::new("https://host[:port]/path, or http:// to this machine")
                .hint("the client's secret is sent to it (RFC 6749 §3.2 requires TLS)")
        });
    }

    /// Keys that are set, for a mechanism that does not use them.
    pub(super) fn set(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("kafka.oauth.token_file", self.token_file.is_some()),
            ("kafka.oauth.token_url", self.token_url.is_some()),
            ("kafka.oauth.client_id", self.client_id.is_some()),
            ("kafka.oauth.client_secret", self.client_secret.is_some()),
            ("kafka.oauth.scope", self.scope.is_some()),
            ("kafka.oauth.ca_file", self.ca_file.is_some()),
        ];
        all.into_iter().filter_map(|(key, set)| set.then_some(key))
    }

    /// The value of librdkafka's `sasl.oauthbearer.config`, which it passes to the token callback and treats as a secret.
    pub fn to_property(&self) -> String {
        json!({
            "token_file": self.token_file,
            "token_url": self.token_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret.as_ref().map(Secret::expose),
            "scope": self.scope,
            "ca_file": self.ca_file,
        })
        .to_string()
    }

    /// The inverse of [`Self::to_property`]; `None` for other text.
    pub fn from_property(text: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(text).ok().filter(Value::is_object)?;
        let field = |name: &str| fields[name].as_str().map(str::to_owned);
        Some(Self {
            token_file: field("token_file"),
            token_url: field("token_url"),
            client_id: field("client_id"),
            client_secret: field("client_secret").map(Secret::new),
            scope: field("scope"),
            ca_file: field("ca_file"),
        })
    }
}

/// Whether data sent to `url` cannot be read on the network.
fn is_private(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(ip))) => ip.is_loopback(),
        ("http", Some(Host::Ipv6(ip))) => ip.is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Settings};

    fn wrong(kafka: &str) -> Vec<String> {
        let loaded = Settings::load(Layers::default().with_text("f", &format!("[kafka]\n{kafka}")));
        loaded.err().map_or_else(Vec::new, |errors| errors.0.into_iter().map(|p| p.key).collect())
    }

    #[test]
    fn credentials_mechanism_and_protocol_belong_together() {
        let over_tls = "security_protocol = 'sasl_ssl'\nsasl_mechanism = 'OAUTHBEARER'\n";
        let cases = [
            ("oauth.token_file = 't'", &[][..]),
            ("oauth = { token_url = 'https://i/t', client_id = 'a', client_secret = 'b' }", &[]),
            ("", &["kafka.oauth.token_url"]),
            ("oauth.token_url = 'https://i/t'", &["kafka.oauth.client_id", "kafka.oauth.client_secret"]),
            (
                "oauth = { token_url = 'http://i/t', client_id = 'a', client_secret = 'b', token_file = 'c' }",
                &["kafka.oauth.token_file", "kafka.oauth.token_url"],
            ),
            ("oauth.token_file = 't'\nsasl_username = 'u'", &["kafka.sasl_username"]),
            ("oauth.token_fil = 't'", &["kafka.oauth.token_fil", "kafka.oauth.token_url"]),
        ];
        for (given, keys) in cases {
            assert_eq!(wrong(&format!("{over_tls}{given}")), keys, "{given}");
        }
        let plain =
            "security_protocol = 'sasl_ssl'\nsasl_mechanism = 'PLAIN'\nsasl_username = 'u'\nsasl_password = 'p'\n";
        assert_eq!(wrong(&format!("{plain}oauth.client_id = 'a'")), ["kafka.oauth.client_id"]);
        assert_eq!(wrong("ssl_ca_file = 'a'"), ["kafka.ssl_ca_file"]);
        let ssl = "security_protocol = 'ssl'\n";
        assert_eq!(wrong(&format!("{ssl}ssl_certificate_file = 'a'")), ["kafka.ssl_key_file"]);
        assert_eq!(wrong(&format!("{ssl}ssl_key_file = 'a'")), ["kafka.ssl_certificate_file"]);
        assert!(
            wrong(&format!("{ssl}ssl_certificate_file = 'a'\nssl_key_file = 'b'\nssl_key_password = 'c'")).is_empty()
        );
    }

    #[test]
    fn the_property_carries_every_setting() {
        let text = |text: &str| Some(text.to_owned());
        let settings = OauthSettings {
            token_file: text("/run/token"),
            token_url: text("https://issuer/token"),
            client_id: text("us"),
            client_secret: Some(Secret::new("\"quoted\", and = spaced")),
            scope: text("a b"),
            ca_file: text("/etc/ca.pem"),
        };
        assert_eq!(OauthSettings::from_property(&settings.to_property()), Some(settings));
        let none = OauthSettings::default();
        assert_eq!(OauthSettings::from_property(&none.to_property()), Some(none));
        for foreign in ["", "principal=admin scope=x", "[]", "7"] {
            assert_eq!(OauthSettings::from_property(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn secrets_are_sent_over_tls_or_stay_on_the_machine() {
        for url in ["https://issuer/token", "http://127.0.0.1:1/t", "http://[::1]/t", "http://localhost:8080/t"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://issuer/token", "ftp://localhost/t", "issuer/token", "http://localhost.example/t"] {
            assert!(!is_private(url), "{url}");
        }
    }
}
