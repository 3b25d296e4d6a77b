//! The reasons of models and pictures, which are text in `clip`, `model` and `picture` still. To be replaced by `Fault`s of their own there.

use crate::clip::ClipError;
use crate::domain::{ClipReason, Explain, Fault, Finding, PictureReason, Reason};
use crate::picture::PictureError;

pub(crate) fn of_clip(error: &ClipError) -> Fault<ClipReason> {
    // A test finds every reason of `clip` and `model` among these.
    let reason = named(error.reason()).unwrap_or(ClipReason::ModelUnusable);
    Fault::new(reason, error.to_string()).class(error.class())
}

pub(crate) fn of_picture(error: &PictureError) -> Fault<PictureReason> {
    Fault::new(named(error.reason).unwrap_or(PictureReason::Undecodable), error.message.clone())
}

/// The last clause of its message is the next step, but for an item's.
impl Explain for ClipError {
    fn explain(&self) -> Finding {
        let text = self.to_string();
        match text.rsplit_once("; ").filter(|_| !matches!(self, Self::Item { .. })) {
            Some((message, hint)) => Finding::new(message).hint(hint.strip_prefix("next: ").unwrap_or(hint).to_owned()),
            None => Finding::new(text),
        }
    }
}

fn named<R: Reason>(code: &str) -> Option<R> {
    R::ALL.iter().copied().find(|reason| reason.as_str() == code)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use regex::Regex;

    use super::*;

    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, text),
                false => text.push_str(&std::fs::read_to_string(path).unwrap()),
            }
        }
    }

    #[test]
    fn every_reason_of_clip_model_and_picture_has_its_name_here() {
        let mut text = String::new();
        for folder in ["clip", "model", "picture"] {
            sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder), &mut text);
        }
        let code = Regex::new(r#"(?:::load\(|::item\(|ModelError::new\(|reason: )\s*"([a-z_]+)""#).unwrap();
        let codes: Vec<&str> = code.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            assert!(named::<ClipReason>(code).is_some() || named::<PictureReason>(code).is_some(), "{code}");
        }
    }
}
