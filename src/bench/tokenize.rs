//! Benchmark: text to token ids, with OpenCLIP's own tokenizers in Python beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{BenchError, catalog, median, peer};
use crate::tokenize::{Tokenizer, TokenizerSettings};

/// The script that `--peers` runs, relative to the project's folder.
const PEER: &str = "bench/peers/token_ids.py";

/// Measures tokenizers on one core.
pub struct TokenizeBench {
    /// A folder with `catalog.jsonl`, whose captions are the texts.
    pub catalog: PathBuf,
    /// Files like `tokenizer.json`; empty: CLIP's own.
    pub tokenizers: Vec<PathBuf>,
    /// Most ids of a text.
    pub context_length: usize,
    pub rounds: usize,
    /// A Python with OpenCLIP: measures its tokenizers on the same texts.
    pub peers: Option<PathBuf>,
}

/// The field names are the keys of `--json`. Rates are medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct TokenizeReport {
    pub texts: usize,
    pub tokenizers: Vec<TokenizerRates>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TokenizerRates {
    pub tokenizer: String,
    /// Rows that a text tower's token embedding needs.
    pub vocabulary: usize,
    pub load_ms: f64,
    /// Of all texts, start and end included.
    pub tokens: usize,
    pub tokens_per_s: f64,
    pub peer: Option<TokenizerPeer>,
}

/// The same texts in Python.
#[derive(Clone, Debug, Serialize)]
pub struct TokenizerPeer {
    /// Names and versions.
    pub with: String,
    pub load_ms: f64,
    /// With OpenCLIP's cleaning, as we do it, too.
    pub tokens_per_s: f64,
    /// Of the tokenizer alone, without cleaning. `None` for CLIP's own, which cleans by itself.
    pub uncleaned_tokens_per_s: Option<f64>,
    /// Our rate divided by its rate with cleaning.
    pub ratio: f64,
}

#[derive(Deserialize)]
struct PeerLine {
    with: String,
    load_ms: f64,
    tokens_per_s: f64,
    uncleaned_tokens_per_s: Option<f64>,
}

impl TokenizeBench {
    /// # Errors
    /// A file that is no tokenizer, a catalog that cannot be read, a Python without OpenCLIP.
    pub fn run(&self) -> Result<TokenizeReport, BenchError> {
        let texts: Vec<String> = catalog::read(&self.catalog)?.into_iter().map(|(_, text)| text).collect();
        let tokenizers = match self.tokenizers.as_slice() {
            [] => vec![self.measure(None, &texts)?],
            files => files.iter().map(|file| self.measure(Some(file), &texts)).collect::<Result<_, _>>()?,
        };
        Ok(TokenizeReport { texts: texts.len(), tokenizers })
    }

    fn measure(&self, file: Option<&Path>, texts: &[String]) -> Result<TokenizerRates, BenchError> {
        let start = Instant::now();
        let tokenizer = match file {
            Some(file) => Tokenizer::from_file(file, &TokenizerSettings::OfFile, self.context_length),
            None => Tokenizer::of_clip(self.context_length),
        };
        let tokenizer = tokenizer.map_err(BenchError::Input)?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        // The first round fills caches.
        let count = || texts.iter().map(|text| tokenizer.encode(text).len()).sum::<usize>();
        let tokens = count();
        let rates = (0..self.rounds.max(1)).map(|_| {
            let start = Instant::now();
            std::hint::black_box(count()) as f64 / start.elapsed().as_secs_f64()
        });
        let tokens_per_s = median(rates.collect());
        let peer = match &self.peers {
            Some(python) => Some(self.peer(python, file, tokens_per_s)?),
            None => None,
        };
        Ok(TokenizerRates {
            tokenizer: file.map_or_else(|| "CLIP's own".to_owned(), |file| file.display().to_string()),
            vocabulary: tokenizer.vocabulary_size(),
            load_ms,
            tokens,
            tokens_per_s,
            peer,
        })
    }

    fn peer(&self, python: &Path, file: Option<&Path>, ours: f64) -> Result<TokenizerPeer, BenchError> {
        let (rounds, context_length) = (self.rounds.to_string(), self.context_length.to_string());
        let catalog = self.catalog.join("catalog.jsonl");
        let file = file.map_or(OsStr::new("clip"), Path::as_os_str);
        let arguments = [catalog.as_os_str(), rounds.as_ref(), context_length.as_ref(), file];
        let line: PeerLine = peer::result(python, PEER, &arguments)?;
        Ok(TokenizerPeer {
            with: line.with,
            load_ms: line.load_ms,
            ratio: ours / line.tokens_per_s,
            tokens_per_s: line.tokens_per_s,
            uncleaned_tokens_per_s: line.uncleaned_tokens_per_s,
        })
    }
}
