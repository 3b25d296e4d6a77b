//! Messages of tenants. All tenants use the same ids, each for an asset of its own.

use rand::Rng;
use serde_json::json;

use super::{Dies, Planned, Workload, planned};
use crate::topics::Topic;

/// The last one means that the asset has no tenant.
pub const NAMES: [&str; 4] = ["acme", "Bär & Söhne", "acme/2", ""];
const ASSETS: u32 = 60;
/// Characters of a message that no letter holds in one record.
const LARGE: usize = 20_000;

impl Workload {
    /// Any operation on an asset of one of the tenants; one in twenty is broken.
    pub fn of_tenant(&mut self) -> Planned {
        self.serial += 1;
        if self.rng.random_ratio(1, 20) {
            return self.broken_of_tenant();
        }
        let key = self.rng.random_range(0..ASSETS);
        let message = self.unversioned(key);
        let tenant = Some(self.tenant().to_owned());
        self.dated(Planned { topic: Topic::Tenants, key: format!("tenants-{}", message.key), tenant, ..message })
    }

    /// The whole state of an asset, or its tombstone: whatever the broker has removed before does not matter then. Each has a
    /// key of its own, and so has what is broken. The broker closes segments by the time of their messages, so that is now.
    pub fn compacted(&mut self) -> Planned {
        self.serial += 1;
        let (topic, tenant) = (Topic::Compacted, self.tenant());
        if self.rng.random_ratio(1, 20) {
            let broken = self.cut_off(topic, 0);
            let tombstone = Planned { tenant: None, value: None, dies: dies("tenant_missing"), ..broken.clone() };
            return if self.rng.random() { broken } else { tombstone };
        }
        let key = format!("compacted-{}-{tenant}", self.rng.random_range(0..ASSETS / 2));
        let body = json!({"op": "upsert", "text": self.text(), "payload": self.payload("f", false)});
        let mut message = Planned { tenant: Some(tenant.to_owned()), ..planned(topic, key, &body) };
        if self.rng.random_ratio(1, 4) {
            message.value = None;
        }
        message
    }

    /// With a picture of a host that never serves.
    pub fn unserved(&mut self, picture: &str, reason: &str) -> Planned {
        self.serial += 1;
        let body = json!({"image": format!("{picture}/{}.webp", self.serial), "payload": {"never": self.serial}});
        let message = planned(Topic::Tenants, format!("tenants-unserved-{}", self.serial), &body);
        Planned { tenant: Some(self.tenant().to_owned()), dies: dies(reason), ..message }
    }

    /// With a picture of one that does, for an asset of its own.
    pub fn served(&mut self) -> Planned {
        self.serial += 1;
        let body = json!({"op": "upsert", "image": self.picture(), "payload": self.payload("f", false)});
        let message = planned(Topic::Tenants, format!("tenants-served-{}", self.serial), &body);
        Planned { tenant: Some(self.tenant().to_owned()), ..message }
    }

    /// An upsert whose body names a tenant, in a topic whose tombstones cannot; the next message is the tombstone.
    pub(super) fn of_untold_tenant(&mut self) -> Planned {
        let key = format!("untold-{}", self.serial);
        let body =
            json!({"op": "upsert", "tenant": NAMES[0], "text": self.text(), "payload": self.payload("f", false)});
        let upsert = planned(Topic::Assets, key, &body);
        self.untold = Some(Planned { value: None, dies: dies("tenant_unknown"), ..upsert.clone() });
        upsert
    }

    fn broken_of_tenant(&mut self) -> Planned {
        let body = json!({"text": "of whom?", "payload": {"broken": self.serial}});
        let unique = planned(Topic::Tenants, format!("tenants-p{}", self.serial), &body);
        let message = match self.rng.random_range(0..4) {
            0 => Planned { dies: dies("tenant_missing"), ..unique },
            1 => Planned { value: None, dies: dies("tenant_missing"), ..unique },
            2 => {
                let body = json!({"tenant": "another", "text": "of two", "payload": {"broken": self.serial}});
                let value = Some(body.to_string().into_bytes());
                Planned { tenant: Some(self.tenant().to_owned()), value, dies: dies("tenant_conflict"), ..unique }
            }
            _ => self.cut_off(Topic::Tenants, LARGE),
        };
        self.dated(message)
    }

    /// With so many characters that cannot be compressed.
    fn cut_off(&mut self, topic: Topic, characters: usize) -> Planned {
        let noise: String = (0..characters).map(|_| char::from(self.rng.random_range(b'a'..=b'z'))).collect();
        let value = Some(format!("{{\"text\": \"cut off {} {noise}", self.serial).into_bytes());
        let unique = planned(topic, format!("{}-p{}", topic.name(), self.serial), &json!({}));
        Planned { tenant: Some(self.tenant().to_owned()), value, dies: dies("message_not_json"), ..unique }
    }

    fn tenant(&mut self) -> &'static str {
        NAMES[self.rng.random_range(0..NAMES.len())]
    }
}

fn dies(reason: &str) -> Option<Dies> {
    Some(Dies { reason: reason.to_owned(), unless_superseded: false })
}
