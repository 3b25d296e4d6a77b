//! What a test may lack on the machine that it runs on, and what becomes of it then.
//!
//! A test that lacks something does less or nothing, and says so in a box: nobody should need Java for a first `cargo test`. Where
//! that would hide a fault, `CLIPSTREAM_TEST_REQUIRE` names what has to be there, and the test fails instead: names of [`Need`] with
//! commas between them, or `all`, or `services` for the servers that `scripts/services` says it has started.

/// See the module.
pub const REQUIRE: &str = "CLIPSTREAM_TEST_REQUIRE";
/// What `scripts/services` says that it has started.
const STARTED: &str = "SERVICES";
const ALL: &str = "all";
const SERVICES: &str = "services";

/// What a test may lack. Servers are called as in `scripts/services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Apache Kafka; without it some tests run on librdkafka's mock cluster.
    Kafka,
    /// Its listeners with TLS and SASL.
    KafkaSecurity,
    /// An S3 server that keeps versions.
    S3,
    /// A C compiler by the name of `cc`.
    Cc,
    /// A system whose programs take a library of ours before their own: Linux with glibc.
    Preload,
    /// `prlimit`, and `/proc/PID/limits`.
    Prlimit,
    /// A limit of a process' address space (`ulimit -v`).
    AddressSpaceLimit,
    /// What of a process is resident, and how much was at most (`/proc/PID/clear_refs`).
    ResidentMemory,
    /// A core file of a process that crashes.
    CoreFiles,
    /// What reads them.
    Gdb,
    /// File systems of one's own (`unshare --mount`).
    MountNamespaces,
    /// A processor that adds products of bytes exactly.
    Vnni,
}

impl Need {
    pub const ALL: [Self; 12] = [
        Self::Kafka,
        Self::KafkaSecurity,
        Self::S3,
        Self::Cc,
        Self::Preload,
        Self::Prlimit,
        Self::AddressSpaceLimit,
        Self::ResidentMemory,
        Self::CoreFiles,
        Self::Gdb,
        Self::MountNamespaces,
        Self::Vnni,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|need| need.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::KafkaSecurity => "kafka-security",
            Self::S3 => "s3",
            Self::Cc => "cc",
            Self::Preload => "preload",
            Self::Prlimit => "prlimit",
            Self::AddressSpaceLimit => "address-space-limit",
            Self::ResidentMemory => "resident-memory",
            Self::CoreFiles => "core-files",
            Self::Gdb => "gdb",
            Self::MountNamespaces => "mount-namespaces",
            Self::Vnni => "vnni",
        }
    }
}

/// Says that `need` is missing and what is not tried for it.
///
/// # Panics
/// When [`REQUIRE`] names it, or something that is no [`Need`].
#[track_caller]
pub fn go_without(need: Need, not_tried: &str) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    match requires(&required, &named(STARTED).unwrap_or_default(), need) {
        Ok(false) => eprintln!("\n*** NO {}: {not_tried} ***\n", need.name().to_uppercase()),
        Ok(true) => panic!("{REQUIRE}={required} asks for {}, which is not there: {not_tried}", need.name()),
        Err(unknown) => {
            let known = Need::ALL.map(Need::name).join(", ");
            panic!("{REQUIRE} is {required:?}: found {unknown:?}, expected {ALL}, {SERVICES}, or some of {known}")
        }
    }
}

/// Whether `required`, the value of [`REQUIRE`], asks for `need` where the servers `started` run. An error is a name that nothing
/// has.
pub fn requires(required: &str, started: &str, need: Need) -> Result<bool, String> {
    let names = |list: &str| -> Vec<String> {
        list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let (required, started) = (names(required), names(started));
    let is_known = |name: &String| [ALL, SERVICES].contains(&name.as_str()) || Need::named(name).is_some();
    if let Some(unknown) = required.iter().chain(&started).find(|name| !is_known(name)) {
        return Err(unknown.clone());
    }
    Ok(required.iter().any(|name| match name.as_str() {
        ALL => true,
        SERVICES => started.iter().any(|name| name == need.name()),
        name => name == need.name(),
    }))
}

/// Value of `CLIPSTREAM_TEST_{name}`, as `scripts/services env` sets it.
fn named(name: &str) -> Option<String> {
    std::env::var(format!("CLIPSTREAM_TEST_{name}")).ok().filter(|value| !value.is_empty())
}

/// `host:port` of Kafka's plain listener. Without it, `otherwise` says what is done instead.
pub fn kafka(otherwise: &str) -> Option<String> {
    let found = named("KAFKA");
    if found.is_none() {
        go_without(Need::Kafka, &format!("CLIPSTREAM_TEST_KAFKA is not set; {otherwise}"));
    }
    found
}

/// Kafka's other listeners, and what opens them (`scripts/kafka_security.py`).
pub struct KafkaSecurity {
    pub ssl: String,
    pub mtls: String,
    pub sasl: String,
    /// The folder of certificates, keys and tokens.
    pub files: String,
    pub user: String,
    pub password: String,
}

pub fn kafka_security(otherwise: &str) -> Option<KafkaSecurity> {
    let found = || {
        Some(KafkaSecurity {
            ssl: named("KAFKA_SSL")?,
            mtls: named("KAFKA_MTLS")?,
            sasl: named("KAFKA_SASL")?,
            files: named("KAFKA_FILES")?,
            user: named("KAFKA_USER")?,
            password: named("KAFKA_PASSWORD")?,
        })
    };
    let found = found();
    if found.is_none() {
        let variables = "CLIPSTREAM_TEST_KAFKA_SSL, _MTLS, _SASL, _FILES, _USER and _PASSWORD are not all set";
        go_without(Need::KafkaSecurity, &format!("{variables}; {otherwise}"));
    }
    found
}

/// An S3 server, and an account of it that may do everything.
pub struct S3 {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
}

pub fn s3(otherwise: &str) -> Option<S3> {
    let found = || {
        Some(S3 {
            endpoint: named("S3_ENDPOINT")?,
            access_key: named("S3_ACCESS_KEY")?,
            secret_key: named("S3_SECRET_KEY")?,
        })
    };
    let found = found();
    if found.is_none() {
        let variables = "CLIPSTREAM_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY are not all set";
        go_without(Need::S3, &format!("{variables}; {otherwise}"));
    }
    found
}
