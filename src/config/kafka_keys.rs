//! How message keys and headers name asset and tenant.

use std::fmt;
use std::str::FromStr;

use super::reader::{Reader, Review};
use super::text::{Expected, Text, choice};

/// Part of `[kafka]`: the format of message keys, and where the tenant comes from. By default it comes from message bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    pub format: KeyFormat,
    pub template: KeyTemplate,
    /// Name of the header that contains the tenant of every message.
    pub tenant_header: Option<String>,
}

impl KeySettings {
    /// Whether every message names its tenant, including tombstones.
    pub fn name_tenants(&self) -> bool {
        self.tenant_header.is_some() || self.template.has_tenant()
    }

    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            format: section.value("key_format", default.format),
            template: section.value("key_template", default.template),
            tenant_header: section.optional("tenant_header", default.tenant_header),
        }
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        let whole = !self.template.has_tenant() || self.format != KeyFormat::Integer;
        review.expect(whole, "kafka.key_template", || {
            Expected::new("no {tenant} while kafka.key_format is integer").hint("use kafka.tenant_header instead")
        });
    }
}

/// Format of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormat {
    /// Text. A quoted JSON string stands for its content; other JSON is refused.
    #[default]
    Auto,
    /// Always text, whatever it looks like.
    Text,
    /// JSON: a string, an integer, or an object with the asset's id.
    Json,
    /// 4 or 8 bytes, big-endian, signed, as Kafka's own serializers of integers and longs write them.
    Integer,
}

impl KeyFormat {
    const ALL: [Self; 4] = [Self::Auto, Self::Text, Self::Json, Self::Integer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Integer => "integer",
        }
    }
}

impl Text for KeyFormat {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, Self::ALL.map(|format| (format.as_str(), format)))
    }

    fn text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// The parts of a key: `{id}`, or for example `{tenant}/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTemplate {
    before: String,
    after: String,
    tenant: Option<TenantPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TenantPart {
    /// Between the two parts; not empty.
    separator: String,
    /// Whether the tenant comes before the id.
    first: bool,
}

impl KeyTemplate {
    pub fn has_tenant(&self) -> bool {
        self.tenant.is_some()
    }

    /// Tenant and id in `key`. A tenant contains no separator, an id may. `None`: the key has another form.
    pub fn split<'a>(&self, key: &'a str) -> Option<(Option<&'a str>, &'a str)> {
        let inner = key.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        match &self.tenant {
            None => Some((None, inner)),
            Some(TenantPart { separator, first: true }) => {
                inner.split_once(separator.as_str()).map(|(tenant, id)| (Some(tenant), id))
            }
            Some(TenantPart { separator, first: false }) => {
                inner.rsplit_once(separator.as_str()).map(|(id, tenant)| (Some(tenant), id))
            }
        }
    }

    /// The key that [`KeyTemplate::split`] splits into these again; `None`: there is no such key.
    pub fn join(&self, tenant: Option<&str>, id: &str) -> Option<String> {
        let inner = match &self.tenant {
            None => id.to_owned(),
            Some(TenantPart { separator, first }) => {
                let tenant = tenant.unwrap_or_default();
                if *first { format!("{tenant}{separator}{id}") } else { format!("{id}{separator}{tenant}") }
            }
        };
        let key = format!("{}{inner}{}", self.before, self.after);
        let named = if self.has_tenant() { Some(tenant.unwrap_or_default()) } else { None };
        (self.split(&key) == Some((named, id))).then_some(key)
    }
}

const ID: &str = "{id}";
const TENANT: &str = "{tenant}";

impl FromStr for KeyTemplate {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let wrong =
            || Expected::new("{id} once, and {tenant} at most once, apart from it").hint("for example {tenant}/{id}");
        let once = |part: &str| text.matches(part).count() == 1;
        let (Some(id), tenant) = (text.find(ID).filter(|_| once(ID)), text.find(TENANT)) else { return Err(wrong()) };
        let Some(tenant) = tenant else {
            return Ok(Self { before: text[..id].into(), after: text[id + ID.len()..].into(), tenant: None });
        };
        let first = tenant < id;
        let (start, end) = if first { (tenant, id + ID.len()) } else { (id, tenant + TENANT.len()) };
        let separator = if first { &text[tenant + TENANT.len()..id] } else { &text[id + ID.len()..tenant] };
        if separator.is_empty() || !once(TENANT) {
            return Err(wrong());
        }
        let part = TenantPart { separator: separator.into(), first };
        Ok(Self { before: text[..start].into(), after: text[end..].into(), tenant: Some(part) })
    }
}

impl Text for KeyTemplate {
    fn parse(text: &str) -> Result<Self, Expected> {
        text.parse()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, tenant } = self;
        match tenant {
            None => write!(f, "{before}{ID}{after}"),
            Some(TenantPart { separator, first: true }) => write!(f, "{before}{TENANT}{separator}{ID}{after}"),
            Some(TenantPart { separator, first: false }) => write!(f, "{before}{ID}{separator}{TENANT}{after}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> KeyTemplate {
        KeyTemplate::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
    }

    #[test]
    fn keys_come_apart_and_together_again() {
        let cases = [
            ("{id}", "a/b", Some((None, "a/b"))),
            ("{tenant}/{id}", "acme/a/b", Some((Some("acme"), "a/b"))),
            ("{tenant}/{id}", "/a", Some((Some(""), "a"))),
            ("{tenant}/{id}", "a", None),
            ("{id}@{tenant}", "a@b@acme", Some((Some("acme"), "a@b"))),
            ("media:{tenant}:{id}!", "media:acme:a!", Some((Some("acme"), "a"))),
            ("media:{tenant}:{id}!", "acme:a!", None),
        ];
        for (text, key, parts) in cases {
            let template = template(text);
            assert_eq!(template.split(key), parts, "{text} of {key}");
            assert_eq!(template.text(), text);
            if let Some((tenant, id)) = parts {
                assert_eq!(template.join(tenant, id).as_deref(), Some(key));
            }
        }
        // It would be split differently.
        assert_eq!(template("{tenant}/{id}").join(Some("a/b"), "c"), None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in
            ["", "id", "{tenant}", "{tenant}{id}", "{id}{id}", "{tenant}/{id}/{tenant}", "{id}-{tenant}-{tenant}"]
        {
            assert!(KeyTemplate::parse(text).is_err(), "{text}");
        }
    }
}
