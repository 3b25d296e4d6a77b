"""What OpenCLIP makes of every pretrained model that it publishes: usage make_registry_fixture.py.

Run in an environment with tools/requirements-fixtures.txt. Writes tests/fixtures/registry.json, one object per name of
open_clip.list_pretrained(). tools/make_registry.py reads OpenCLIP's configurations; this one lets OpenCLIP build each model, without
weights or memory for them, and reads what came out: the preprocessing of its image tower, the shape of a vector, the text tower's
context, mask and pooling, and the activation in its blocks. Models whose text tower or vocabulary would be downloaded have only
what is known without.
"""
import json
import pathlib

import open_clip
import torch
from open_clip.transformer import QuickGELU
from openclip_built import built, text_is_downloaded

OUT = pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'fixtures' / 'registry.json'


def activation(module):
    """Of the blocks of OpenCLIP's own transformers; None where the tower is none of them."""
    kinds = {type(part) for name, part in module.named_modules() if name.endswith('mlp.gelu')}
    return None if not kinds else 'quick_gelu' if kinds == {QuickGELU} else 'another'


def dimension(model):
    with torch.device('meta'):
        return model.encode_image(torch.zeros(1, 3, *pair(model.visual.preprocess_cfg['size']))).shape[-1]


def pair(size):
    return [size, size] if isinstance(size, int) else list(size)


def row(variant, tag):
    model = built(variant, tag)
    preprocess, text = model.visual.preprocess_cfg, getattr(model, 'text', model)
    facts = {'variant': variant, 'checkpoint': tag} | {key: preprocess[key] for key in ('mean', 'std', 'interpolation', 'resize_mode')}
    facts |= {'fill': preprocess['fill_color'], 'size': pair(preprocess['size']), 'dimension': dimension(model)}
    facts['sigmoid'] = model.logit_bias is not None
    facts['image_activation'] = activation(model.visual)
    if not text_is_downloaded(variant):
        cls = getattr(text, 'cls_emb', None) is not None
        facts |= {
            'context_length': text.context_length,
            'pooling': 'last' if cls else getattr(text, 'pool_type', None) or model.text_pool_type,
            'causal': text.attn_mask is not None,
            'vocabulary_size': text.vocab_size,
            'text_activation': activation(text.transformer),
        }
    facts['hub'] = open_clip.get_pretrained_cfg(variant, tag)['hf_hub'].rstrip('/')
    return facts


rows = [row(variant, tag) for variant, tag in open_clip.list_pretrained()]
OUT.write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')
print(f'{OUT}: {len(rows)} models of OpenCLIP {open_clip.__version__}')
