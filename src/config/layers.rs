//! The layers of the configuration, in ascending precedence: TOML file, environment, flags. Every value carries its origin as text.

use std::ffi::OsString;
use std::path::PathBuf;

use config::{Config, Map, Source, Value, ValueKind};

use super::problem::{Problem, quoted};

/// Prefix of environment variables of the configuration. It has two underscores, because Kubernetes itself sets
/// `CLIPSTREAM_PORT` and similar variables for a service named `clipstream`.
const PREFIX: &str = "CLIPSTREAM__";

/// Tables with user-defined keys. Environment and flags may set one entry (`kafka.topic_ops.captions`) or several as
/// `name=value,name=value`.
const MAPS: [(&str, &str); 2] = [("kafka", "properties"), ("kafka", "topic_ops")];

/// Variables of Hugging Face's own tools, each with its key. They rank below the file, because keys are specific to this
/// program.
const HUGGING_FACE: [(&str, &str, &str); 3] =
    [("HF_ENDPOINT", "hub", "endpoint"), ("HF_TOKEN", "hub", "token"), ("HF_HUB_OFFLINE", "hub", "offline")];

/// The layers of a configuration, before they are merged and read.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<FileLayer>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
enum FileLayer {
    /// `asked_by`: the flag or environment variable that names the file.
    Path {
        path: PathBuf,
        asked_by: &'static str,
    },
    Text {
        name: String,
        text: String,
    },
}

#[derive(Clone, Debug)]
struct Flag {
    origin: String,
    assignment: String,
}

impl Layers {
    /// A TOML file; `asked_by` is the flag or the environment variable that names it.
    pub fn with_file(mut self, path: PathBuf, asked_by: &'static str) -> Self {
        self.file = Some(FileLayer::Path { path, asked_by });
        self
    }

    /// TOML text; `name` is its origin in messages.
    pub fn with_text(mut self, name: &str, text: &str) -> Self {
        self.file = Some(FileLayer::Text { name: name.to_owned(), text: text.to_owned() });
        self
    }

    /// Environment variables; unrelated ones are ignored.
    pub fn with_environment<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment = variables.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        // Sorted, so that problems have the same order in every run.
        self.environment.sort();
        self
    }

    /// A flag: `assignment` is `section.key=value`, `origin` the flag's name. Later ones win.
    pub fn with_flag(mut self, origin: &str, assignment: impl Into<String>) -> Self {
        self.flags.push(Flag { origin: origin.to_owned(), assignment: assignment.into() });
        self
    }

    /// Merges all layers into one tree of sections; also returns problems of unreadable layers.
    pub(super) fn merge(self) -> (Map<String, Value>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut builder = Config::builder();
        for (name, value) in &self.environment {
            if let Some(layer) = hugging_face(name, value, &mut problems) {
                builder = builder.add_source(layer);
            }
        }
        if let Some(file) = self.file
            && let Some(layer) = read_file(file, &mut problems)
        {
            builder = builder.add_source(layer);
        }
        for (name, value) in &self.environment {
            if let Some(layer) = read_variable(name, value, &mut problems) {
                builder = builder.add_source(layer);
            }
        }
        for flag in &self.flags {
            if let Some(layer) = read_flag(flag, &mut problems) {
                builder = builder.add_source(layer);
            }
        }
        match builder.build().map(|config| config.cache.kind) {
            Ok(ValueKind::Table(sections)) => (sections, problems),
            Ok(_) => (Map::new(), problems),
            Err(error) => {
                problems.push(Problem {
                    key: "configuration".into(),
                    found: None,
                    origin: None,
                    expected: format!("layers that can be merged; {}", crate::redact::cut(&error.to_string(), 200)),
                    hint: None,
                });
                (Map::new(), problems)
            }
        }
    }
}

/// One layer: sections, each a table.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn read_file(file: FileLayer, problems: &mut Vec<Problem>) -> Option<Layer> {
    let (name, text) = match file {
        FileLayer::Text { name, text } => (name, text),
        FileLayer::Path { path, asked_by } => match std::fs::read_to_string(&path) {
            Ok(text) => (path.display().to_string(), text),
            Err(error) => {
                problems.push(Problem {
                    key: "configuration file".into(),
                    found: Some(quoted(&path.display().to_string())),
                    origin: Some(asked_by.into()),
                    expected: "a readable TOML file".into(),
                    hint: Some(error.to_string()),
                });
                return None;
            }
        },
    };
    match toml::de::DeTable::parse(&text) {
        Ok(table) => Some(Layer(from_table(table.into_inner(), &name, &text))),
        Err(error) => {
            // The error's own Display quotes the line, which may contain a secret.
            let line = error.span().map(|s| line_of(&text, s.start));
            problems.push(Problem {
                key: "configuration file".into(),
                found: None,
                origin: Some(line.map_or(name.clone(), |line| format!("{name}, line {line}"))),
                expected: "TOML".into(),
                hint: Some(error.message().trim().replace('\n', "; ")),
            });
            None
        }
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count()
}

fn from_table(table: toml::de::DeTable<'_>, name: &str, text: &str) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin = format!("{name}, line {}", line_of(text, value.span().start));
            (key.into_inner().into_owned(), from_toml(value.into_inner(), origin, name, text))
        })
        .collect()
}

fn from_toml(value: toml::de::DeValue<'_>, origin: String, name: &str, text: &str) -> Value {
    use toml::de::DeValue;
    let kind = match value {
        DeValue::String(s) => ValueKind::String(s.into_owned()),
        // Numbers beyond 64 bits stay text, so that the reader rejects them with key and range.
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => ValueKind::I64(i),
            Err(_) => ValueKind::String(i.as_str().to_owned()),
        },
        DeValue::Float(f) => ValueKind::String(f.as_str().to_owned()),
        DeValue::Boolean(b) => ValueKind::Boolean(b),
        DeValue::Datetime(d) => ValueKind::String(d.to_string()),
        DeValue::Array(items) => ValueKind::Array(
            items.into_iter().map(|item| from_toml(item.into_inner(), origin.clone(), name, text)).collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(from_table(table, name, text)),
    };
    Value::new(Some(&origin), kind)
}

/// Whether a value comes from a variable of Hugging Face's tools. A wrong value there does not matter without a hub.
pub(super) fn is_hugging_faces(origin: &str) -> bool {
    HUGGING_FACE.iter().any(|(name, ..)| origin == origin_of_variable(name))
}

fn origin_of_variable(name: &str) -> String {
    format!("environment variable {name}")
}

/// A variable of Hugging Face's tools that has a value.
fn hugging_face(name: &OsString, value: &OsString, problems: &mut Vec<Problem>) -> Option<Layer> {
    let (name, section, key) = HUGGING_FACE.iter().find(|(known, ..)| name == known)?;
    let value = value.to_str().map(str::trim).filter(|value| !value.is_empty())?;
    let value = match *key {
        // The values that huggingface_hub treats as true; all others are false.
        "offline" if ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()) => "true",
        "offline" => "false",
        _ => value,
    };
    assign(section, key, None, value, &origin_of_variable(name), problems)
}

fn read_variable(name: &OsString, value: &OsString, problems: &mut Vec<Problem>) -> Option<Layer> {
    let name = name.to_string_lossy();
    let rest = name.strip_prefix(PREFIX)?;
    let origin = origin_of_variable(&name);
    let Some(value) = value.to_str() else {
        problems.push(Problem {
            key: name.clone().into_owned(),
            found: None,
            origin: Some(origin),
            expected: "text in UTF-8".into(),
            hint: None,
        });
        return None;
    };
    let parts: Vec<&str> = rest.splitn(3, "__").collect();
    if parts.len() < 2 || parts.iter().any(|p| p.is_empty()) {
        problems.push(Problem {
            key: name.clone().into_owned(),
            found: None,
            origin: Some(origin),
            expected: format!("{PREFIX}SECTION__KEY, with two underscores between the parts"),
            hint: None,
        });
        return None;
    }
    let (section, key) = (parts[0].to_ascii_lowercase(), parts[1].to_ascii_lowercase());
    // librdkafka's names have dots, which shells do not allow in names of variables.
    let entry = parts.get(2).map(|entry| match (section.as_str(), key.as_str()) {
        ("kafka", "properties") => entry.to_ascii_lowercase().replace('_', "."),
        // User-defined names.
        at if MAPS.contains(&at) => (*entry).to_owned(),
        _ => entry.to_ascii_lowercase(),
    });
    assign(&section, &key, entry.as_deref(), value, &origin, problems)
}

fn read_flag(flag: &Flag, problems: &mut Vec<Problem>) -> Option<Layer> {
    let mut wrong = || {
        // The text may be a misspelt assignment of a secret, so it is not shown.
        problems.push(Problem {
            key: flag.origin.clone(),
            found: None,
            origin: Some(flag.origin.clone()),
            expected: "section.key=value".into(),
            hint: Some("for example --set store.kind=qdrant".into()),
        });
        None
    };
    let Some((path, value)) = flag.assignment.split_once('=') else { return wrong() };
    let parts: Vec<&str> = path.trim().splitn(3, '.').collect();
    if parts.len() < 2 || parts.iter().any(|p| p.is_empty()) {
        return wrong();
    }
    assign(parts[0], parts[1], parts.get(2).copied(), value, &flag.origin, problems)
}

/// `section.key[.entry] = value` as a separate layer.
fn assign(
    section: &str,
    key: &str,
    entry: Option<&str>,
    value: &str,
    origin: &str,
    problems: &mut Vec<Problem>,
) -> Option<Layer> {
    let origin = origin.to_owned();
    let text = |text: &str| Value::new(Some(&origin), text);
    let table = |entries: Vec<(String, Value)>| {
        Value::new(Some(&origin), ValueKind::Table(entries.into_iter().collect::<Map<_, _>>()))
    };
    let leaf = match entry {
        Some(entry) => table(vec![(entry.to_owned(), text(value))]),
        None if MAPS.contains(&(section, key)) => {
            let mut entries = Vec::new();
            for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                let Some((name, value)) = item.split_once('=') else {
                    problems.push(Problem {
                        key: format!("{section}.{key}"),
                        found: None,
                        origin: Some(origin.clone()),
                        expected: "name=value, separated by commas".into(),
                        hint: Some(format!("for a value that contains a comma: --set {section}.{key}.NAME=VALUE")),
                    });
                    return None;
                };
                entries.push((name.trim().to_owned(), text(value.trim())));
            }
            table(entries)
        }
        None => text(value),
    };
    let section_table = table(vec![(key.to_owned(), leaf)]);
    Some(Layer([(section.to_owned(), section_table)].into_iter().collect()))
}
