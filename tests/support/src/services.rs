//! Kafka and S3 of a test's own (`scripts/services` with a folder of its own), so that the broker may crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The servers. Dropping it stops them.
pub struct Services {
    folder: PathBuf,
    proxy_port: Option<u16>,
    pub kafka: String,
    /// The listener that is advertised as the proxy's address; without a proxy, the same as `kafka`.
    pub kafka_proxied: String,
    pub s3: String,
    pub s3_access_key: String,
    pub s3_secret_key: String,
}

impl Services {
    /// `None`: this machine cannot have them; what is missing is on standard error. `proxy_port`: where a proxy stands before Kafka.
    ///
    /// # Errors
    /// A server that this machine can have does not start.
    pub fn up(folder: &Path, proxy_port: Option<u16>) -> Result<Option<Self>, Error> {
        let mut services = Self {
            folder: folder.to_owned(),
            proxy_port,
            kafka: String::new(),
            kafka_proxied: String::new(),
            s3: String::new(),
            s3_access_key: String::new(),
            s3_secret_key: String::new(),
        };
        services.script(&["up"])?;
        let exports = services.script(&["env"])?;
        let variables: BTreeMap<&str, &str> =
            exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        let get = |name: &str| variables.get(format!("CLIPSTREAM_TEST_{name}").as_str()).map(|v| (*v).to_owned());
        let proxied = get("KAFKA_PROXIED").or_else(|| get("KAFKA").filter(|_| proxy_port.is_none()));
        let found = (get("KAFKA"), proxied, get("S3_ENDPOINT"), get("S3_ACCESS_KEY"), get("S3_SECRET_KEY"));
        let (Some(kafka), Some(kafka_proxied), Some(s3), Some(s3_access_key), Some(s3_secret_key)) = found else {
            return Ok(None);
        };
        let s3 = s3.trim_start_matches("http://").to_owned();
        (services.kafka, services.kafka_proxied, services.s3) = (kafka, kafka_proxied, s3);
        (services.s3_access_key, services.s3_secret_key) = (s3_access_key, s3_secret_key);
        Ok(Some(services))
    }

    /// kill -9 of the broker.
    ///
    /// # Errors
    /// The script failed.
    pub fn crash_kafka(&self) -> Result<(), Error> {
        self.script(&["crash", "kafka"]).map(drop)
    }

    /// Starts it again with its data and returns when it serves.
    pub fn revive_kafka(&self) -> Result<(), Error> {
        self.script(&["revive", "kafka"]).map(drop)
    }

    /// Another account of the S3 server that may read every bucket.
    pub fn add_s3_user(&self, key: &str, secret: &str) -> Result<(), Error> {
        self.script(&["s3-user", "add", key, secret]).map(drop)
    }

    pub fn remove_s3_user(&self, key: &str) -> Result<(), Error> {
        self.script(&["s3-user", "remove", key]).map(drop)
    }

    fn script(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services"));
        command.args(arguments).env("CLIPSTREAM_SERVICES_DIR", &self.folder);
        // This one's alone, whatever the caller's environment has.
        command
            .env("CLIPSTREAM_SERVICES_KAFKA_PROXY", self.proxy_port.map_or_else(String::new, |port| port.to_string()));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("***") {
            eprintln!("{said}");
        }
        if !output.status.success() {
            return Err(format!("scripts/services {} failed: {}", arguments.join(" "), said.trim()).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Err(error) = self.script(&["down"]) {
            eprintln!("scripts/services in {}: {error}", self.folder.display());
        }
    }
}
