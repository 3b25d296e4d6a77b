//! Stage 5, for messages that failed: the dead letter is confirmed before the offset may be committed.

use super::attempts::Attempts;
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::domain::{Class, Failure, Stage};

/// Returns once the letter is safe. Dead letters that cannot be written are an outage: the message is held.
pub async fn bury(attempts: &Attempts, dead_letters: &dyn DeadLetters, letter: &DeadLetter) {
    let send = || async {
        dead_letters.send(letter).await.map_err(|e| Failure {
            stage: Stage::Settle,
            class: Class::Outage,
            reason: "dead_letter_unavailable",
            message: e.to_string(),
            retry_after: None,
        })
    };
    // Outages are held for as long as they last, so this ends with success only.
    if attempts.run(Stage::Settle, send).await.is_err() {
        unreachable!("every failure of a dead letter is an outage");
    }
}
