"""Writes src/domain/registry/open_clip.json: what OpenCLIP says about every pretrained model that it publishes.

    python3 tools/make_registry.py

Run in an environment with tools/requirements-fixtures.txt. One object per name of open_clip.list_pretrained(), in its order. All
facts are OpenCLIP's own (open_clip/pretrained.py, model_configs/*.json, the defaults of its classes, and the activation in the
models that it builds), but for five that it does not have, which the tables below add: the family, the tokenizer's kind and
padding id, the licence, and Matryoshka vectors.
"""
import json
import pathlib

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.pretrained import get_pretrained_cfg
from openclip_built import activation, built, text_is_downloaded

OUT = pathlib.Path(__file__).resolve().parent.parent / 'src' / 'domain' / 'registry' / 'open_clip.json'

# By what the variant's name contains; the first that fits.
FAMILIES = [
    ('SigLIP2', 'SigLIP2'),
    ('nllb', 'NLLB-CLIP'),
    ('SigLIP', 'SigLIP'),
    ('CLIPA', 'CLIPA'),
    ('coca', 'CoCa'),
    ('convnext', 'ConvNeXt'),
    ('EVA', 'EVA'),
    ('MobileCLIP2', 'MobileCLIP2'),
    ('MobileCLIP', 'MobileCLIP'),
    ('ViTamin', 'ViTamin'),
    ('PE-Core', 'PE-Core'),
    ('worldwide', 'MetaCLIP2'),
    ('xlm-roberta', 'XLM-R-CLIP'),
    ('roberta', 'RoBERTa-CLIP'),
    ('RN', 'ResNet'),
    ('ViT', 'CLIP'),
]

# By the repository that OpenCLIP takes the tokenizer from: its kind, its padding id, and whether it is of many languages. None:
# OpenAI's byte-pair encoding, which is OpenCLIP's own.
TOKENIZERS = {
    None: ('clip_bpe', 0, False),
    'bert-base-uncased': ('wordpiece', 0, False),
    'roberta-base': ('byte_level_bpe', 1, False),
    'xlm-roberta-base': ('unigram', 1, True),
    'xlm-roberta-large': ('unigram', 1, True),
    'facebook/xlm-v-base': ('unigram', 1, True),
    'facebook/nllb-200-distilled-600M': ('nllb', 1, True),
    'facebook/nllb-200-distilled-1.3B': ('nllb', 1, True),
    'timm/ViT-B-16-SigLIP': ('unigram', 1, False),
    'timm/ViT-B-16-SigLIP-i18n-256': ('unigram', 1, True),
}
GEMMA = ('gemma_bpe', 0, True)

# Read from: OpenCLIP's docs/PRETRAINED.md and the LICENSE of facebookresearch/MetaCLIP; the LICENSE of openai/CLIP; the cards of
# Google's SigLIP repositories, of apple/MobileCLIP*, and of facebook/nllb-200-*, which NLLB-CLIP's text towers are. Others were
# not read, and are null.
LICENCES = [
    (lambda variant, tag: 'metaclip' in tag, 'CC-BY-NC-4.0'),
    (lambda variant, tag: variant.startswith('nllb'), 'CC-BY-NC-4.0'),
    (lambda variant, tag: variant.startswith('MobileCLIP'), 'apple-amlr'),
    (lambda variant, tag: 'SigLIP' in variant, 'Apache-2.0'),
    (lambda variant, tag: tag == 'openai', 'MIT'),
]

# Checkpoints that were trained so that the first values of a vector are a vector themselves (arXiv 2205.13147). OpenCLIP says it of
# none; mlfoundations/open_clip pull request 838, which added these, does.
MATRYOSHKA = ['mrl']


def tokenizer(text):
    name, options = text.get('hf_tokenizer_name'), text.get('tokenizer_kwargs') or {}
    kind, padding_id, multilingual = TOKENIZERS[name] if name in TOKENIZERS else GEMMA
    if name not in TOKENIZERS and 'SigLIP2' not in name:
        raise SystemExit(f'{name}: a tokenizer that is not in TOKENIZERS; read what it is, and add it')
    return {
        'kind': kind,
        'repository': name,
        # Defaults of open_clip.tokenizer.SimpleTokenizer and HFTokenizer.
        'clean': options.get('clean', 'lower' if name is None else 'whitespace'),
        'strip_separator': options.get('strip_sep_token', False),
        'vocabulary_size': None if text.get('hf_model_name') else text.get('vocab_size', CLIPTextCfg.vocab_size),
        'padding_id': padding_id,
    }, multilingual


def pooling(text):
    """Which positions of the text tower make the vector."""
    if text.get('hf_model_name'):
        return text['hf_pooler_type'].removesuffix('_pooler')
    return 'last' if text.get('embed_cls') else text.get('pool_type', CLIPTextCfg.pool_type)


def text_tower(model):
    return model.text if hasattr(model, 'text') else model.transformer


def row(variant, tag):
    model, pretrained = open_clip.get_model_config(variant), get_pretrained_cfg(variant, tag)
    text, base = model['text_cfg'], variant.removesuffix('-quickgelu')
    of_text, multilingual = tokenizer(text)
    towers = built(variant, tag)
    is_twin = base != variant and get_pretrained_cfg(base, tag)
    return {
        'variant': variant,
        'checkpoint': tag,
        'same_as': f'{base}/{tag}' if is_twin else None,
        'family': next(family for part, family in FAMILIES if part in variant),
        'dimension': model['embed_dim'],
        'image_size': model['vision_cfg'].get('image_size', CLIPVisionCfg.image_size),
        'resize_mode': pretrained['resize_mode'],
        'interpolation': pretrained['interpolation'],
        'mean': pretrained['mean'],
        'std': pretrained['std'],
        'fill': 0,
        'image_activation': activation(towers.visual),
        'text_activation': None if text_is_downloaded(variant) else activation(text_tower(towers)),
        'tokenizer': of_text,
        'context_length': text.get('context_length', CLIPTextCfg.context_length),
        'pooling': pooling(text),
        'causal': not (text.get('no_causal_mask') or text.get('hf_model_name')),
        # SigLIP's loss; only its models have a bias.
        'sigmoid': 'init_logit_bias' in model,
        'matryoshka': tag in MATRYOSHKA,
        'multilingual': multilingual,
        'licence': next((licence for applies, licence in LICENCES if applies(variant, tag)), None),
        'weights': pretrained['hf_hub'].rstrip('/'),
    }


rows = [row(variant, tag) for variant, tag in open_clip.list_pretrained()]
OUT.write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')
print(f'{OUT}: {len(rows)} models of OpenCLIP {open_clip.__version__}')
