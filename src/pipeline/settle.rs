//! Stage 6, for failed messages: the dead letter, or the copy in a retry topic, is confirmed before the offset may be
//! committed.

use super::attempts::Attempts;
use crate::dead_letter::{DeadLetter, DeadLetters, Sent};
use crate::domain::Stage;

/// Returns once the letter is safe. A failure to write it is an outage: the message is held.
pub async fn send_dead_letter(attempts: &Attempts, dead_letters: &dyn DeadLetters, letter: &DeadLetter) -> Sent {
    let send = || async { dead_letters.send(letter).await.map_err(|fault| fault.at(Stage::Settle)) };
    // Outages are retried for as long as they last, so this only ends with success.
    let Ok(sent) = attempts.run(Stage::Settle, send).await else {
        unreachable!("every failure of a dead letter is an outage");
    };
    sent
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::config::PipelineSettings;
    use crate::dead_letter::DeadLetterError;
    use crate::domain::{DeadLetterReason, DecodeReason, Fault, Message};
    use crate::telemetry::Health;

    #[derive(Default)]
    struct Down {
        up: AtomicBool,
        refused: AtomicU32,
        taken: AtomicU32,
    }

    #[async_trait]
    impl DeadLetters for Down {
        async fn send(&self, _: &DeadLetter) -> Result<Sent, DeadLetterError> {
            if self.up.load(Ordering::Acquire) {
                self.taken.fetch_add(1, Ordering::AcqRel);
                return Ok(Sent::DeadLetter);
            }
            self.refused.fetch_add(1, Ordering::AcqRel);
            Err(DeadLetterError::new(DeadLetterReason::Unavailable, "down"))
        }
    }

    #[tokio::test]
    async fn a_letter_is_held_until_it_is_accepted() {
        let settings =
            PipelineSettings { attempts_max: 2, backoff_base_ms: 1, backoff_cap_ms: 2, ..Default::default() };
        let (health, letters) = (Health::new(), Arc::new(Down::default()));
        let attempts = Attempts::new(&settings, health.clone(), Arc::default());
        let letter = DeadLetter {
            message: Message::empty("t", 0, 0),
            failure: Fault::new(DecodeReason::MessageInvalid, "no").at(Stage::Decode),
            attempts: 1,
            requests: Vec::new(),
        };
        let held = tokio::spawn({
            let letters = letters.clone();
            async move { send_dead_letter(&attempts, &*letters, &letter).await }
        });
        let patience = Duration::from_secs(60);
        let refused = async {
            while letters.refused.load(Ordering::Acquire) < 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(patience, refused).await.expect("it tries on, far beyond attempts_max");
        assert!(!held.is_finished());
        assert_eq!(health.reasons(), [(Stage::Settle.into(), "down".to_owned())]);
        letters.up.store(true, Ordering::Release);
        tokio::time::timeout(patience, held).await.expect("it goes on by itself").unwrap();
        assert_eq!(letters.taken.load(Ordering::Acquire), 1);
        assert!(health.reasons().is_empty());
    }
}
