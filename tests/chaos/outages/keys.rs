//! A worker's S3 credentials, in files that can be replaced while it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use clipstream_test_support::services::Services;
use serde_json::json;

use crate::Error;

/// What a process hands out is good for so long. The SDK asks for new ones ten seconds before.
const LIFETIME: Duration = Duration::from_secs(15);
/// What is wrong instead, during the outage, as good as for ever.
const LIFETIME_WRONG: Duration = Duration::from_secs(86_400);

pub struct Keys {
    /// Of the worker; its accounts are named after it.
    names: [String; 2],
    folder: PathBuf,
    root: (String, String),
}

impl Keys {
    /// Credentials of an account of its own, in a file; with `expiring`, of the root's, from a process.
    pub fn create(folder: &Path, worker: &str, expiring: bool, services: &Services) -> Result<Self, Error> {
        let keys = Self {
            names: ["old", "new"].map(|age| format!("{worker}-{age}")),
            folder: folder.join(worker),
            root: (services.s3_access_key.clone(), services.s3_secret_key.clone()),
        };
        std::fs::create_dir_all(&keys.folder)?;
        if expiring {
            keys.renew(true)?;
            replace(
                &keys.file("config"),
                &format!("[default]\ncredential_process = cat \"{}\"\n", keys.file("process.json").display()),
            )?;
        } else {
            services.add_s3_user(keys.old(), "old secret")?;
            keys.write(keys.old(), "old secret")?;
        }
        Ok(keys)
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let file = |name: &str| self.file(name).display().to_string();
        [
            ("AWS_CONFIG_FILE", file("config")),
            ("AWS_SHARED_CREDENTIALS_FILE", file("credentials")),
            ("AWS_REGION", "us-east-1".to_owned()),
            // For the credentials' process.
            ("PATH", std::env::var("PATH").unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    pub fn old(&self) -> &str {
        &self.names[0]
    }

    /// Of the account that takes the place of the old one.
    pub fn new_ones(&self) -> (&str, &str) {
        (&self.names[1], "new secret")
    }

    pub fn write(&self, key: &str, secret: &str) -> Result<(), Error> {
        let file = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        replace(&self.file("credentials"), &file)
    }

    /// What the process hands out next.
    pub fn renew(&self, right: bool) -> Result<(), Error> {
        let (key, secret) = &self.root;
        let expires =
            (Utc::now() + if right { LIFETIME } else { LIFETIME_WRONG }).to_rfc3339_opts(SecondsFormat::Secs, true);
        let secret = if right { secret } else { "a wrong secret" };
        let handed = json!({"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret, "Expiration": expires});
        replace(&self.file("process.json"), &handed.to_string())
    }

    /// The process fails from now on.
    pub fn fail(&self) -> Result<(), Error> {
        Ok(std::fs::remove_file(self.file("process.json"))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Whole or not at all: the worker may read it at any time.
fn replace(file: &Path, content: &str) -> Result<(), Error> {
    let temporary = file.with_extension("new");
    std::fs::write(&temporary, content)?;
    Ok(std::fs::rename(temporary, file)?)
}
