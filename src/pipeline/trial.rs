//! Processes one message up to its vectors, alone, in a process that it may crash.

use std::sync::Arc;

use super::embed::{Embed, Target};
use super::fetch;
use crate::budget::Budget;
use crate::clip::{Clip, PicturePool};
use crate::domain::{Failure, IngestRequest, Message, Recorded, Stage};
use crate::format::Reader;
use crate::media::MediaClient;

/// How far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request of the message begins.
    Request,
    Entered(Stage),
}

/// The stages of a trial.
pub struct Trial {
    reader: Reader,
    models: Vec<Arc<Clip>>,
    media: MediaClient,
    /// That `media` reserves from.
    media_budget: Budget,
    embed: Embed,
}

impl Trial {
    pub fn new(
        reader: Reader,
        models: Vec<Arc<Clip>>,
        media: MediaClient,
        media_budget: Budget,
        pictures: Arc<PicturePool>,
    ) -> Self {
        Self { reader, models, media, media_budget, embed: Embed::new(pictures) }
    }

    /// Does once what the pipeline does between source and store, ignoring what the store has. `report` is called before
    /// each request and each stage.
    ///
    /// # Errors
    /// The first failure, of any class.
    pub async fn run(&self, message: &Message, report: impl Fn(Step)) -> Result<(), Failure> {
        report(Step::Entered(Stage::Decode));
        let mut first = Ok(());
        for request in self.reader.read_with_look_ups(message).await? {
            report(Step::Request);
            // Goes on after a failure: a later request may be the one that ends processes.
            let tried = match request {
                Ok(request) => self.embed(&request, &report).await,
                Err(failure) => Err(failure),
            };
            first = first.and(tried);
        }
        first
    }

    async fn embed(&self, request: &IngestRequest, report: &impl Fn(Step)) -> Result<(), Failure> {
        let picture = match &request.image {
            Some(url) => {
                report(Step::Entered(Stage::Fetch));
                Some(fetch::fetch(&self.media, url, None).await?)
            }
            None => None,
        };
        if picture.is_none() && request.text.is_none() {
            return Ok(());
        }
        report(Step::Entered(Stage::Embed));
        let is_asked = |clip: &&Arc<Clip>| request.models.as_ref().is_none_or(|models| models.contains(clip.id()));
        let target = |clip: &Arc<Clip>| Target::new(clip.clone(), &Recorded::default());
        let targets: Vec<Target> = self.models.iter().filter(is_asked).map(target).collect();
        if targets.is_empty() {
            return Ok(());
        }
        self.embed.embed(&targets, picture.as_ref(), request.text.as_deref()).await.map(drop)
    }

    /// Bytes reserved for fetching and decoding.
    pub fn bytes_held(&self) -> u64 {
        self.embed.bytes_held() + self.media_budget.bytes_held()
    }
}
