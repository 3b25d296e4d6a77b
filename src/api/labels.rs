//! Zero-shot labels: how well each of some texts fits a picture.

use super::{EmbedError, Embedder};
use crate::domain::{Embedding, Explain, Finding, LabelSet};

/// A set of labels, embedded once.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use clipstream::api::{Embedder, Labels};
/// use clipstream::config::Settings;
///
/// let embedder = Embedder::open(&Settings::default(), None).await?;
/// let labels = Labels::embed(&embedder, vec!["cat".into(), "dog".into()], &["a photo of a {}".into()]).await?;
/// let picture = embedder.embed_image("photo.jpg".into()).await?;
/// for (label, probability) in labels.of(&picture) {
///     println!("{label}: {probability:.2}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Labels(LabelSet);

impl Labels {
    /// Embeds each label within each of `templates`, which have `{}` where it goes. With several, the label's vector is their mean of
    /// unit length, as in OpenCLIP's `build_zero_shot_classifier`. Without any, the labels stand alone.
    ///
    /// # Errors
    /// There is no label, one is there twice, a template has no `{}`, or the model was trained with a sigmoid loss and its files do not
    /// have the scale and bias of it.
    pub async fn embed(embedder: &Embedder, names: Vec<String>, templates: &[String]) -> Result<Self, EmbedError> {
        let texts = LabelSet::texts(&names, templates).map_err(EmbedError::Labels)?;
        let logits = embedder.clip().label_logits().map_err(|error| EmbedError::Labels(error.explain()))?;
        let embedded = embedder.embed_documents(&texts).await?;
        let invalid = |error| EmbedError::Labels(Finding::new(format!("a label has no vector: {error}")));
        Ok(Self(LabelSet::new(names, &embedded, logits).map_err(invalid)?))
    }

    /// Each label with its probability for a picture's vector of the same model, the most probable first.
    pub fn of(&self, picture: &Embedding) -> Vec<(&str, f32)> {
        self.0.of(picture)
    }
}
