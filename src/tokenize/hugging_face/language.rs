//! NLLB's template: the code of the language, the text, the end. Transformers' class for NLLB puts it in place of the file's own, which
//! for the oldest files has the code at the end.

use tokenizers::processors::template::TemplateProcessing;

use super::config::Config;
use super::special;
use crate::redact;
use crate::tokenize::outline::{Outline, not_a_tokenizer};
use crate::tokenize::{HuggingFaceSettings, TokenizerError};

const CLASS: &str = "NllbTokenizer";
/// The class's own language and end of text.
const LANGUAGE: &str = "eng_Latn";
const END: &str = "</s>";

/// The template, if the tokenizer is NLLB's.
///
/// # Errors
///
/// The vocabulary lacks a code, or a language is requested of a tokenizer without languages.
pub(super) fn template(
    tokenizer: &tokenizers::Tokenizer,
    outline: &Outline,
    config: &Config,
    settings: &HuggingFaceSettings,
) -> Result<Option<TemplateProcessing>, TokenizerError> {
    let is_class = config.tokenizer_class.as_ref().is_some_and(|class| class.starts_with(CLASS));
    let in_file = code_of(outline);
    let HuggingFaceSettings { language, source_language, .. } = settings;
    if !is_class && in_file.is_none() {
        return match source_language.as_ref().or(language.as_ref()) {
            None => Ok(None),
            Some(language) => {
                let language = redact::cut(language, 40);
                Err(TokenizerError::new(format!(
                    "no language codes, expected NLLB's tokenizer for language {language}"
                ))
                .hint("remove language from tokenizer_kwargs"))
            }
        };
    }
    let of_class = is_class.then_some(LANGUAGE);
    let code = source_language.as_deref().or(config.src_lang.as_deref()).or(of_class).or(in_file).unwrap_or(LANGUAGE);
    if let Some(language) = language {
        id(tokenizer, language)?;
        if language != code {
            tracing::warn!(
                language,
                code,
                "OpenCLIP's setting language has no effect on its ids: set src_lang in tokenizer_kwargs to use the language"
            );
        }
    }
    let ids = vec![(code, id(tokenizer, code)?), (END, special::id(tokenizer, "end of text", END)?)];
    let is_legacy = config.legacy_behaviour == Some(true);
    let single = if is_legacy { format!("$A {END} {code}") } else { format!("{code} $A {END}") };
    let template = TemplateProcessing::builder().try_single(single).map(|builder| builder.special_tokens(ids).build());
    match template {
        Ok(Ok(template)) => Ok(Some(template)),
        Ok(Err(error)) => Err(not_a_tokenizer(&error)),
        Err(error) => Err(not_a_tokenizer(&error)),
    }
}

fn id(tokenizer: &tokenizers::Tokenizer, code: &str) -> Result<u32, TokenizerError> {
    let found = is_code(code).then(|| tokenizer.token_to_id(code)).flatten();
    found.ok_or_else(|| {
        let code = redact::cut(code, 40);
        TokenizerError::new(format!("no language code {code} in the vocabulary, expected one such as {LANGUAGE}"))
            .hint("correct src_lang (or language) in tokenizer_kwargs or tokenizer_config.json")
    })
}

/// The code in the file's own template.
fn code_of(outline: &Outline) -> Option<&str> {
    let pieces = outline.post_processor.iter().flat_map(|steps| &steps.single);
    pieces.filter_map(|piece| Some(piece.token.as_ref()?.id.as_str())).find(|name| is_code(name))
}

/// Language and script, as FLORES-200 names them: `eng_Latn`.
fn is_code(name: &str) -> bool {
    let Some((language, script)) = name.split_once('_') else { return false };
    let are_letters = name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    language.len() == 3 && script.len() == 4 && are_letters && script.starts_with(|c: char| c.is_ascii_uppercase())
}
