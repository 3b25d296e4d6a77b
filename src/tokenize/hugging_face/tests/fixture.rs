//! The fixtures: a tokenizer's files, texts, and runs of OpenCLIP's tokenizer over them.

use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::domain::TextCleaning;
use crate::tokenize::{HuggingFaceSettings, Tokenizer, TokenizerSettings};

pub(super) struct Fixture {
    pub(super) pad: i64,
    pub(super) texts: Vec<String>,
    pub(super) runs: Vec<Run>,
}

pub(super) struct Run {
    pub(super) arguments: Value,
    pub(super) tokenizer: Tokenizer,
    pub(super) context_length: usize,
    /// Of the fixture's texts, without padding.
    pub(super) rows: Vec<Vec<i64>>,
    /// Of the padded rows of the known texts, and of the fixture's.
    pub(super) digests: Vec<String>,
}

/// The first line.
#[derive(Deserialize)]
pub(super) struct Files {
    pub(super) tokenizer: Value,
    pub(super) config: Value,
    pad: i64,
    texts: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    arguments: Value,
    context_length: usize,
    rows: Vec<Vec<i64>>,
    digests: String,
    post_processor: Option<Value>,
}

impl Fixture {
    pub(super) fn read(kind: &str) -> Self {
        let text = unpacked(kind);
        let mut lines = text.lines();
        let files: Files = serde_json::from_str(lines.next().unwrap()).unwrap();
        let runs = lines.map(|line| {
            let line: Line = serde_json::from_str(line).unwrap();
            let mut tokenizer = files.tokenizer.clone();
            if let Some(steps) = line.post_processor {
                tokenizer["post_processor"] = steps;
            }
            Run {
                tokenizer: open(&tokenizer, &files.config, settings(&line.arguments), line.context_length).unwrap(),
                arguments: line.arguments,
                context_length: line.context_length,
                rows: line.rows,
                digests: line.digests.as_bytes().chunks(8).map(|d| String::from_utf8(d.to_vec()).unwrap()).collect(),
            }
        });
        Self { runs: runs.collect(), pad: files.pad, texts: files.texts }
    }
}

pub(super) fn files(kind: &str) -> Files {
    serde_json::from_str(unpacked(kind).lines().next().unwrap()).unwrap()
}

pub(super) fn open(
    tokenizer: &Value,
    config: &Value,
    settings: HuggingFaceSettings,
    context_length: usize,
) -> Result<Tokenizer, String> {
    let (tokenizer, config) = (tokenizer.to_string(), config.to_string());
    let settings = TokenizerSettings::HuggingFace(settings);
    let opened = Tokenizer::from_bytes(tokenizer.as_bytes(), Some(config.as_bytes()), &settings, context_length);
    opened.map_err(|error| error.to_string())
}

/// Four bytes of the SHA-256 of a row as Python's JSON without spaces, in hex.
pub(super) fn digest(row: &[i64]) -> String {
    let row: Vec<_> = row.iter().map(i64::to_string).collect();
    let digest = Sha256::digest(format!("[{}]", row.join(",")));
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The texts of `tokens.jsonl`.
pub(super) fn known_texts() -> &'static [String] {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens.jsonl");
        let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
        text.lines().map(of).collect()
    });
    &TEXTS
}

fn unpacked(kind: &str) -> String {
    let path = format!("{}/tests/fixtures/tokenizers/{kind}.jsonl.zlib", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::read(&path).expect("the fixture is in the repository");
    let mut text = String::new();
    ZlibDecoder::new(&packed[4..]).read_to_string(&mut text).unwrap();
    text
}

fn settings(arguments: &Value) -> HuggingFaceSettings {
    let text = |name: &str| arguments[name].as_str().map(str::to_owned);
    let cleaning = TextCleaning::ALL.into_iter().find(|cleaning| arguments["clean"] == cleaning.as_str());
    HuggingFaceSettings {
        cleaning: cleaning.unwrap_or_default(),
        strip_separator: arguments["strip_sep_token"] == true,
        language: text("language"),
        source_language: text("src_lang"),
    }
}
