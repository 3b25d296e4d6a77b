//! The process that tries messages: `clipstream run --trial`, started and ended by a worker. It writes to no store and
//! joins no consumer group.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::watch::Watch;
use super::{Answer, message_of};
use crate::budget::Budget;
use crate::clip;
use crate::config::Settings;
use crate::domain::{Class, Failure, Modality, Stage};
use crate::media::MediaClient;
use crate::pipeline::{Step, Trial};
use crate::telemetry::Metrics;
use crate::worker::{WorkerError, load_models, open_towers, picture_pool, reader};

/// How long the process may take to end after its worker has ended.
const END_MAX: Duration = Duration::from_secs(2);

/// Loads the models, reports ready, and tries the messages from standard input, one at a time, until it ends.
///
/// # Errors
/// Everything that would keep a worker from starting, and a line that is not a message.
pub async fn answer_trials(settings: &Settings) -> Result<(), WorkerError> {
    die_first();
    let no_thread = |e: std::io::Error| WorkerError::Broken(format!("no thread: {e}"));
    // From here on it ends with its worker, even if a model hangs while it loads.
    let mut lines = lines().map_err(no_thread)?;
    let metrics = Arc::new(Metrics::default());
    let models = load_models(settings, &metrics).await?;
    if models.is_empty() {
        return Err(WorkerError::NoModel);
    }
    // Before it reports ready: a device that ends the process while it opens must not be taken for a message that does.
    open_towers(&models, &Modality::ALL).await?;
    let budget = Budget::new(settings.pipeline.media_in_flight_bytes_max);
    let media = MediaClient::new(&settings.media, budget.clone(), metrics).await?;
    let (reader, pictures) = (reader(settings, settings.kafka.keys.clone()), picture_pool(settings)?);
    let trial = Arc::new(Trial::new(reader, models, media, budget, pictures));
    require_room(settings)?;
    let reserved = {
        let trial = trial.clone();
        move || trial.bytes_held()
    };
    let watch = Watch::start(reserved, |why| say(&Answer::Broken { why })).map_err(no_thread)?;
    say(&Answer::Ready);
    while let Some(line) = lines.recv().await {
        let message = message_of(&line).map_err(|why| WorkerError::Broken(format!("no message to try: {why}")))?;
        watch.begin();
        let report = |step| match step {
            Step::Request => say(&Answer::Request),
            Step::Entered(stage) => say(&Answer::Entered { stage: stage.to_string() }),
        };
        let ended = trial.run(&message, report).await;
        watch.rest();
        say(&answer(ended));
    }
    Ok(())
}

/// An item that merely fails has passed the trial: the worker handles the failure. It has not passed if no working
/// session of its model is left.
fn answer(ended: Result<(), Failure>) -> Answer {
    match ended {
        Err(failure) if failure.stage == Stage::Embed && failure.fault.class == Class::Outage => {
            // Out of memory is not the message's fault.
            let why = failure.fault.to_string();
            if clip::is_of_memory(&why) { Answer::Passed } else { Answer::Broken { why } }
        }
        Ok(()) | Err(_) => Answer::Passed,
    }
}

/// If address space or memory commitments are limited, a failed allocation ends the process just like a broken decoder.
/// So there must be room for what a message may need. The pages are not touched.
fn require_room(settings: &Settings) -> Result<(), WorkerError> {
    let bytes = settings.clip.decode_bytes_max().saturating_add(settings.media.media_bytes_max);
    let mut room: Vec<u8> = Vec::new();
    let found = room.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX));
    found.map_err(|_| {
        WorkerError::Broken(format!("no room for the {bytes} bytes that one message may take (clip.decode_bytes_max)"))
    })
}

/// When the machine runs out of memory, the kernel should kill this process first.
fn die_first() {
    // The file exists on Linux only.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

fn say(answer: &Answer) {
    let Ok(line) = serde_json::to_string(answer) else { return };
    let mut stdout = std::io::stdout().lock();
    // If the worker is gone, standard input has ended too, and the process ends.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Lines of standard input. When it ends, so has the worker: the process then ends whatever it is doing.
fn lines() -> std::io::Result<mpsc::UnboundedReceiver<String>> {
    let (send, lines) = mpsc::unbounded_channel();
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
        drop(send);
        // An idle process ends by itself within this time; a hanging one does not.
        std::thread::park_timeout(END_MAX);
        std::process::abort();
    };
    std::thread::Builder::new().name("trial-input".into()).spawn(read)?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClipReason, Fault};

    fn failed(stage: Stage, class: Class, message: &str) -> Result<(), Failure> {
        Err(Fault::new(ClipReason::SessionFailed, message).class(class).at(stage))
    }

    #[test]
    fn only_a_session_that_an_item_broke_speaks_against_it() {
        assert_eq!(answer(Ok(())), Answer::Passed);
        assert_eq!(answer(failed(Stage::Embed, Class::Permanent, "no picture")), Answer::Passed);
        assert_eq!(answer(failed(Stage::Embed, Class::Transient, "alone")), Answer::Passed);
        assert_eq!(answer(failed(Stage::Fetch, Class::Outage, "no credentials")), Answer::Passed);
        assert_eq!(answer(failed(Stage::Embed, Class::Outage, "CUDA failure 2: out of memory")), Answer::Passed);
        let why = "CUDA failure 700: an illegal memory access";
        assert_eq!(answer(failed(Stage::Embed, Class::Outage, why)), Answer::Broken { why: why.into() });
    }
}
