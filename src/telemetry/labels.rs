//! Values of labels. They are a contract: a test compares them with `docs/operations.md`.

/// Declares an enum of values, a line each.
macro_rules! labels {
    (
        $(#[$about:meta])*
        $name:ident {
            $($(#[$note:meta])* $variant:ident = $value:literal;)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$note])* $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

labels! {
    /// `queue` of `clipstream_queue_depth`.
    Queue {
        /// Messages taken and not settled.
        InFlight = "in_flight";
        /// Requests set aside after a failure, or for a host that is down.
        Held = "held";
        /// Requests that wait for a turn, for an earlier one of their asset, or for a look-up.
        Waiting = "waiting";
        /// Messages read from Kafka and not taken.
        Source = "source";
    }
}

labels! {
    /// `state` of `clipstream_media_hosts`. A host may be in both.
    HostState {
        /// It gets fewer concurrent fetches than configured.
        Throttled = "throttled";
        /// For everyone.
        Down = "down";
    }
}

labels! {
    /// `kind` of `clipstream_concurrency_limit`.
    Limited {
        /// Writes to a collection.
        Upsert = "upsert";
    }
}

labels! {
    /// `kind` of `clipstream_batch_items` and `clipstream_batch_duration_seconds`.
    Batch {
        EmbedImage = "embed_image";
        EmbedText = "embed_text";
        Upsert = "upsert";
    }
}

labels! {
    /// `outcome` of `clipstream_trials_total`: of the trial of a message, or of one of its processes.
    Trial {
        Passed = "passed";
        /// The message becomes a dead letter.
        Poison = "poison";
        /// The message proceeds without a trial.
        Inconclusive = "inconclusive";
        /// A process that was working on the message.
        Crashed = "crashed";
    }
}

labels! {
    /// `outcome` of `clipstream_sessions_reopened_total`.
    Reopening {
        Succeeded = "succeeded";
        Failed = "failed";
    }
}
