//! The table itself. Facts are those of OpenCLIP 3.3.0; `tests/fixtures/registry.json`, which it wrote itself, holds
//! every row to them.
//!
//! Sources. Only repositories that are known to exist: Immich's are those of `_OPENCLIP_MODELS` in its
//! `machine-learning/immich_ml/models/constants.py`, Qdrant's those of FastEmbed, Xenova's those of Transformers.js. The
//! order is by exactness. Immich's exporter long took the activation from the variant's name, so that a QuickGELU checkpoint
//! under a name without `-quickgelu` could come out with GELU; its current one makes an exception of `openai` alone. So for
//! `openai` those of Transformers come first, whose configuration says `quick_gelu`, and for ViT-B-32's `laion400m`
//! Immich's are not named at all. What a graph computes is checked when it is loaded, whatever its source.

use super::{Checkpoint, Source};
use crate::domain::Activation::{self, Gelu, QuickGelu};

struct Variant {
    name: &'static str,
    dimension: usize,
    image_size: usize,
}

const B32: Variant = Variant { name: "ViT-B-32", dimension: 512, image_size: 224 };
const B16: Variant = Variant { name: "ViT-B-16", dimension: 512, image_size: 224 };
const L14: Variant = Variant { name: "ViT-L-14", dimension: 768, image_size: 224 };
const L14_336: Variant = Variant { name: "ViT-L-14-336", dimension: 768, image_size: 336 };
const H14: Variant = Variant { name: "ViT-H-14", dimension: 1024, image_size: 224 };
const H14_378: Variant = Variant { name: "ViT-H-14-378", dimension: 1024, image_size: 378 };

/// Mean and standard deviation (`open_clip/constants.py`).
type Normalisation = ([f32; 3], [f32; 3]);
const OPENAI: Normalisation = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
const INCEPTION: Normalisation = ([0.5; 3], [0.5; 3]);

const SHORTEST: &str = "shortest";
const SQUASH: &str = "squash";

/// No ONNX export of it is known.
const EXPORT: &[Source] = &[];

const fn row(
    variant: &Variant,
    checkpoint: &'static str,
    activation: Activation,
    (mean, std): Normalisation,
    resize_mode: &'static str,
    sources: &'static [Source],
) -> Checkpoint {
    Checkpoint {
        variant: variant.name,
        checkpoint,
        dimension: variant.dimension,
        image_size: variant.image_size,
        context_length: 77,
        activation,
        mean,
        std,
        resize_mode,
        interpolation: "bicubic",
        sources,
    }
}

#[rustfmt::skip]
pub(super) const TABLE: &[Checkpoint] = &[
    row(&B32,     "openai",                        QuickGelu, OPENAI,    SHORTEST, &[
        Source::xenova("Xenova/clip-vit-base-patch32"),
        Source::pair("Qdrant/clip-ViT-B-32-vision", "Qdrant/clip-ViT-B-32-text"),
        Source::immich("immich-app/ViT-B-32__openai"),
    ]),
    row(&B32,     "laion400m_e31",                 QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "laion400m_e32",                 QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "laion2b_e16",                   Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-B-32__laion2b_e16")]),
    row(&B32,     "laion2b_s34b_b79k",             Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-B-32__laion2b-s34b-b79k")]),
    row(&B32,     "datacomp_xl_s13b_b90k",         Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "datacomp_m_s128m_b4k",          Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_clip_s128m_b4k",   Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_laion_s128m_b4k",  Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_image_s128m_b4k",  Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_text_s128m_b4k",   Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_basic_s128m_b4k",  Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_m_s128m_b4k",        Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "datacomp_s_s13m_b4k",           Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_clip_s13m_b4k",    Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_laion_s13m_b4k",   Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_image_s13m_b4k",   Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_text_s13m_b4k",    Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_basic_s13m_b4k",   Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "commonpool_s_s13m_b4k",         Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "metaclip_400m",                 QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&B32,     "metaclip_fullcc",               QuickGelu, OPENAI,    SHORTEST, EXPORT),

    row(&B16,     "openai",                        QuickGelu, OPENAI,    SHORTEST, &[
        Source::xenova("Xenova/clip-vit-base-patch16"),
        Source::immich("immich-app/ViT-B-16__openai"),
    ]),
    row(&B16,     "laion400m_e31",                 Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-B-16__laion400m_e31")]),
    row(&B16,     "laion400m_e32",                 Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-B-16__laion400m_e32")]),
    row(&B16,     "laion2b_s34b_b88k",             Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "datacomp_xl_s13b_b90k",         Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "datacomp_l_s1b_b8k",            Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_clip_s1b_b8k",     Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_laion_s1b_b8k",    Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_image_s1b_b8k",    Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_text_s1b_b8k",     Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_basic_s1b_b8k",    Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "commonpool_l_s1b_b8k",          Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "dfn2b",                         QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "metaclip_400m",                 QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&B16,     "metaclip_fullcc",               QuickGelu, OPENAI,    SHORTEST, EXPORT),

    row(&L14,     "openai",                        QuickGelu, OPENAI,    SHORTEST, &[
        Source::xenova("Xenova/clip-vit-large-patch14"),
        Source::immich("immich-app/ViT-L-14__openai"),
    ]),
    row(&L14,     "laion400m_e31",                 Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-L-14__laion400m_e31")]),
    row(&L14,     "laion400m_e32",                 Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-L-14__laion400m_e32")]),
    row(&L14,     "laion2b_s32b_b82k",             Gelu,      INCEPTION, SHORTEST, &[Source::immich("immich-app/ViT-L-14__laion2b-s32b-b82k")]),
    row(&L14,     "datacomp_xl_s13b_b90k",         Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "commonpool_xl_clip_s13b_b90k",  Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "commonpool_xl_laion_s13b_b90k", Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "commonpool_xl_s13b_b90k",       Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "metaclip_400m",                 QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "metaclip_fullcc",               QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&L14,     "dfn2b",                         QuickGelu, OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-L-14-quickgelu__dfn2b")]),
    row(&L14,     "dfn2b_s39b",                    Gelu,      OPENAI,    SHORTEST, EXPORT),

    row(&L14_336, "openai",                        QuickGelu, OPENAI,    SHORTEST, &[
        Source::xenova("Xenova/clip-vit-large-patch14-336"),
        Source::immich("immich-app/ViT-L-14-336__openai"),
    ]),

    row(&H14,     "laion2b_s32b_b79k",             Gelu,      OPENAI,    SHORTEST, &[Source::immich("immich-app/ViT-H-14__laion2b-s32b-b79k")]),
    row(&H14,     "metaclip_fullcc",               QuickGelu, OPENAI,    SHORTEST, EXPORT),
    row(&H14,     "metaclip_altogether",           Gelu,      OPENAI,    SHORTEST, EXPORT),
    row(&H14,     "dfn5b",                         QuickGelu, OPENAI,    SQUASH,   &[Source::immich("immich-app/ViT-H-14-quickgelu__dfn5b")]),

    row(&H14_378, "dfn5b",                         QuickGelu, OPENAI,    SQUASH,   &[Source::immich("immich-app/ViT-H-14-378-quickgelu__dfn5b")]),
];
