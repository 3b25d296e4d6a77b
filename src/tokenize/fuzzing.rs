//! What must hold whatever a `tokenizer.json` is: ids of its vocabulary, no more than there is room for, or an error of one short line.

use super::{HuggingFaceSettings, Tokenizer, TokenizerSettings};
use crate::domain::TextCleaning;
use crate::redact::is_invisible;

/// The longest list of names that an error quotes, a name of the file, and what is said around them.
const ERROR_CHARS_MAX: usize = 700;

const TEXTS: [&str; 4] = [
    "",
    "a photo of a RED shoe",
    " <s> </s> [SEP] <mask> ▁ ",
    "é ﬁ 中\u{378}\u{200d}😀\u{10fffd}\u{0}\u{301} &amp; 3.14",
];

/// A file. How it is read, its length says, so that any file is a seed.
///
/// # Panics
/// When a promise is broken.
pub fn file(data: &[u8]) {
    let length = data.len();
    let context_length = [2, 16, 77][length % 3];
    let settings = HuggingFaceSettings {
        cleaning: TextCleaning::ALL[length / 3 % TextCleaning::ALL.len()],
        strip_separator: length.is_multiple_of(2),
        source_language: length.is_multiple_of(5).then(|| "deu_Latn".to_owned()),
        language: None,
    };
    match Tokenizer::from_bytes(data, None, &TokenizerSettings::HuggingFace(settings), context_length) {
        Err(error) => {
            let error = error.to_string();
            assert!(error.chars().count() <= ERROR_CHARS_MAX, "{error}");
            assert!(!error.chars().any(is_invisible), "{error:?}");
        }
        Ok(tokenizer) => TEXTS.iter().for_each(|text| has_ids(&tokenizer, text)),
    }
}

fn has_ids(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text);
    assert!(ids.len() <= tokenizer.context_length(), "{} ids of {text:?}", ids.len());
    let size = i64::try_from(tokenizer.vocabulary_size()).unwrap_or(i64::MAX);
    assert!(ids.iter().all(|id| (0..size).contains(id)), "{ids:?} of {size} for {text:?}");
    assert_eq!(ids, tokenizer.encode(text), "another time {text:?} has other ids");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> Vec<Vec<u8>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/tokenizer_file");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// So that what is run on changes of them runs on tokenizers at all.
    #[test]
    fn the_seeds_are_tokenizers() {
        assert_eq!(seeds().len(), 5);
        for seed in seeds() {
            let settings = TokenizerSettings::HuggingFace(HuggingFaceSettings::default());
            let tokenizer = Tokenizer::from_bytes(&seed, None, &settings, 16).unwrap();
            assert!(tokenizer.encode("a photo").len() > 1);
            file(&seed);
        }
    }

    /// Bytes changed, removed and repeated, by a generator with a fixed seed.
    #[test]
    fn damaged_files_are_tokenizers_or_errors() {
        let mut state = 2026_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        for seed in seeds() {
            for _ in 0..300 {
                let mut damaged = seed.clone();
                for _ in 0..=below(3) {
                    let at = below(damaged.len());
                    match below(4) {
                        0 => damaged[at] = damaged[below(damaged.len())],
                        1 => {
                            damaged.remove(at);
                        }
                        2 => damaged.insert(at, b"0123456789\"{}[],: "[below(18)]),
                        _ => {
                            let end = (at + 1 + below(40)).min(damaged.len());
                            let part = damaged[at..end].to_vec();
                            damaged.splice(at..at, part);
                        }
                    }
                }
                file(&damaged);
            }
        }
    }
}
