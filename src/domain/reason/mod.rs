//! Reasons of failures: an enum for each port, and for pictures and model files.
//!
//! A reason has a short stable code in snake case, which metrics, dead letters and `dlq --reason` show, the class that its
//! failures normally have, and a hint where the next step is always the same. Code matches on the enum; the code is for readers
//! outside of the process. `docs/messages.md` and `docs/operations.md` list all of them, and a test compares.

mod clip;
mod dead_letter;
mod decode;
mod hub;
mod media;
mod model;
mod picture;
mod pipeline;
mod source;
mod store;

use std::fmt;

pub use clip::ClipReason;
pub use dead_letter::DeadLetterReason;
pub use decode::DecodeReason;
pub use hub::HubReason;
pub use media::MediaReason;
pub use model::ModelReason;
pub use picture::PictureReason;
pub use pipeline::PipelineReason;
pub use source::SourceReason;
pub use store::StoreReason;

use super::Class;

/// What all reasons have in common.
pub trait Reason: Copy + fmt::Debug + Eq + 'static {
    const ALL: &'static [Self];

    /// The code, for example `http_not_found`.
    fn as_str(self) -> &'static str;

    /// The usual class of failures of this reason.
    fn class(self) -> Class;

    /// The next step, if it is the same in all cases.
    fn hint(self) -> Option<&'static str>;
}

/// Declares an enum of reasons, a line each: variant, code, class, and perhaps a hint.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$note:meta])* $variant:ident = $code:literal, $class:ident $(, $hint:literal)?;)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$note])* $variant,)+
        }

        impl $crate::domain::Reason for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            fn class(self) -> $crate::domain::Class {
                match self {
                    $(Self::$variant => $crate::domain::Class::$class,)+
                }
            }

            fn hint(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => [$($hint)?].first().copied(),)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::domain::Reason::as_str(*self))
            }
        }
    };
}
use reasons;

/// Declares the reasons that a message or an outage may have: those of all ports that the pipeline drives.
macro_rules! ports {
    ($($port:ident($reason:ident),)+) => {
        /// Any of these reasons.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum AnyReason {
            $($port($reason),)+
        }

        impl AnyReason {
            pub fn all() -> impl Iterator<Item = Self> {
                std::iter::empty()$(.chain($reason::ALL.iter().copied().map(Self::$port)))+
            }

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$port(reason) => reason.as_str(),)+
                }
            }
        }

        $(impl From<$reason> for AnyReason {
            fn from(reason: $reason) -> Self {
                Self::$port(reason)
            }
        })+
    };
}

// Models are fetched by hand, so that no message has a reason of the hub.
ports! {
    Decode(DecodeReason),
    Media(MediaReason),
    Picture(PictureReason),
    Model(ModelReason),
    Clip(ClipReason),
    Store(StoreReason),
    Source(SourceReason),
    DeadLetter(DeadLetterReason),
    Pipeline(PipelineReason),
}

impl AnyReason {
    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|reason| reason.as_str() == code)
    }
}

impl fmt::Display for AnyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_in_snake_case_and_belong_to_one_reason_each() {
        let mut codes = BTreeSet::new();
        for reason in AnyReason::all() {
            let code = reason.as_str();
            assert!(code.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()), "{code}");
            assert!(codes.insert(code), "{code} is the code of two reasons");
            assert_eq!(AnyReason::from_code(code), Some(reason));
        }
        assert_eq!(AnyReason::from_code("http_notfound"), None);
        let hub: BTreeSet<_> = HubReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(hub.len(), HubReason::ALL.len());
    }

    #[test]
    fn a_reason_has_its_class_and_its_hint() {
        assert_eq!(MediaReason::HttpNotFound.class(), Class::Permanent);
        assert_eq!(MediaReason::HttpThrottled.hint(), Some("lower media.per_host_concurrency if this goes on"));
        assert_eq!(MediaReason::HttpMalformed.hint(), None);
    }
}
