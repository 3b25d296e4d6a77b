"""What OpenCLIP itself says about the models of src/domain/registry/table.rs: usage make_registry_fixture.py.

Run in an environment with tools/requirements-fixtures.txt. Writes tests/fixtures/registry.json, one object per checkpoint of
the variants below, in OpenCLIP's order. `activation` is the tag's own `quick_gelu` in open_clip/pretrained.py, which is what
the weights were trained with; `hub` is the repository of the weights.
"""
import json
import pathlib

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

OUT = pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'fixtures' / 'registry.json'
VARIANTS = ['ViT-B-32', 'ViT-B-16', 'ViT-L-14', 'ViT-L-14-336', 'ViT-H-14', 'ViT-H-14-378']


def row(variant, tag):
    model, pretrained = open_clip.get_model_config(variant), get_pretrained_cfg(variant, tag)
    return {
        'variant': variant,
        'checkpoint': tag,
        'dimension': model['embed_dim'],
        'image_size': model['vision_cfg']['image_size'],
        'context_length': model['text_cfg']['context_length'],
        'activation': 'quick_gelu' if pretrained.get('quick_gelu') else 'gelu',
        'mean': pretrained['mean'],
        'std': pretrained['std'],
        'resize_mode': pretrained['resize_mode'],
        'interpolation': pretrained['interpolation'],
        'hub': pretrained['hf_hub'].rstrip('/'),
    }


rows = [row(variant, tag) for variant in VARIANTS for tag in list_pretrained_tags_by_model(variant)]
OUT.write_text('[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]\n')
print(f'{OUT}: {len(rows)} models of OpenCLIP {open_clip.__version__}')
