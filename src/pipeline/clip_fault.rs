//! The reasons of models and pictures, which are text in `clip` still. To be replaced by `Fault`s of their own there.

use crate::clip::{ClipError, PictureError};
use crate::domain::{ClipReason, Explain, Fault, Finding, PictureReason, Reason};

pub(crate) fn of_clip(error: &ClipError) -> Fault<ClipReason> {
    // A test finds every reason of `clip` among these.
    let reason = named(error.reason()).unwrap_or(ClipReason::ModelUnusable);
    Fault::new(reason, error.to_string()).class(error.class())
}

pub(crate) fn of_picture(error: &PictureError) -> Fault<PictureReason> {
    Fault::new(named(error.reason).unwrap_or(PictureReason::Undecodable), error.message.clone())
}

/// The last clause of its message is the next step.
impl Explain for ClipError {
    fn explain(&self) -> Finding {
        let text = self.to_string();
        match text.rsplit_once("; ") {
            Some((message, hint)) => Finding::new(message).hint(hint.to_owned()),
            None => Finding::new(text),
        }
    }
}

fn named<R: Reason>(code: &str) -> Option<R> {
    R::ALL.iter().copied().find(|reason| reason.as_str() == code)
}
