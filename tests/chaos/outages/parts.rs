//! What can go away for an hour, and how that is done.

use std::path::PathBuf;

use clipstream_test_support::services::Services;
use tokio::sync::Mutex;

use super::keys::Keys;
use crate::Error;
use crate::broker::Broker;
use crate::media::Media;
use crate::proxy::{Harm, Proxy};
use crate::store::{Refusal, StoreProcess};
use crate::topics::{New, Topic};

/// What a worker needs, and does not have for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// No broker can be connected to, and connections are cut.
    Kafka,
    /// The store cannot be connected to, and connections are cut.
    Store,
    /// The store refuses the API key, for reads as well.
    StoreKey,
    /// The HTTP server of the pictures cannot be connected to, and connections are cut.
    Media,
    /// The same of the S3 server.
    S3,
    /// The account is gone; half-way there is a new one, but the credentials file has a wrong secret for it.
    S3Key,
    /// The credentials that a process hands out expire, and the new ones have a wrong secret; half-way it hands out none.
    S3Expiry,
    /// The topic is deleted, and made again in the end.
    DeadLetters,
}

/// One worker, and what it has to do without.
#[derive(Debug, PartialEq, Eq)]
pub struct Trial {
    pub name: &'static str,
    /// Also its group and catalog.
    pub topic: &'static str,
    pub parts: &'static [Part],
}

pub const TRIALS: [Trial; 9] = [
    Trial { name: "Qdrant refuses connections", topic: "outage-store", parts: &[Part::Store] },
    Trial { name: "Qdrant refuses the API key", topic: "outage-store-key", parts: &[Part::StoreKey] },
    Trial { name: "Kafka refuses connections", topic: "outage-kafka", parts: &[Part::Kafka] },
    Trial { name: "media host refuses connections", topic: "outage-media", parts: &[Part::Media] },
    Trial { name: "S3 refuses connections", topic: "outage-s3", parts: &[Part::S3] },
    Trial { name: "S3 credentials revoked, then replaced", topic: "outage-s3-key", parts: &[Part::S3Key] },
    Trial { name: "S3 credentials expire", topic: "outage-s3-expiry", parts: &[Part::S3Expiry] },
    Trial { name: "dead-letter topic deleted", topic: "outage-letters", parts: &[Part::DeadLetters] },
    Trial {
        name: "Qdrant, Kafka, media host and S3",
        topic: "outage-all",
        parts: &[Part::Store, Part::Kafka, Part::Media, Part::S3],
    },
];

/// What all workers have in common.
pub struct Shared {
    pub services: Services,
    pub broker: Broker,
    pub media: Media,
    pub kafka: Proxy,
    pub store: StoreProcess,
    /// The one that refuses an API key refuses everybody's.
    pub refusing: Mutex<StoreProcess>,
    pub folder: PathBuf,
    pub http: reqwest::Client,
}

/// What one worker has to itself.
pub struct Own {
    pub store: Proxy,
    pub media: Proxy,
    pub s3: Proxy,
    pub keys: Keys,
}

impl Part {
    /// Components of `/readyz` that may be unready for it, and what their reason must contain.
    pub fn shows_as(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Kafka => (&["kafka"], "kafka.brokers"),
            Self::Store => (&["recall", "upsert"], "store.url"),
            Self::StoreKey => (&["recall", "upsert"], "store.api_key"),
            Self::Media => (&["fetch"], "is down; its messages are held"),
            Self::S3 => (&["fetch"], "media.s3_endpoint"),
            Self::S3Key => (&["fetch"], "S3 refuses the credentials"),
            Self::S3Expiry => (&["fetch"], "credentials"),
            Self::DeadLetters => (&["settle"], "dead-letter topic"),
        }
    }

    pub async fn takes_away(self, trial: &Trial, shared: &Shared, own: &Own) -> Result<(), Error> {
        match self {
            Self::Kafka => disappear(&shared.kafka),
            Self::Store => disappear(&own.store),
            Self::Media => disappear(&own.media),
            Self::S3 => disappear(&own.s3),
            Self::StoreKey => shared.refusing.lock().await.refuse(Refusal::Unauthorized)?,
            Self::S3Key => shared.services.remove_s3_user(own.keys.old())?,
            Self::S3Expiry => own.keys.renew(false)?,
            Self::DeadLetters => shared.broker.delete_topic(&dead_letters(trial)).await?,
        }
        Ok(())
    }

    /// When half of the time is over.
    pub fn half_way(self, shared: &Shared, own: &Own) -> Result<(), Error> {
        match self {
            Self::S3Key => {
                let (key, secret) = own.keys.new_ones();
                shared.services.add_s3_user(key, secret)?;
                own.keys.write(key, "a wrong secret")
            }
            Self::S3Expiry => own.keys.fail(),
            _ => Ok(()),
        }
    }

    /// Called all the time while the part is there.
    pub fn tend(self, own: &Own) -> Result<(), Error> {
        match self {
            Self::S3Expiry => own.keys.renew(true),
            _ => Ok(()),
        }
    }

    pub async fn brings_back(self, trial: &Trial, shared: &Shared, own: &Own) -> Result<(), Error> {
        match self {
            Self::Kafka => shared.kafka.set(Harm::None),
            Self::Store => own.store.set(Harm::None),
            Self::Media => own.media.set(Harm::None),
            Self::S3 => own.s3.set(Harm::None),
            Self::StoreKey => {
                shared.refusing.lock().await.accept()?;
            }
            Self::S3Key => {
                let (key, secret) = own.keys.new_ones();
                own.keys.write(key, secret)?;
            }
            Self::S3Expiry => own.keys.renew(true)?,
            Self::DeadLetters => shared.broker.create(&[New::of_failures(dead_letters(trial), 1)]).await?,
        }
        Ok(())
    }
}

fn dead_letters(trial: &Trial) -> String {
    Topic::Outage(trial.topic).dead_letters()
}

fn disappear(proxy: &Proxy) {
    proxy.set(Harm::Gone);
    proxy.cut(1);
}
