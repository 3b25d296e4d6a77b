//! Checks that a tokenizer is the one that the text tower was made with: another one gives ids that the tower has no embedding for,
//! or vectors of other words.

use super::ModelError;
use super::directory::ModelFiles;
use crate::domain::ModelReason;
use crate::domain::registry::TokenizerKind;
use crate::tokenize::{Tokenizer, TokenizerSettings};

/// Rows of the token embedding of every CLIP that has OpenAI's vocabulary (`vocab_size` in OpenCLIP's configurations).
const CLIP_VOCABULARY: u64 = 49_408;

/// Whether the tokenizer is of the checkpoint's family. Another vocabulary of the same size, or a smaller one, gives ids that the
/// tower has embeddings for.
///
/// # Errors
/// Its algorithm is another one.
pub(crate) fn check_kind(
    files: &ModelFiles,
    tokenizer: &Tokenizer,
    expected: Option<TokenizerKind>,
) -> Result<(), ModelError> {
    let (Some(file), Some(expected)) = (&files.tokenizer, expected) else { return Ok(()) };
    let found = tokenizer.kind();
    if found == expected {
        return Ok(());
    }
    let message = format!("{} is a tokenizer of the kind {found}, expected {expected}", file.display());
    Err(ModelError::new(ModelReason::TokenizerMismatch, message)
        .hint("take all files from the same export, or correct clip.models"))
}

/// Whether the tokenizer's ids are rows of the text tower's token embedding.
///
/// # Errors
/// One is not, or the padding is not; the tokenizer is another than the graph's; or there is none, and CLIP's own would not fit.
pub(crate) fn check_vocabulary(files: &ModelFiles, tokenizer: &Tokenizer, rows: Option<u64>) -> Result<(), ModelError> {
    let unfit = |message, hint| Err(ModelError::new(ModelReason::TokenizerMismatch, message).hint(hint));
    let graph = files.text_graph.display();
    let by_name = files.tokenizer_settings != TokenizerSettings::OfFile;
    let Some(file) = &files.tokenizer else {
        return match rows {
            _ if by_name => unfit(
                format!(
                    "{graph} has no tokenizer.json beside it, expected the one that the model's configuration names"
                ),
                "copy the model's tokenizer.json there",
            ),
            Some(CLIP_VOCABULARY) => Ok(()),
            rows => unfit(
                format!(
                    "{graph} has no tokenizer.json beside it, and its vocabulary is of {} tokens, not CLIP's own of \
                     {CLIP_VOCABULARY}",
                    rows.map_or("an unknown number".to_owned(), |rows| rows.to_string())
                ),
                "copy the model's tokenizer.json there",
            ),
        };
    };
    let Some(rows) = rows else { return Ok(()) };
    if rows == CLIP_VOCABULARY && !by_name && !tokenizer.is_clips() {
        return unfit(
            format!("{} is not CLIP's vocabulary, expected it for {graph} with its {rows} tokens", file.display()),
            "use the tokenizer.json of this CLIP model",
        );
    }
    let padding = files.padding_id(tokenizer);
    if u64::try_from(padding).is_ok_and(|padding| padding >= rows) {
        return unfit(
            format!(
                "texts are padded with id {padding}, the text tower {graph} knows {rows} tokens; expected an id below {rows}"
            ),
            "correct pad_id or pad_token_id in config.json, or take all files from the same export",
        );
    }
    let needed = tokenizer.vocabulary_size() as u64;
    if needed > rows {
        return unfit(
            format!(
                "{} gives ids up to {}, the text tower {graph} knows {rows} tokens; expected ids below {rows}",
                file.display(),
                needed - 1,
            ),
            "take both files from the same export",
        );
    }
    if needed < rows {
        tracing::warn!(
            tokenizer = %file.display(), ids = needed, rows,
            "the text tower knows more tokens than the tokenizer: is it this model's?"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::Precision;
    use crate::model::ModelFacts;
    use crate::model::directory::{self, PaddingBy};

    fn files(model: &str) -> ModelFiles {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
        directory::find(&"tiny/test".parse().unwrap(), &models.join(model), Precision::Fp32).unwrap()
    }

    #[test]
    fn the_tokenizer_must_fit_the_vocabulary() {
        let mut files = files("ours-quick-gelu");
        let of_file = TokenizerSettings::OfFile;
        let tokenizer = Tokenizer::from_file(files.tokenizer.as_ref().unwrap(), &of_file, 77).unwrap();
        let rows = ModelFacts::read(&files).unwrap().text.vocabulary;
        assert_eq!(rows, Some(600));
        assert_eq!(check_vocabulary(&files, &tokenizer, rows), Ok(()));
        assert_eq!(check_vocabulary(&files, &tokenizer, None), Ok(()));
        let error = check_vocabulary(&files, &tokenizer, Some(599)).unwrap_err();
        assert_eq!(error.reason, ModelReason::TokenizerMismatch);
        let error = error.to_string();
        assert!(
            error.contains("tokenizer.json gives ids up to 599, the text tower ") && error.contains("knows 599 tokens"),
            "{error}"
        );

        files.text_input.padding_id = 600;
        let error = check_vocabulary(&files, &tokenizer, rows).unwrap_err().to_string();
        assert!(
            error.starts_with("texts are padded with id 600, the text tower ") && error.contains("below 600"),
            "{error}"
        );
        files.text_input.padding_id = 0;

        files.tokenizer = None;
        assert_eq!(check_vocabulary(&files, &tokenizer, Some(49_408)), Ok(()));
        for rows in [Some(600), None] {
            let error = check_vocabulary(&files, &tokenizer, rows).unwrap_err().to_string();
            assert!(
                error.contains("has no tokenizer.json beside it")
                    && error.ends_with("copy the model's tokenizer.json there"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_named_tokenizer_must_be_there_and_another_than_clips_be_named() {
        let mut files = files("ours-quick-gelu");
        let json = r###"{"model": {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
            "vocab": {"a": 0, "<pad>": 1}}}"###;
        let other = Tokenizer::from_bytes(json.as_bytes(), None, &TokenizerSettings::OfFile, 77).unwrap();
        let error = check_vocabulary(&files, &other, Some(49_408)).unwrap_err();
        assert_eq!(error.reason, ModelReason::TokenizerMismatch);
        assert!(error.message.contains("tokenizer.json is not CLIP's vocabulary, expected it for "), "{error}");

        files.tokenizer_settings = TokenizerSettings::HuggingFace(Default::default());
        assert_eq!(check_vocabulary(&files, &other, Some(49_408)), Ok(()));
        files.tokenizer = None;
        let error = check_vocabulary(&files, &other, Some(49_408)).unwrap_err();
        assert!(error.message.contains("expected the one that the model's configuration names"), "{error}");
    }

    #[test]
    fn a_tokenizer_of_another_family_is_refused_by_its_kind() {
        for (model, kind) in [
            ("ours-siglip", TokenizerKind::GemmaBpe),
            ("immich-xlm-r", TokenizerKind::Unigram),
            ("jina-clip-v1", TokenizerKind::Wordpiece),
            ("ours-gelu", TokenizerKind::ClipBpe),
        ] {
            let files = files(model);
            let file = files.tokenizer.as_ref().unwrap();
            let tokenizer = Tokenizer::from_file(file, &files.tokenizer_settings, 64).unwrap();
            assert_eq!(tokenizer.kind(), kind, "{model}");
            for expected in [TokenizerKind::GemmaBpe, TokenizerKind::Unigram, TokenizerKind::Wordpiece] {
                let found = check_kind(&files, &tokenizer, Some(expected));
                assert_eq!(found.is_ok(), expected == kind, "{model}: {found:?}");
            }
            let error = check_kind(&files, &tokenizer, Some(TokenizerKind::Nllb)).unwrap_err();
            assert_eq!(error.reason, ModelReason::TokenizerMismatch);
            let says = format!("tokenizer.json is a tokenizer of the kind {kind}, expected nllb");
            assert!(error.message.ends_with(&says), "{error}");
            // Nothing is known of a model that is not OpenCLIP's.
            assert_eq!(check_kind(&files, &tokenizer, None), Ok(()));
        }
    }

    /// OpenCLIP's configuration, then what the tokenizer's files name, then Transformers' configuration, then a usual name.
    #[test]
    fn the_padding_is_the_one_that_openclip_pads_with() {
        let mut files = files("ours-quick-gelu");
        let json = r###"{"model": {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
            "vocab": {"a": 0, "b": 1, "<pad>": 2}}}"###;
        let open = |config: Option<&str>| {
            let config = config.map(str::as_bytes);
            Tokenizer::from_bytes(json.as_bytes(), config, &TokenizerSettings::OfFile, 77).unwrap()
        };
        let (named, bare) = (open(Some(r#"{"pad_token": "b"}"#)), open(None));
        for (by, with_named, with_bare) in
            [(PaddingBy::OpenClip, 3, 3), (PaddingBy::Transformers, 1, 3), (PaddingBy::Nobody, 1, 2)]
        {
            files.text_input.padding_by = by;
            files.text_input.padding_id = 3;
            assert_eq!((files.padding_id(&named), files.padding_id(&bare)), (with_named, with_bare), "{by:?}");
            assert_eq!(files.padding_id(&Tokenizer::of_clip(77).unwrap()), 3);
        }
    }
}
