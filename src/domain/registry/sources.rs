//! Where ONNX graphs of OpenCLIP's models are published.
//!
//! Only repositories that are known to exist: Immich's are those of `_OPENCLIP_MODELS` in its
//! `machine-learning/immich_ml/models/constants.py`, Qdrant's those of FastEmbed, Xenova's those of Transformers.js. The
//! order is by exactness. Immich's exporter long took the activation from the variant's name, so that a QuickGELU checkpoint
//! under a name without `-quickgelu` could come out with GELU; its current one makes an exception of `openai` alone. So for
//! `openai` those of Transformers come first, whose configuration says `quick_gelu`, and Immich's exports of other such checkpoints
//! (`laion400m` of ViT-B-32, `yfcc15m` and `cc12m` of the ResNets) are not named at all. What a graph computes is checked when it is
//! loaded, from any source.

use super::Source;

/// The sources of a model. Empty: export it (`tools/export_openclip.py`).
pub(super) fn of(variant: &str, checkpoint: &str) -> &'static [Source] {
    let is_it = |id: &str| id.split_once('/') == Some((variant, checkpoint));
    SOURCES.iter().find(|(id, _)| is_it(id)).map_or(&[], |(_, sources)| sources)
}

#[cfg(test)]
pub(super) fn count() -> usize {
    SOURCES.len()
}

/// In OpenCLIP's order.
#[rustfmt::skip]
const SOURCES: &[(&str, &[Source])] = &[
    ("RN50/openai", &[Source::immich("immich-app/RN50__openai")]),
    ("RN101/openai", &[Source::immich("immich-app/RN101__openai")]),
    ("RN50x4/openai", &[Source::immich("immich-app/RN50x4__openai")]),
    ("RN50x16/openai", &[Source::immich("immich-app/RN50x16__openai")]),
    ("RN50x64/openai", &[Source::immich("immich-app/RN50x64__openai")]),
    ("ViT-B-32/openai", &[Source::xenova("Xenova/clip-vit-base-patch32"), Source::pair("Qdrant/clip-ViT-B-32-vision", "Qdrant/clip-ViT-B-32-text"), Source::immich("immich-app/ViT-B-32__openai")]),
    ("ViT-B-32/laion2b_e16", &[Source::immich("immich-app/ViT-B-32__laion2b_e16")]),
    ("ViT-B-32/laion2b_s34b_b79k", &[Source::immich("immich-app/ViT-B-32__laion2b-s34b-b79k")]),
    ("ViT-B-16/openai", &[Source::xenova("Xenova/clip-vit-base-patch16"), Source::immich("immich-app/ViT-B-16__openai")]),
    ("ViT-B-16/laion400m_e31", &[Source::immich("immich-app/ViT-B-16__laion400m_e31")]),
    ("ViT-B-16/laion400m_e32", &[Source::immich("immich-app/ViT-B-16__laion400m_e32")]),
    ("ViT-B-16-plus-240/laion400m_e31", &[Source::immich("immich-app/ViT-B-16-plus-240__laion400m_e31")]),
    ("ViT-B-16-plus-240/laion400m_e32", &[Source::immich("immich-app/ViT-B-16-plus-240__laion400m_e32")]),
    ("ViT-L-14/openai", &[Source::xenova("Xenova/clip-vit-large-patch14"), Source::immich("immich-app/ViT-L-14__openai")]),
    ("ViT-L-14/laion400m_e31", &[Source::immich("immich-app/ViT-L-14__laion400m_e31")]),
    ("ViT-L-14/laion400m_e32", &[Source::immich("immich-app/ViT-L-14__laion400m_e32")]),
    ("ViT-L-14/laion2b_s32b_b82k", &[Source::immich("immich-app/ViT-L-14__laion2b-s32b-b82k")]),
    ("ViT-L-14/dfn2b", &[Source::immich("immich-app/ViT-L-14-quickgelu__dfn2b")]),
    ("ViT-L-14-336/openai", &[Source::xenova("Xenova/clip-vit-large-patch14-336"), Source::immich("immich-app/ViT-L-14-336__openai")]),
    ("ViT-H-14/laion2b_s32b_b79k", &[Source::immich("immich-app/ViT-H-14__laion2b-s32b-b79k")]),
    ("ViT-H-14/dfn5b", &[Source::immich("immich-app/ViT-H-14-quickgelu__dfn5b")]),
    ("ViT-H-14-378/dfn5b", &[Source::immich("immich-app/ViT-H-14-378-quickgelu__dfn5b")]),
    ("ViT-g-14/laion2b_s12b_b42k", &[Source::immich("immich-app/ViT-g-14__laion2b-s12b-b42k")]),
    ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", &[Source::immich("immich-app/XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k")]),
    ("xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k", &[Source::immich("immich-app/XLM-Roberta-Large-ViT-H-14__frozen_laion5b_s13b_b90k")]),
    ("ViT-B-16-SigLIP/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP__webli")]),
    ("ViT-B-16-SigLIP-256/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP-256__webli")]),
    ("ViT-B-16-SigLIP-i18n-256/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP-i18n-256__webli")]),
    ("ViT-B-16-SigLIP-384/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP-384__webli")]),
    ("ViT-B-16-SigLIP-512/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP-512__webli")]),
    ("ViT-L-16-SigLIP-256/webli", &[Source::immich("immich-app/ViT-L-16-SigLIP-256__webli")]),
    ("ViT-L-16-SigLIP-384/webli", &[Source::immich("immich-app/ViT-L-16-SigLIP-384__webli")]),
    ("ViT-SO400M-14-SigLIP-384/webli", &[Source::immich("immich-app/ViT-SO400M-14-SigLIP-384__webli")]),
    ("ViT-B-32-SigLIP2-256/webli", &[Source::immich("immich-app/ViT-B-32-SigLIP2-256__webli")]),
    ("ViT-B-16-SigLIP2/webli", &[Source::immich("immich-app/ViT-B-16-SigLIP2__webli")]),
    ("ViT-L-16-SigLIP2-256/webli", &[Source::immich("immich-app/ViT-L-16-SigLIP2-256__webli")]),
    ("ViT-L-16-SigLIP2-384/webli", &[Source::immich("immich-app/ViT-L-16-SigLIP2-384__webli")]),
    ("ViT-L-16-SigLIP2-512/webli", &[Source::immich("immich-app/ViT-L-16-SigLIP2-512__webli")]),
    ("ViT-SO400M-14-SigLIP2/webli", &[Source::immich("immich-app/ViT-SO400M-14-SigLIP2__webli")]),
    ("ViT-SO400M-14-SigLIP2-378/webli", &[Source::immich("immich-app/ViT-SO400M-14-SigLIP2-378__webli")]),
    ("ViT-SO400M-16-SigLIP2-256/webli", &[Source::immich("immich-app/ViT-SO400M-16-SigLIP2-256__webli")]),
    ("ViT-SO400M-16-SigLIP2-384/webli", &[Source::immich("immich-app/ViT-SO400M-16-SigLIP2-384__webli")]),
    ("ViT-SO400M-16-SigLIP2-512/webli", &[Source::immich("immich-app/ViT-SO400M-16-SigLIP2-512__webli")]),
    ("ViT-gopt-16-SigLIP2-256/webli", &[Source::immich("immich-app/ViT-gopt-16-SigLIP2-256__webli")]),
    ("ViT-gopt-16-SigLIP2-384/webli", &[Source::immich("immich-app/ViT-gopt-16-SigLIP2-384__webli")]),
    ("nllb-clip-base-siglip/v1", &[Source::immich("immich-app/nllb-clip-base-siglip__v1")]),
    ("nllb-clip-base-siglip/mrl", &[Source::immich("immich-app/nllb-clip-base-siglip__mrl")]),
    ("nllb-clip-large-siglip/v1", &[Source::immich("immich-app/nllb-clip-large-siglip__v1")]),
    ("nllb-clip-large-siglip/mrl", &[Source::immich("immich-app/nllb-clip-large-siglip__mrl")]),
];
