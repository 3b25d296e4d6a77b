//! Which of a graph's outputs is the vector, by name.

/// Outputs that are the embedding, by preference: OpenCLIP and Immich exports, then Optimum's and FastEmbed's, then
/// merged ones. Graphs may give hidden states beside it.
pub(crate) const OUTPUT_NAMES: [&str; 5] =
    ["image_embedding", "text_embedding", "image_embeds", "text_embeds", "embeddings"];
