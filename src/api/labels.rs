//! Zero-shot labels: how well each of some texts fits a picture.

use super::{EmbedError, Embedder};
use crate::domain::{Embedding, Finding, Logits, registry};

/// Where a label goes in a template.
const PLACE: &str = "{}";

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
pub struct Labels {
    names: Vec<String>,
    vectors: Vec<Embedding>,
    logits: Logits,
}

impl Labels {
    /// Embeds each label within each of `templates`, which have `{}` where it goes. With several, the label's vector is their mean of
    /// unit length, as in OpenCLIP's `build_zero_shot_classifier`. Without any, the labels stand alone.
    ///
    /// # Errors
    /// There is no label, one is there twice, a template has no `{}`, or the model was trained with a sigmoid loss and its files do not
    /// have the scale and bias of it.
    pub async fn embed(embedder: &Embedder, names: Vec<String>, templates: &[String]) -> Result<Self, EmbedError> {
        let invalid = |message: String| EmbedError::Labels(Finding::new(message));
        if let Some(template) = templates.iter().find(|template| !template.contains(PLACE)) {
            return Err(invalid(format!("the template {template:?} has no {PLACE}, where the label goes")));
        }
        let mut sorted: Vec<_> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(format!("the label {:?} is there twice; expected each once", twice[0])));
        }
        if names.is_empty() {
            return Err(invalid("no labels; expected at least one".to_owned()));
        }
        let logits = logits_of(embedder)?;
        let texts: Vec<String> = match templates {
            [] => names.clone(),
            templates => names
                .iter()
                .flat_map(|name| templates.iter().map(move |template| template.replace(PLACE, name)))
                .collect(),
        };
        let embedded = embedder.embed_documents(&texts).await?;
        let vectors = embedded.chunks(templates.len().max(1)).map(mean).collect::<Result<_, _>>()?;
        Ok(Self { names, vectors, logits })
    }

    /// Each label with its probability for a picture's vector of the same model, the most probable first.
    pub fn of(&self, picture: &Embedding) -> Vec<(&str, f32)> {
        let cosines: Vec<f32> = self.vectors.iter().map(|vector| vector.cosine(picture)).collect();
        let probabilities = self.logits.probabilities(&cosines);
        let mut labels: Vec<_> = self.names.iter().map(String::as_str).zip(probabilities).collect();
        labels.sort_by(|a, b| b.1.total_cmp(&a.1));
        labels
    }
}

fn logits_of(embedder: &Embedder) -> Result<Logits, EmbedError> {
    if let Some(logits) = embedder.logits() {
        return Ok(logits);
    }
    let model = embedder.model();
    if registry::find(model).is_some_and(|row| row.sigmoid) {
        let message = format!(
            "{model} was trained with a sigmoid loss, and its files do not have the scale and bias that turn similarities into \
             probabilities"
        );
        let hint = "export the model with tools/export_openclip.py, which records them in clipstream.json";
        return Err(EmbedError::Labels(Finding::new(message).hint(hint)));
    }
    Ok(Logits::OF_CLIP)
}

/// Of unit length, of one vector that vector itself.
fn mean(vectors: &[Embedding]) -> Result<Embedding, EmbedError> {
    if let [only] = vectors {
        return Ok(only.clone());
    }
    let mut sum = vec![0.0; vectors.first().map_or(0, Embedding::dimension)];
    for vector in vectors {
        sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, value)| *sum += value);
    }
    Embedding::normalised(sum)
        .map_err(|error| EmbedError::Labels(Finding::new(format!("a label has no vector: {error}"))))
}
