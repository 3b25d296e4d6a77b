//! Reasons of the pipeline itself, which has no port.

use super::reasons;

reasons! {
    /// What the pipeline itself finds.
    PipelineReason {
        /// The message ended several processes that worked on nothing else.
        KillsWorker = "kills_worker", Permanent,
            "see what is special about it, and replay the letter once that does no harm any more (limit: pipeline.crashes_max)";
        /// Newer patches of the asset were applied while the message was in a retry topic.
        Overtaken = "overtaken", Permanent,
            "send the asset anew, or replay this letter if it may overwrite the patch";
        /// A message is not settled, and no outage explains it.
        MessageStuck = "message_stuck", Outage;
        CommitFailed = "commit_failed", Outage;
    }
}
