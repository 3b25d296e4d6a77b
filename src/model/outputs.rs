//! Which of a graph's outputs is the vector, by name.

/// Outputs that are the embedding, by preference: OpenCLIP and Immich exports, then Optimum's and FastEmbed's, then Jina's (which
/// has them at unit length as well), then merged ones. Graphs may give hidden states beside it.
pub(crate) const OUTPUT_NAMES: [&str; 7] = [
    "image_embedding",
    "text_embedding",
    "image_embeds",
    "text_embeds",
    "image_embeddings",
    "text_embeddings",
    "embeddings",
];
